"""Reload a service when its configuration changes, but only if the new configuration is good.

Editors write several files for one save. With singlejob there is one task for all of them, and the delay begins anew
with each event: one reload for each save.
"""

CONFIGURATION = "/etc/nginx"

reload_nginx = ShellScheduler(cmd="nginx -t -q && nginx -s reload", delay=2, singlejob=True, logname="nginx")

pyinotifyd = Pyinotifyd(shutdown_timeout=10)
pyinotifyd.add_watch(
    path=CONFIGURATION,
    event_map=dict.fromkeys(["IN_CLOSE_WRITE", "IN_MOVED_TO", "IN_MOVED_FROM", "IN_DELETE"], reload_nginx),
    rec=True,
    auto_add=True,
    # Swap and backup files of editors.
    exclude_filter=[r".*/(\.[^/]*\.sw.|[^/]*~|4913)$"],
)
