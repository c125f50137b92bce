"""How long after a file is closed a rule has moved it: on an idle machine, beside other events, during a storm."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from measure.bench import Bench, percentile
from measure.build import BENCH
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

    def start(self, bench: Bench, who: Contestant, control: Path | None = None) -> Program:
        """Starts a contestant that moves from `source` to `target`."""
        if who.kind is Kind.LIMIT:
            return bench.limit("mover", "move", self.source, self.target, self.elsewhere)
        rule = configs.rule("move", f"^{self.source}/(.*)$", rf"{self.target}/\1")
        watches = [configs.watch(path, '{"IN_CLOSE_WRITE": sched}') for path in (self.source, self.elsewhere)]
        config = configs.daemon([configs.rules("sched", rule)], watches, self.ready, control=control)
        return bench.daemon(who, config, self.ready)


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


class Attacked(Row):
    """Hostile clients of the control socket: slow ones, too many, garbage, huge requests, one that never reads."""

    name = "latency-attacked"
    title = "the same with and without attacks on the control socket"
    figures = Latency.figures
    baseline = OURS.name
    ATTACKED = Contestant("ours, attacked", Kind.OURS)
    targets = (Target("p99", 20_000, of=ATTACKED.name),)

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, self.ATTACKED]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        # Long enough for clients to be cut off: a reader that does not read has 10 s.
        files = bench.size(5000, 1000)
        with contextlib.ExitStack() as stack:
            places = Places(stack.enter_context(bench.scratch()))
            control = places.ready.parent / "control.sock"
            stack.enter_context(places.start(bench, who, control))
            if who is self.ATTACKED:
                stack.enter_context(attack(control))
            values = latencies_us(bench.tool("probe", "file", places.source, places.target, files, GAP_US))
        return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


@contextlib.contextmanager
def attack(control: Path) -> Iterator[None]:
    """Attacks a socket, and goes on with it."""
    argv = [sys.executable, str(BENCH / "writers" / "attacker.py"), str(control)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as attacker:
        try:
            assert attacker.stdout
            if not attacker.stdout.readline():
                raise Failed("the attacker has ended")
            yield
        finally:
            attacker.kill()


ROWS: list[Row] = [Idle(), Beside(), Storm(), Attacked()]
