"""A virus scanner as a gate: what is clean goes on, what is not goes into quarantine.

clamdscan says 0 for a clean file, 1 for an infected one and 2 when it could not tell. The paths are passed as arguments
and never through a shell.
"""

import asyncio
import logging
import os

INCOMING = "/srv/incoming"
CLEAN = "/srv/clean"
QUARANTINE = "/srv/quarantine"

os.makedirs(CLEAN, exist_ok=True)
os.makedirs(QUARANTINE, mode=0o700, exist_ok=True)


async def gate(event: Event, task_id: str) -> None:
    scanner = await asyncio.create_subprocess_exec("clamdscan", "--fdpass", "--no-summary", event.pathname)
    verdict = await scanner.wait()
    if verdict == 0:
        os.rename(event.pathname, os.path.join(CLEAN, event.name))
    elif verdict == 1:
        os.rename(event.pathname, os.path.join(QUARANTINE, f"{task_id}-{event.name}"))
        logging.warning(f"{task_id}: {event.pathname} is infected and now in quarantine")
    else:
        # The task fails, with this text in the log; the file stays.
        raise RuntimeError(f"clamdscan could not judge {event.pathname}, status {verdict}")


scan = TaskScheduler(job=gate, delay=1, settle=Settle(no_writer=True), max_jobs=4, logname="virusscan")

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=INCOMING,
    event_map={
        "IN_CLOSE_WRITE": scan,
        "IN_MOVED_TO": scan,
        "IN_MODIFY": Cancel(scan),
        "IN_DELETE": Cancel(scan),
    },
)
