"""SIGKILL at random moments: under load, while it starts, while it recovers, during reloads, in the middle of copies.

What was done to the tree, and when, is written down here, and what the commands did by the commands themselves; the
daemon's log counts for nothing. PYINOTIFYD_TEST_KILLS sets how many kills there are in all (300 take some ten minutes),
PYINOTIFYD_TEST_SEED the seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vocabulary import DEADLINE_S, Box, Daemon, Timeout, need, wait_until, write

KILLS = int(os.environ.get("PYINOTIFYD_TEST_KILLS", "30"))

# Tests that share them, and can run side by side.
PARTS = 3

# How often the name stands in a file that is moved.
SIZES = (1, 1_000, 400_000, 8_000_000)

# A task that has waited for so long is kept, whatever else the machine does at that time; the promise is 0.2 s.
KEPT_S = 0.6

# Commands say which task they are for, and when.
SAY = "date +%s.%N,$PYINOTIFYD_TASK_ID,{pathname}"

# One at a time for each path, or it is said that there were two. No signal but SIGKILL ends it.
SLOWLY = (
    f"trap : TERM; exec 9> $TMP/locks/${{PYINOTIFYD_PATHNAME##*/}}; flock -n 9 || {SAY} >> $TMP/twice; "
    f"{SAY} >> $TMP/WHERE.begun; sleep 0.7; sleep 0.7; echo {{pathname}} >> $TMP/WHERE"
)
DIRECTORIES = ("waits", "runs", "once", "moved", "slow", "stubborn")

CONFIG = f"""
waits = ShellScheduler(cmd="{SAY} >> $TMP/waits", delay=0.5)
runs = ShellScheduler(cmd="{SAY} >> $TMP/runs.begun; sleep 0.2; echo {{pathname}} >> $TMP/runs", rerun=True)
once = ShellScheduler(cmd="{SAY} >> $TMP/once.begun; sleep 0.2; echo {{pathname}} >> $TMP/once", delay=0.1)
rule = FileManagerRule(action="move", src_re="^$SRC/moved/(.*)$", dst_re=r"$FAR/\\1", on_conflict="same")
moved = FileManagerScheduler(rule, delay=0.1)
slow = ShellScheduler(cmd="{SLOWLY.replace("WHERE", "slow")}", max_jobs=4)
stubborn = ShellScheduler(cmd="{SLOWLY.replace("WHERE", "stubborn")}", max_jobs=4, rerun=True)
pyinotifyd = Pyinotifyd(state="$TMP/state", shutdown_timeout=5, watches=[
    Watch("$SRC/waits", {{"IN_CLOSE_WRITE": waits}}),
    Watch("$SRC/runs", {{"IN_CLOSE_WRITE": runs}}, initial="changed"),
    Watch("$SRC/once", {{"IN_CLOSE_WRITE": once}}, initial="changed"),
    Watch("$SRC/slow", {{"IN_CLOSE_WRITE": slow}}, initial="changed"),
    Watch("$SRC/stubborn", {{"IN_CLOSE_WRITE": stubborn}}, initial="changed"),
    Watch("$SRC/moved", {{"IN_CLOSE_WRITE": moved}}, initial="changed")])
"""


@dataclass
class Record:
    """What was done, and when."""

    made: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    kills: list[float] = field(default_factory=list)
    # Spans in which a daemon listened, as far as can be seen from outside.
    listened: list[tuple[float, float]] = field(default_factory=list)

    def is_promised(self, made: float) -> bool:
        """Whether a file of that time was seen by a daemon that lived for long enough to keep its task."""
        return any(since < made and made + KEPT_S < until for since, until in self.listened)

    def is_killed_soon_after(self, begun: float) -> bool:
        """Whether a daemon was killed before it can be expected to have noted what had just begun."""
        return any(begun - 0.1 < kill < begun + KEPT_S for kill in self.kills)


def fields(path: Path) -> list[list[str]]:
    return [line.split(",", 2) for line in path.read_text().splitlines()] if path.exists() else []


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for_line(path: Path, end: str, daemon: Daemon) -> None:
    wait_until(lambda: any(line.endswith(end) for line in lines(path)), lambda: f"{end} in {path}; {daemon.tail}")


def make(box: Box, record: Record, chance: random.Random, number: int, size: int = 0) -> None:
    (directory,) = chance.choices(DIRECTORIES, [4, 4, 4, 4, 1, 1])
    directory = "moved" if size else directory
    name = f"{number}"
    path = box.src / directory / name
    if directory == "moved":
        hidden = box.src / f".{name}"
        write(hidden, name * (size or chance.choice(SIZES[:3])))
        with hidden.open("r+b"):
            hidden.rename(path)
    else:
        write(path, name)
    record.made[directory].append((name, time.time()))


def await_copy(daemon: Daemon, far: Path) -> None:
    """Wait until something half-made is there, if it comes."""
    with contextlib.suppress(Timeout):
        wait_until(lambda: not daemon.running or [path for path in far.iterdir() if path.name.startswith(".")], "", 1)


def last_moment(box: Box, record: Record, chance: random.Random, number: int, daemon: Daemon, far: Path) -> int:
    """What the kill comes into the middle of, beside everything else."""
    kind = chance.choice(["nothing", "nothing", "copy", "reload"])
    if kind == "copy":
        number += 1
        make(box, record, chance, number, max(SIZES))
        await_copy(daemon, far)
    elif kind == "reload":
        daemon.signal(signal.SIGHUP)
        time.sleep(0.1 * chance.random())
    return number


class Disk:
    """An ext4 in a file, which loses at a cut what nobody has synced."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.images = [directory.parent / "image", directory.parent / "copy"]
        # Cuts that lost what nobody had synced: all, unless somebody else on the machine calls sync(2) at that moment.
        self.losses = 0
        directory.mkdir()
        with self.images[0].open("wb") as file:
            file.truncate(24 << 20)
        run("mkfs.ext4", "-q", "-F", self.images[0])
        self.loop = self.mount()

    def mount(self) -> str:
        # What is written goes to the file at once. The filesystem itself begins to write after minutes.
        loop = run("losetup", "--find", "--show", "--direct-io=on", self.images[0])
        try:
            if (Path("/sys/block") / Path(loop).name / "loop/dio").read_text() != "1\n":
                pytest.skip("needs a loop device with direct I/O")
            run("mount", "-o", "commit=900", loop, self.directory)
        except BaseException:
            run("losetup", "--detach", loop)
            raise
        return loop

    def writes(self) -> str:
        """Return how often something was written, and how many requests are under way (block/stat.rst)."""
        fields = (Path("/sys/block") / Path(self.loop).name / "stat").read_text().split()
        return f"{fields[4]} {fields[6]} {fields[8]}"

    def close(self) -> None:
        run("umount", "--lazy", self.directory)
        run("losetup", "--detach", self.loop)

    def cut(self) -> None:
        """Go on with what the file holds by now."""
        lost = self.directory / "lost"
        write(lost)
        while True:
            # What is written meanwhile, by sync(2) of anybody, would be there in part.
            before = self.writes()
            shutil.copyfile(*self.images)
            if self.writes() == before:
                break
        self.close()
        self.images.reverse()
        self.loop = self.mount()
        self.losses += not lost.exists()
        lost.unlink(missing_ok=True)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs a loop device: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture
def disk(box: Box, root: None) -> Iterator[Disk]:
    """The filesystem of the state."""
    need("mkfs.ext4", "losetup", "mount", "umount")
    disk = Disk(box.tmp / "state")
    yield disk
    for daemon in box.daemons:
        daemon.kill()
    disk.close()


def one_life(box: Box, record: Record, chance: random.Random, number: int, config: str, far: Path) -> int:
    """A daemon that is killed after a while; returns the number of the next file."""
    config = config if chance.random() < 0.7 else config.replace("timeout=5", "timeout=6")
    daemon = box.start(config)
    life_s = chance.choice([0.02, 0.1, 0.3, 0.8, 1.5, 2.5]) * (0.5 + chance.random())
    end = time.monotonic() + life_s
    listens_since = None
    while time.monotonic() < end:
        if listens_since is None and daemon.count("start listening") == len(DIRECTORIES):
            listens_since = time.time()
        if chance.random() < 0.3:
            number += 1
            make(box, record, chance, number)
        if chance.random() < 0.02:
            with contextlib.suppress(ProcessLookupError):
                daemon.signal(signal.SIGHUP)
        time.sleep(0.01)
    number = last_moment(box, record, chance, number, daemon, far)
    killed = time.time()
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(DEADLINE_S)
    assert not [line for line in daemon.lines if "panicked" in line], daemon.tail
    record.kills.append(killed)
    if listens_since is not None:
        record.listened.append((listens_since, killed))
    for _ in range(chance.choice([0, 0, 3])):
        # While it is down.
        number += 1
        make(box, record, chance, number)
    return number


def kept(box: Box) -> int:
    with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=DEADLINE_S) as database:
        count = database.execute("SELECT count(*) FROM task").fetchone()[0]
    assert isinstance(count, int)
    return count


def last_life(box: Box, record: Record, config: str) -> Daemon:
    """The daemon that makes up for everything."""
    daemon = box.run(config)
    daemon.wait_log("start listening", count=len(DIRECTORIES))
    number = sum(len(made) for made in record.made.values()) + 1_000_000
    for directory in ("waits", "runs", "once"):
        write(box.src / directory / f"{number}")
        wait_for_line(box.tmp / directory, f"/{number}", daemon)
    # Each of what is slow takes 1.4 s, four at a time.
    slow_s = sum(len(record.made[name]) for name in ("slow", "stubborn"))
    wait_until(lambda: kept(box) == 0, lambda: f"{kept(box)} tasks are left; {daemon.tail}", DEADLINE_S + slow_s)
    return daemon


@pytest.fixture
def far() -> Iterator[Path]:
    """A directory on another filesystem than the box's."""
    path = Path("/dev/shm") / f"pyid{os.getpid()}"
    path.mkdir()
    if path.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("needs /dev/shm as a filesystem of its own")
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_was_promised_is_lost(box: Box, far: Path, part: int) -> None:
    live_and_die(box, far, part, lambda: None)


def test_nothing_that_was_promised_is_lost_by_a_power_cut(box: Box, far: Path, disk: Disk) -> None:
    live_and_die(box, far, PARTS, disk.cut)
    assert disk.losses > 0, "a file that nobody synced outlived each cut"


def live_and_die(box: Box, far: Path, part: int, cut: Callable[[], None]) -> None:
    need("flock")
    seed = int(os.environ.get("PYINOTIFYD_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"PYINOTIFYD_TEST_SEED={seed}")
    chance, record, number = random.Random(seed + part), Record(), 0
    for directory in DIRECTORIES:
        (box.src / directory).mkdir()
    (box.tmp / "locks").mkdir()
    config = CONFIG.replace("$FAR", str(far))
    for _ in range(KILLS // PARTS):
        number = one_life(box, record, chance, number, config, far)
        cut()
    last_life(box, record, config)
    check_waits(box, record)
    for name in ("runs", "stubborn"):
        check_runs(box, record, name)
    for name in ("once", "slow"):
        check_ends(box, record, name)
    check_begun_once(box, record, "once")
    check_alone(box, record)
    check_moved(box, record, far)
    print(f"{len(record.kills)} kills, files made: { {name: len(made) for name, made in record.made.items()} }")


def check_waits(box: Box, record: Record) -> None:
    """A task that waited for long enough is there after the crash; what had been started by then may have failed."""
    done = {Path(path).name for _, _, path in fields(box.tmp / "waits")}
    done |= {Path(path).name for _, path, _ in failures(box, "waits")}
    lost = [name for name, made in record.made["waits"] if record.is_promised(made) and name not in done]
    assert not lost, f"{lost} of {len(record.made['waits'])}"


def check_runs(box: Box, record: Record, scheduler: str) -> None:
    """What changed is found, whatever happens, and what ran is run again."""
    done = {Path(path).name for path in lines(box.tmp / scheduler)}
    lost = {name for name, _ in record.made[scheduler]} - done
    assert not lost
    assert not failures(box, scheduler)


def check_ends(box: Box, record: Record, scheduler: str) -> None:
    """What ran is done or has failed, and what has failed does not run any more."""
    failed = failures(box, scheduler)
    done = {Path(path).name for path in lines(box.tmp / scheduler)}
    lost = {name for name, _ in record.made[scheduler]} - done - {Path(path).name for _, path, _ in failed}
    assert not lost
    begun = begins(box, scheduler)
    for identifier, _, ended in failed:
        assert all(at < ended for at in begun[identifier]), (identifier, ended, begun[identifier])


def check_begun_once(box: Box, record: Record, scheduler: str) -> None:
    """What ran was not begun again unless it had begun just before a crash."""
    for identifier, times in begins(box, scheduler).items():
        for first in times[:-1]:
            assert record.is_killed_soon_after(first), (identifier, times, record.kills)


def check_alone(box: Box, record: Record) -> None:
    """No two commands act on one file, unless the first had begun just before a crash: then nobody knows of it."""
    for at, _, path in fields(box.tmp / "twice"):
        begun = fields(box.tmp / f"{Path(path).parent.name}.begun")
        before = [float(since) for since, _, other in begun if other == path and float(since) < float(at)]
        assert any(record.is_killed_soon_after(since) for since in before), (path, at, before, record.kills)


def begins(box: Box, scheduler: str) -> dict[str, list[float]]:
    """When the commands of each task began."""
    begun: dict[str, list[float]] = defaultdict(list)
    for at, identifier, _ in fields(box.tmp / f"{scheduler}.begun"):
        begun[identifier].append(float(at))
    return begun


def check_moved(box: Box, record: Record, far: Path) -> None:
    """A file is at its old place or whole at its new one, and at the end they are all there."""

    def missing() -> list[str]:
        return [name for name, _ in record.made["moved"] if not (far / name).exists()]

    wait_until(lambda: not missing(), lambda: f"all files at the far place, without {missing()}")
    for name, _ in record.made["moved"]:
        content = (far / name).read_text()
        assert content == name * (len(content) // len(name)), name
        assert len(content) // len(name) in SIZES, name
    wait_until(lambda: not list((box.src / "moved").iterdir()), "no file at the old place")
    wait_until(lambda: {path.name for path in far.iterdir()} == {name for name, _ in record.made["moved"]})


def failures(box: Box, scheduler: str) -> list[tuple[str, str, float]]:
    """Id, path and time of what has failed."""
    with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=DEADLINE_S) as database:
        sql = "SELECT id, path, ended FROM ended WHERE open = 1 AND scheduler = ?"
        return database.execute(sql, (scheduler,)).fetchall()
