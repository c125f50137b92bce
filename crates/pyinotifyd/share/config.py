# Configuration of pyinotifyd. It is a Python program: the daemon runs it once and then does what the variable
# "pyinotifyd" at its end describes. As it stands it watches nothing.
#
# Each block below, from its ">>>" line to its "<<<" line, is a working example. To use one, remove the first "# " of
# its lines (what begins with "##" stays a comment either way) and put in your own paths. Then
#
#     pyinotifyd --configtest                  checks the file,
#     pyinotifyd --explain PATH [EVENT]        says what would happen to a path,
#     systemctl reload pyinotifyd              applies it (OpenRC: rc-service pyinotifyd reload).
#
# The manual is pyinotifyd-config(5). Nothing has to be imported from pyinotifyd, but an editor that sees the next line
# can complete and check names.
#
# from pyinotifyd import *

pyinotifyd = Pyinotifyd(shutdown_timeout=30)

## >>> move: files that were finished go to another directory at once
# ## IN_CLOSE_WRITE says that a writer closed a file, IN_MOVED_TO that a finished one was renamed into the directory.
# move_rule = FileManagerRule(
#     action="move",
#     src_re=r"^/srv/incoming/(?P<name>[^/]+)\.done$",
#     dst_re=r"/srv/outgoing/\g<name>",
#     auto_create=True,
#     dirmode=0o755,
#     filemode=0o644)
# move_sched = FileManagerScheduler(rules=[move_rule])
# pyinotifyd.add_watch(
#     path="/srv/incoming",
#     event_map={"IN_CLOSE_WRITE": move_sched, "IN_MOVED_TO": move_sched})
## <<<

## >>> quiet: files that nobody touched for a minute are copied
# ## Each event of a file begins the delay anew; Cancel forgets the task. Keep shutdown_timeout above the longest delay,
# ## so that waiting tasks are finished when the daemon stops.
# quiet_rule = FileManagerRule(
#     action="copy",
#     src_re=r"^/srv/projects/(?P<path>.+)$",
#     dst_re=r"/srv/backup/\g<path>",
#     auto_create=True,
#     overwrite=True)
# quiet_sched = FileManagerScheduler(rules=[quiet_rule], delay=60)
# pyinotifyd.set_shutdown_timeout(90)
# pyinotifyd.add_watch(
#     path="/srv/projects",
#     event_map={
#         "IN_CREATE": quiet_sched,
#         "IN_CLOSE_WRITE": quiet_sched,
#         "IN_MOVED_TO": quiet_sched,
#         "IN_MODIFY": Cancel(quiet_sched),
#         "IN_DELETE": Cancel(quiet_sched),
#         "IN_MOVED_FROM": Cancel(quiet_sched)},
#     rec=True,
#     auto_add=True)
## <<<

## >>> delete: temporary files go ten seconds after the last change
# ## rec=True in a rule would delete directories with all that is in them.
# delete_rule = FileManagerRule(action="delete", src_re=r"^/srv/scratch/.*\.tmp$", rec=False)
# delete_sched = FileManagerScheduler(rules=[delete_rule], delay=10)
# pyinotifyd.add_watch(
#     path="/srv/scratch",
#     event_map={"IN_CLOSE_WRITE": delete_sched, "IN_MODIFY": delete_sched, "IN_DELETE": Cancel(delete_sched)},
#     rec=True,
#     auto_add=True)
## <<<

## >>> rules: several rules in one scheduler, the first that matches is used
# sort_sched = FileManagerScheduler(
#     rules=[
#         FileManagerRule(
#             action="move",
#             src_re=r"^/srv/scans/(?P<name>[^/]+)\.pdf$",
#             dst_re=r"/srv/archive/documents/\g<name>.pdf",
#             auto_create=True),
#         FileManagerRule(
#             action="move",
#             src_re=r"^/srv/scans/(?P<name>[^/]+)\.(?P<type>jpe?g|png|tiff?)$",
#             dst_re=r"/srv/archive/images/\g<type>/\g<name>.\g<type>",
#             auto_create=True,
#             overwrite=True)],
#     files=True,
#     dirs=False)
# pyinotifyd.add_watch(path="/srv/scans", event_map={"IN_CLOSE_WRITE": sort_sched})
## <<<

## >>> owner: give moved files to a user and a group
# ## Needs root, or the rights to do so.
# owner_rule = FileManagerRule(
#     action="move",
#     src_re=r"^/srv/upload/(?P<path>.+)$",
#     dst_re=r"/srv/www/\g<path>",
#     auto_create=True,
#     user="daemon",
#     group="daemon",
#     filemode=0o640,
#     dirmode=0o750)
# owner_sched = FileManagerScheduler(rules=[owner_rule], delay=2)
# pyinotifyd.add_watch(
#     path="/srv/upload",
#     event_map={"IN_CLOSE_WRITE": owner_sched, "IN_DELETE": Cancel(owner_sched)},
#     rec=True,
#     auto_add=True)
## <<<

## >>> command: a shell command for each file
# ## {maskname}, {pathname} and {src_pathname} stand for themselves, in quotes or without. At most max_jobs commands run
# ## at once, the others wait in order.
# command_sched = ShellScheduler(cmd="logger -t pyinotifyd -- {maskname} {pathname}", max_jobs=8)
# pyinotifyd.add_watch(path="/srv/commands", event_map={"IN_CLOSE_WRITE": command_sched})
## <<<

## >>> once: one command after a burst of changes, however many files changed
# ## With singlejob there is one task for all paths: every event begins its delay anew.
# once_sched = ShellScheduler(cmd="sync", delay=10, singlejob=True)
# pyinotifyd.add_watch(
#     path="/srv/site",
#     event_map=dict.fromkeys(["IN_CLOSE_WRITE", "IN_MOVED_TO", "IN_MOVED_FROM", "IN_DELETE"], once_sched),
#     rec=True,
#     auto_add=True)
## <<<

## >>> job: your own code in Python
# ## A job is a coroutine and runs beside the others: wait with "await", don't block with time.sleep().
# import asyncio
# import logging
#
#
# async def describe(event: Event, task_id: str) -> None:
#     await asyncio.sleep(0.1)
#     logging.info(f"{task_id}: {event.maskname} of {event.pathname}, directory: {event.dir}")
#
#
# job_sched = TaskScheduler(job=describe, files=True, dirs=True, logname="describe")
# pyinotifyd.add_watch(path="/srv/jobs", event_map={"IN_CREATE": job_sched})
## <<<

## >>> all: one scheduler for all events, with exceptions
# async def see(event: Event, task_id: str) -> None:
#     print(event)
#
#
# see_sched = TaskScheduler(see, files=True, dirs=True)
# see_map = EventMap(default_sched=see_sched, event_map={"IN_ACCESS": None, "IN_OPEN": None})
# pyinotifyd.add_watch(path="/srv/all", event_map=see_map, rec=True, auto_add=True)
## <<<

## >>> several: several schedulers for an event, several paths for a watch, patterns in paths
# first_sched = ShellScheduler(cmd="echo first {pathname}")
# second_sched = ShellScheduler(cmd="echo second {pathname}")
# pyinotifyd.add_watch(
#     path=["/srv/customers/*/incoming", "/srv/shared"],
#     event_map={"IN_CLOSE_WRITE": [first_sched, second_sched]})
## <<<

## >>> exclude: ignore paths
# ## Patterns are matched from the beginning of the absolute path. Matching directories are not watched at all. A file
# ## name instead of the list is read as one pattern a line.
# exclude_sched = ShellScheduler(cmd="echo {pathname}")
# pyinotifyd.add_watch(
#     path="/srv/tree",
#     event_map={"IN_CLOSE_WRITE": exclude_sched},
#     rec=True,
#     auto_add=True,
#     exclude_filter=[r"^/srv/tree/(.*/)?\.git(/|$)", r"^/srv/tree/.*~$"])
## <<<

## >>> overflow: hear of it when events came faster than they could be read
# ## The daemon looks for what it missed by itself; this is for your monitoring.
# overflow_sched = ShellScheduler(cmd="logger -p daemon.warning -t pyinotifyd event queue overflowed")
# pyinotifyd.add_watch(path="/srv/busy", event_map={"IN_Q_OVERFLOW": overflow_sched})
## <<<

## >>> levels: how much is logged
# ## DEBUG, INFO, WARNING, ERROR or CRITICAL; for all, and for one logname.
# setLoglevel(INFO)
# setLoglevel(WARNING, logname="sched")
## <<<

## >>> syslog: send the log to syslog as well
# ## address is a socket, or a host and a port: ("loghost", 514).
# enableSyslog(loglevel=WARNING, address="/dev/log")
## <<<
