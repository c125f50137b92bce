"""Shell commands: how many a second, and what one costs with everything that it starts."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from measure.bench import Bench, wait_until
from measure.process import Program
from measure.row import LIMIT, ORIGINAL, OURS, Contestant, Figure, Kind, Row, Sample, Target
from rows import configs

# The command removes the file: an empty directory is the proof that each has run.
COMMAND = "rm -f"
# As many at once as our daemon runs by default.
JOBS_MAX = 64


def _is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


class Shell(Row):
    """A command for each file that is moved into a directory."""

    name = "shell"
    title = f"shell commands (`{COMMAND} PATH`)"
    figures = (
        Figure("rate", "commands a second", "1/s", higher_is_better=True),
        Figure("cpu", "CPU per command, with the command", "ms"),
    )
    targets = (
        Target("rate", 1.0, "limit"),
        Target("cpu", 1.05, "limit"),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return run_commands(bench, who, bench.size(3000, 600))


def run_commands(bench: Bench, who: Contestant, commands: int) -> Sample:
    """Drops so many files at once."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(bench.scratch())
        if who.kind is Kind.LIMIT:
            # It does not read while as many commands run as may, so it needs a queue that takes all.
            stack.enter_context(bench.sysctl("max_queued_events", 2 * commands))
        source, made, ready = root / "in", root / "made", root / "ready"
        for path in (source, made, ready):
            path.mkdir()
        bench.tool("files", "make", made, "f", 0, commands, 1)
        with _start(bench, who, source, ready) as program:
            program.settle()
            before, start = program.tree.cpu_us(), time.monotonic()
            bench.tool("files", "move", made, "f", 0, commands, source)
            wait_until(lambda: _is_empty(source), "the last command", program)
            elapsed = time.monotonic() - start
            program.settle()
            cpu_us = program.tree.cpu_us() - before
    return {"rate": commands / elapsed, "cpu": cpu_us / commands / 1000}


def _start(bench: Bench, who: Contestant, source: Path, ready: Path) -> Program:
    if who.kind is Kind.LIMIT:
        return bench.limit("spawner", source, COMMAND, JOBS_MAX)
    parts = [f'sched = ShellScheduler(cmd="{COMMAND} {{pathname}}")']
    watch = configs.watch(source, '{"IN_MOVED_TO": sched}')
    return bench.daemon(who, configs.daemon(parts, [watch], ready), ready)


ROWS: list[Row] = [Shell()]
