"""Archive the files of projects, and remove the directories that are empty then.

Shows `prune`: when a rule has moved or deleted the last file of a directory, the directory goes, too, and those above
it that are empty by then; never the directory that is watched. A directory into which somebody puts a file in that
moment stays.
"""

PROJECTS = "/srv/projects"
ARCHIVE = "/srv/archive"

archive = FileManagerScheduler(
    rules=[
        FileManagerRule(
            action="move",
            src_re=rf"^{PROJECTS}/(?P<path>.+)\.done$",
            dst_re=rf"{ARCHIVE}/\g<path>",
            auto_create=True,
            prune=True,
        ),
        FileManagerRule(action="delete", src_re=rf"^{PROJECTS}/.+\.(bak|tmp)$", prune=True),
    ],
    delay=10,
    logname="archive",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=30)
pyinotifyd.add_watch(
    path=PROJECTS,
    event_map={"IN_CLOSE_WRITE": archive, "IN_MOVED_TO": archive, "IN_DELETE": Cancel(archive)},
    rec=True,
    auto_add=True,
)
