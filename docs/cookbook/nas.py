"""Backup to a NAS that is switched off at night: files wait for it, and never land in the empty mount point.

Shows `mounted`: without it, a rule would fill the disk below the mount point while the NAS is away. With `retry` a file
that could not be copied is tried again, less and less often, until the NAS is back. With a state (`state=`) that goes
on after a restart, too.
"""

SOURCE = "/srv/documents"
NAS = "/srv/nas"

backup = FileManagerScheduler(
    rules=[
        FileManagerRule(
            action="copy",
            src_re=rf"^{SOURCE}/(?P<path>.+)$",
            dst_re=rf"{NAS}/documents/\g<path>",
            auto_create=True,
            on_conflict="newer",
            mounted=NAS,
            verify=True,
        )
    ],
    delay=10,
    # First after a minute, then after two, four, eight; then each hour, for a week.
    retry=Retry(times=7 * 24, delay=60, max_delay=3600),
    logname="backup",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=SOURCE,
    event_map={"IN_CLOSE_WRITE": backup, "IN_MOVED_TO": backup, "IN_DELETE": Cancel(backup)},
    rec=True,
    auto_add=True,
    exclude_filter=[r".*/\.[^/]+$", r".*~$"],
)
