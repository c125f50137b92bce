"""Runs custom jobs on asyncio.

Owns the loop, the running jobs, and what is reported of them. Which job runs when, and what happens to an event whose
task is running, is the daemon's business: what it starts is run.
"""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import struct
import sys
from collections import deque
from functools import partial
from itertools import islice, repeat
from time import monotonic

from ..event import FAILED, PATH, SRC_PATHNAME, Event
from . import errors, forked, records, wire
from .loop import current
from .stay import end_in_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from typing import Any, Callable, NoReturn, Optional, Union

    from ..event import Row
    from ..scheduler import Job, TaskScheduler
    from .load import Source
    from .wire import Channel

    #: What is a number, task id, path, and the texts that most events don't have. A start for many events has these,
    #: made already, instead of the path, and None instead of the texts.
    Start = tuple[Row, str, Union[str, list[Event]], Optional[tuple[str, ...]]]
    #: Makes a task of a coroutine.
    Begin = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

# Jobs that begin in one turn of the loop, at first and at most: the loop's own cost is spread over them, and timers,
# logs and cancels don't wait for a whole burst. Where their first steps take longer than that time, it is fewer. The
# daemon knows the first number.
STARTS_A_TURN_FIRST = 8
STARTS_A_TURN_MAX = 128
STARTS_S = 0.005

# Tasks that call sys.exit while they are cancelled at the end; the rest is left to the end of the process.
EXITS_MAX = 1000

# The first step runs at once where that can be; most jobs are done then, and the loop never sees them.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


def run(channel: Channel, sources: list[Source], schedulers: list[TaskScheduler]) -> int:
    """Run jobs until the daemon says stop or is gone; return the exit status."""
    loop = current()
    if loop is None:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return _Host(channel, sources, schedulers, loop).run()


class _Host:
    """The jobs of a config: those that wait for their turn, those that run, and what is to be reported."""

    def __init__(
        self,
        channel: Channel,
        sources: list[Source],
        schedulers: list[TaskScheduler],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin without jobs."""
        self._channel = channel
        # Until a traceback needs their texts.
        self._sources = sources
        # Those of commands and rules have no job; the places are those of the description.
        self._jobs: list[Optional[Job]] = [getattr(scheduler, "job", None) for scheduler in schedulers]
        self._schedulers = schedulers
        self._loop = loop
        self._begin: Begin = partial(asyncio.Task, loop=loop, **_EAGER)
        self._waiting: deque[Start] = deque()
        self._running: dict[int, asyncio.Task[None]] = {}
        # Counts from the start on: jobs that were begun, those whose first step has run, and those reported so.
        self._begun = 0
        self._taken = 0
        self._taken_reported = 0
        # How many may have begun before the daemon hears of them: it has been told so.
        self._begun_max = STARTS_A_TURN_FIRST
        self._done: list[int] = []
        self._cancelled: list[int] = []
        # Cancelled or recalled before they were begun.
        self._dropped: list[int] = []
        self._report_due = False
        self._turn_due = False
        self._starts_a_turn = STARTS_A_TURN_FIRST
        self._over = False
        self._gone = False
        self._is_child = False

    def run(self) -> int:
        """Run until the end; return the exit status."""
        loop = self._loop
        self._channel.unblock(lambda: loop.call_soon_threadsafe(self._wait_writable))
        loop.add_reader(self._channel.fd, self._readable)
        loop.call_soon(self._handle, self._channel.buffered())
        os.register_at_fork(after_in_child=self._leave_to_parent)
        # What the config has made lives as long as we do: no need to look through it again and again.
        gc.collect()
        gc.freeze()
        # A job may stop the loop, or a callback of the user's call sys.exit: the loop belongs to other jobs, too.
        while not self._over:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as exception:
                if self._is_child:
                    forked.end(exception)
                _ends_nothing(exception)
        return self._end()

    def _leave_to_parent(self) -> None:
        """Leave the loop to the parent, in a process that code of the config has forked; where it comes back, it ends.

        Two processes that share an epoll instance take each other's events, and what waits for its turn would be done
        by both.
        """
        self._is_child = True
        loop: Any = self._loop
        try:
            loop._selector = _Ended()
            loop._ready.appendleft(asyncio.Handle(forked.end, (), loop))
        except AttributeError:  # a loop that is none of Python's own; it has to know what a fork is
            loop.call_soon(forked.end)

    def _readable(self) -> None:
        try:
            frames = self._channel.read_available()
        except Exception as exception:
            _give_up(exception)
        if frames is None:
            self._gone = True
            self._stop()
            return
        self._handle(frames)

    def _stop(self) -> None:
        self._over = True
        self._loop.stop()

    def _handle(self, frames: list[tuple[int, bytes]]) -> None:
        try:
            for kind, body in frames:
                if kind == wire.START:
                    self._waiting.extend(_starts(body))
                elif kind == wire.START_BATCH:
                    self._waiting.append(_batch(body))
                elif kind == wire.CANCEL:
                    self._cancel(struct.unpack(f"<{len(body) // 8}Q", body))
                elif kind == wire.RECALL:
                    self._drop_waiting()
                elif kind == wire.LOG:
                    records.handle(body)
                elif kind == wire.STOP:
                    self._stop()
        except Exception as exception:
            _give_up(exception)
        self._turn()

    def _next_turn(self) -> None:
        """Begin more of the jobs, after a look at what has come meanwhile: some of them may have been cancelled."""
        self._turn_due = False
        self._readable()

    def _turn(self) -> None:
        """Begin some of the jobs that wait for it, if the daemon knows which have begun."""
        if not self._waiting or self._turn_due or self._over:
            return
        if self._channel.backlog and not self._channel.flush():
            return
        waiting, loop, run = self._waiting, self._loop, self._run
        # As loop.create_task, which costs as much again; the user may have given the loop a way of his own.
        begin: Begin = loop.create_task if loop.get_task_factory() else self._begin
        since = monotonic()
        # What is more begins after the next report.
        count = min(self._starts_a_turn, len(waiting), self._begun_max - self._begun)
        if count <= 0:
            return
        begun = []
        for _ in range(count):
            row, task_id, pathname, rare = waiting.popleft()
            handle = row[0]
            given = pathname if rare is None else Event(row, pathname, rare)  # type: ignore[arg-type]  # a path then
            self._begun += 1
            taken = self._taken
            try:
                task = begin(run(handle, row[1], given, task_id))
                is_over = task.done()
            except BaseException as exception:  # a task factory of the config's own
                if self._is_child:
                    forked.end(exception)
                self._taken = taken + 1
                self._failed(handle, row[1], exception)
                self._report_soon()
                continue
            if self._is_child:
                forked.end()
            if not is_over:
                self._running[handle] = task
                begun.append(handle)
        # Behind the first steps, where these are still to be run.
        if begun:
            loop.call_soon(self._first_steps_done, begun, since)
        else:
            self._adapt(since)
        self._turn_soon()

    def _turn_soon(self) -> None:
        """Begin more of the jobs later, unless the daemon is to hear first which have begun."""
        if self._waiting and not (self._turn_due or self._over) and self._begun < self._begun_max:
            self._turn_due = True
            self._loop.call_soon(self._next_turn)

    def _adapt(self, since: float) -> None:
        """Begin as many jobs in the next turn as take a short time."""
        took = monotonic() - since
        if took > STARTS_S:
            self._starts_a_turn = max(1, int(self._starts_a_turn * STARTS_S / took))
        elif took < STARTS_S / 2:
            self._starts_a_turn = min(STARTS_A_TURN_MAX, self._starts_a_turn * 2)

    def _first_steps_done(self, begun: list[int], since: float) -> None:
        """Look whether jobs were cancelled before their first step, by the daemon or by other jobs.

        Python doesn't run these at all. It is rare, so that a look at two numbers has to do for all others.
        """
        self._adapt(since)
        if self._taken == self._begun:
            return
        for handle in begun:
            task = self._running.get(handle)
            if task:
                task.add_done_callback(partial(self._unstarted, handle))

    def _unstarted(self, handle: int, _: asyncio.Task[None]) -> None:
        """Note the end of a task whose job may not have begun: one that has is not among the running ones any more."""
        if self._running.pop(handle, None):
            self._taken += 1
            self._cancelled.append(handle)
            self._report_soon()

    async def _run(self, handle: int, number: int, event: Any, task_id: str) -> None:
        """Run a job to its end, and note how it ended."""
        self._taken += 1
        self._report_soon()
        try:
            await self._jobs[number](event, task_id)  # type: ignore[misc]  # the daemon starts none that there isn't
            if self._is_child:
                forked.end(status=0)
            self._done.append(handle)
        except asyncio.CancelledError:
            self._cancelled.append(handle)
        except BaseException as exception:
            if self._is_child:
                forked.end(exception)
            if self._loop.is_closed():
                raise  # Python closes the coroutine, nobody is waiting for us
            self._failed(handle, number, exception)
        self._running.pop(handle, None)
        self._report_soon()

    def _report_soon(self) -> None:
        if not self._report_due:
            self._report_due = True
            self._loop.call_soon(self._report)

    def _failed(self, handle: int, number: int, exception: BaseException) -> None:
        while self._sources:
            source = self._sources.pop()
            errors.keep_source(source.filename, source.content)
        body = {
            "task": handle,
            "exception": wire.shortened(errors.summary(exception), wire.ERROR_MAX),
            "traceback": errors.format_traceback(exception),
            "final": self._is_final(number, exception),
        }
        self._channel.send(wire.FAIL, wire.report(body))

    def _is_final(self, number: int, exception: BaseException) -> bool:
        """Say whether the exception is none of those that the config wants to be tried again."""
        retry = self._schedulers[number].retry
        if retry is None or retry.on is None:
            return False
        try:
            return not isinstance(exception, tuple(one for one in retry.on if isinstance(one, type)))
        except BaseException:  # a class says itself what is one of its kind, and may raise anything
            return True

    def _cancel(self, handles: tuple[int, ...]) -> None:
        """Cancel running jobs, and forget those that still wait for their turn."""
        late = set()
        for handle in handles:
            task = self._running.get(handle)
            if task:
                task.cancel()
            else:
                late.add(handle)
        if late and self._waiting:
            self._dropped += [row[0] for row, *_ in self._waiting if row[0] in late]
            self._waiting = deque(start for start in self._waiting if start[0][0] not in late)
            self._report_soon()

    def _drop_waiting(self) -> None:
        """Give back what has not begun."""
        self._dropped.extend(row[0] for row, *_ in self._waiting)
        self._waiting.clear()
        self._report_soon()

    def _report(self) -> None:
        """Tell the daemon what happened in this turn of the loop."""
        self._report_due = False
        frames = b""
        # Before what was taken, which the daemon counts in the order of the starts.
        if self._dropped:
            frames += wire.frame(wire.DROPPED, _packed(self._dropped))
        taken = self._taken - self._taken_reported
        if taken:
            # What may begin before the next report: if this process dies, the rest has not begun.
            self._begun_max = self._begun + self._starts_a_turn
            frames += wire.frame(wire.TAKEN, struct.pack("<II", taken, self._begun_max - self._taken))
            self._taken_reported = self._taken
        if self._done:
            frames += wire.frame(wire.DONE, _packed(self._done))
        if self._cancelled:
            frames += wire.frame(wire.CANCELLED, _packed(self._cancelled))
        if frames:
            self._channel.send_frames(frames)
        self._turn_soon()

    def _wait_writable(self) -> None:
        self._loop.add_writer(self._channel.fd, self._writable)

    def _writable(self) -> None:
        if self._channel.flush():
            self._loop.remove_writer(self._channel.fd)
            self._turn()

    def _end(self) -> int:
        """Cancel what runs, end the loop, and return the exit status."""
        loop = self._loop
        loop.remove_reader(self._channel.fd)
        if self._gone:
            end_in_time()
        self._drop_waiting()
        try:
            self._complete(_cancel_all)
            self._complete(loop.shutdown_asyncgens)
            self._complete(loop.shutdown_default_executor)
        finally:
            self._cancelled.extend(self._running)
            self._report()
            loop.remove_writer(self._channel.fd)
            self._channel.block()
            loop.close()
        return 0

    def _complete(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine to its end, whatever the ends of jobs call."""
        for _ in range(EXITS_MAX):
            try:
                return self._loop.run_until_complete(function())
            except (SystemExit, KeyboardInterrupt) as exception:
                _ends_nothing(exception)


class _Ended(selectors.SelectSelector):
    """What the loop waits with in a forked child: it has no descriptor of the parent's."""

    def select(self, timeout: Optional[float] = None) -> NoReturn:
        """End the process."""
        forked.end()


def _give_up(exception: Exception) -> NoReturn:
    """End the process, as where there is no memory: jobs that were read would never run. The daemon starts another."""
    try:
        os.write(2, f"CRITICAL: the config host ends: {exception!r}\n".encode("ascii", "backslashreplace"))
    finally:
        os._exit(1)


def _ends_nothing(exception: BaseException) -> None:
    """Log that code of the config wanted to end the process."""
    import logging

    logging.getLogger().error(
        "a task or callback of the config raised %r, which ends nothing but itself", exception, exc_info=exception
    )


async def _cancel_all() -> None:
    """Cancel all tasks, those that jobs have started as well, and wait for their end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _packed(handles: list[int]) -> bytes:
    """Pack handles, and empty the list."""
    packed = struct.pack(f"<{len(handles)}Q", *handles)
    handles.clear()
    return packed


# Handle, scheduler, mask, wd, cookie, name_len, flags.
_ROW = struct.Struct("<QIIiIHB")

# As os.fsdecode.
_ENCODING = sys.getfilesystemencoding()


def _starts(body: bytes) -> Iterable[Start]:
    """Return the jobs of a START frame: their number, a row of numbers for each, and all texts."""
    count = int.from_bytes(body[:4], "little")
    end = 4 + count * _ROW.size
    rows = _ROW.iter_unpack(body[4:end])
    texts = body[end:].decode(_ENCODING, "surrogateescape").split("\0")
    if len(texts) == 2 * count:
        return zip(rows, texts[0::2], texts[1::2], repeat(()))
    return _uneven(rows, iter(texts))


def _batch(body: bytes) -> Start:
    """Return the job of a START_BATCH frame, with all its events; its id stands with the first of them."""
    starts = list(_starts(body))
    events = [Event(row, pathname, rare) for row, _, pathname, rare in starts]  # type: ignore[arg-type]  # as above
    return starts[0][0], starts[0][1], events, None


def _uneven(rows: Iterable[Row], text: Iterator[str]) -> Iterator[Start]:
    """Return jobs of which some have more texts than others."""
    for row in rows:
        task_id, pathname = next(text), next(text)
        count = sum(1 for flag in (SRC_PATHNAME, PATH) if row[-1] & flag) + (3 if row[-1] & FAILED else 0)
        yield row, task_id, pathname, tuple(islice(text, count))
