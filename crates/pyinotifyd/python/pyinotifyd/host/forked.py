"""Ends a process that code of the config forked and that comes back to the host's own code: it is not the host.

Owns that end. Leaves to `wire` and `jobs` what such a process must not share with its parent, and everything else to
the code that forked it.
"""

from __future__ import annotations

import os
import sys

from ..checked import called_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Optional

_TEXT = (
    "process %d, which %s, came back to the loop that runs the jobs, and was ended; "
    "let it call os._exit() when it is done"
)


class _Fork:
    """In a forked child, what forked it."""

    by = "code of the config forked"


def begin() -> None:
    """Remember, in a process that was just forked, the function that did it."""
    caller = called_by()
    if caller:
        name, (file, line) = caller
        _Fork.by = f"{name!r} forked at {file}:{line}"


def end(exception: Optional[BaseException] = None, status: int = 1) -> NoReturn:
    """End this process, with what `sys.exit` says or else with `status` and a warning, and nothing of the parent's."""
    try:
        if isinstance(exception, SystemExit):
            from . import errors

            status, text = errors.exit_status(exception)
            if text:
                print(text, file=sys.stderr)
        else:
            import logging

            logging.getLogger().warning(_TEXT, os.getpid(), _Fork.by, exc_info=exception)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status & 0xFF)
