"""Attacks by those who may write where the daemon looks or where it writes: each is carried out, and nothing may come
of it.

The attacker may make files, links and names as he likes, at any moment. The daemon often is root. What the tests need
of root (files of other users, mounts) is skipped without it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, Record, alive, binary, mode_of, tree, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="most of these succeed against the original")

NOBODY = 65534


def rule(action: str, options: str = "", pattern: str = r"^$SRC/(.*)\.in$", template: str = r"$DST/\1") -> str:
    return f'FileManagerRule("{action}", r"{pattern}", r"{template}"{options})'


def files(*rules: str, options: str = "", flags: str = "IN_CLOSE_WRITE IN_MOVED_TO", timeout: str = "20") -> str:
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return (
        f"sched = FileManagerScheduler([{', '.join(rules)}]{options})\n"
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}}, rec=True, auto_add=True)], shutdown_timeout={timeout})'
    )


def publish_link(box: Box, name: str, target: Path, owner: int | None = None) -> None:
    """Rename a finished link into the watched directory."""
    link = box.tmp / "made-link"
    link.symlink_to(target)
    if owner is not None:
        os.lchown(link, owner, owner)
    link.rename(box.src / name)


@contextmanager
def flipping(one: Callable[[], None], two: Callable[[], None], rounds: int) -> Iterator[threading.Thread]:
    """A thread that does the one and the other in turn, as fast as it can."""

    def flip() -> None:
        for _ in range(rounds):
            one()
            two()

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


@pytest.mark.parametrize("action", ["move", "copy", "delete"])
def test_a_directory_in_the_place_of_a_file_is_not_acted_on(run: Run, box: Box, action: str) -> None:
    """The scheduler takes files alone, and its map says nothing of what happens to the file meanwhile."""
    options = ", rec=True" if action == "delete" else ""
    daemon = run(files(rule(action, options), options=", delay=1"))
    write(box.src / "a.in")
    daemon.wait_log("schedule task")
    (box.src / "a.in").unlink()
    (box.src / "a.in").mkdir()
    write(box.src / "a.in" / "precious")
    daemon.wait_log("task failed: refused: .*/a.in' is a directory now, and its scheduler takes files alone")
    assert (box.src / "a.in" / "precious").exists()
    assert not list(box.dst.iterdir())


# ---- commands


@pytest.mark.parametrize("placeholder", ["{src_pathname}", "{pathname}", "{maskname}"])
@pytest.mark.parametrize(
    "command", ["true {pathname}", "true {src_pathname}", "true {maskname} {pathname} {src_pathname}"]
)
def test_a_name_that_holds_a_placeholder_breaks_out_of_no_quotes(
    run: Run, box: Box, placeholder: str, command: str
) -> None:
    """The value of one placeholder must never be put inside the quotes of another one."""
    config = f'sched = ShellScheduler("{command}")\npyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": sched}})])'
    daemon = run(config, cwd=box.dst)
    evil, name = box.src / ";touch PWNED;", box.src / f"x{placeholder}y"
    write(evil)
    evil.rename(name)
    daemon.wait_log("task finished")
    name.rename(evil)
    daemon.wait_log("task finished", count=2)
    assert os.listdir(box.dst) == []


def test_a_task_that_a_shell_builtin_would_read_as_an_option_is_an_absolute_path(run: Run, box: Box) -> None:
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("src", {"IN_CREATE": ShellScheduler("echo {pathname}")})])', cwd=box.tmp
    )
    write(box.src / "-n")
    daemon.wait_out(f"^{box.src}/-n$")


def test_a_flood_of_events_is_no_flood_of_processes(run: Run, box: Box) -> None:
    config = 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("sleep 0.2; echo x >> $TMP/seen")})])'
    daemon = run(f'setLoglevel(WARNING, "sched")\n{config}')
    count = 500
    daemon.signal(signal.SIGSTOP)
    for number in range(count):
        (box.src / f"f{number}").touch()
    daemon.signal(signal.SIGCONT)
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(daemon.children()))
        return (box.tmp / "seen").exists() and (box.tmp / "seen").stat().st_size == 2 * count

    wait_until(done, lambda: f"{(box.tmp / 'seen').stat().st_size} of {2 * count} bytes; {daemon.tail}", timeout_s=60)
    # 64 shells, each with its sleep.
    assert most <= 2 * 64


def test_thousands_of_waiting_commands_end_with_the_daemon(run: Run, box: Box) -> None:
    daemon = run(
        'setLoglevel(ERROR, "sched")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("sleep 300")})], shutdown_timeout=1)'
    )
    for number in range(3000):
        (box.src / f"f{number}").touch()
    wait_until(lambda: len(daemon.children()) >= 64)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 12
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")


# ---- links as sources


@pytest.mark.parametrize("action", ["move", "copy"])
def test_a_link_gives_nobody_the_mode_of_its_target(run: Run, box: Box, root: None, action: str) -> None:
    write(box.tmp / "secret", "secret")
    (box.tmp / "secret").chmod(0o600)
    daemon = run(files(rule(action, ', filemode=0o666, user="nobody", group="nogroup"')))
    publish_link(box, "l.in", box.tmp / "secret", owner=NOBODY)
    daemon.wait_log("task (finished|failed)")
    assert mode_of(box.tmp / "secret") == 0o600
    assert (box.tmp / "secret").stat().st_uid == 0


def test_a_moved_tree_with_links_leaves_their_targets_alone(run: Run, box: Box) -> None:
    write(box.tmp / "secret", "secret")
    (box.tmp / "secret").chmod(0o600)
    (box.tmp / "private").mkdir(mode=0o700)
    daemon = run(files(rule("move", ", filemode=0o666, dirmode=0o777"), options=", dirs=True", flags="IN_MOVED_TO"))
    made = box.tmp / "made"
    (made / "sub").mkdir(parents=True)
    for name, target in (("a", box.tmp / "secret"), ("sub/b", box.tmp / "private"), ("c", box.tmp / "nowhere")):
        (made / name).symlink_to(target)
    write(made / "z", "z")
    made.rename(box.src / "t.in")
    daemon.wait_log("task finished")
    assert mode_of(box.tmp / "secret") == 0o600
    assert mode_of(box.tmp / "private") == 0o700
    # A dangling link does not stop the rest.
    assert mode_of(box.dst / "t" / "z") == 0o666


def test_a_copy_does_not_follow_a_strangers_link_to_a_secret(run: Run, box: Box, root: None) -> None:
    write(box.tmp / "secret", "secret")
    (box.tmp / "secret").chmod(0o600)
    daemon = run(files(rule("copy", ", filemode=0o644")))
    publish_link(box, "l.in", box.tmp / "secret", owner=NOBODY)
    daemon.wait_log("task (finished|failed)")
    assert not (box.dst / "l").exists()
    # Which path, owned by whom, and why.
    line = daemon.wait_log(rf"ERROR - .*{box.src}/l\.in").string
    assert "nobody" in line or str(NOBODY) in line
    assert "link" in line


def test_a_copied_tree_holds_no_secret_that_a_strangers_link_points_at(run: Run, box: Box, root: None) -> None:
    write(box.tmp / "secret", "secret")
    (box.tmp / "secret").chmod(0o600)
    daemon = run(files(rule("copy"), options=", dirs=True", flags="IN_MOVED_TO"))
    made = box.tmp / "made"
    made.mkdir()
    write(made / "a", "A")
    (made / "l").symlink_to(box.tmp / "secret")
    os.lchown(made / "l", NOBODY, NOBODY)
    made.rename(box.src / "t.in")
    daemon.wait_log("task finished")
    assert (box.dst / "t" / "a").read_text() == "A"
    assert (box.dst / "t" / "l").is_symlink()
    daemon.wait_log("WARNING.*link")


def test_a_strangers_link_to_his_own_file_is_followed(run: Run, box: Box, root: None) -> None:
    write(box.tmp / "his", "his")
    os.chown(box.tmp / "his", NOBODY, NOBODY)
    daemon = run(files(rule("copy")))
    publish_link(box, "l.in", box.tmp / "his", owner=NOBODY)
    daemon.wait_log("task finished")
    assert tree(box.dst) == {"l": "his"}


def test_a_link_to_dev_zero_fills_no_disk(run: Run, box: Box) -> None:
    daemon = run(files(rule("copy")))
    publish_link(box, "l.in", Path("/dev/zero"))
    daemon.wait_log("sched - ERROR - ")
    daemon.wait_log("task (finished|failed)", timeout_s=10)
    assert tree(box.dst) == {}


# ---- fifos, sockets


@pytest.mark.parametrize("action", ["copy", "move"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a fifo"])
def test_special_files_block_nothing(run: Run, box: Box, action: str, kind: str) -> None:
    daemon = run(files(rule(action)))
    if kind == "fifo":
        os.mkfifo(box.tmp / "made")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(box.tmp / "made"))
    else:
        os.mkfifo(box.tmp / "fifo")
        (box.tmp / "made").symlink_to(box.tmp / "fifo")
    (box.tmp / "made").rename(box.src / "s.in")
    daemon.wait_log("task (finished|failed)", timeout_s=10)
    write(box.src / "f.in", "content")
    wait_until(lambda: (box.dst / "f").exists() and (box.dst / "f").read_text() == "content", lambda: daemon.tail)
    if action == "copy":
        assert not (box.dst / "s").exists()
        assert daemon.count("ERROR") >= 1


def test_a_fifo_in_a_copied_directory_blocks_nothing(run: Run, box: Box) -> None:
    daemon = run(files(rule("copy"), options=", dirs=True", flags="IN_MOVED_TO"))
    (box.tmp / "made").mkdir()
    os.mkfifo(box.tmp / "made" / "p")
    (box.tmp / "made").rename(box.src / "t.in")
    daemon.wait_log("ERROR", timeout_s=10)
    daemon.wait_log("task (finished|failed)", timeout_s=10)
    assert not (box.dst / "t" / "p").exists()


def test_a_file_that_becomes_a_fifo_between_look_and_open_blocks_nothing(run: Run, box: Box) -> None:
    daemon = run('setLoglevel(CRITICAL, "sched")\n' + files(rule("copy", ", overwrite=True")))
    path, spare = box.src / "f.in", box.tmp / "spare"
    os.mkfifo(spare)
    write(path, "content")

    def exchange() -> None:
        path.rename(box.tmp / "third")
        spare.rename(path)
        (box.tmp / "third").rename(spare)

    with flipping(exchange, exchange, 2000):
        pass
    write(box.src / "last.in", "last")
    wait_until(lambda: (box.dst / "last").exists(), lambda: daemon.tail)
    assert daemon.terminate() == 0


# ---- the destination


@pytest.mark.parametrize("action", ["move", "copy"])
def test_a_dangling_link_at_the_destination_is_not_written_through(run: Run, box: Box, action: str) -> None:
    (box.dst / "f").symlink_to(box.tmp / "created-by-attack")
    daemon = run(files(rule(action)))
    write(box.src / "f.in", "content")
    daemon.wait_log("task (finished|failed)")
    assert not (box.tmp / "created-by-attack").exists()


@pytest.mark.parametrize("action", ["move", "copy"])
def test_overwrite_replaces_a_link_and_not_its_target(run: Run, box: Box, action: str) -> None:
    write(box.tmp / "precious", "precious")
    (box.tmp / "precious").chmod(0o600)
    (box.dst / "f").symlink_to(box.tmp / "precious")
    daemon = run(files(rule(action, ", overwrite=True, filemode=0o644")))
    write(box.src / "f.in", "content")
    daemon.wait_log("task finished")
    assert (box.tmp / "precious").read_text() == "precious"
    assert mode_of(box.tmp / "precious") == 0o600


@pytest.mark.parametrize("name", [".._evil", "a..b_..", "..", "._evil"])
def test_dots_that_come_out_of_a_group_leave_no_directory(run: Run, box: Box, name: str) -> None:
    (box.dst / "home").mkdir()
    daemon = run(files(rule("copy", ", auto_create=True", r"^$SRC/([^_]+)_(.*)$", r"$DST/home/\1/\2")))
    write(box.src / (name if "_" in name else f"{name}_{name}"), "evil")
    write(box.src / "good_one", "good")
    daemon.wait_log(r"task finished.*good_one,")
    found = tree(box.dst)
    assert found.get("home/good/one") == "good"
    assert [path for path in found if not path.startswith("home")] == []
    assert "home/evil" not in found


def test_a_destination_refused_for_its_dots_is_said(run: Run, box: Box) -> None:
    daemon = run(files(rule("copy", "", r"^$SRC/([^_]+)_(.*)$", r"$DST/\1/\2")))
    write(box.src / ".._evil", "evil")
    daemon.wait_log(rf"sched - ERROR - .*{box.dst}/\.\./evil.*'\.\.'")


def test_a_directory_of_the_destination_that_is_swapped_for_a_link_is_not_left(run: Run, box: Box) -> None:
    """Below what the configuration says literally, no link is followed."""
    (box.tmp / "victim").mkdir()
    (box.dst / "alice").symlink_to(box.tmp / "victim")
    daemon = run(files(rule("copy", ", auto_create=True", r"^$SRC/([^_]+)_(.*)$", r"$DST/\1/\2")))
    write(box.src / "alice_f", "evil")
    daemon.wait_log("task (finished|failed)")
    assert tree(box.tmp / "victim") == {}
    daemon.wait_log("sched - ERROR - ")


def test_no_replace_is_free_of_races(run: Run, box: Box) -> None:
    """A destination that appears between look and rename is never replaced."""
    daemon = run('setLoglevel(CRITICAL, "sched")\n' + files(rule("move"), flags="IN_MOVED_TO"))
    rounds = 1000
    made: dict[str, int] = {}
    for number in range(rounds):
        (box.tmp / f"made{number}").write_text("from source")

    def compete() -> None:
        for number in range(rounds):
            path = box.dst / f"f{number}"
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                continue
            made[path.name] = os.fstat(descriptor).st_ino
            os.close(descriptor)

    thread = threading.Thread(target=compete)
    thread.start()
    for number in range(rounds):
        (box.tmp / f"made{number}").rename(box.src / f"f{number}.in")
    thread.join()
    write(box.tmp / "last", "x")
    (box.tmp / "last").rename(box.src / "last.in")
    wait_until(lambda: (box.dst / "last").exists(), lambda: daemon.tail)
    wait_until(lambda: len(tree(box.dst)) == rounds + 1)
    for name, inode in made.items():
        assert (box.dst / name).stat().st_ino == inode, "a destination that was there first was replaced"
    # And no source was lost: each is at one end.
    sources, destinations = tree(box.src), tree(box.dst)
    for number in range(rounds):
        assert (f"f{number}.in" in sources) != (destinations[f"f{number}"] == "from source")


# ---- what changes between event and action


@pytest.mark.parametrize("action", ["delete", "move", "copy"])
def test_a_parent_swapped_for_a_link_during_the_delay(run: Run, box: Box, action: str) -> None:
    victim = box.tmp / "victim"
    victim.mkdir()
    write(victim / "f.in", "precious")
    (box.src / "sub").mkdir()
    daemon = run(files(rule(action, template=r"$DST/\1", options=", auto_create=True"), options=", delay=1"))
    write(box.src / "sub" / "f.in", "bait")
    daemon.wait_log("schedule task")
    (box.src / "sub").rename(box.tmp / "away")
    (box.src / "sub").symlink_to(victim)
    daemon.wait_log("task (finished|failed)|scheduled task cancelled")
    assert tree(victim) == {"f.in": "precious"}
    assert "precious" not in tree(box.dst).values()


@pytest.mark.parametrize("action", ["delete", "move", "copy"])
def test_a_parent_flipped_between_directory_and_link_during_the_action(run: Run, box: Box, action: str) -> None:
    victim, real, link = box.tmp / "victim", box.tmp / "real", box.tmp / "link"
    victim.mkdir()
    for number in range(50):
        write(victim / f"f{number}.in", "precious")
    mode = mode_of(victim / "f0.in")
    link.symlink_to(victim)
    (box.src / "sub").mkdir()
    options = ", auto_create=True, overwrite=True, filemode=0o666" if action != "delete" else ""
    daemon = run('setLoglevel(CRITICAL, "sched")\n' + files(rule(action, options)))

    def to_link() -> None:
        (box.src / "sub").rename(real)
        link.rename(box.src / "sub")

    def to_directory() -> None:
        (box.src / "sub").rename(link)
        real.rename(box.src / "sub")

    done = threading.Event()

    # Written by name, the bait would go through the link now and then, by the test's own doing.
    directory = os.open(box.src / "sub", os.O_RDONLY)

    def bait() -> None:
        number = 0
        while not done.is_set():
            number += 1
            descriptor = os.open(f"f{number % 50}.in", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
            os.write(descriptor, b"bait")
            os.close(descriptor)

    baiter = threading.Thread(target=bait)
    baiter.start()
    try:
        with flipping(to_link, to_directory, 5000):
            pass
    finally:
        done.set()
        baiter.join()
        os.close(directory)
    write(box.src / "last.in", "last")
    wait_until(lambda: not (box.src / "last.in").exists() or (box.dst / "last").exists(), lambda: daemon.tail)
    assert daemon.terminate() == 0
    assert tree(victim) == {f"f{number}.in": "precious" for number in range(50)}
    assert {mode_of(path) for path in victim.iterdir()} == {mode}
    assert "precious" not in tree(box.dst).values()


@pytest.mark.parametrize("action", ["move", "copy"])
def test_a_file_flipped_with_a_strangers_link_during_the_action(run: Run, box: Box, root: None, action: str) -> None:
    """Ten thousand flips under a rule that changes modes: the secret is never read, its mode never changed."""
    secret = box.tmp / "secret"
    write(secret, "secret")
    secret.chmod(0o600)
    daemon = run(
        'setLoglevel(CRITICAL, "sched")\n' + files(rule(action, ", overwrite=True, filemode=0o666, user='nobody'"))
    )
    path = box.src / "f.in"

    def to_file() -> None:
        write(box.tmp / "bait", "bait")
        (box.tmp / "bait").rename(path)

    def to_link() -> None:
        (box.tmp / "evil").symlink_to(secret)
        os.lchown(box.tmp / "evil", NOBODY, NOBODY)
        (box.tmp / "evil").rename(path)

    stop = threading.Event()
    leaks: list[str] = []

    def look() -> None:
        while not stop.is_set():
            for found in box.dst.iterdir():
                try:
                    # A link that was moved here as a link leaks nothing; only what a file here holds counts.
                    with open(found, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as file:
                        if file.read() == "secret":
                            leaks.append(str(found))
                except OSError:
                    continue

    looker = threading.Thread(target=look)
    looker.start()
    try:
        with flipping(to_file, to_link, 5000):
            pass
    finally:
        stop.set()
        looker.join()
    assert daemon.terminate() == 0
    assert leaks == []
    assert mode_of(secret) == 0o600
    assert secret.stat().st_uid == 0
    assert [name for name, content in tree(box.dst).items() if content == "secret"] == []


def test_links_planted_in_a_tree_while_its_modes_are_set_are_not_followed(run: Run, box: Box) -> None:
    """The modes of a moved tree are set while somebody swaps its files for links."""
    secret = box.tmp / "secret"
    write(secret, "secret")
    secret.chmod(0o600)
    daemon = run(
        'setLoglevel(CRITICAL, "sched")\n'
        + files(rule("move", ", filemode=0o666, dirmode=0o777"), options=", dirs=True", flags="IN_MOVED_TO")
    )
    stop = threading.Event()
    rounds, count = 6, 1000

    def plant() -> None:
        newest = 0
        while not stop.is_set() and newest < rounds:
            tree_ = box.dst / f"t{newest}"
            if not tree_.exists():
                time.sleep(0)  # Let the other threads of the test run.
                continue
            for number in range(0, count, 10):
                (tree_ / f"f{number}").unlink()
                (tree_ / f"f{number}").symlink_to(secret)
            newest += 1

    planter = threading.Thread(target=plant)
    planter.start()
    try:
        for round_ in range(rounds):
            made = box.tmp / f"made{round_}"
            made.mkdir()
            for number in range(count):
                (made / f"f{number}").touch()
            made.rename(box.src / f"t{round_}.in")
        wait_until(lambda: len(list(box.dst.iterdir())) == rounds, lambda: daemon.tail)
        planter.join()
    finally:
        stop.set()
        planter.join()
    assert daemon.terminate() == 0
    assert mode_of(secret) == 0o600


# ---- patterns


@pytest.mark.parametrize(
    "pattern",
    [r"^$SRC/(a+)+[.]x$", r"^$SRC/(?=(a+)+[.]x$)", r"^$SRC/(a|a)*(?!b)[.]x$", r"^$SRC/(.*)\1(.*)\2(.*)\3[.]x$"],
)
def test_a_name_that_makes_a_pattern_slow_stops_nothing(run: Run, box: Box, pattern: str) -> None:
    config = f"""
sched = FileManagerScheduler([FileManagerRule("delete", r"{pattern}")])
other = ShellScheduler("echo SEEN {{pathname}}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": sched, "IN_CLOSE_WRITE": other}})])
"""
    daemon = run(config)
    for number in range(5):
        write(box.src / ("a" * 200 + f"!{number}"))
    write(box.src / "after")
    daemon.wait_out("SEEN .*after", timeout_s=15)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 2


def test_an_exclude_pattern_that_a_name_makes_slow_stops_nothing(run: Run, box: Box) -> None:
    config = 'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"), exclude_filter=[r"^$SRC/(?=(a+)+[.]x$)"])])'
    daemon = run(config, record=True)
    write(box.src / ("a" * 200))
    write(box.src / "after")
    daemon.wait_event("IN_CREATE", box.src / "after", timeout_s=15)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 2


# ---- the config


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_root_refuses_a_config_that_others_can_write(box: Box, root: None, mode: int) -> None:
    config = box.write_config("pyinotifyd = Pyinotifyd()")
    if mode & 0o020:
        os.chown(config, 0, NOBODY)
    config.chmod(mode)
    daemon = box.call("-t", "-c", config)
    assert daemon.exit_code == 1
    assert daemon.lines[0].startswith("ERROR: config file: ")
    assert str(config) in daemon.log
    assert "chmod" in daemon.log


def test_root_refuses_a_config_of_another_user(box: Box, root: None) -> None:
    config = box.write_config("pyinotifyd = Pyinotifyd()")
    os.chown(config, NOBODY, NOBODY)
    daemon = box.call("-t", "-c", config)
    assert daemon.exit_code == 1
    assert str(config) in daemon.log


def test_root_refuses_a_config_in_a_directory_that_others_can_write(box: Box, root: None) -> None:
    (box.tmp / "open").mkdir()
    (box.tmp / "open").chmod(0o777)
    config = box.tmp / "open" / "config.py"
    config.write_text("pyinotifyd = Pyinotifyd()")
    daemon = box.call("-t", "-c", config)
    assert daemon.exit_code == 1
    assert "chmod" in daemon.log
    # A sticky directory such as /tmp lets nobody replace what is root's.
    (box.tmp / "open").chmod(0o1777)
    assert box.call("-t", "-c", config).exit_code == 0


def test_root_refuses_a_link_of_another_user_as_config(box: Box, root: None) -> None:
    config = box.write_config("pyinotifyd = Pyinotifyd()")
    (box.tmp / "links").mkdir()
    os.chown(box.tmp / "links", NOBODY, NOBODY)
    (box.tmp / "links" / "config.py").symlink_to(config)
    os.lchown(box.tmp / "links" / "config.py", NOBODY, NOBODY)
    assert box.call("-t", "-c", box.tmp / "links" / "config.py").exit_code == 1


def test_a_reload_refuses_a_config_that_others_can_write(run: Run, box: Box, root: None) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("echo old")})])')
    box.write_config('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("echo new")})])').chmod(0o666)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file")
    write(box.src / "f")
    daemon.wait_out("old")


def test_a_plain_user_may_write_his_config_as_he_likes(box: Box, plain_user: None) -> None:
    box.write_config("pyinotifyd = Pyinotifyd()").chmod(0o666)
    assert box.call("-t", "-c", box.config).exit_code == 0


# ---- slow or stuck parts


def test_a_log_that_nobody_reads_stops_nothing(box: Box) -> None:
    """The pipe is full after some hundred lines: lines are lost, counted and said; the tasks are done."""
    box.write_config(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", '
        '{"IN_CREATE": FileManagerScheduler([FileManagerRule("move", "^$SRC/", "$DST/")])})])'
    )
    process = subprocess.Popen(
        [binary(), "-c", box.config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr
        os.set_blocking(process.stderr.fileno(), True)
        while b"start listening" not in process.stderr.readline():
            assert process.poll() is None
        for number in range(3000):
            (box.src / f"f{number}").touch()
        wait_until(lambda: len(os.listdir(box.dst)) == 3000, lambda: f"{len(os.listdir(box.dst))} of 3000")
        # Now somebody reads again, and is told how much he missed.
        text: list[bytes] = []
        reader = threading.Thread(target=lambda: text.extend(process.stderr or []), daemon=True)
        reader.start()
        number = 0

        def told() -> bool:
            nonlocal number
            number += 1
            (box.src / f"again{number}").touch()
            return any(re.search(rb"\d+ .*(dropped|lost)", line) for line in list(text))

        wait_until(told, lambda: f"{text[-3:]}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        reader.join(10)
        assert text[-1].endswith(b" shutdown complete\n")
    finally:
        process.kill()
        process.wait()


def test_a_job_that_blocks_stops_neither_intake_nor_rules_nor_signals(run: Run, box: Box) -> None:
    config = """
import time
async def blocks(event, task_id):
    print("BLOCKED", flush=True)
    time.sleep(300)
job = TaskScheduler(blocks)
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)\\.in$", r"$DST/\\1")])
timer = ShellScheduler("echo TIMER {pathname}", delay=0.2)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_OPEN": job, "IN_CLOSE_WRITE": [move, timer]})], shutdown_timeout=1)
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_out("BLOCKED")
    write(box.src / "g.in")
    wait_until(lambda: (box.dst / "g").exists(), timeout_s=5)
    daemon.wait_out("TIMER .*/f$", timeout_s=5)
    daemon.wait_log("blocks.*has blocked the host", timeout_s=30)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 6
    wait_until(lambda: daemon.children() == [])


def test_a_job_that_crashes_the_interpreter_is_said_and_the_next_one_runs(run: Run, box: Box) -> None:
    config = """
import os
async def job(event, task_id):
    if event.name == "bad":
        os.abort()
    print("JOB", event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""
    daemon = run(config)
    write(box.src / "bad")
    daemon.wait_log("ERROR|WARNING")
    write(box.src / "good")
    daemon.wait_out("JOB good")
    assert daemon.terminate() == 0


def test_a_big_copy_holds_up_nothing_else(run: Run, box: Box) -> None:
    daemon = run(files(rule("copy"), flags="IN_MOVED_TO"))
    with open(box.tmp / "big", "wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(300):
            file.write(block)
    for number in range(10):
        write(box.tmp / f"small{number}", "small")
    (box.tmp / "big").rename(box.src / "big.in")
    for number in range(10):
        (box.tmp / f"small{number}").rename(box.src / f"small{number}.in")
    daemon.wait_log("task finished", count=11)
    assert (box.dst / "big").stat().st_size == 300 << 20
    ends = [record for record in daemon.records if record.said == "task finished"]
    took_s = seconds(ends, "big") - seconds([record for record in daemon.records if record.said == "start task"], "big")
    # A filesystem that clones is done at once; else the small ones, which came later, are done before.
    assert took_s < 0.05 or ends[-1].fields["path"].endswith("big.in")


def seconds(records: list[Record], name: str) -> float:
    """When the record of this file was written, in seconds of the day."""
    record = next(record for record in records if name in record.fields["path"])
    hours, minutes, rest = record.time.split()[1].replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_a_command_that_hangs_holds_up_nothing_else(run: Run, box: Box) -> None:
    config = """
hang = ShellScheduler("sleep 300", logname="hang")
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)\\.in$", r"$DST/\\1")])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": hang, "IN_CLOSE_WRITE": move})], shutdown_timeout=1)
"""
    daemon = run(config)
    for number in range(30):
        write(box.src / f"f{number}.in")
    wait_until(lambda: len(os.listdir(box.dst)) == 30, lambda: daemon.tail)
    wait_until(lambda: len(daemon.children()) >= 30)
    children = daemon.children()
    assert daemon.terminate() == 0
    wait_until(lambda: not any(map(alive, children)))


def test_a_destination_inside_the_watched_tree_is_warned_of_and_can_be_stopped(run: Run, box: Box) -> None:
    """Such a rule feeds itself; it must not take the machine with it, nor be silent."""
    daemon = run(files(rule("copy", ", auto_create=True", "^$SRC/", "$SRC/again/")))
    write(box.src / "f", "x")
    daemon.wait_log("WARNING.*(inside|feed|itself|loop)")
    begun = time.monotonic()
    assert daemon.terminate() in (0, None)
    assert time.monotonic() - begun < 25
