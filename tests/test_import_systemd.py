"""`pyinotifyd import systemd-path` beside systemd: a path unit, run by a manager of its own and by the daemon.

The same is done to the directories of both, and their services must be started as often. The manager is one of a user,
in namespaces and a control group that end with the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, need, wait_until, write

pytestmark = [
    pytest.mark.skipif(REFERENCE, reason="the original imports nothing"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a manager wants a control group"),
]

Action = Callable[[Path], object]

SYSTEMD = Path("/lib/systemd/systemd")
# systemd starts for nobody where the machine seems to have been booted without it.
BOOT = """
mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mkdir -p /run/systemd/system
{systemd} --user --log-target=console
"""


class Manager:
    """systemd for a user who is nowhere else."""

    def __init__(self, box: Box) -> None:
        need("unshare", "nsenter", "systemctl")
        # The daemon finds another one first, which leads here.
        self.systemctl = shutil.which("systemctl") or ""
        if not SYSTEMD.exists():
            pytest.skip("needs systemd")
        self.box = box
        self.group = control_groups() / box.tmp.name
        self.home = box.tmp / "home"
        self.units = self.home / ".config/systemd/user"
        self.units.mkdir(parents=True)
        self.runtime = box.tmp / "runtime"
        self.runtime.mkdir(mode=0o700)
        self.env = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime)}
        boot = box.tmp / "boot"
        boot.write_text(BOOT.format(systemd=SYSTEMD))
        try:
            self.group.mkdir()
        except OSError as error:
            pytest.skip(f"this machine lets nobody make a control group: {error}")
        enter = (
            f"echo $$ > {self.group}/cgroup.procs && exec unshare --mount --pid --fork --kill-child --cgroup sh {boot}"
        )
        # The process that is the first one of the namespaces.
        self.inside = ""
        self.process = Daemon(["sh", "-c", enter], {**os.environ, **self.env}, box.tmp)
        box.daemons.append(self.process)

    def wait_ready(self) -> None:
        wait_until(self.is_ready, lambda: f"systemd; {self.process.tail}")

    def is_ready(self) -> bool:
        if not self.process.running:
            pytest.skip(f"systemd does not start here: {self.process.tail}")
        self.inside = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().strip()
        return self.inside != "" and self.ask("is-system-running") in ("running", "degraded")

    def command(self) -> list[str]:
        variables = [f"{name}={value}" for name, value in self.env.items()]
        return ["nsenter", f"--target={self.inside}", "--mount", "--pid", "env", *variables, self.systemctl, "--user"]

    def ask(self, *arguments: str) -> str:
        done = subprocess.run([*self.command(), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def close(self) -> None:
        self.process.kill()
        wait_until(self.has_no_process, "the end of what systemd started")
        for directory, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(directory)

    def has_no_process(self) -> bool:
        return not any(path.read_text() for path in self.group.rglob("cgroup.procs"))


def control_groups() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    pytest.skip("needs control groups of version 2")


@pytest.fixture
def manager(box: Box) -> Iterator[Manager]:
    made = Manager(box)
    try:
        made.wait_ready()
        yield made
    finally:
        made.close()


class Pair:
    """A path unit that systemd runs, and its twin whose service the daemon starts."""

    def __init__(self, manager: Manager, unit: str, script: str, made: Action | None = None, head: str = "") -> None:
        self.manager = manager
        box = manager.box
        for name in ("real", "ours"):
            directory = self.directory(name)
            directory.mkdir()
            if made:
                made(directory)
            self.starts(name).touch()
            (manager.units / f"{name}.path").write_text(f"[Path]\n{unit.replace('$DIR', str(directory))}\n")
            command = f'/bin/sh -c "echo started >> {self.starts(name)}; cd {directory}; {script}"'
            (manager.units / f"{name}.service").write_text(f"{head}[Service]\nType=oneshot\nExecStart={command}\n")
        done = box.call("import", "systemd-path", manager.units / "ours.path")
        assert done.exit_code == 0, done.log
        programs = box.tmp / "bin"
        programs.mkdir()
        (programs / "systemctl").write_text(
            f'#!/bin/sh\n[ "$1" = --user ] && shift\nexec {" ".join(manager.command())} "$@"\n'
        )
        (programs / "systemctl").chmod(0o755)
        manager.ask("daemon-reload")
        self.daemon = box.run(done.stdout, env={"PATH": f"{programs}:{os.environ['PATH']}"})
        manager.ask("start", "real.path")

    def directory(self, name: str) -> Path:
        return self.manager.box.tmp / name

    def starts(self, name: str) -> Path:
        return self.manager.box.tmp / f"{name}.starts"

    def counts(self) -> tuple[int, int]:
        real, ours = (len(self.starts(name).read_text().splitlines()) for name in ("real", "ours"))
        return real, ours

    def is_waiting(self) -> bool:
        """Both look at the path again: an event would start the service."""
        idle = not self.daemon.started()
        return idle and self.manager.ask("show", "--property=SubState", "--value", "real.path") == "waiting"

    def wait_started(self, count: int, what: str) -> None:
        wait_until(
            lambda: self.counts() == (count, count) and self.is_waiting(),
            lambda: f"{count} starts after {what}, real and ours {self.counts()}; {self.daemon.tail}",
        )


def writes(name: str) -> Action:
    """A file that is not there comes by a rename: between its creation and its close a service may run and end."""

    def act(directory: Path) -> None:
        path = directory / name
        made = path if path.exists() else directory.parent / "made"
        write(made)
        made.replace(path)

    return act


def moves(source: str, target: str) -> Action:
    return lambda directory: (directory / source).rename(directory / target)


def removes(name: str) -> Action:
    return lambda directory: (directory / name).unlink()


def makes(name: str) -> Action:
    return lambda directory: (directory / name).mkdir(parents=True)


def clears(name: str) -> Action:
    return lambda directory: shutil.rmtree(directory / name)


def changes_the_mode(name: str) -> Action:
    return lambda directory: (directory / name).chmod(0o700)


def reads(name: str) -> Action:
    return lambda directory: (directory / name).read_bytes()


def appends(directory: Path) -> None:
    """Without a close."""
    HELD.append(os.open(directory / "f", os.O_WRONLY | os.O_APPEND))
    os.write(HELD[-1], b"x")


def closes(directory: Path) -> None:
    os.close(HELD.pop(0))


HELD: list[int] = []

# What the unit says, what its service does, what is there before, and how often it has been started after each action.
CASES: dict[str, tuple[str, str, Action | None, list[tuple[Action, int]]]] = {
    "a changed directory": (
        "PathChanged=$DIR",
        ":",
        None,
        [
            (writes("a"), 1),
            (writes("a"), 2),
            (moves("a", "b"), 3),
            (changes_the_mode("b"), 4),
            (reads("b"), 4),
            (removes("b"), 5),
            (makes("sub"), 6),
            (writes("sub/x"), 6),
            (changes_the_mode("."), 7),
        ],
    ),
    "a changed file": (
        "PathChanged=$DIR/f",
        ":",
        writes("f"),
        [
            (appends, 0),
            (closes, 1),
            (writes("g"), 1),
            (moves("g", "f"), 2),
            (removes("f"), 3),
            (writes("f"), 4),
        ],
    ),
    "a modified file": ("PathModified=$DIR/f", ":", writes("f"), [(appends, 1), (closes, 2), (reads("f"), 2)]),
    "a file that is missing": (
        "PathChanged=$DIR/sub/f",
        ":",
        None,
        [(makes("sub"), 0), (writes("sub/f"), 1), (writes("sub/f"), 2), (clears("sub"), 3)],
    ),
    "a path that exists": (
        "PathExists=$DIR/f",
        "rm f",
        None,
        [(writes("f"), 1), (writes("g"), 1), (moves("g", "f"), 2)],
    ),
    "a path that stays for three runs": (
        "PathExists=$DIR/f",
        "test $(wc -l < $PWD.starts) -lt 3 || rm f",
        None,
        [(writes("f"), 3)],
    ),
    "a path in directories that come": (
        "PathExists=$DIR/x/y/f",
        "rm -r x",
        None,
        [(makes("x/y"), 0), (writes("x/y/f"), 1), (makes("x/y"), 1), (writes("x/y/f"), 2)],
    ),
    "a glob": (
        "PathExistsGlob=$DIR/*.csv",
        "rm *.csv",
        None,
        [(writes("a.txt"), 0), (writes("b c.csv"), 1), (writes(".h.csv"), 1), (makes("d.csv.d"), 1)],
    ),
    "a directory that is not empty": (
        "DirectoryNotEmpty=$DIR",
        "rm -rf *",
        None,
        [
            (writes("a"), 1),
            (writes(".hidden"), 1),
            (writes("b~"), 1),
            (writes("c.bak"), 1),
            (writes("d.dpkg-new"), 1),
            (makes("e"), 2),
        ],
    ),
    "a directory that it makes": (
        "PathChanged=$DIR/new/deep\nMakeDirectory=yes\nDirectoryMode=0711",
        ":",
        None,
        [(writes("new/deep/f"), 1)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_systemd_and_the_imported_unit_start_the_service_as_often(manager: Manager, case: str) -> None:
    unit, script, made, actions = CASES[case]
    # A service may be started five times in ten seconds, unless it says something else.
    pair = Pair(manager, unit, script, made, "[Unit]\nStartLimitIntervalSec=0\n")
    pair.wait_started(0, "nothing")
    for number, (action, count) in enumerate(actions):
        for name in ("real", "ours"):
            action(pair.directory(name))
        pair.wait_started(count, f"action {number}")


def test_systemd_starts_a_failing_unit_up_to_its_limit_and_the_imported_one_does_not(manager: Manager) -> None:
    pair = Pair(manager, "PathExists=$DIR/f", "false")
    for name in ("real", "ours"):
        write(pair.directory(name) / "f")
    wait_until(lambda: manager.ask("is-failed", "real.path") == "failed", lambda: pair.daemon.tail)
    pair.daemon.wait_log("task failed: exited with status 1")
    real, ours = pair.counts()
    assert real > 1
    assert ours == 1
