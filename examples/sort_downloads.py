"""Sort what arrives in ~/Downloads by its kind, once it has not been touched for ten seconds.

pyinotifyd -c examples/sort_downloads.py
"""

import os
import re

downloads = os.path.expanduser("~/Downloads")

KINDS = {
    "documents": "pdf|odt|docx?|txt|md",
    "pictures": "jpe?g|png|gif|webp|svg",
    "archives": "zip|tar|tgz|tar\\.(gz|xz|zst)|7z",
    "packages": "deb|rpm|AppImage",
}

# Browsers download into NAME.part or NAME.crdownload and rename that at the end: no rule is for these names, and the
# renaming is IN_MOVED_TO.
rules = [
    FileManagerRule(
        action="move",
        src_re=rf"^{re.escape(downloads)}/(?P<name>[^/]+\.(?i:{endings}))$",
        dst_re=rf"{downloads}/{kind}/\g<name>",
        auto_create=True,
    )
    for kind, endings in KINDS.items()
]
sort = FileManagerScheduler(rules=rules, delay=10)

pyinotifyd = Pyinotifyd(shutdown_timeout=15)
pyinotifyd.add_watch(
    path=downloads,
    event_map={
        "IN_CLOSE_WRITE": sort,
        "IN_MOVED_TO": sort,
        "IN_MODIFY": Cancel(sort),
        "IN_DELETE": Cancel(sort),
        "IN_MOVED_FROM": Cancel(sort),
    },
)
