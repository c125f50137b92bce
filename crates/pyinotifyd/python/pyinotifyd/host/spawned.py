"""Lets processes that multiprocessing spawns import the package, so that they can be given events.

The package is nowhere on their disk: it is in the daemon's program. Owns a zip of it in the memory of this process, and
its place on sys.path, which multiprocessing hands to each process that it starts.
"""

from __future__ import annotations

import os
import sys

import pyinotifyd

from .imported import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def install() -> None:
    """Make the package importable as soon as processes can be spawned, unless it is installed."""
    # Only the loader of boot.py lists modules.
    loader: Any = pyinotifyd.__loader__
    if hasattr(loader, "modules"):
        when_imported("multiprocessing.spawn", lambda module: sys.path.append(_zip(loader)))


def _zip(loader: Any) -> str:
    """Return the path of a zip with the package, which lasts as long as this process."""
    import zipfile

    fd = os.memfd_create("pyinotifyd.zip")
    with os.fdopen(os.dup(fd), "wb") as file, zipfile.ZipFile(file, "w") as package:
        for name, (is_package, *_) in loader.modules.items():
            path = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
            package.writestr(path, loader.get_source(name))
    return f"/proc/{os.getpid()}/fd/{fd}"
