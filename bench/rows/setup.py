"""How long it takes to watch a large tree, and what a watch costs in memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from measure.bench import Bench
from measure.process import Program
from measure.row import INOTIFYWAIT, LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs

WIDTH, INNER = 1000, 100
DIRECTORIES = WIDTH * (INNER + 1)


def start_watching(bench: Bench, who: Contestant, tree: Path, ready: Path) -> Program:
    """Starts a contestant that watches `tree` recursively for all events; it is ready when all watches are set."""
    if who.kind is Kind.LIMIT:
        return bench.limit("reader", tree, pipe_log=True)
    if who.kind is Kind.OTHER:
        return bench.start(["inotifywait", "-m", "-r", str(tree)], "Watches established", pipe_log=True)
    parts = [configs.rules("sched", configs.rule("delete", f"^{tree}/end$"))]
    watch = configs.watch(tree, configs.event_map(configs.ALL_EVENTS, "sched"), rec=True, auto_add=True)
    return bench.daemon(who, configs.daemon(parts, [watch], ready), ready, pipe_log=True)


class SetUp(Row):
    """101,000 directories."""

    name = "setup"
    title = f"recursive watch of {DIRECTORIES:,} directories"
    figures = (
        Figure("ready", "start to ready", "s"),
        Figure("cpu", "CPU, start to ready", "s"),
        Figure("watch", "memory per watch", "B"),
        Figure("all_in", "memory per watch, the whole program shared out", "B"),
    )
    targets = (
        Target("ready", 1.15, "limit"),
        Target("watch", 64),
    )

    def __init__(self) -> None:
        self._tree: Path | None = None

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, INOTIFYWAIT, ORIGINAL]

    def prepare(self, bench: Bench) -> None:
        bench.require_watches(DIRECTORIES + 2)
        self._tree = bench.memory_dir / "tree"
        self._tree.mkdir()
        bench.tool("tree", self._tree, WIDTH, INNER)

    def finish(self, bench: Bench) -> None:
        subprocess.run(["rm", "-rf", str(self._tree)], check=False)

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        assert self._tree is not None
        with bench.scratch() as root:
            ready, small = root / "ready", root / "small"
            ready.mkdir()
            small.mkdir()
            with start_watching(bench, who, small, ready) as program:
                program.settle()
                empty = program.tree.pss_bytes()
            with start_watching(bench, who, self._tree, ready) as program:
                ready_s, cpu_us = program.ready_s, program.tree.cpu_us()
                program.settle()
                full = program.tree.pss_bytes()
                if program.tree.watches() < DIRECTORIES:
                    raise Failed(f"{program.tree.watches()} watches, not {DIRECTORIES}")
        return {
            "ready": ready_s,
            "cpu": cpu_us / 1e6,
            "watch": (full - empty) / DIRECTORIES,
            "all_in": full / DIRECTORIES,
        }


ROWS: list[Row] = [SetUp()]
