"""Transcode recordings, with a limit of time: what hangs is ended, and what fails for good is put aside and noted.

Shows `timeout` and `on_failure`. The scheduler of failures gets the event of the task that failed, and {error} says
why: the exit status, the signal, or the timeout.
"""

RECORDINGS = "/srv/recordings"
RESULTS = "/srv/transcoded"
BROKEN = "/srv/broken"

put_aside = ShellScheduler(
    cmd=f"mkdir -p {BROKEN} && mv -- {{pathname}} {BROKEN}/ && echo {{pathname}}: {{error}} >> {BROKEN}/errors.txt",
    logname="broken",
)

transcode = ShellScheduler(
    # The result gets its name when it is complete.
    cmd=f'name=$(basename -- {{pathname}}) && ffmpeg -nostdin -y -i {{pathname}} -f mp4 "{RESULTS}/.$name.part" '
    f'&& mv -- "{RESULTS}/.$name.part" "{RESULTS}/$name.mp4"',
    delay=5,
    max_jobs=2,
    timeout=7200,
    # A machine that is short of memory kills programs: once more, later. A broken recording stays one.
    retry=Retry(times=1, delay=600, on=["signal"]),
    on_failure=put_aside,
    output="log",
    logname="transcode",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=RECORDINGS,
    event_map={
        "IN_CLOSE_WRITE": transcode,
        "IN_MOVED_TO": transcode,
        "IN_DELETE": Cancel(transcode),
        "IN_MOVED_FROM": Cancel(transcode),
    },
)
