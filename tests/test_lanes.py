"""File rules on several filesystems: what hangs, and what is huge, holds up nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from fuse import Filesystem
from vocabulary import REFERENCE, Box, Daemon, disk, wait_until, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original does all work on files in its only thread")

Run = Callable[..., Daemon]

# Copies what is called slowN… to the directory hungN, and moves all else to DST.
HUNG = 16
RULES = r"""
rules = [FileManagerRule("copy", rf"^$SRC/slow{n}_(.*)$", rf"$TMP/hung{n}/\1") for n in range(NUMBER)]
hung = FileManagerScheduler(rules, logname="hung")
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/f(.*)$", r"$DST/f\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": [hung, move]})], shutdown_timeout=1)
"""


def threads(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/task"))


def is_moved(box: Box, name: str) -> bool:
    return (box.dst / name).exists() and not (box.src / name).exists()


@pytest.fixture
def hung(box: Box, root: None) -> Iterator[list[Filesystem]]:
    """Filesystems that do not answer, at hung0, hung1, …"""
    with ExitStack() as stack:
        made = []
        for number in range(HUNG):
            (box.tmp / f"hung{number}").mkdir()
            try:
                made.append(Filesystem(box.tmp / f"hung{number}", writable=False))
            except OSError as error:
                pytest.skip(f"FUSE is not to be had here: {error}")
            stack.callback(made[-1].close)
        yield made
        for daemon in box.daemons:
            daemon.kill()
        for filesystem in made:
            filesystem.answering.set()


def test_sixteen_hung_destinations_hurt_nobody(run: Run, box: Box, hung: list[Filesystem]) -> None:
    """Each is said once, and so is that it goes on; the daemon ends in time with all of them."""
    daemon = run(RULES.replace("NUMBER", str(HUNG)))
    for filesystem in hung:
        filesystem.answering.clear()
    for number in range(HUNG * 10):
        write(box.src / f"slow{number % HUNG}_{number}")
    daemon.wait_log("hung - INFO - start task", count=HUNG * 10)
    for number in range(50):
        write(box.src / f"f{number}")
        wait_until(partial(is_moved, box, f"f{number}"), lambda: f"a move elsewhere; {daemon.tail}")
    before = threads(daemon)
    assert before <= (HUNG + 1) * 10 + 1, "each filesystem has workers of its own, and no more than it may have"
    stalled = "WARNING - copy of '.*' to '{}/hung{}/.*': no progress for . s, since .*does not answer, . more wait"
    for number in range(HUNG):
        daemon.wait_log(stalled.format(box.tmp, number))
    assert not [line for line in daemon.lines if "hung" in line and "goes on" in line]

    hung[3].answering.set()
    daemon.wait_log("INFO - copy of '.*' to '.*/hung3/.*': goes on after .* s")
    daemon.wait_log("task (failed|finished).*/slow3_", count=10)
    assert daemon.count("copy of .*: no progress") == HUNG, "each is said once"
    # With threads that never come back.
    assert daemon.terminate(10) == 0


def test_reloads_while_a_destination_hangs_start_no_threads(run: Run, box: Box, hung: list[Filesystem]) -> None:
    """There is one sweep for temporary files of an earlier run on a filesystem at a time."""
    hung[0].answering.clear()
    daemon = run(RULES.replace("NUMBER", "1"))
    wait_until(lambda: threads(daemon) >= 2, "the sweep has begun")
    for _ in range(30):
        daemon.reload()
    # The one that hangs, and those of the destination that does not.
    # Workers with nothing to do end after a while.
    wait_until(lambda: threads(daemon) <= 1 + 1 + 2, lambda: f"{threads(daemon)} threads")
    write(box.src / "f")
    wait_until(lambda: is_moved(box, "f"), lambda: daemon.tail)
    assert daemon.terminate(10) == 0


def test_a_frozen_disk_holds_up_no_other_destination(run: Run, box: Box, root: None) -> None:
    """As a disk does that is snapshot, or lost."""
    with disk(box.tmp / "image", box.tmp / "hung0"):
        daemon = run(RULES.replace("NUMBER", "1"))
        subprocess.run(["fsfreeze", "--freeze", box.tmp / "hung0"], check=True)
        try:
            for number in range(40):
                write(box.src / f"slow0_{number}")
            daemon.wait_log("hung - INFO - start task", count=40)
            for number in range(20):
                write(box.src / f"f{number}")
                wait_until(partial(is_moved, box, f"f{number}"), lambda: f"a move elsewhere; {daemon.tail}")
            assert not os.listdir(box.tmp / "hung0") or os.listdir(box.tmp / "hung0") == ["lost+found"]
            daemon.wait_log(f"WARNING - copy of '.*' to '{box.tmp}/hung0/.*': no progress for")
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", box.tmp / "hung0"], check=True)
        daemon.wait_log("INFO - copy of .*/hung0/.*goes on after")
        daemon.wait_log("hung - INFO - task finished", count=40)
        assert len(os.listdir(box.tmp / "hung0")) == 41
        assert daemon.terminate() == 0


def test_a_small_file_does_not_wait_for_large_ones(run: Run, box: Box) -> None:
    """Also where they go to the same filesystem: it is there when the first ones of many are, and not after the
    last.
    """
    links, size = 40, 100 << 20
    config = r"""
large = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/large.*$", r"$DST/large", overwrite=True), logname="large")
small = FileManagerScheduler(FileManagerRule("move", r"^$SRC/small(.*)$", r"$DST/small\1"), logname="small")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": [large, small]})], shutdown_timeout=60)
"""
    daemon = run(config)
    (box.tmp / "made").mkdir()
    write(box.tmp / "made" / "0", os.urandom(1 << 20) * (size >> 20))
    for number in range(1, links):
        os.link(box.tmp / "made" / "0", box.tmp / "made" / str(number))
    for number in range(links):
        os.rename(box.tmp / "made" / str(number), box.src / f"large{number}")
    daemon.wait_log("large - INFO - start task", count=links)
    for number in range(5):
        write(box.tmp / "made" / "small")
        os.rename(box.tmp / "made" / "small", box.src / f"small{number}")
        wait_until(partial(is_moved, box, f"small{number}"), lambda: daemon.tail)
    left = links - daemon.count("large - INFO - task finished")
    assert left >= links / 2, f"{left} of {links} large copies were still to come"
    daemon.wait_log("large - INFO - task finished", count=links)
    assert daemon.terminate() == 0


def test_few_descriptors_are_enough_for_file_rules(run: Run, box: Box) -> None:
    """What finds no free descriptor is put off, as commands are; nothing is lost."""
    daemon = run(
        r"""
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\1", filemode=0o600, overwrite=True))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": move})], control=False)
""",
        before=["sh", "-c", 'ulimit -n 24; exec "$@"', "sh"],
    )
    names = {f"f{number}" for number in range(300)}
    for name in names:
        write(box.src / name)
    wait_until(
        lambda: set(os.listdir(box.dst)) == names,
        lambda: f"{len(os.listdir(box.dst))} moved; {daemon.descriptors()}; {daemon.tail}",
        60,
    )
    assert not [line for line in daemon.lines if "ERROR" in line]
    assert daemon.terminate() == 0


def test_a_database_of_users_that_does_not_answer_holds_up_nothing_else(run: Run, box: Box, root: None) -> None:
    """As one on an LDAP server that is away: rules without an owner, reloads and the end go on."""
    # The C library reads this file before it asks anybody. The first question waits for its writer, and so do all
    # others.
    os.mkfifo(box.tmp / "silent")
    silent = ["unshare", "--mount", "sh", "-c", f'mount --bind {box.tmp}/silent /etc/nsswitch.conf && exec "$@"', "sh"]
    if subprocess.run([*silent, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs unshare")
    daemon = run(
        r"""
given = FileManagerScheduler(FileManagerRule("move", r"^$SRC/slow(.*)$", r"$DST/slow\1", group="adm"), logname="given")
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/f(.*)$", r"$DST/f\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": [given, move]})], shutdown_timeout=1)
""",
        before=silent,
    )
    for number in range(10):
        write(box.src / f"slow{number}")
    daemon.wait_log("given - INFO - start task", count=10)
    for number in range(20):
        write(box.src / f"f{number}")
        wait_until(partial(is_moved, box, f"f{number}"), lambda: f"a move without an owner; {daemon.tail}")
    daemon.reload()
    write(box.src / "f-last")
    wait_until(partial(is_moved, box, "f-last"), lambda: daemon.tail)
    daemon.wait_log(
        "WARNING - move of '.*slow.*no progress for .* a filesystem or the database of users does not answer"
    )
    daemon.wait_log(
        "WARNING - look whether users and groups .*no progress for .* the database of users does not answer"
    )
    assert sorted(os.listdir(box.src)) == [f"slow{number}" for number in range(10)], "nothing was touched"
    assert daemon.terminate(10) == 0


def test_an_owner_that_does_not_exist_is_warned_of(run: Run, box: Box) -> None:
    config = 'sched = FileManagerScheduler(FileManagerRule("delete", "^/a$", user="no-such-user"))\n'
    text = r"no such user: 'no-such-user'; each task of this rule will fail"
    config += 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched})])'
    tested = box.call("-t", config=config)
    assert tested.exit_code == 0
    assert [line for line in tested.lines if line.startswith("WARNING: ") and text in line], tested.tail
    daemon = run(config)
    daemon.wait_log("WARNING - .*config.py:1: " + text)
    assert daemon.terminate() == 0
