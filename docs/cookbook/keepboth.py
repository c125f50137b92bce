"""Scans of a machine that begins to count at 1 again after each restart: both are kept.

Shows `on_conflict="rename"`: the second scan0001.pdf of a day becomes scan0001.1.pdf. No scan is ever overwritten, not
even by a file that came in the same moment.
"""

SCANS = "/srv/scanner"
INBOX = "/srv/inbox"

collect = FileManagerScheduler(
    rules=[
        FileManagerRule(
            action="move",
            src_re=rf"^{SCANS}/(?P<name>[^/]+\.pdf)$",
            dst_re=rf"{INBOX}/\g<name>",
            on_conflict="rename",
            auto_create=True,
            filemode=0o640,
        )
    ],
    delay=3,
    logname="scans",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=30)
pyinotifyd.add_watch(
    path=SCANS,
    event_map={"IN_CLOSE_WRITE": collect, "IN_MOVED_TO": collect, "IN_DELETE": Cancel(collect)},
)
