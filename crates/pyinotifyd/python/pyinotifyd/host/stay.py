"""Stays without jobs: for handlers of the user's, threads, and what is registered for the end.

Owns the wait for frames. No asyncio: it costs 40 ms and 7 MB.
"""

from __future__ import annotations

from . import records, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Channel


def run(channel: Channel) -> int:
    """Handle records of the daemon until it says stop or is gone; return the exit status."""
    while True:
        got = channel.receive()
        if got is None or got[0] == wire.STOP:
            return 0
        if got[0] == wire.LOG:
            records.handle(got[1])
