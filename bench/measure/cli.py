"""The command: options, the order of measurements, and where the results go."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from measure import build, machine, plot, report
from measure.bench import Bench
from measure.build import REPOSITORY
from measure.cpu import prefer
from measure.row import Contestant, Failed, Kind, Results, Row, Unavailable
from rows import files, intake, jobs, latency, scale, setup, shell, start, state, waits

ROWS: list[Row] = [
    *intake.ROWS,
    *setup.ROWS,
    *latency.ROWS,
    *waits.ROWS,
    *jobs.ROWS,
    *shell.ROWS,
    *files.ROWS,
    *start.ROWS,
    *state.ROWS,
]
SCALE_ROWS: list[Row] = [*scale.ROWS, *waits.SCALE_ROWS]


class Rounds(NamedTuple):
    """How often each contestant is measured."""

    others: int
    # It is far from all bounds and takes most of the time.
    original: int


ROUNDS_FULL = Rounds(5, 2)
ROUNDS_QUICK = Rounds(1, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="Measures pyinotifyd beside others; see README.md.")
    every = ", ".join(row.name for row in [*ROWS, *SCALE_ROWS])
    parser.add_argument("--quick", action="store_true", help="small sizes and one round: under three minutes")
    parser.add_argument("--row", action="append", metavar="NAME", help=f"only this row (repeatable): {every}")
    parser.add_argument("--only", action="append", metavar="CONTESTANT", help="only this contestant (repeatable)")
    parser.add_argument("--scale", action="store_true", help="the rows on scale as well; needs root, takes long")
    parser.add_argument("--rounds", type=int, help=f"measurements of each (default {ROUNDS_FULL.others})")
    parser.add_argument("--nice", type=int, default=0, help="priority of all that is run, on a machine that is busy")
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm"), help="where files are made (default %(default)s)")
    parser.add_argument("--disk-dir", type=Path, help="where rows about a disk make theirs (default: the build's)")
    parser.add_argument("--out", type=Path, help="directory of results.json, results.md and results.svg")
    parser.add_argument(
        "--publish", action="store_true", help="put the results into BENCHMARKS.md and bench/results.svg"
    )
    parser.add_argument("--ours", type=Path, metavar="PROGRAM", help="measure this binary instead of building one")
    parser.add_argument("--no-build", action="store_true", help="take target/release/pyinotifyd as it is")
    parser.add_argument("--original", type=Path, metavar="PROGRAM", help="an original that is installed already")
    parser.add_argument("--python", action="append", type=Path, default=[], metavar="PATH", help="interpreters to use")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Row]:
    every = [*ROWS, *SCALE_ROWS]
    if options.row:
        unknown = set(options.row) - {row.name for row in every}
        if unknown:
            raise SystemExit(f"no such row: {', '.join(sorted(unknown))}")
        return [row for row in every if row.name in options.row]
    return every if options.scale else ROWS


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _measure_once(bench: Bench, results: Results, who: Contestant) -> None:
    row = results.row
    try:
        sample = row.measure(bench, who)
    except (Failed, Unavailable) as error:
        word = "not measured" if isinstance(error, Unavailable) else "FAILED"
        problem = f"{who.name} {word}: {error}"
        if problem not in results.problems:
            results.problems.append(problem)
        _say(f"  {row.name}: {problem}")
        return
    results.samples[who.name].append(sample)
    figures = (
        f"{figure.title} {report.number(sample[figure.key])} {figure.unit}"
        for figure in row.figures
        if figure.key in sample
    )
    _say(f"  {row.name}: {who.name}: {', '.join(figures)}")


def _measure(bench: Bench, row: Row, rounds: Rounds, only: list[str] | None) -> Results:
    """All rounds of a row. The contestants take turns, so that a slow minute of the machine hits all."""
    contestants = [who for who in row.contestants(bench) if bench.has(who) and (not only or who.name in only)]
    results = Results(row)
    for who in contestants:
        results.samples[who.name] = []
        results.kinds[who.name] = who.kind
    try:
        row.prepare(bench)
        for index in range(rounds.others):
            for who in contestants:
                if who.kind is not Kind.ORIGINAL or index < rounds.original:
                    _measure_once(bench, results, who)
    except (Failed, Unavailable) as error:
        results.problems.append(f"not measured: {error}")
    finally:
        row.finish(bench)
    return results


@contextlib.contextmanager
def _place(parent: Path) -> Iterator[Path]:
    """A directory of this run."""
    path = Path(tempfile.mkdtemp(prefix="pyinotifyd-bench-", dir=parent))
    try:
        yield path
    finally:
        subprocess.run(["rm", "-rf", str(path)], check=False)


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: everything is put back."""
    raise KeyboardInterrupt


@dataclass
class Run:
    """One call of the command."""

    tools: build.Tools
    facts: dict[str, str]
    rounds: Rounds
    only: list[str] | None
    out: Path
    results: list[Results] = field(default_factory=list)

    def measure(self, bench: Bench, rows: list[Row]) -> None:
        """Prints each row when it is done, and keeps the files up to date."""
        started = time.monotonic()
        for row in rows:
            results = _measure(bench, row, self.rounds, self.only)
            self.results.append(results)
            print(report.text(results), flush=True)
            self.facts["duration"] = f"{time.monotonic() - started:.0f} s"
            self.write()

    def write(self) -> None:
        """results.json, results.md and results.svg."""
        report.write_json(self.out / "results.json", self.facts, self.results, self.tools.missing)
        page = report.markdown_page(self.facts, self.results, self.tools.missing)
        (self.out / "results.md").write_text(page)
        plot.draw(self.out / "results.svg", self.results)

    def problems(self) -> list[str]:
        """What could not be measured, and why."""
        return report.problems(self.results, self.tools.missing)


def _rounds(options: argparse.Namespace) -> Rounds:
    usual = ROUNDS_QUICK if options.quick else ROUNDS_FULL
    if options.rounds is None:
        return usual
    return Rounds(options.rounds, min(options.rounds, usual.original))


def main() -> int:
    """Returns the exit code: 0 if what could be measured was, and no work was left undone."""
    options = _options()
    rows = _chosen(options)
    signal.signal(signal.SIGTERM, _end)
    target = REPOSITORY / "target" / "bench"
    out = options.out or target / "results"
    out.mkdir(parents=True, exist_ok=True)
    _say("building")
    given = {"ours": options.ours, "original": options.original, "pythons": options.python}
    tools = build.build(target, build_ours=not options.no_build, **given)
    disk_dir = options.disk_dir or target
    rounds = _rounds(options)
    if options.nice:
        prefer(os.getpid(), options.nice)
    facts = machine.describe(tools, options.dir, disk_dir)
    facts["priority"] = f"nice {options.nice}"
    facts["rounds"] = f"{rounds.others}, of the original {rounds.original}{', small sizes (--quick)' * options.quick}"
    run = Run(tools, facts, rounds, options.only, out)
    with contextlib.ExitStack() as stack:
        memory, disk, state = (stack.enter_context(_place(parent)) for parent in (options.dir, disk_dir, target))
        try:
            run.measure(Bench(tools, options.quick, memory, disk, state), rows)
        except KeyboardInterrupt:
            _say("interrupted; the rows that were complete are written")
    if options.publish:
        report.publish(REPOSITORY / "BENCHMARKS.md", (out / "results.md").read_text())
        shutil.copy(out / "results.svg", build.BENCH / "results.svg")
    for problem in run.problems():
        print(f"! {problem}")
    print(f"written to {out}")
    return 1 if any(" FAILED: " in problem for problem in run.problems()) else 0
