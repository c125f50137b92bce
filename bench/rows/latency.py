"""How long after a file is closed a rule has moved it: on an idle machine, beside other events, during a storm."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import ClassVar

from measure.bench import Bench, percentile
from measure.process import Program
from measure.row import LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs

# Long enough that the daemon sleeps again before the next file.
GAP_US = 2000
# A rule acts on a worker's thread: one wake-up more than a program that acts where it reads.
WITH_A_WORKER = (
    Target("p50", 0.4, "original"),
    Target("p50", 100),
    Target("p99", 4, "limit"),
)
# Files a second elsewhere that make 10,000 events a second.
CALM_STORM_RATE = 2000


class Places:
    """Directories of a move rule, and one in which other things happen under the same watch."""

    def __init__(self, root: Path) -> None:
        self.source, self.target, self.elsewhere, self.ready = (root / name for name in ("in", "out", "storm", "ready"))
        for path in (self.source, self.target, self.elsewhere, self.ready):
            path.mkdir()

    def start(self, bench: Bench, who: Contestant) -> Program:
        """Starts a contestant that moves from `source` to `target`."""
        if who.kind is Kind.LIMIT:
            return bench.limit("mover", "move", self.source, self.target, self.elsewhere)
        rule = configs.rule("move", f"^{self.source}/(.*)$", rf"{self.target}/\1")
        watches = [configs.watch(path, '{"IN_CLOSE_WRITE": sched}') for path in (self.source, self.elsewhere)]
        return bench.daemon(who, configs.daemon([configs.rules("sched", rule)], watches, self.ready), self.ready)


def latencies_us(printed: str) -> list[float]:
    """What the probe printed. Raises Failed if the daemon never worked on a file."""
    values = [int(line) for line in printed.split()]
    if -1 in values:
        raise Failed(f"a file was never worked on ({len(values) - 1} before it were)")
    if not values:
        raise Failed("the probe took no measurement")
    return [value / 1000 for value in values]


class Latency(Row):
    """One circumstance."""

    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("p50", "median", "µs"),
        Figure("p99", "99th percentile", "µs"),
    )
    # Files a second elsewhere: 0 as fast as it goes, None nothing.
    storm_rate: ClassVar[int | None]

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        files = bench.size(1000, 300)
        if self.storm_rate == 0 and who.kind is Kind.ORIGINAL:
            files //= 60  # It answers after seconds, or never.
        with contextlib.ExitStack() as stack:
            places = Places(stack.enter_context(bench.scratch()))
            stack.enter_context(places.start(bench, who))
            if self.storm_rate is not None:
                stack.enter_context(bench.tool_beside("storm", places.elsewhere, 0, self.storm_rate, 0))
            values = latencies_us(bench.tool("probe", "file", places.source, places.target, files, GAP_US))
        return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


class Idle(Latency):
    """Nothing else happens."""

    name = "latency-idle"
    title = "file closed to file moved by a rule, idle"
    storm_rate = None
    targets = WITH_A_WORKER


class Beside(Latency):
    """10,000 events a second elsewhere."""

    name = "latency-beside"
    title = "the same during 10,000 events/s elsewhere"
    storm_rate = CALM_STORM_RATE
    targets = WITH_A_WORKER


class Storm(Latency):
    """A writer at full speed elsewhere."""

    name = "latency-storm"
    title = "the same during a full-speed storm"
    storm_rate = 0
    targets = (Target("p50", 1000),)


ROWS: list[Row] = [Idle(), Beside(), Storm()]
