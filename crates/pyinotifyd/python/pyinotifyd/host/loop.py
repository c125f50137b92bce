"""Finds the event loop that a config has used while it was executed."""

from __future__ import annotations

import asyncio
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


def current() -> Optional[asyncio.AbstractEventLoop]:
    """Return the loop that tasks and locks of the config belong to; None if it can't have one any more."""
    with warnings.catch_warnings():
        # Before 3.14 asking for it makes it, for which newer Pythons warn.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            return None
    return None if loop.is_closed() else loop
