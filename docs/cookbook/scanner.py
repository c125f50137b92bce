"""A document scanner: text recognition for each scan, then into the archive by year and month.

A job may do what a rule can't, here compute the destination from the date. At most two recognitions run at once.
"""

import asyncio
import logging
import time
from pathlib import Path

SCANS = Path("/srv/scans")
ARCHIVE = Path("/srv/archive")


async def recognise(event: Event, task_id: str) -> None:
    scan = Path(event.pathname)
    folder = ARCHIVE / time.strftime("%Y/%m")
    folder.mkdir(parents=True, exist_ok=True)
    readable = folder / scan.name
    process = await asyncio.create_subprocess_exec("ocrmypdf", "--skip-text", str(scan), str(readable))
    status = await process.wait()
    if status != 0:
        raise RuntimeError(f"no text recognised, ocrmypdf exited with status {status}; the scan stays where it is")
    scan.unlink()
    logging.info(f"{task_id}: {readable} is in the archive")


scans = TaskScheduler(job=recognise, delay=2, settle=Settle(no_writer=True), max_jobs=2, logname="scanner")

pyinotifyd = Pyinotifyd(shutdown_timeout=120)
pyinotifyd.add_watch(
    path=str(SCANS),
    event_map={"IN_CLOSE_WRITE": scans, "IN_MOVED_TO": scans, "IN_DELETE": Cancel(scans)},
    exclude_filter=[rf"^{SCANS}/(?!.*\.pdf$)."],
)
