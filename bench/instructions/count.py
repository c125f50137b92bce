#!/usr/bin/env python3
"""Counts the instructions of the hot path with callgrind and compares them with those of expected.json.

    bench/instructions/count.py              compares; ends with 1 if an operation costs more than is allowed
    bench/instructions/count.py --update     writes what was counted to expected.json

Instructions are not time, but they are the same on every run: a loss of a few percent is seen that no clock would show.
An operation that became cheaper by more than the tolerance is reported too, so that expected.json is brought up to
date and guards the gain. Needs valgrind; without it the script says so and ends with 0, or with 1 if CI is set.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
EXPECTED = HERE / "expected.json"
# Compilers of one version, and C libraries that choose their memcpy by processor, differ by less.
TOLERANCE = 0.08
# Operations of the shorter of the two runs of a scenario. Enough that tables have grown to their usual size.
COUNTS = {
    "route-no-match": 20_000,
    "route-1000-rules": 20_000,
    "re-arm": 20_000,
    "start-finish": 20_000,
    "rule-destination": 20_000,
    "storm": 4_000,
    "storm-watched": 4_000,
    "set-up": 2_000,
}


def build() -> Path:
    """Builds the replay with the versions of the daemon's lock file; returns the program."""
    shutil.copy(REPOSITORY / "Cargo.lock", HERE / "Cargo.lock")
    target = REPOSITORY / "target" / "bench" / "instructions"
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", str(target)]
    subprocess.run(command, cwd=HERE, check=True)
    return target / "release" / "instructions"


def instructions(program: Path, scenario: str, count: int, place: Path) -> int:
    """Instructions in user space of one whole run."""
    if scenario == "set-up":  # Makes the tree, so that the run that is counted finds it.
        subprocess.run([program, scenario, str(count), place], check=True)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), scenario, str(count)]
    done = subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{scenario}: {done.stderr.strip()}")
    return int(found.group(1))


def per_operation(program: Path, scenario: str, count: int) -> float:
    """Instructions of one operation: the difference of a run and one of twice its length."""
    # A short path that is always equally long: paths are part of what is counted.
    parent = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="instructions-", dir=parent) as place:
        once = instructions(program, scenario, count, Path(place))
        twice = instructions(program, scenario, 2 * count, Path(place))
    return (twice - once) / count


def compare(counted: dict[str, float]) -> bool:
    """Prints the comparison; whether all is within the tolerance."""
    expected = json.loads(EXPECTED.read_text())
    good = True
    for scenario, now in counted.items():
        before = expected.get(scenario)
        change = f"{(now / before - 1) * 100:+.1f} %" if before else "new"
        verdict = ""
        if before and now > before * (1 + TOLERANCE):
            verdict, good = "  COSTS MORE", False
        elif before is None or now < before * (1 - TOLERANCE):
            verdict = "  bring expected.json up to date (--update)"
        print(f"{scenario:<20}{now:>12.1f} instructions, expected {before or 0:>10.1f}  {change}{verdict}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Counts the instructions of the hot path.")
    parser.add_argument("--update", action="store_true", help="write expected.json")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions: not counted, valgrind is not installed", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    program = build()
    counted = {scenario: per_operation(program, scenario, count) for scenario, count in COUNTS.items()}
    if options.update or not EXPECTED.exists():
        EXPECTED.write_text(json.dumps({name: round(value, 1) for name, value in counted.items()}, indent=1) + "\n")
    return 0 if compare(counted) else 1


if __name__ == "__main__":
    sys.exit(main())
