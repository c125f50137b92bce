"""Import what comes by FTP, when the upload is complete: the client sends a file order.ok after order.csv.

Shows `settle`: a task that is due waits until nobody writes to its file, until its size has been the same for a while,
and until the marker is there. Without a marker, as most clients send none, leave that line out.
"""

UPLOADS = "/srv/ftp"

load = ShellScheduler(
    argv=["/usr/local/bin/import-orders", "{pathname}"],
    settle=Settle(
        no_writer=True,
        stable=20,
        min_size=1,
        marker="{dirname}/{stem}.ok",
        # A client that never comes back: after a day the task fails, which the log tells.
        give_up=24 * 3600,
        check=1,
    ),
    logname="orders",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=UPLOADS,
    event_map={"IN_CLOSE_WRITE": load, "IN_MOVED_TO": load},
    rec=True,
    auto_add=True,
    # The markers themselves are no orders.
    exclude_filter=[r".*\.ok$"],
)
