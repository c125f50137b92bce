#!/usr/bin/env python3
"""Runs scenarios with this daemon and with the original, and shows where they agree and where they differ.

    python3 tests/differential/run.py [--python PYTHON3.11] [--program target/release/pyinotifyd] [scenario ...]

The original (pyinotifyd 0.0.9 on pyinotify 0.9.6) comes from PyPI into .work/original; it needs Python 3.11 or older
(pyinotify uses asyncore). Each scenario is a config, what is done to the files, and the log text after which all is
done. What is compared: the records of each task in their order, other records, standard output, the final trees, the
exit code. Ids, times, process ids, wd numbers and the names of temporary directories are made equal first.

Differences that are meant are listed in KNOWN with their reason; the exit code is 1 if there is any other, or if one of
these has gone away unnoticed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT / "tests"))

from vocabulary import READY, Box, Daemon, Timeout, tree, wait_until, write  # noqa: E402

ORIGINAL = ["pyinotify==0.9.6", "pyinotifyd==0.0.9"]


@dataclass(frozen=True)
class Scenario:
    """`act` does something to the files of a running daemon; it waits where the order matters."""

    config: str
    act: Callable[[Box, Daemon], None]
    before: Callable[[Box], None] = lambda box: None
    options: tuple[str, ...] = ()
    record: bool = False
    starts: bool = True


@dataclass
class Outcome:
    """What one program made of a scenario, with all names made equal."""

    tasks: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    stdout: list[str] = field(default_factory=list)
    source: dict[str, str] = field(default_factory=dict)
    destination: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None


# ---- scenarios

WATCH = 'pyinotifyd = Pyinotifyd([Watch("$SRC", {%s}, rec=True, auto_add=True)])'
EVERY = 'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder(%s), rec=True, auto_add=True)])'
RULES = r"""
sched = FileManagerScheduler([
    FileManagerRule("move", r"^$SRC/(.*)\.mv$", r"$DST/\1", auto_create=True, filemode=0o640, dirmode=0o750),
    FileManagerRule("copy", r"^$SRC/(.*)\.cp$", r"$DST/\1"),
    FileManagerRule("delete", r"^$SRC/.*\.rm$", rec=True)], dirs=True)
"""


def make(*names: str) -> Callable[[Box, Daemon], None]:
    """Rename finished files into the watched directory, one after the other, each after the task of the last."""

    def act(box: Box, daemon: Daemon) -> None:
        for number, name in enumerate(names):
            write(box.tmp / "made", name)
            (box.tmp / "made").rename(box.src / name)
            daemon.wait_log("task finished|no rule", count=number + 1)

    return act


def life_of_a_file(box: Box, daemon: Daemon) -> None:
    write(box.src / "f", "1")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    (box.src / "f").read_text()
    (box.src / "f").chmod(0o600)
    (box.src / "f").rename(box.src / "g")
    (box.src / "g").unlink()
    daemon.wait_log("task finished, mask=IN_DELETE")


def moves_of_a_directory(box: Box, daemon: Daemon) -> None:
    (box.src / "d").rename(box.src / "e")
    daemon.wait_event("IN_MOVE_SELF", box.src / "e")
    write(box.src / "e" / "sub" / "f")
    daemon.wait_event("IN_CREATE", box.src / "e" / "sub" / "f")
    (box.src / "e").rename(box.tmp / "gone")
    daemon.wait_event("IN_MOVE_SELF", f"{box.src}/e-unknown-path")


def make_subdirectory(box: Box) -> None:
    (box.src / "d" / "sub").mkdir(parents=True)


def reschedule_and_cancel(box: Box, daemon: Daemon) -> None:
    for name in ("a", "b"):
        write(box.src / name, "")
    daemon.wait_log("schedule task", count=2)
    with open(box.src / "a", "a") as file:
        file.write("x")
    (box.src / "b").unlink()
    daemon.wait_log("task finished")
    daemon.wait_log("scheduled task cancelled")


def reload(box: Box, daemon: Daemon) -> None:
    make("a")(box, daemon)
    ready = daemon.count(READY)
    box.write_config('sched = ShellScheduler("echo new")\n' + WATCH % '"IN_MOVED_TO": sched')
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(READY, count=ready + 1)
    time.sleep(0.3)  # The original says so before it listens.
    write(box.tmp / "made")
    (box.tmp / "made").rename(box.src / "b")
    daemon.wait_out("new")


def bad_reload(box: Box, daemon: Daemon) -> None:
    box.write_config("pyinotifyd = 5")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file")
    make("a")(box, daemon)


def nothing(box: Box, daemon: Daemon) -> None:
    pass


def bad_bytes(box: Box, daemon: Daemon) -> None:
    write(os.fsencode(box.src) + b"/bad\xff")
    wait_until(lambda: daemon.count("bad|UnicodeDecodeError"))


def injection(box: Box, daemon: Daemon) -> None:
    write(box.src / ";echo INJECTED;")
    (box.src / ";echo INJECTED;").rename(box.src / "x{src_pathname}y")
    daemon.wait_log("task finished")


def shutdown_with_a_waiting_task(box: Box, daemon: Daemon) -> None:
    write(box.src / "f")
    daemon.wait_log("schedule task")


SCENARIOS: dict[str, Scenario] = {
    "life of a file": Scenario(
        EVERY % '"IN_CREATE", "IN_CLOSE_WRITE", "IN_ATTRIB", "IN_MOVED_FROM", "IN_MOVED_TO", "IN_DELETE"',
        life_of_a_file,
        record=True,
    ),
    "debug log of a life": Scenario(
        'setLoglevel(DEBUG, "eventmap")\n' + EVERY % '"IN_CLOSE_WRITE", "IN_DELETE"', life_of_a_file, record=True
    ),
    "moves of a directory": Scenario(
        EVERY % '"IN_MOVE_SELF", "IN_CREATE", "IN_MOVED_TO"', moves_of_a_directory, make_subdirectory, record=True
    ),
    "shell command": Scenario(
        'sched = ShellScheduler("echo {maskname} {pathname} {src_pathname}")\n' + WATCH % '"IN_MOVED_TO": sched',
        make("a", "b c", "d'e"),
    ),
    "file rules": Scenario(
        RULES + WATCH % '"IN_MOVED_TO": sched', make("a.mv", "b.cp", "c.rm", "sub.x"), options=("-d",)
    ),
    "missing directory": Scenario(
        r'sched = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/no/\1")])'
        + "\n"
        + WATCH % '"IN_MOVED_TO": sched',
        make("a"),
    ),
    "existing destination": Scenario(
        r'sched = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\1")])'
        + "\n"
        + WATCH % '"IN_MOVED_TO": sched',
        make("a"),
        lambda box: write(box.dst / "a", "old"),
    ),
    "empty destination": Scenario(
        r'sched = FileManagerScheduler([FileManagerRule("move", r"^.*$", "")])' + "\n" + WATCH % '"IN_MOVED_TO": sched',
        make("a"),
    ),
    "schedule anew and cancel": Scenario(
        "sched = TaskScheduler(record, delay=1)\n"
        + WATCH % '"IN_CREATE": sched, "IN_MODIFY": sched, "IN_DELETE": Cancel(sched)',
        reschedule_and_cancel,
        record=True,
    ),
    "reload": Scenario('sched = ShellScheduler("echo old")\n' + WATCH % '"IN_MOVED_TO": sched', reload),
    "reload of a bad config": Scenario(
        'sched = ShellScheduler("echo old")\n' + WATCH % '"IN_MOVED_TO": sched', bad_reload
    ),
    "no watches": Scenario("pyinotifyd = Pyinotifyd()", nothing),
    "configtest": Scenario("pyinotifyd = Pyinotifyd()", nothing, options=("-t",), starts=False),
    "list of events": Scenario("pyinotifyd = Pyinotifyd()", nothing, options=("-l",), starts=False),
    "wrong type": Scenario("pyinotifyd = Pyinotifyd(5)", nothing, options=("-t",), starts=False),
    "missing variable": Scenario("x = 1", nothing, options=("-t",), starts=False),
    "name that is not UTF-8": Scenario(EVERY % '"IN_CREATE"', bad_bytes, record=True),
    "name that is a placeholder": Scenario(
        'sched = ShellScheduler("true {pathname}")\n' + WATCH % '"IN_MOVED_TO": sched', injection
    ),
    "waiting task at the end": Scenario(
        'sched = ShellScheduler("sleep 0.2; echo DONE", delay=1)\n' + WATCH % '"IN_CREATE": sched',
        shutdown_with_a_waiting_task,
    ),
}

KNOWN = {
    "schedule anew and cancel": "the original logs the bare path once more when it cancels a task",
    "missing variable": "the original says nothing but the bare key; ours says what is missing",
    "name that is not UTF-8": "the original can't decode it and loses all events of that read",
    "name that is a placeholder": "the original runs part of a file's name as a command",
    "waiting task at the end": "the original waits for the delay, starts the command and cancels it in the same moment",
    "wrong type": "ours shows the user's own line below the error",
    "reload of a bad config": "ours shows the user's own line below the error, the original its own frames",
}


# ---- running and comparing


def run(scenario: Scenario, program: Path, reference: bool) -> Outcome:
    import vocabulary

    vocabulary.SETTLE = reference
    os.environ["PYINOTIFYD_BIN"] = str(program)
    box = Box()
    try:
        scenario.before(box)
        daemon = box.start(scenario.config, *scenario.options, record=scenario.record)
        if scenario.starts:
            daemon.wait_ready()
            try:
                scenario.act(box, daemon)
            except Timeout as timeout:
                return Outcome(others=[f"does not get to the end: {timeout}"])
            daemon.terminate()
        else:
            daemon.wait_exit()
        return outcome(box, daemon)
    finally:
        box.close()


def outcome(box: Box, daemon: Daemon) -> Outcome:
    ids: dict[str, str] = {}

    def same(text: str) -> str:
        text = text.replace(str(box.tmp), "$TMP")
        text = re.sub(
            r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            lambda found: ids.setdefault(found.group(), f"id{len(ids) + 1}"),
            text,
        )
        text = re.sub(r"\bwd=\d+", "wd=N", re.sub(r"\bcookie=\d+", "cookie=N", text))
        return re.sub(r'("wd"|"cookie"): \d+', r"\1: N", text)

    result = Outcome(exit_code=daemon.exit_code, source=tree(box.src), destination=tree(box.dst))
    for record in daemon.records:
        fields = record.fields
        text = same(f"{record.logger} {record.level} {record.text}")
        identifier = re.search(r"\bid\d+\b", text)
        if "path" in fields or identifier:
            key = (
                same(fields["path"])
                if "path" in fields
                else next(
                    (name for name, texts in result.tasks.items() if identifier and identifier.group() in str(texts)),
                    "?",
                )
            )
            result.tasks.setdefault(key, []).append(re.sub(r"\bid\d+\b", "ID", text))
        elif not record.logger.startswith(("asyncio", "pyinotify")):
            result.others.append(text)
    result.others += [same(line) for line in daemon.lines if line.startswith(("ERROR:", "INFO:", "WARNING:"))]
    result.stdout = sorted(re.sub(r"\bid\d+\b", "ID", same(line)) for line in daemon.out.lines)
    return result


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    found = []
    for name in ("tasks", "others", "stdout", "source", "destination", "exit_code"):
        one, two = getattr(ours, name), getattr(theirs, name)
        if one != two:
            found.append(f"  {name}:\n    ours:     {one}\n    original: {two}")
    return found


def original(python: str | None) -> Path:
    """The original's program, installed on first use."""
    venv = PROJECT / ".work" / "original"
    program = venv / "bin" / "pyinotifyd"
    if program.exists():
        return program
    candidates = [python] if python else ["python3.11", "python3.10", "python3.9"]
    found = next((path for path in map(shutil.which, candidates) if path), None)
    if not found:
        sys.exit(f"no {' or '.join(candidates)} on PATH: give a Python of at most 3.11 with --python")
    subprocess.run([found, "-m", "venv", "--clear", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "--quiet", *ORIGINAL], check=True)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--python", help="interpreter for the original, at most 3.11 (default: the first found on PATH)"
    )
    parser.add_argument("--program", type=Path, help="our program (default: the newest in target/)")
    parser.add_argument("scenario", nargs="*", help=f"any of: {', '.join(SCENARIOS)}")
    arguments = parser.parse_args()

    from vocabulary import binary

    ours = (arguments.program or binary()).absolute()
    theirs = original(arguments.python)
    failed = 0
    for name in arguments.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        different = differences(
            run(scenario, ours, reference=ours.samefile(theirs)), run(scenario, theirs, reference=True)
        )
        if different and name in KNOWN:
            print(f"known    {name}: {KNOWN[name]}")
        elif different:
            failed += 1
            print(f"DIFFERS  {name}", *different, sep="\n")
        elif name in KNOWN:
            failed += 1
            print(f"SAME     {name}: it is listed as a known difference ({KNOWN[name]})")
        else:
            print(f"same     {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
