"""Mirror a tree with rsync when it has been quiet for a while, and never miss a change.

While a task of a scheduler runs, further events for it are skipped. A mirror must not skip: what changes behind rsync's
back has to be sent in another run. So the job here only takes note of the time and returns at once; one loop beside it
waits for calm, runs rsync, and runs it again if something was noted meanwhile.
"""

import asyncio
import logging
import time

TREE = "/srv/site"
MIRROR = "/srv/mirror"
QUIET_S = 20
RETRY_S = 60

last_change = 0.0
mirroring: "asyncio.Task[None] | None" = None


async def note(event: Event, task_id: str) -> None:
    global last_change, mirroring
    last_change = time.monotonic()
    if mirroring is None or mirroring.done():
        mirroring = asyncio.create_task(mirror())


async def mirror() -> None:
    begun = 0.0
    while begun <= last_change:
        await calm()
        begun = time.monotonic()
        rsync = await asyncio.create_subprocess_exec("rsync", "-a", "--delete", f"{TREE}/", f"{MIRROR}/")
        status = await rsync.wait()
        if status == 0:
            logging.info(f"{MIRROR} is up to date after {time.monotonic() - begun:.1f} s")
        else:
            logging.error(f"rsync ended with status {status}, next try in {RETRY_S} s")
            await asyncio.sleep(RETRY_S)
            begun = 0.0


async def calm() -> None:
    while (rest_s := last_change + QUIET_S - time.monotonic()) > 0:
        await asyncio.sleep(rest_s)


changes = TaskScheduler(job=note, files=True, dirs=True, logname="rsync")

pyinotifyd = Pyinotifyd(shutdown_timeout=5)
pyinotifyd.add_watch(
    path=TREE,
    event_map=dict.fromkeys(
        ["IN_CREATE", "IN_CLOSE_WRITE", "IN_ATTRIB", "IN_DELETE", "IN_MOVED_FROM", "IN_MOVED_TO"], changes
    ),
    rec=True,
    auto_add=True,
)
setLoglevel(WARNING, logname="rsync")
