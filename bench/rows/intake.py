"""How cheaply events are taken in, and how many are lost at full speed.

The configuration maps all twelve events to a scheduler of file rules none of which matches a file of the storm, so
that an event goes the whole way through the program and ends without a task. One rule deletes a file called `end`: when
it is gone, everything before it was seen.
"""

from __future__ import annotations

import re
from pathlib import Path

from measure.bench import Bench, wait_until
from measure.process import Program
from measure.row import (
    INOTIFYWAIT,
    LIMIT,
    ORIGINAL,
    OURS,
    Contestant,
    Failed,
    Figure,
    Kind,
    Row,
    Sample,
    Target,
)
from rows import configs

# create, open, modify, close_write, delete
EVENTS_A_FILE = 5
# More than any storm here makes, so that every contestant sees every event.
QUEUE_MAX = 1 << 20
QUEUE_DEFAULT = 16_384
# inotifywait tells only at its end what it saw, and ends when nothing has come for so long.
QUIET_S = 2
OVERFLOW = re.compile("overflow", re.IGNORECASE)


class Intake:
    """One contestant that watches a directory with a directory for each writer in it."""

    def __init__(self, bench: Bench, who: Contestant, root: Path, writers: int) -> None:
        self._bench, self._who = bench, who
        self.source = root / "in"
        self._ready = root / "ready"
        self._seen = root / "seen"
        self._ready.mkdir()
        self.writer_dirs = [self.source / f"w{index}" for index in range(writers)]
        for directory in self.writer_dirs:
            directory.mkdir(parents=True)

    def start(self) -> Program:
        """Until it is ready."""
        if self._who.kind is Kind.LIMIT:
            return self._bench.limit("reader", self.source, output=self._seen)
        if self._who.kind is Kind.OTHER:
            return self._start_inotifywait()
        return self._bench.daemon(self._who, self._config(), self._ready)

    def _start_inotifywait(self) -> Program:
        argv = ["inotifywait", "-m", "-r", "-t", str(QUIET_S), "--format", "%f", str(self.source)]
        return self._bench.start(argv, "Watches established", output=self._seen)

    def _config(self) -> str:
        parts = [configs.rules("sched", configs.rule("delete", f"^{self.source}/end$"))]
        if self._who.kind is Kind.ORIGINAL:
            parts.insert(0, configs.counting(self._seen))
        event_map = configs.event_map(configs.ALL_EVENTS, "sched")
        watch = configs.watch(self.source, event_map, rec=True)
        return configs.daemon(parts, [watch], self._ready)

    def wait_seen(self, program: Program) -> None:
        """Until it has worked off everything that happened."""
        if self._who.kind is Kind.OTHER:
            program.wait_exit(600)
            return
        program.settle()
        if self._who.kind is not Kind.LIMIT:
            end = self.source / "end"
            end.write_text("")
            wait_until(lambda: not end.exists(), "the rule after the storm", program)

    def lost(self, program: Program, events: int) -> int:
        """Ends it; how many of the storm's events it did not see. Ours does not count events: it says when the queue
        overflowed, and then an unknown number is missing."""
        if self._who.kind is not Kind.OTHER:
            program.terminate()
        if self._who.kind is Kind.OURS:
            overflows = len(OVERFLOW.findall(program.log()))
            if overflows:
                raise Failed(f"the queue overflowed: {program.last_words()}")
            return 0
        if self._who.kind is Kind.OTHER:
            with open(self._seen, "rb") as lines:
                return max(0, events - sum(1 for line in lines))
        seen = int(self._seen.read_text().split()[0])
        return max(0, events - seen)


class IntakeCost(Row):
    """CPU per event and memory, with a queue that nobody fills."""

    name = "intake"
    title = "full-speed storm, all 12 events mapped, no rule matches"
    figures = (
        Figure("cpu", "CPU per event", "µs"),
        Figure("peak", "memory at the peak", "MB"),
    )
    targets = (
        Target("cpu", 0.75, "limit"),
        Target("cpu", 1 / 50, "original"),
        Target("peak", 16),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, INOTIFYWAIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        files = bench.size(125_000, 20_000)
        with bench.scratch() as root, bench.sysctl("max_queued_events", QUEUE_MAX):
            intake = Intake(bench, who, root, writers=1)
            with intake.start() as program:
                before = program.tree.cpu_us()
                bench.tool("storm", intake.writer_dirs[0], files, 0, 0)
                intake.wait_seen(program)
                sample = {} if who.kind is Kind.OTHER else {"peak": program.tree.peak_bytes() / 1e6}
                sample["cpu"] = (program.tree.cpu_us() - before) / (files * EVENTS_A_FILE)
                if lost := intake.lost(program, files * EVENTS_A_FILE):
                    raise Failed(f"lost {lost} events in spite of a queue of {QUEUE_MAX}")
        return sample


class Loss(Row):
    """The same at the kernel's default queue."""

    name = "loss"
    title = "the same at the default queue (16,384)"
    figures = (
        Figure("lost1", "events lost, 1 writer", "%"),
        Figure("lost2", "events lost, 2 writers", "%"),
    )
    targets = (
        Target("lost1", 0),
        Target("lost2", 0),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, INOTIFYWAIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return {f"lost{writers}": self._lost_share(bench, who, writers) for writers in (1, 2)}

    @staticmethod
    def _lost_share(bench: Bench, who: Contestant, writers: int) -> float:
        files = bench.size(125_000, 40_000) // writers
        with bench.scratch() as root:
            intake = Intake(bench, who, root, writers)
            with intake.start() as program:
                if writers == 2:
                    with bench.tool_beside("storm", intake.writer_dirs[1], files, 0, 0) as second:
                        bench.tool("storm", intake.writer_dirs[0], files, 0, 0)
                        second.wait()
                else:
                    bench.tool("storm", intake.writer_dirs[0], files, 0, 0)
                intake.wait_seen(program)
                events = files * writers * EVENTS_A_FILE
                return intake.lost(program, events) / events * 100


class Rate(Row):
    """The highest rate of files that goes on for a while without loss."""

    name = "rate"
    title = "files a second without loss at the default queue"
    figures = (Figure("rate", "files a second", "1/s", higher_is_better=True),)
    targets = (Target("rate", 0.85, "limit"),)

    # Tried from the top after full speed; the steps are a quarter apart.
    RATES = (
        40_000,
        30_000,
        24_000,
        18_000,
        14_000,
        10_500,
        8_000,
        6_000,
        4_500,
        3_500,
        2_500,
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        # Full speed first; the original is known not to reach what is far above its cost of an event.
        rates = self.RATES[bench.size(3, 6) :] if who.kind is Kind.ORIGINAL else [0, *self.RATES]
        for rate in rates:
            reached = self._reached(bench, who, rate)
            if reached is not None:
                return {"rate": reached}
        raise Failed(f"loses events even at {rates[-1]} files a second")

    @staticmethod
    def _reached(bench: Bench, who: Contestant, rate: int) -> float | None:
        """Files a second of the writer; None if any event was lost."""
        seconds = bench.size(10, 2)
        with bench.scratch() as root:
            intake = Intake(bench, who, root, writers=1)
            with intake.start() as program:
                written, elapsed_ns = map(int, bench.tool("storm", intake.writer_dirs[0], 0, rate, seconds).split())
                intake.wait_seen(program)
                try:
                    lost = intake.lost(program, written * EVENTS_A_FILE)
                except Failed:
                    return None
        return None if lost else written / elapsed_ns * 1e9


ROWS: list[Row] = [IntakeCost(), Loss(), Rate()]
