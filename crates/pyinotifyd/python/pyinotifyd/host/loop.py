"""Finds the event loop that a config has used while it was executed, and what it has put there."""

from __future__ import annotations

import asyncio
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


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


def has_work(loop: Any) -> bool:
    """Say whether a loop has tasks, callbacks, timers, servers or threads, or may have them: it is not Python's own."""
    if asyncio.all_tasks(loop):
        return True
    try:
        # It always reads from a socket of its own, which wakes it.
        return bool(loop._ready or loop._scheduled or loop._default_executor or len(loop._selector.get_map()) > 1)
    except AttributeError:
        return True
