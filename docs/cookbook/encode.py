"""Transcode videos as a user who may do little: a broken file can harm no more than this user can.

Shows arguments instead of a command line, another user, limits, output in the log. The user must be able to read the
videos and to write into the directory of the results.
"""

VIDEOS = "/srv/videos"
RESULTS = "/srv/encoded"
USER = "nobody"

encode = ShellScheduler(
    # No shell: whatever a file is called, its path is one argument. The script gets it as $1.
    argv=["/bin/sh", "-c", f'ffmpeg -nostdin -y -i "$1" "{RESULTS}/${{1##*/}}.mp4"', "encode", "{pathname}"],
    user=USER,
    umask=0o027,
    nice=10,
    # At most 4 GiB of memory, an hour of processor time, no core files.
    limits={"as": 4 * 1024**3, "cpu": 3600, "core": 0},
    env={"AV_LOG_FORCE_NOCOLOR": "1"},
    # What ffmpeg says stands in the log of the daemon, beside the task.
    output="log",
    delay=5,
    max_jobs=2,
    logname="encode",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=VIDEOS,
    event_map={
        "IN_CLOSE_WRITE": encode,
        "IN_MOVED_TO": encode,
        "IN_DELETE": Cancel(encode),
        "IN_MOVED_FROM": Cancel(encode),
    },
)
