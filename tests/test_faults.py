"""Faults that a daemon meets in years of work: storms, overflows, races, limits, crashes; and what must be true after
each.
"""

from __future__ import annotations

import ctypes
import filecmp
import json
import mmap
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from fuse import Filesystem
from vocabulary import REFERENCE, Box, Daemon, binary, disk, exchange, tree, until_seen, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original fails two thirds of these")

QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
needs_small_queue = pytest.mark.skipif(
    QUEUE > 20_000, reason=f"fs.inotify.max_queued_events = {QUEUE}: too many to overflow in a test"
)

# Collects the paths of all events of one kind in the host; the file $TMP/seen grows by one line each.
QUIET = 'setLoglevel(ERROR, "sched")\n'


def watching(*flags: str, more: str = "rec=True, auto_add=True", before: str = QUIET) -> str:
    return f'{before}pyinotifyd = Pyinotifyd([Watch("$SRC", recorder({", ".join(map(repr, flags))}), {more})])'


def all_heard(daemon: Daemon, paths: set[str], timeout_s: float = 60, maskname: str = "") -> None:
    """Wait until each of these paths had an event (of this name)."""

    def missing() -> set[str]:
        return paths - {event.pathname for event in daemon.events if event.maskname.startswith(maskname)}

    wait_until(
        lambda: not missing(),
        lambda: f"{len(missing())} of {len(paths)} missing, such as {sorted(missing())[:3]}; {daemon.tail}",
        timeout_s,
    )


@contextmanager
def mounted(directory: Path, options: str = "") -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", *(["-o", options] if options else []), "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=False)


def limited(*sysctls: str) -> list[str]:
    """Words before the program that run it in a user namespace of its own with these limits:
    `max_inotify_watches=40`.
    """
    writes = "; ".join(
        f"echo {value} > /proc/sys/user/{name}" for name, value in (sysctl.split("=") for sysctl in sysctls)
    )
    return ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", f'{writes}; exec "$@"', "sh"]


def can_unshare() -> bool:
    return (
        subprocess.run(
            ["unshare", "--user", "--map-current-user", "--keep-caps", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="user namespaces are not allowed here")


# ---- storms and overflows


def test_a_storm_of_two_writers_at_full_speed_loses_nothing(run: Run, box: Box) -> None:
    """At the default length of the kernel's queue."""
    daemon = run(watching("IN_CLOSE_WRITE", more="rec=False"), record=True)
    count = 10_000
    script = "import sys\nfor n in range(%d):\n    open(sys.argv[1] + str(n), 'w').close()\n" % count
    writers = [subprocess.Popen([sys.executable, "-c", script, f"{box.src}/{name}"]) for name in ("a", "b")]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    all_heard(daemon, {f"{box.src}/{name}{number}" for name in ("a", "b") for number in range(count)})
    assert daemon.count("(?i)overflow") == 0


@needs_small_queue
@pytest.mark.parametrize("times", ["nanoseconds", "seconds"])
def test_every_file_of_an_overflow_gets_its_event(run: Run, box: Box, times: str) -> None:
    """Where a filesystem keeps whole seconds, all files may be older than what was read last."""
    coarse = disk(box.tmp / "image", box.src, "-I", "128", "-N", "40000")
    with coarse if times == "seconds" else nullcontext():
        daemon = run(watching("IN_CREATE", "IN_CLOSE_WRITE", "IN_Q_OVERFLOW"), record=True)
        daemon.signal(signal.SIGSTOP)
        count = 30_000
        for number in range(count):
            (box.src / f"f{number}").touch()
        daemon.signal(signal.SIGCONT)
        wait_until(lambda: any(event.maskname == "IN_Q_OVERFLOW" for event in daemon.events), lambda: daemon.tail)
        made = {f"{box.src}/f{number}" for number in range(count)}
        for maskname in ("IN_CREATE", "IN_CLOSE_WRITE"):
            all_heard(daemon, made, 120, maskname)
        write(box.src / "later")
        daemon.wait_event("IN_CLOSE_WRITE", box.src / "later")


@needs_small_queue
def test_an_overflow_is_said_with_counts(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true", files=False)})])')
    daemon.signal(signal.SIGSTOP)
    for number in range(QUEUE + 2000):
        (box.src / f"f{number}").touch()
    daemon.signal(signal.SIGCONT)
    line = daemon.wait_log("WARNING.*(?i:overflow).*").string
    assert re.search(r"\d", line.split(" - ", 3)[3]), line


@needs_small_queue
def test_waiting_tasks_whose_file_vanished_in_an_overflow_are_cancelled(run: Run, box: Box) -> None:
    config = (
        "sched = ShellScheduler('echo RAN {pathname}', delay=8)\n"
        "noise = ShellScheduler('true', files=False)\n"
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched, "IN_DELETE": Cancel(sched), "IN_ATTRIB": noise})])'
    )
    daemon = run(config)
    for name in ("gone", "stays"):
        write(box.src / name)
    daemon.wait_log("schedule task", count=2)
    daemon.signal(signal.SIGSTOP)
    for _ in range(QUEUE // 2 + 200):
        for name in ("gone", "stays"):
            (box.src / name).chmod(0o600)
    (box.src / "gone").unlink()
    daemon.signal(signal.SIGCONT)
    daemon.wait_log(f"scheduled task cancelled, mask=IN_DELETE, path={box.src}/gone,")
    daemon.wait_out(f"RAN {box.src}/stays")
    assert f"RAN {box.src}/gone" not in daemon.stdout


@needs_small_queue
@pytest.mark.parametrize("change", ["renamed", "renamed deep", "exchanged", "name taken", "moved in"])
def test_files_of_a_directory_that_moved_in_an_overflow_are_not_lost(run: Run, box: Box, change: str) -> None:
    """Their tasks wait when the directory moves, or its files are older than everything that is missing."""
    config = (
        f'rule = FileManagerRule("move", "{box.src}/.*/([^/]+[.]f)", "{box.dst}/\\\\1")\n'
        "take = FileManagerScheduler(rule, delay=5)\n"
        'noise = ShellScheduler("true", files=False)\n'
        'm = {"IN_CLOSE_WRITE": take, "IN_MOVED_TO": take, "IN_DELETE": Cancel(take), "IN_MOVED_FROM": Cancel(take)}\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {**m, "IN_ATTRIB": noise}, rec=True, auto_add=True)])'
    )
    (box.src / "other" / "deep").mkdir(parents=True)
    old, names = box.tmp / "outside" if change == "moved in" else box.src / "b", ["1.f", "2.f"]
    (old / "s").mkdir(parents=True)
    noise = [box.src / "x", box.src / "y"]
    for path in noise:
        write(path)
    daemon = run(config)
    write(old / names[0])
    write(old / "s" / names[1])
    # The queue is empty once more when they are older than what the daemon takes for new.
    time.sleep(0.3)
    write(box.src / "other" / "last.f")
    daemon.wait_log("schedule task.*/last.f")
    daemon.signal(signal.SIGSTOP)
    for _ in range(QUEUE // 2 + 200):
        for path in noise:
            path.chmod(0o600)
    if change == "exchanged":
        exchange(old, box.src / "other")
    else:
        old.rename(box.src / ("other/deep/c" if change == "renamed deep" else "c"))
    if change == "name taken":
        (old / "s").mkdir(parents=True)
    daemon.signal(signal.SIGCONT)
    wait_until(lambda: all((box.dst / name).exists() for name in names), lambda: daemon.tail)


def test_what_waits_in_two_directories_that_are_exchanged_goes_with_its_directory(run: Run, box: Box) -> None:
    config = (
        'take = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1", auto_create=True), delay=1)\n'
        'm = {"IN_CLOSE_WRITE": take, "IN_DELETE": Cancel(take)}\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", m, rec=True, auto_add=True)])'
    )
    for name in ("a", "b/sub"):
        (box.src / name).mkdir(parents=True)
    daemon = run(config)
    files = {"a/f": "1", "a/only": "2", "b/f": "3", "b/sub/g": "4"}
    for name, content in files.items():
        (box.src / name).write_text(content)
        daemon.wait_log(f"schedule task.*/{name}")
    exchange(box.src / "a", box.src / "b")
    there = {("b" if name[0] == "a" else "a") + name[1:]: content for name, content in files.items()}
    wait_until(lambda: all((box.dst / name).exists() for name in there), lambda: daemon.tail)
    assert {name: (box.dst / name).read_text() for name in there} == there
    assert not daemon.count("task failed"), daemon.tail


@needs_small_queue
def test_the_watches_are_right_after_an_overflow_that_hid_removals_and_new_directories(run: Run, box: Box) -> None:
    for number in range(50):
        (box.src / f"d{number}" / "sub").mkdir(parents=True)
    noise = [box.src / "a", box.src / "b"]
    for path in noise:
        write(path)
    config = 'm = recorder("IN_CREATE")\nm["IN_ATTRIB"] = ShellScheduler("true", files=False)\n'
    daemon = run(config + 'pyinotifyd = Pyinotifyd([Watch("$SRC", m, rec=True, auto_add=True)])', record=True)
    daemon.signal(signal.SIGSTOP)
    for _ in range(QUEUE // 2 + 500):
        for path in noise:
            path.chmod(0o600)
    for number in range(0, 50, 2):
        shutil.rmtree(box.src / f"d{number}")
    for number in range(1, 50, 4):
        (box.src / f"d{number}").rename(box.src / f"moved{number}")
    for number in range(10):
        (box.src / f"new{number}" / "sub").mkdir(parents=True)
    daemon.signal(signal.SIGCONT)

    def directories() -> list[Path]:
        return [box.src, *(path for path in box.src.rglob("*") if path.is_dir())]

    wanted = {path.stat().st_ino for path in directories()}
    wait_until(lambda: wanted <= {inode for _, inode in daemon.watches()}, lambda: daemon.tail, 60)
    for path in directories():
        write(path / "after")
        daemon.wait_event("IN_CREATE", path / "after")


def test_trees_made_at_full_speed_by_many_are_seen_in_full(run: Run, box: Box) -> None:
    daemon = run(watching("IN_CREATE"), record=True)
    script = """
import os, sys
base, me = sys.argv[1:]
for number in range(20):
    path = base
    for level in range(5):
        path = f"{path}/{me}-{number}-{level}"
        os.mkdir(path)
        open(path + "/f", "w").close()
"""
    makers = [subprocess.Popen([sys.executable, "-c", script, str(box.src), str(number)]) for number in range(10)]
    assert [maker.wait(120) for maker in makers] == [0] * 10
    made = {str(path) for path in box.src.rglob("*")}
    assert len(made) == 10 * 20 * 10
    all_heard(daemon, made)


def test_trees_are_seen_in_full_by_close_write_alone(run: Run, box: Box) -> None:
    daemon = run(watching("IN_CLOSE_WRITE"), record=True)
    for number in range(100):
        path = box.src / f"t{number}" / "a" / "b" / "c"
        path.mkdir(parents=True)
        for directory in (path, *path.parents[:3]):
            write(directory / "f")
    all_heard(daemon, {str(path) for path in box.src.rglob("f")})


# ---- trees that move


def test_a_tree_moved_in_written_renamed_and_written_again(run: Run, box: Box) -> None:
    (box.tmp / "t" / "a" / "b").mkdir(parents=True)
    daemon = run(watching("IN_CREATE"), record=True)
    (box.tmp / "t").rename(box.src / "t")
    until_seen(daemon, box.src / "t" / "a" / "b")
    (box.src / "t").rename(box.src / "u")
    write(box.src / "u" / "a" / "b" / "later")
    daemon.wait_event("IN_CREATE", box.src / "u" / "a" / "b" / "later")


def test_no_event_ever_has_a_path_that_is_not_the_files(run: Run, box: Box) -> None:
    """Directories are renamed at random while files are made in them: each file's name says where it was made."""
    seed = random.randrange(1 << 32)
    random_ = random.Random(seed)
    for name in "abc":
        (box.src / name / "x" / "y").mkdir(parents=True)
    (box.tmp / "out").mkdir()
    daemon = run(watching("IN_CREATE"), record=True)
    for number in range(400):
        directories = [path for path in box.src.rglob("*") if path.is_dir()]
        if random_.random() < 0.3 and directories:
            moved = random_.choice(directories)
            target = random_.choice([box.src, *(path for path in directories if moved not in (path, *path.parents))])
            moved.rename(target / f"m{number}")
        elif random_.random() < 0.1 and directories:
            moved = random_.choice(directories)
            moved.rename(box.tmp / "out" / f"o{number}")
            (box.src / f"n{number}" / "sub").mkdir(parents=True)
        directory = random_.choice([box.src, *(path for path in box.src.rglob("*") if path.is_dir())])
        marker = f"{directory.relative_to(box.src)}".replace("/", "+")
        write(directory / f"at={marker}=f{number}")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    for event in daemon.events:
        if "at=" not in event.name or "synthetic" in event.attributes:
            continue
        was = event.name.split("=")[1].replace("+", "/")
        wanted = str((box.src / was / event.name) if was != "." else box.src / event.name)
        assert event.pathname == wanted, f"seed {seed}"


def test_a_root_swapped_by_exchange_is_watched_at_its_new_place(run: Run, box: Box) -> None:
    (box.tmp / "other").mkdir()
    daemon = run(watching("IN_CREATE"), record=True)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, os.fsencode(box.src), -100, os.fsencode(box.tmp / "other"), 2) == 0
    until_seen(daemon, box.src)
    before = len(daemon.events)
    write(box.tmp / "other" / "stray")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert not [event for event in daemon.events[before:] if event.name == "stray"]


def test_one_inode_under_two_paths_and_two_maps(run: Run, box: Box, root: None) -> None:
    """A bind mount of a watched directory is the same inode: each watch gets its own events, once, under its own
    path.
    """
    subprocess.run(["mount", "--bind", box.src, box.dst], check=True)
    try:
        config = (
            'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE")), Watch("$DST", recorder("IN_CLOSE_WRITE"))])'
        )
        daemon = run(config, record=True)
        write(box.src / "f")
        daemon.wait_event("IN_CREATE", box.src / "f")
        daemon.wait_event("IN_CLOSE_WRITE", box.dst / "f")
        write(box.src / "last")
        daemon.wait_event("IN_CLOSE_WRITE", box.dst / "last")
        assert daemon.heard(box.src / "f") == ["IN_CREATE"]
        assert daemon.heard(box.dst / "f") == ["IN_CLOSE_WRITE"]
        daemon.kill()
    finally:
        subprocess.run(["umount", "-l", box.dst], check=False)


# ---- writers of special kinds


def test_a_file_linked_into_place_from_an_unnamed_one_runs_once_under_its_name(run: Run, box: Box) -> None:
    """O_TMPFILE, then linkat, then close: the real name never gets a close of its own."""
    daemon = run(watching("IN_CLOSE_WRITE", more="rec=False"), record=True)
    try:
        descriptor = os.open(box.src, os.O_TMPFILE | os.O_WRONLY)
    except OSError:
        pytest.skip("this filesystem has no unnamed files")
    os.write(descriptor, b"content")
    libc = ctypes.CDLL(None, use_errno=True)
    follow = 0x400  # AT_SYMLINK_FOLLOW, which os.link does not pass
    assert libc.linkat(-100, f"/proc/self/fd/{descriptor}".encode(), -100, os.fsencode(box.src / "real"), follow) == 0
    os.close(descriptor)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "real")
    write(box.src / "last")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "last")
    assert daemon.heard(box.src / "real") == ["IN_CLOSE_WRITE"]


def test_a_mapped_file_runs_when_its_last_reference_goes(run: Run, box: Box) -> None:
    daemon = run(watching("IN_CLOSE_WRITE", more="rec=False"), record=True)
    descriptor = os.open(box.src / "f", os.O_CREAT | os.O_RDWR)
    os.truncate(descriptor, 4096)
    mapping = mmap.mmap(descriptor, 4096)
    os.close(descriptor)
    write(box.src / "other")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "other")
    assert daemon.heard(box.src / "f") == []
    mapping[0] = 65
    mapping.close()
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")


@pytest.mark.slow
def test_after_a_minute_of_churn_source_and_destination_are_equal(run: Run, box: Box) -> None:
    """Random work on a watched tree under a rule that copies each finished file; the end state is the judge.

    PYINOTIFYD_TEST_CHURN is its length in seconds.
    """
    seed = random.randrange(1 << 32)
    random_ = random.Random(seed)
    config = r"""
setLoglevel(CRITICAL, "sched")
sched = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\1", auto_create=True, overwrite=True)])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched}, rec=True, auto_add=True)])
"""
    daemon = run(config)
    ends = time.monotonic() + float(os.environ.get("PYINOTIFYD_TEST_CHURN", "8"))
    names = [f"n{number}" for number in range(20)]
    directories = [box.src]
    while time.monotonic() < ends:
        directory = random_.choice(directories)
        path = directory / random_.choice(names)
        if random_.random() < 0.1 and len(directories) < 40:
            directories.append(directory / f"d{len(directories)}")
            directories[-1].mkdir()
        write(path, random_.randbytes(random_.choice([0, 10, 5000, 100_000])))
        if random_.random() < 0.2:
            path.rename(random_.choice(directories) / random_.choice(names))

    def different() -> list[Path]:
        pairs = [(path, box.dst / path.relative_to(box.src)) for path in box.src.rglob("*") if path.is_file()]
        return [path for path, twin in pairs if not (twin.is_file() and filecmp.cmp(path, twin, shallow=False))]

    wait_until(lambda: not different(), lambda: f"seed {seed}, these differ: {different()[:5]}; {daemon.tail}")


# ---- shutdown


def test_term_in_a_storm_ends_in_time_without_traceback(run: Run, box: Box) -> None:
    daemon = run(watching("IN_CREATE", "IN_CLOSE_WRITE", "IN_DELETE"), record=True)
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            write(box.src / "f")
            (box.src / "f").unlink()

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        wait_until(lambda: len(daemon.events) > 100)
        begun = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - begun < 5
    finally:
        stop.set()
        thread.join()
    assert daemon.count("Traceback|panicked") == 0


@pytest.mark.slow
def test_many_waiting_tasks_at_term(run: Run, box: Box) -> None:
    """Fifty thousand tasks wait; the timeout of a second is kept, and memory is bounded."""
    config = (
        'setLoglevel(WARNING, "sched")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true", delay=300)})], '
        "shutdown_timeout=1)"
    )
    daemon = run(config)
    before = daemon.memory_kib()
    count = 50_000
    for number in range(count):
        os.mknod(f"{box.src}/f{number}")
    wait_until(lambda: daemon.memory_kib() > before)
    begun = time.monotonic()
    grown = daemon.memory_kib() - before
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 6
    assert grown * 1024 / count < 600, f"{grown * 1024 / count:.0f} bytes a task"


# ---- files: crashes, full disks


@pytest.mark.parametrize("after_ms", [5, 50, 150])
@pytest.mark.parametrize("action", ["copy", "move"])
def test_a_kill_in_the_middle_leaves_the_source_or_the_destination_whole(
    box: Box, root: None, action: str, after_ms: int
) -> None:
    """Across filesystems; and no part of a file under its final name, and nothing stray after the next start."""
    with mounted(box.dst):
        rule = f'FileManagerRule("{action}", r"^$SRC/(.*)\\.in$", r"$DST/\\1")'
        config = (
            f"sched = FileManagerScheduler([{rule}])\n"
            f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": sched}})])'
        )
        daemon = box.run(config)
        block = os.urandom(1 << 20)
        with open(box.tmp / "big", "wb") as file:
            for _ in range(200):
                file.write(block)
        size = 200 << 20
        (box.tmp / "big").rename(box.src / "big.in")
        wait_until(lambda: any(box.dst.iterdir()), lambda: daemon.tail)
        time.sleep(after_ms / 1000)  # The moment of the kill is the point, any moment will do.
        daemon.signal(signal.SIGKILL)
        daemon.wait_exit()
        source, destination = box.src / "big.in", box.dst / "big"
        if destination.exists():
            assert destination.stat().st_size == size
        if not source.exists():
            assert destination.exists()
        elif action == "move":
            assert source.stat().st_size == size
        # The next start sweeps what is ours and leaves what is not.
        write(box.dst / "foreign.tmp", "foreign")
        write(box.dst / ".hidden", "foreign")
        daemon = box.run(config)
        write(box.tmp / "next", "next")
        (box.tmp / "next").rename(box.src / "next.in")
        wait_until(lambda: (box.dst / "next").exists(), lambda: daemon.tail)
        allowed = {"next", "foreign.tmp", ".hidden", "big"}
        wait_until(lambda: set(os.listdir(box.dst)) <= allowed, lambda: f"{os.listdir(box.dst)}; {daemon.tail}")
        daemon.kill()


def test_a_kill_leaves_nothing_half_made_in_a_trash_after_the_next_start(box: Box, root: None) -> None:
    with mounted(box.dst):
        config = (
            'sched = FileManagerScheduler(FileManagerRule("delete", "^$SRC/", trash="$DST/trash"))\n'
            'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": sched})])'
        )
        daemon = box.run(config)
        block = os.urandom(1 << 20)
        with open(box.tmp / "big", "wb") as file:
            for _ in range(400):
                file.write(block)
        (box.tmp / "big").rename(box.src / "big")

        def half_made() -> list[Path]:
            return list(box.dst.rglob(".pyinotifyd-*.tmp"))

        wait_until(half_made, lambda: daemon.tail)
        daemon.signal(signal.SIGKILL)
        daemon.wait_exit()
        assert half_made()
        assert (box.src / "big").exists()
        daemon = box.run(config)
        daemon.wait_log(f"removed 1 temporary file.s. of an earlier run below '{box.dst}/trash/'")
        assert not half_made()
        daemon.kill()


@pytest.mark.parametrize("action", ["copy", "move"])
def test_a_full_disk_leaves_nothing_and_the_next_file_works(box: Box, root: None, action: str) -> None:
    with mounted(box.dst, "size=8m"):
        rule = f'FileManagerRule("{action}", r"^$SRC/(.*)\\.in$", r"$DST/\\1")'
        daemon = box.run(f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": FileManagerScheduler([{rule}])}})])')
        write(box.tmp / "big", b"x" * (16 << 20))
        write(box.tmp / "small", "small")
        (box.tmp / "big").rename(box.src / "big.in")
        daemon.wait_log("sched - ERROR - task failed: .*No space left on device")
        assert os.listdir(box.dst) == []
        assert (box.src / "big.in").stat().st_size == 16 << 20
        (box.tmp / "small").rename(box.src / "small.in")
        wait_until(lambda: tree(box.dst) == {"small": "small"}, lambda: daemon.tail)
        daemon.kill()


@pytest.mark.parametrize("action", ["copy", "move"])
def test_a_sparse_file_stays_sparse(box: Box, root: None, action: str) -> None:
    with mounted(box.dst, "size=64m"):
        rule = f'FileManagerRule("{action}", r"^$SRC/(.*)\\.in$", r"$DST/\\1")'
        daemon = box.run(f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": FileManagerScheduler([{rule}])}})])')
        with open(box.tmp / "sparse", "wb") as file:
            file.write(b"head")
            file.seek(500 << 30)
            file.write(b"tail")
        (box.tmp / "sparse").rename(box.src / "sparse.in")
        daemon.wait_log("task finished|ERROR", timeout_s=20)
        found = box.dst / "sparse"
        wait_until(found.exists, lambda: daemon.tail)
        assert found.stat().st_size == (500 << 30) + 4
        assert found.stat().st_blocks * 512 < 1 << 20
        with open(found, "rb") as file:
            assert file.read(4) == b"head"
            file.seek(500 << 30)
            assert file.read() == b"tail"
        daemon.kill()


def test_what_a_kill_leaves_where_a_rule_was_at_work_goes_at_the_next_start(box: Box, root: None) -> None:
    with mounted(box.dst):
        # Without a literal beginning of its own, only the task says where its result goes.
        config = (
            'rule = FileManagerRule("move", r"^($TMP)/src/(.*)$", r"\\1/dst/\\2")\n'
            "sched = FileManagerScheduler(rule)\n"
            'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": sched})], state="$TMP/state")'
        )
        block = os.urandom(1 << 20)

        def half_made() -> list[Path]:
            return list(box.dst.glob(".pyinotifyd-*.tmp"))

        def is_killed_at_work(mebibytes: int) -> bool:
            daemon = box.run(config)
            with open(box.tmp / "big", "wb") as file:
                for _ in range(mebibytes):
                    file.write(block)
            (box.tmp / "big").rename(box.src / "big")
            with closing(sqlite3.connect(box.tmp / "state/state.db")) as state:
                wait_until(
                    lambda: (state.execute("SELECT state FROM task").fetchall() == [("running",)] and half_made())
                    or (box.dst / "big").exists(),
                    lambda: daemon.tail,
                )
            daemon.signal(signal.SIGKILL)
            daemon.wait_exit()
            if half_made():
                return True
            (box.dst / "big").unlink()
            return False

        # On a fast machine a smaller one is there before its task is written down.
        assert any(is_killed_at_work(mebibytes) for mebibytes in (400, 1_600))
        # As if it had been at work in that directory.
        [left] = half_made()
        (box.src / left.name).write_bytes(b"")
        daemon = box.run(config)
        for directory in (box.src, box.dst):
            daemon.wait_log(f"removed 1 temporary file.s. of an earlier run below '{directory}'")
            assert not (directory / left.name).exists()
        daemon.wait_log("task finished")


def test_a_rule_does_not_take_what_an_undo_brings_back_for_a_second_copy(box: Box, root: None) -> None:
    names = {f"f{number}" for number in range(40)}
    with mounted(box.dst):
        rule = 'FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1", on_conflict="same")'
        config = (
            f"sched = FileManagerScheduler({rule})\n"
            'm = {"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched}\n'
            'pyinotifyd = Pyinotifyd([Watch("$SRC", m)], state="$TMP/state", control="$TMP/s.sock")'
        )
        daemon = box.run(config)
        for name in names:
            write(box.src / name, name)
        wait_until(lambda: set(os.listdir(box.dst)) == names, lambda: daemon.tail)

        def client(*words: str) -> str:
            command = [os.fspath(binary()), *words, "--control", os.fspath(box.tmp / "s.sock")]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=30)
            return done.stdout

        client("sync", "--idle")
        for task in json.loads(client("history", "--json", "--limit", "40"))["tasks"]:
            client("undo", task["id"])
        # What was undone is moved again at once.
        client("sync", "--idle")
        assert {*os.listdir(box.src), *os.listdir(box.dst)} == names, daemon.tail


def test_a_rule_waits_until_another_one_has_finished_what_it_placed(box: Box, root: None) -> None:
    middle, names = box.tmp / "middle", {f"f{number}" for number in range(300)}
    middle.mkdir()
    with mounted(box.dst):
        config = (
            'rule = FileManagerRule("move", r"^$SRC/(.*)$", r"$TMP/middle/\\1", filemode=0o600)\n'
            "first = FileManagerScheduler(rule)\n"
            'second = FileManagerScheduler(FileManagerRule("move", r"^$TMP/middle/(.*)$", r"$DST/\\1"))\n'
            "pyinotifyd = Pyinotifyd([\n"
            '    Watch("$SRC", {"IN_CLOSE_WRITE": first}), Watch("$TMP/middle", {"IN_MOVED_TO": second})])'
        )
        daemon = box.run(config)
        for name in names:
            write(box.src / name, name)
        wait_until(lambda: len(os.listdir(box.dst)) == len(names), lambda: daemon.tail)
        daemon.signal(signal.SIGTERM)
        daemon.wait_exit()
        assert {path.stat().st_mode & 0o777 for path in box.dst.iterdir()} == {0o600}
        assert not daemon.count("task failed"), daemon.tail


def test_a_directory_two_hundred_levels_deep_is_copied_and_deleted(run: Run, box: Box) -> None:
    config = r"""
sched = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)\.cp$", r"$DST/\1"),
    FileManagerRule("delete", r"^$SRC/.*\.rm$", rec=True)], dirs=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": sched})])
"""
    daemon = run(config)
    path = box.tmp / "deep"
    path.mkdir()
    inner = path
    for number in range(200):
        inner = inner / f"l{number}"
        inner.mkdir()
    write(inner / "f", "bottom")
    path.rename(box.src / "deep.cp")
    daemon.wait_log("task finished")
    assert (box.dst / "deep" / inner.relative_to(path) / "f").read_text() == "bottom"
    (box.src / "deep.cp").rename(box.src / "deep.rm")
    daemon.wait_log("task finished", count=2)
    assert not (box.src / "deep.rm").exists()


def test_a_path_longer_than_path_max_does_no_harm(run: Run, box: Box) -> None:
    daemon = run(watching("IN_CREATE"), record=True)
    here = os.open(box.src, os.O_RDONLY)
    for _ in range(20):
        name = "d" * 250
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    write(box.src / "after")
    daemon.wait_event("IN_CREATE", box.src / "after")
    assert daemon.terminate() == 0


# ---- limits


@needs_namespaces
def test_the_limit_of_watches_is_said_with_its_sysctl_and_the_rest_works(box: Box) -> None:
    for number in range(200):
        (box.src / f"d{number}").mkdir()
    daemon = box.run(watching("IN_CREATE"), record=True, before=limited("max_inotify_watches=40"))
    line = daemon.wait_log("max_(user|inotify)_watches").string
    assert re.search(r"\d", line)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    assert daemon.count("max_(user|inotify)_watches") <= 3
    assert daemon.terminate() == 0


@needs_namespaces
def test_the_limit_of_instances_is_no_limit_of_watches(box: Box) -> None:
    """One instance serves all watches of a config."""
    for name in "abc":
        (box.src / name).mkdir()
    watches = ", ".join(f'Watch("$SRC/{name}", recorder("IN_CREATE"))' for name in "abc")
    daemon = box.run(f"pyinotifyd = Pyinotifyd([{watches}])", record=True, before=limited("max_inotify_instances=1"))
    for name in "abc":
        write(box.src / name / "f")
        daemon.wait_event("IN_CREATE", box.src / name / "f")


@needs_namespaces
def test_no_instance_at_all_is_one_clear_line(box: Box) -> None:
    daemon = box.start(watching("IN_CREATE"), record=True, before=limited("max_inotify_instances=0"))
    assert daemon.wait_exit() != 0
    assert re.search("max_(user|inotify)_instances", daemon.log)
    assert daemon.count("Traceback|panicked") == 0


def test_few_descriptors_are_enough_for_many_commands(box: Box) -> None:
    """They wait for one another; nothing spins and nothing is lost."""
    config = 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("echo x >> $TMP/seen")})])'
    daemon = box.run(QUIET + config, before=["sh", "-c", 'ulimit -n 32; exec "$@"', "sh"])
    for number in range(300):
        (box.src / f"f{number}").touch()
    wait_until(
        lambda: (box.tmp / "seen").exists() and (box.tmp / "seen").stat().st_size == 600, lambda: daemon.tail, 60
    )
    assert daemon.terminate() == 0


def test_a_command_that_prints_without_end_costs_no_memory(run: Run, box: Box) -> None:
    config = (
        'pyinotifyd = Pyinotifyd([Watch("$SRC", '
        '{"IN_CREATE": ShellScheduler("head -c 200000000 /dev/zero > /dev/stdout; echo END")})])'
    )
    box.write_config(config)
    with open("/dev/null", "w") as nowhere:
        process = subprocess.Popen(
            [binary(), "-c", box.config], stdin=subprocess.DEVNULL, stdout=nowhere, stderr=subprocess.PIPE
        )
    try:
        assert process.stderr
        while b"start listening" not in process.stderr.readline():
            assert process.poll() is None
        write(box.src / "f")
        while b"task finished" not in process.stderr.readline():
            assert process.poll() is None
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert found
        assert int(found.group(1)) < 100_000
    finally:
        process.kill()
        process.wait()


def test_a_command_that_daemonises_itself_ends_its_task(run: Run, box: Box) -> None:
    """Its daughter keeps the inherited pipes open; the task does not wait for these."""
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("setsid sh -c \'sleep 300\' & exit 0")})])'
    )
    write(box.src / "f")
    daemon.wait_log("task finished", timeout_s=10)
    assert daemon.terminate() == 0


# ---- memory and idleness


@pytest.mark.slow
def test_a_churn_of_directories_leaves_no_memory_behind(run: Run, box: Box) -> None:
    daemon = run(
        QUIET
        + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_UNMOUNT": ShellScheduler("true")}, rec=True, auto_add=True)])'
    )

    def churn(count: int) -> int:
        for number in range(count):
            os.mkdir(f"{box.src}/d{number}")
            os.rmdir(f"{box.src}/d{number}")
        # The root and its parents stay.
        wait_until(
            lambda: len(daemon.watches()) <= len(box.src.parents) + 1, lambda: f"{len(daemon.watches())} watches left"
        )
        return daemon.memory_kib()

    first = churn(2000)
    # A hundred bytes for each directory that was there once would be more.
    assert churn(10_000) - first < 900


def test_an_idle_daemon_does_not_wake_up(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])', record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")

    def switches() -> int:
        found = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", "".join(daemon.of_threads("status")), re.M)
        return sum(map(int, found))

    def still() -> bool:
        # Idleness has no event to wait for: a second without a wake-up, some time within the deadline.
        before = switches()
        time.sleep(1.0)
        return switches() == before

    wait_until(still)


# ---- a log on a full disk


def test_a_log_on_a_full_disk_loses_lines_and_says_how_many(box: Box, root: None) -> None:
    """The tasks are done meanwhile; when there is room again, the count of what is missing is true."""
    (box.tmp / "logs").mkdir()
    with mounted(box.tmp / "logs", "size=64k") as logs:
        config = 'sched = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\\1")])\n'
        box.write_config(config + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched})])')
        with open(logs / "log", "ab") as log:
            process = subprocess.Popen([binary(), "-c", box.config], stdin=subprocess.DEVNULL, stderr=log)
        try:
            wait_until(lambda: b"start listening" in (logs / "log").read_bytes())
            count = 1000
            for number in range(count):
                write(box.src / f"f{number}")
            wait_until(lambda: len(os.listdir(box.dst)) == count, lambda: f"{len(os.listdir(box.dst))} of {count}")
            kept = (logs / "log").read_bytes().count(b"\n")
            os.truncate(logs / "log", 0)
            number = 0

            def told() -> bool:
                nonlocal number
                number += 1
                write(box.src / f"again{number}")
                return b"dropped" in (logs / "log").read_bytes()

            wait_until(told, lambda: f"{(logs / 'log').read_bytes()[-300:]!r}")

            def accounted() -> int:
                text = (logs / "log").read_bytes()
                dropped = sum(map(int, re.findall(rb"(\d+) log lines were dropped", text)))
                # Those of the last files may come when there is room again.
                return kept + dropped + len(re.findall(rb"/src/f\d+\b.*\n", text))

            # Three lines a file: start, copy, finished.
            wait_until(lambda: accounted() >= 3 * count, lambda: f"{accounted()} of {3 * count} lines")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


# ---- filesystems of user space


@pytest.fixture
def user_space(box: Box, root: None) -> Iterator[Filesystem]:
    (box.tmp / "fuse").mkdir()
    try:
        made = Filesystem(box.tmp / "fuse", writable=False)
    except OSError as error:
        pytest.skip(f"FUSE is not to be had here: {error}")
    yield made
    for daemon in box.daemons:
        daemon.kill()
    made.close()


def test_a_root_on_a_filesystem_of_user_space_is_warned_of(run: Run, box: Box, user_space: Filesystem) -> None:
    """What others change there is not told by the kernel (inotify(7)); NFS is the same, but needs a kernel with it."""
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$TMP/fuse", {"IN_CREATE": ShellScheduler("true")})])')
    daemon.wait_log(f"WARNING.*{box.tmp}/fuse.*FUSE")
    assert daemon.terminate() == 0


def test_a_filesystem_that_stops_to_answer_stops_no_other_watch(run: Run, box: Box, user_space: Filesystem) -> None:
    """As a server that went away does."""
    daemon = run('pyinotifyd = Pyinotifyd([Watch(["$TMP/fuse", "$SRC"], recorder("IN_CREATE"))])', record=True)
    user_space.answering.clear()
    try:
        write(box.src / "f")
        daemon.wait_event("IN_CREATE", box.src / "f")
        assert daemon.terminate(10) == 0
    finally:
        user_space.answering.set()


HANGING = r"""
hung = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/slow(.*)$", r"$TMP/fuse/\1"), logname="hung")
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/f(.*)$", r"$DST/f\1"))
shell = ShellScheduler("echo {pathname} >> $TMP/commands")
async def tell(event, task_id):
    with open("$TMP/jobs", "a") as out:
        print(event.name, file=out)
everything = [hung, move, shell, TaskScheduler(tell)]
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": everything})], shutdown_timeout=1)
"""


def test_a_file_rule_that_hangs_stops_nothing_else(run: Run, box: Box, user_space: Filesystem) -> None:
    """Its lane's workers hang with it, and nobody else waits."""
    daemon = run(HANGING)

    def is_done(name: str) -> bool:
        logs = [box.tmp / "commands", box.tmp / "jobs"]
        return (box.dst / name).exists() and all(log.exists() and name in log.read_text() for log in logs)

    user_space.answering.clear()
    try:
        for number in range(12):
            write(box.src / f"slow{number}")
            write(box.src / f"f{number}")
            wait_until(partial(is_done, f"f{number}"), f"move, command and job of file {number}")
        hangs = [f"slow{number}" for number in range(12)]
        assert not [line for line in daemon.lines if "hung" in line and ("finished" in line or "failed" in line)]
        daemon.reload()
        user_space.answering.set()
        for name in hangs:
            daemon.wait_log(f"hung - ERROR - task failed.*{name}")
        write(box.src / "f-last")
        wait_until(lambda: is_done("f-last"), "the new configuration works")
        user_space.answering.clear()
        write(box.src / "slow-last")
        daemon.wait_log("hung - INFO - start task.*slow-last")
        # With a thread that never comes back.
        assert daemon.terminate(10) == 0
    finally:
        user_space.answering.set()


def test_a_daemon_that_is_stopped_again_and_again_moves_each_file_once(run: Run, box: Box) -> None:
    """A stop in the middle of everything makes orders wait for long, so that more workers join."""
    daemon = run(
        r"""
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": move, "IN_MOVED_TO": move})])
"""
    )
    made = box.tmp / "made"
    made.mkdir()
    names = {f"f{number}" for number in range(3000)}
    for name in names:
        write(made / name)
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            daemon.signal(signal.SIGSTOP)
            time.sleep(0.012)
            daemon.signal(signal.SIGCONT)
            time.sleep(0.004)

    stopping = threading.Thread(target=stop_and_go)
    stopping.start()
    try:
        for name in names:
            os.rename(made / name, box.src / name)
        wait_until(
            lambda: set(os.listdir(box.dst)) == names, lambda: f"{len(os.listdir(box.dst))} moved; {daemon.tail}"
        )
    finally:
        over.set()
        stopping.join()
    daemon.wait_log("task finished", count=len(names))
    assert daemon.count("task finished") == len(names)
    assert not [line for line in daemon.lines if "ERROR" in line or "WARNING" in line]
    daemon.reload()
    write(box.src / "last")
    wait_until((box.dst / "last").exists, lambda: daemon.tail)
    assert daemon.terminate(10) == 0
