"""Commit a directory of notes to git five seconds after the last change.

The commit takes all changes there are, so it does not matter which file's event it was.
"""

NOTES = "/srv/notes"

commit = ShellScheduler(
    cmd=f"cd {NOTES} && git add --all && (git diff --cached --quiet || git commit --quiet -m 'Changed notes')",
    delay=5,
    singlejob=True,
    logname="git",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=15)
pyinotifyd.add_watch(
    path=NOTES,
    event_map=dict.fromkeys(["IN_CLOSE_WRITE", "IN_MOVED_TO", "IN_MOVED_FROM", "IN_DELETE"], commit),
    rec=True,
    auto_add=True,
    # git writes here while it commits; not excluded, each commit would be followed by another look.
    exclude_filter=[rf"^{NOTES}/\.git(/|$)"],
)
