"""Thumbnails: keep a small PNG for each photo, and none for photos that are gone.

Making and removing are two schedulers, so a photo may be deleted while its thumbnail is made. At most four converters
run at once, however many photos are copied into the directory.
"""

PHOTOS = "/srv/photos"
THUMBNAILS = "/srv/thumbnails"

# ${VARIABLE#PREFIX} is the path below the directory of photos.
make = ShellScheduler(
    cmd=f'target="{THUMBNAILS}/${{PYINOTIFYD_PATHNAME#{PHOTOS}/}}.png" && '
    'mkdir -p "$(dirname "$target")" && '
    'convert "$PYINOTIFYD_PATHNAME" -auto-orient -thumbnail 256x256 "$target"',
    delay=1,
    max_jobs=4,
    logname="thumbnails",
)
remove = ShellScheduler(
    cmd=f'rm -f -- "{THUMBNAILS}/${{PYINOTIFYD_PATHNAME#{PHOTOS}/}}.png"',
    logname="thumbnails",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=30)
pyinotifyd.add_watch(
    path=PHOTOS,
    event_map={
        "IN_CLOSE_WRITE": make,
        "IN_MOVED_TO": make,
        "IN_DELETE": [Cancel(make), remove],
        "IN_MOVED_FROM": [Cancel(make), remove],
    },
    rec=True,
    auto_add=True,
    exclude_filter=[r".*/\.[^/]*$", rf"^{PHOTOS}/(.*/)?[^/]*\.(?!(jpe?g|png|webp|heic)$)[^/.]*$"],
)
