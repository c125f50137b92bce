"""How `tests/run` runs the tests of the crates and of Python: each once, the failed ones once more, and all counted.

The kernel, other processes and disks take part in most tests. A test that fails beside others is tried once more by
itself, and named in the summary, because a test that needs a second try has a fault of its own. `strict` has no second
tries.

A Rust test has no way to skip itself. One that cannot run prints a line `skipped: REASON` and returns; that line is
counted here. `test_tidy.py` holds the tests to this form.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

SKIPPED = "skipped: "


@dataclass
class Tally:
    """What became of the tests of one step."""

    name: str
    passed: int = 0
    # `TEST: REASON`
    skipped: list[str] = field(default_factory=list)
    # Tests that passed at the second try.
    again: list[str] = field(default_factory=list)
    # Tests that did not pass, and what else went wrong.
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [f"{self.passed} passed"]
        for number, what in (
            (self.again, "passed at the second try"),
            (self.skipped, "skipped"),
            (self.failed, "failed"),
        ):
            counts += [f"{len(number)} {what}"] if number else []
        return f"{self.name}: {', '.join(counts)}"


# ---- the crates


@dataclass
class Target:
    """A failed test program of a crate: how cargo is asked for it, and its failed tests (none where it crashed)."""

    arguments: list[str]
    failed: list[str]


class CargoOutput:
    """Reads what `cargo test -- --show-output` prints, line by line."""

    def __init__(self) -> None:
        self.passed = 0
        self.skipped: list[str] = []
        self.targets: list[Target] = []
        # Errors of cargo itself, such as a crate that does not build.
        self.errors: list[str] = []
        self._section = ""
        self._test = ""
        self._failed: list[str] = []

    def read(self, line: str) -> bool:
        """Take one line. Returns whether a person should see it: all but what passed tests printed."""
        if line in ("successes:", "failures:"):
            self._section, self._test = line, ""
        elif found := re.fullmatch(r"---- (.+) stdout ----", line):
            self._test = found[1]
        elif line.startswith(SKIPPED) and self._test:
            self.skipped.append(f"{self._test}: {line[len(SKIPPED) :]}")
        elif found := re.match(r"test result: \w+\. (\d+) passed", line):
            self.passed += int(found[1])
            self._section = self._test = ""
        elif found := re.match(r"error: (?:doc)?test failed, to rerun pass `(.+)`", line):
            self.targets.append(Target(found[1].split(), self._failed))
            self._failed = []
        elif self._section == "failures:" and (found := re.fullmatch(r"    (\S.*)", line)) and not self._test:
            self._failed.append(found[1])
        elif line.startswith("error") and not self._section and not re.match(r"error: \d+ targets? failed", line):
            self.errors.append(line)
        return self._section != "successes:"


def cargo(arguments: Sequence[str], after: Sequence[str] = ()) -> CargoOutput:
    """Run `cargo test`; what it prints is shown but for the output of passed tests."""
    output = CargoOutput()
    command = ["cargo", "test", "--locked", "--quiet", "--no-fail-fast", *arguments, "--", "--show-output", *after]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    for line in process.stdout:
        text = line.decode("utf-8", "replace").rstrip("\n")
        if output.read(text):
            print(text, flush=True)
    if process.wait() != 0 and not output.targets and not output.errors:
        output.errors.append(f"cargo test ended with {process.returncode}")
    return output


def crates(arguments: Sequence[str] = ("--workspace",), strict: bool = False) -> Tally:
    """Run the tests of the crates."""
    first = cargo(arguments)
    tally = Tally("crates", first.passed - len(first.skipped), first.skipped, failed=first.errors)
    for target in first.targets:
        names = target.failed or [" ".join(target.arguments)]
        if strict or first.errors:
            tally.failed += names
            continue
        print(f"== once more, one test at a time: {', '.join(names)}", flush=True)
        second = cargo(target.arguments, ["--test-threads=1", *(["--exact", *target.failed] if target.failed else [])])
        still = [name for failed in second.targets for name in failed.failed or names] + second.errors
        tally.failed += still
        tally.again += [name for name in names if name not in still]
    return tally


# ---- pytest


def cases(junit: Path) -> Iterator[tuple[str, str, str]]:
    """(test, what became of it, why) for each test in a report of pytest."""
    for case in ElementTree.parse(junit).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        ends = {child.tag: child.get("message", "") for child in case if child.tag in ("failure", "error", "skipped")}
        end = next((end for end in ("error", "failure", "skipped") if end in ends), "passed")
        yield test, end, ends.get(end, "").partition("\n")[0]


def pytest(name: str, arguments: Sequence[str], junit: Path, beside: Sequence[str] = (), strict: bool = True) -> Tally:
    """Run tests written in Python; `beside` are options of the first try only, such as how many run at once."""
    tally = Tally(name)
    status = pytest_once([*arguments, *beside], junit)
    if not junit.exists():
        tally.failed.append(f"pytest ended with {status}")
        return tally
    failed = set()
    for test, end, why in cases(junit):
        tally.passed += end == "passed"
        if end == "skipped":
            tally.skipped.append(f"{test}: {why}")
        elif end != "passed":
            failed.add(test)
    # Status 1 is that of failed tests; anything else is a fault of the run itself.
    if status not in (0, 1):
        tally.failed.append(f"pytest ended with {status}")
    if failed and status == 1 and not strict:
        print("== the failed ones once more, one at a time", flush=True)
        pytest_once([*arguments, "--last-failed", "--last-failed-no-failures", "none"], junit)
        second = {test for test, end, _ in cases(junit) if end == "passed"} if junit.exists() else set()
        tally.again = sorted(failed & second)
        failed -= second
    tally.failed += sorted(failed)
    return tally


def pytest_once(arguments: Sequence[str], junit: Path) -> int:
    junit.unlink(missing_ok=True)
    junit.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(["pytest", *arguments, "-q", "-rs", f"--junitxml={os.fspath(junit)}"], check=False).returncode


# ---- all


def summary(tallies: Sequence[Tally], steps: Sequence[str]) -> list[str]:
    """The last lines of a run: counts, each skip, each second try, each failure by its name. `steps` failed whole."""
    lines = [str(tally) for tally in tallies]
    for tally in tallies:
        lines += [f"skipped: {tally.name}: {text}" for text in tally.skipped]
    for tally in tallies:
        lines += [f"passed at the second try: {tally.name}: {test}" for test in tally.again]
    for tally in tallies:
        lines += [f"FAILED: {tally.name}: {test}" for test in tally.failed]
    lines += [f"FAILED: {step}" for step in steps]
    skipped, again = (sum(len(getattr(tally, what)) for tally in tallies) for what in ("skipped", "again"))
    verdict = "FAILED" if steps or any(tally.failed for tally in tallies) else "passed"
    return [
        *lines,
        f"{verdict}: {sum(tally.passed for tally in tallies)} passed, {skipped} skipped, {again} second tries",
    ]
