"""Print every event below a directory, as inotifywait does.

WATCH=/srv/in pyinotifyd -c examples/see_events.py
"""

import os


async def see(event, task_id):
    print(event.maskname, event.pathname, getattr(event, "src_pathname", ""), flush=True)


# One scheduler for each event: a scheduler has one task for a path and skips what comes while it runs.
events = ["IN_CREATE", "IN_MODIFY", "IN_ATTRIB", "IN_CLOSE_WRITE", "IN_MOVED_FROM", "IN_MOVED_TO", "IN_DELETE"]

pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
    path=os.environ.get("WATCH", "."),
    event_map={name: TaskScheduler(see, files=True, dirs=True, logname="see") for name in events},
    rec=True,
    auto_add=True,
)
# The events are what we want to see, not that there was a task for each.
setLoglevel(WARNING, logname="see")
