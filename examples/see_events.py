"""Print every event below a directory, as inotifywait does.

WATCH=/srv/in pyinotifyd -c examples/see_events.py
"""

import os


async def see(event: Event, task_id: str) -> None:
    print(event.maskname, event.pathname, getattr(event, "src_pathname", ""), flush=True)


# One scheduler for each event: a scheduler has one task for a path and skips what comes while it runs.
def seen() -> TaskScheduler:
    return TaskScheduler(see, files=True, dirs=True, logname="see")


pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
    path=os.environ.get("WATCH", "."),
    event_map={
        "IN_CREATE": seen(),
        "IN_MODIFY": seen(),
        "IN_ATTRIB": seen(),
        "IN_CLOSE_WRITE": seen(),
        "IN_MOVED_FROM": seen(),
        "IN_MOVED_TO": seen(),
        "IN_DELETE": seen(),
    },
    rec=True,
    auto_add=True,
)
# The events are what we want to see, not that there was a task for each.
setLoglevel(WARNING, logname="see")
