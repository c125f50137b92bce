"""Stays without jobs: for handlers of the user's, threads, and what is registered for the end.

Owns the wait for frames. No asyncio: it costs 40 ms and 7 MB.
"""

from __future__ import annotations

import faulthandler

from . import records, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import Channel


# When the daemon is gone without a word, jobs and threads get this long to end.
GONE_GRACE_S = 5


def run(channel: Channel) -> int:
    """Handle records of the daemon until it says stop or is gone; return the exit status."""
    while True:
        got = channel.receive()
        if got is None:
            end_in_time()
            return 0
        if got[0] == wire.STOP:
            return 0
        if got[0] == wire.LOG:
            records.handle(got[1])


def end_in_time() -> None:
    """End the process after a while, even if a job or a thread doesn't; where it hangs, stands on stderr."""
    faulthandler.dump_traceback_later(GONE_GRACE_S, exit=True, file=2)
