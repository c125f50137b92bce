"""Uploads: hand a file on when nobody has written to it for half a minute, and nobody has it open for writing.

FTP and SFTP servers close a file when a connection breaks, and open it again when the client resumes. So a closed file
is not yet a finished one: the delay waits for calm, and each further write begins it anew. A client that stalls for
longer than that still has its file open, which no event tells: `settle` asks.
"""

UPLOADS = "/srv/uploads"
READY = "/srv/ready"

hand_on = FileManagerScheduler(
    rules=[
        FileManagerRule(
            action="move",
            src_re=rf"^{UPLOADS}/(?P<customer>[^/]+)/(?P<path>.+)$",
            dst_re=rf"{READY}/\g<customer>/\g<path>",
            auto_create=True,
            dirmode=0o770,
            filemode=0o660,
        )
    ],
    delay=30,
    settle=Settle(no_writer=True),
    logname="uploads",
)

pyinotifyd = Pyinotifyd(
    watches=[
        Watch(
            path=UPLOADS,
            event_map={
                "IN_CREATE": hand_on,
                "IN_CLOSE_WRITE": hand_on,
                "IN_MOVED_TO": hand_on,
                "IN_MODIFY": Cancel(hand_on),
                "IN_DELETE": Cancel(hand_on),
                "IN_MOVED_FROM": Cancel(hand_on),
            },
            rec=True,
            auto_add=True,
            # What clients call a file until they have sent all of it; the last two are rsync's.
            exclude_filter=[r".*\.(part|filepart|tmp)$", r".*/\.[^/]+\.[A-Za-z0-9]{6}$", r".*/\.~tmp~(/|$)"],
        )
    ],
    # Longer than the delay: files that wait when the daemon stops are still handed on.
    shutdown_timeout=45,
)
