"""Hot folders: each subdirectory is a printer; what is dropped into it is printed and then kept as printed.

A new subdirectory is a new printer at once. The command gets the path in an environment variable, which saves all
quoting.
"""

FOLDERS = "/srv/print"

printing = ShellScheduler(
    cmd='printer=$(basename "$(dirname "$PYINOTIFYD_PATHNAME")") && '
    'lp -d "$printer" -- "$PYINOTIFYD_PATHNAME" && '
    'mkdir -p /srv/printed/"$printer" && '
    'mv -- "$PYINOTIFYD_PATHNAME" /srv/printed/"$printer"/',
    delay=1,
    max_jobs=4,
    logname="print",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=30)
pyinotifyd.add_watch(
    path=FOLDERS,
    event_map={"IN_CLOSE_WRITE": printing, "IN_MOVED_TO": printing, "IN_DELETE": Cancel(printing)},
    rec=True,
    auto_add=True,
)
