"""Watches on a filesystem whose server stops to answer: they wait, and nothing else does.

The server is a process of the test (fuse_server.py). SIGSTOP makes it a server that hangs, SIGCONT one that is back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control import Operator
from vocabulary import DEADLINE_S, REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

pytestmark = [
    pytest.mark.skipif(REFERENCE, reason="the original hangs"),
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="FUSE needs root and /dev/fuse"),
]

# What a healthy watch may take at most while another one hangs, on a busy machine.
PROMPT_S = 5

CONFIG = """
run = ShellScheduler("echo RAN {pathname}")
late = ShellScheduler("echo LATE {pathname}", delay=0.2)
pyinotifyd = Pyinotifyd([
    Watch("$SRC", {"IN_CLOSE_WRITE": run, "IN_CREATE": late}, rec=True, auto_add=True),
    Watch("$PATH", {"IN_CLOSE_WRITE": run}, rec=True, auto_add=True)], shutdown_timeout=2)
"""


class Server:
    """A mounted filesystem, and the process that answers for it."""

    def __init__(self, box: Box, point: Path) -> None:
        self.point = point
        self.backing = box.tmp / "backing"
        self.backing.mkdir(exist_ok=True)
        self.process: subprocess.Popen[str] | None = None

    def mount(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "fuse_server.py"), str(self.backing), str(self.point)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "mounted\n"

    def stop(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Take the mount away; whoever waits for the server gets an error."""
        subprocess.run(["umount", "--lazy", str(self.point)], capture_output=True, check=False)
        if self.process:
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()


@pytest.fixture
def server(box: Box) -> Iterator[Server]:
    server = Server(box, box.src / "mnt")
    server.point.mkdir()
    yield server
    server.close()


def assert_healthy(daemon: Daemon, box: Box, name: str) -> None:
    """Events, timers, commands, signals and new directories of other filesystems go on."""
    (box.src / name).mkdir()
    write(box.src / name / "f")
    path = box.src / name / "f"
    daemon.wait_out(f"RAN {path}", timeout_s=PROMPT_S)
    daemon.wait_out(f"LATE {path}", timeout_s=PROMPT_S)
    seen = daemon.count("watches")
    daemon.signal(signal.SIGUSR1)
    wait_until(lambda: daemon.count("watches") > seen, "the status", timeout_s=PROMPT_S)


def watched_path(box: Box, server: Server, where: str) -> str:
    if where == "as a root":
        return str(server.point)
    if where == "on the way to a path":
        (server.backing / "deep" / "in").mkdir(parents=True)
        return str(server.point / "deep" / "in")
    if where == "behind a link":
        (box.tmp / "link").symlink_to(server.point)
        return str(box.tmp / "link")
    # Inside of the tree of the other watch.
    (box.dst / "nothing").mkdir()
    return str(box.dst / "nothing")


WHERE = ["as a root", "on the way to a path", "behind a link", "inside of a tree"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("when", ["before the start", "after the start"])
def test_a_server_that_hangs_costs_its_watches_only(run: Run, box: Box, server: Server, where: str, when: str) -> None:
    path = watched_path(box, server, where)
    if when == "before the start":
        server.mount()
    daemon = run(CONFIG.replace("$PATH", path))
    if when == "after the start":
        server.mount()
    inside = server.point / "deep" / "in" if where == "on the way to a path" else server.point
    # A directory that is there, and one that comes.
    write(inside / "first")
    daemon.wait_out("RAN .*/first")
    (inside / "new").mkdir()
    write(inside / "new" / "second")
    daemon.wait_out("RAN .*/new/second")
    server.stop()
    # The backing directory is another filesystem: what happens there behind the server's back is not seen.
    assert_healthy(daemon, box, "one")
    write_elsewhere = subprocess.Popen(["sh", "-c", f"mkdir {inside}/later; echo x >{inside}/later/third"])
    assert_healthy(daemon, box, "two")
    daemon.reload()
    assert_healthy(daemon, box, "three")
    server.go_on()
    write_elsewhere.wait(DEADLINE_S)
    daemon.wait_out("RAN .*/later/third")
    assert daemon.terminate() == 0


@pytest.mark.parametrize("where", WHERE)
def test_a_start_does_not_wait_for_a_server(run: Run, box: Box, server: Server, where: str) -> None:
    path = watched_path(box, server, where)
    server.mount()
    server.stop()
    daemon = run(CONFIG.replace("$PATH", path))
    assert_healthy(daemon, box, "one")
    server.go_on()
    inside = server.point / "deep" / "in" if where == "on the way to a path" else server.point
    write(inside / "f")
    daemon.wait_out("RAN .*/f", count=2)
    assert daemon.terminate() == 0


@pytest.mark.parametrize("when", ["before the start", "after the start"])
def test_a_server_inside_of_a_tree_behind_a_link_costs_its_part_only(
    run: Run, box: Box, server: Server, when: str
) -> None:
    """The table of mounts knows nothing of the link through which the tree's path leads."""
    (box.tmp / "link").symlink_to(box.tmp)
    behind = box.tmp / "link" / box.src.name
    if when == "before the start":
        server.mount()
        server.stop()
    daemon = run(CONFIG.replace("$SRC", str(behind)).replace("$PATH", str(box.dst)))
    if when == "after the start":
        server.mount()
        write(server.point / "first")
        daemon.wait_out(f"RAN {behind}/mnt/first")
        server.stop()
    (box.src / "new").mkdir()
    write(box.src / "new" / "f")
    daemon.wait_out(f"RAN {behind}/new/f", timeout_s=PROMPT_S)
    # All roots are looked at, the link's as well.
    point = box.tmp / "other"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    try:
        time.sleep(0.2)
        write(box.src / "new" / "g")
        daemon.wait_out(f"RAN {behind}/new/g", timeout_s=PROMPT_S)
    finally:
        subprocess.run(["umount", str(point)], check=True)
    server.go_on()
    write(server.point / "second")
    daemon.wait_out(f"RAN {behind}/mnt/second")
    assert daemon.terminate() == 0


def test_a_server_goes_along_with_a_directory_that_is_renamed(run: Run, box: Box, server: Server) -> None:
    """The kernel does not say that the table of mounts is another one then."""
    (box.src / "old" / "mnt").mkdir(parents=True)
    server.point = box.src / "old" / "mnt"
    server.mount()
    daemon = run(CONFIG.replace("$PATH", str(box.dst)))
    write(server.point / "first")
    daemon.wait_out(f"RAN {server.point}/first")
    server.stop()
    (box.src / "old").rename(box.src / "new")
    server.point = box.src / "new" / "mnt"
    assert_healthy(daemon, box, "one")
    # All roots are looked at.
    subprocess.run(["mount", "-t", "tmpfs", "none", str(box.dst)], check=True)
    try:
        assert_healthy(daemon, box, "two")
    finally:
        subprocess.run(["umount", str(box.dst)], check=True)
    server.go_on()
    write(server.point / "second")
    daemon.wait_out(f"RAN {server.point}/second")
    assert daemon.terminate() == 0


def test_a_server_comes_with_a_directory_from_outside(run: Run, box: Box, server: Server) -> None:
    """Nobody sees that rename but the tree to which it leads."""
    outside = box.tmp / "outside"
    server.point = outside / "mnt"
    server.point.mkdir(parents=True)
    server.mount()
    daemon = run(CONFIG.replace("$PATH", str(box.dst)))
    server.stop()
    outside.rename(box.src / "new")
    server.point = box.src / "new" / "mnt"
    assert_healthy(daemon, box, "one")
    server.go_on()
    write(server.point / "first")
    daemon.wait_out(f"RAN {server.point}/first")
    assert daemon.terminate() == 0


@pytest.mark.parametrize("pattern", ["deep/i*", "d*/in", "*/*"])
def test_a_pattern_does_not_wait_for_a_server(run: Run, box: Box, server: Server, pattern: str) -> None:
    (server.backing / "deep" / "in").mkdir(parents=True)
    server.mount()
    server.stop()
    config = CONFIG.replace("$PATH", str(server.point / pattern))
    daemon = run(
        config.replace('{"IN_CLOSE_WRITE": run}', '{"IN_CLOSE_WRITE": ShellScheduler("echo MATCHED {pathname}")}')
    )
    assert_healthy(daemon, box, "one")
    server.go_on()
    write(server.point / "deep" / "in" / "f")
    daemon.wait_out("MATCHED .*/deep/in/f")
    assert daemon.terminate() == 0


def test_mounts_elsewhere_and_floods_do_not_touch_a_server(run: Run, box: Box, server: Server) -> None:
    """faults.md B28: the loop looked at all its roots when anything was mounted anywhere."""
    server.mount()
    daemon = run(CONFIG.replace("$PATH", str(server.point)))
    server.stop()
    for number in range(3):
        point = box.tmp / f"other{number}"
        point.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
        try:
            assert_healthy(daemon, box, f"mount{number}")
        finally:
            subprocess.run(["umount", str(point)], check=True)
    # Nobody has mapped renames: a queue full of events, and no tasks.
    (box.src / "flood").touch()
    for number in range(20_000):
        (box.src / f"flood{number or ''}").rename(box.src / f"flood{number + 1}")
    assert_healthy(daemon, box, "flood")
    server.go_on()
    write(server.point / "f")
    daemon.wait_out(f"RAN {server.point}/f")
    assert daemon.terminate() == 0


@pytest.mark.parametrize("then", ["it comes back", "it never comes back"])
def test_sigterm_ends_though_a_server_hangs(run: Run, box: Box, server: Server, then: str) -> None:
    server.mount()
    daemon = run(CONFIG.replace("$PATH", str(server.point)))
    # Set up: a request that the server has taken and does not answer keeps any program from ending, SIGKILL or not.
    write(server.point / "before")
    daemon.wait_out(f"RAN {server.point / 'before'}")
    server.stop()
    hanging = subprocess.Popen(["touch", str(server.point / "f")])
    assert_healthy(daemon, box, "one")
    if then == "it comes back":
        server.go_on()
    started = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit() == 0
    assert time.monotonic() - started < PROMPT_S
    server.go_on()
    hanging.wait(DEADLINE_S)


def test_a_reload_that_adds_a_watch_on_a_server_that_hangs(run: Run, box: Box, server: Server) -> None:
    """faults.md B12: the whole daemon stood still, SIGTERM included."""
    server.mount()
    config = CONFIG.replace("$PATH", str(box.dst))
    daemon = run(config)
    server.stop()
    box.write_config(config.replace(str(box.dst), str(server.point)))
    daemon.reload()
    assert_healthy(daemon, box, "one")
    tested = box.call("-t", "-c", box.config)
    assert tested.wait_exit(PROMPT_S) == 0
    server.go_on()
    write(server.point / "f")
    daemon.wait_out(f"RAN {server.point}/f")
    server.stop()
    box.write_config(config)
    daemon.reload()
    assert_healthy(daemon, box, "two")
    server.go_on()
    assert daemon.terminate() == 0


RULE = """
move = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$POINT/in/\\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": move})])
"""


def test_a_config_test_does_not_wait_for_a_destination_on_a_server(box: Box, server: Server) -> None:
    server.mount()
    server.stop()
    tested = box.start(RULE.replace("$POINT", str(server.point)), "-t")
    assert tested.wait_exit(PROMPT_S) == 0, tested.tail
    assert tested.lines[-1] == "INFO: config file ok"


@pytest.mark.parametrize("where", ["as a root", "behind a link"])
def test_an_explanation_does_not_wait_for_a_server(box: Box, server: Server, where: str) -> None:
    """Whether the path is one of a directory was asked of the server, without an end."""
    path = watched_path(box, server, where)
    server.mount()
    server.stop()
    explained = box.start(CONFIG.replace("$PATH", path), "--explain", f"{path}/f", "IN_CLOSE_WRITE")
    assert explained.wait_exit(PROMPT_S) == 0, explained.tail
    assert "IN_CLOSE_WRITE: scheduler 'run'" in explained.stdout


def test_an_event_that_is_sent_for_its_path_is_refused_before_long_and_never_comes(box: Box, server: Server) -> None:
    server.mount()
    socket = box.tmp / "c.sock"
    config = CONFIG.replace("shutdown_timeout=2", f'shutdown_timeout=2, control="{socket}"')
    daemon = box.run(config.replace("$PATH", str(server.point)))
    write(server.backing / "f")
    server.stop()
    argv: list[str | Path] = [box.program, "send", server.point / "f", "--control", socket]
    sent = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert sent.returncode == 1
    assert "its filesystem does not answer; nothing was sent" in sent.stderr, sent.stderr
    server.go_on()
    write(server.point / "g")
    daemon.wait_out(f"RAN {server.point}/g")
    assert daemon.count("send IN_CLOSE_WRITE for") == 0


def test_a_command_that_waits_for_a_server_before_it_begins_holds_nobody_up(box: Box, server: Server) -> None:
    """execve(2) closes the child's copies of our descriptors, and waits for the server of a file. The state has the
    process of each command, which nobody can look at meanwhile.
    """
    server.mount()
    socket = box.tmp / "c.sock"
    large = box.tmp / "large"
    with large.open("wb") as file:
        for _ in range(256):
            file.write(b"x" * (1 << 20))
    daemon = box.run(f"""
copy = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/(large)$", r"{server.point}/\\1"))
run = ShellScheduler("echo RAN {{pathname}}; until test -e $TMP/end; do sleep 0.05; done")
remove = FileManagerScheduler(FileManagerRule("delete", r"^$SRC/gone$"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": copy, "IN_CREATE": run, "IN_CLOSE_WRITE": remove}})],
    control="{socket}", state="{box.tmp}/state", shutdown_timeout=2)
""")
    large.rename(box.src / "large")
    wait_until(lambda: has_open(daemon, server.point), lambda: daemon.tail)
    server.stop()
    assert has_open(daemon, server.point), "the copy was done too soon"
    write(box.src / "f")
    daemon.wait_log("execute shell command|start task, .*src/f,")
    database = box.tmp / "state/state.db"
    wait_until(lambda: kept_group(database, box.src / "f") == [(None,)], lambda: daemon.tail)
    Operator(socket).wait_tasks(1, "?scheduler=run&state=running")
    write(box.src / "gone")
    wait_until(lambda: not (box.src / "gone").exists(), lambda: daemon.tail)
    server.go_on()
    daemon.wait_out(f"RAN {box.src}/f")
    wait_until(lambda: kept_group(database, box.src / "f") not in ([], [(None,)]), lambda: daemon.tail)
    (box.tmp / "end").touch()
    daemon.wait_log("task finished, .*src/f,")
    assert daemon.terminate() == 0


def kept_group(database: Path, path: Path) -> list[tuple[int | None]]:
    """Return the process group of the running task of a path, as the state has it; nothing if it has none."""
    query = "SELECT process_group FROM task WHERE path = ? AND state = 'running'"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=DEADLINE_S)) as connection:
        return connection.execute(query, [os.fspath(path)]).fetchall()


def has_open(daemon: Daemon, directory: Path) -> bool:
    """Return whether a file below a directory is open in the daemon."""
    for descriptor in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(descriptor).startswith(f"{directory}/"):
                return True
    return False


def test_a_rule_that_waits_for_another_one_says_so(box: Box, server: Server) -> None:
    server.mount()
    socket = box.tmp / "c.sock"
    daemon = box.run(f"""
copy = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/(f)$", r"{server.point}/\\1"))
remove = FileManagerScheduler(FileManagerRule("delete", r"^$SRC/(f)$"), delay=0.5)
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": [copy, remove]}})], control="{socket}")
""")
    server.stop()
    write(box.src / "f")
    daemon.wait_log("start task", count=2)
    tasks = {task["scheduler"]: task for task in Operator(socket).wait_tasks(2, "?state=running")}
    assert "reason" not in tasks["copy"]
    assert tasks["remove"]["reason"] == "other work on its paths comes first"
    server.go_on()
    daemon.wait_log("task finished", count=2)
    assert (server.backing / "f").exists()
    assert not (box.src / "f").exists()


def test_a_reload_tells_what_no_watch_saw_on_such_a_filesystem(run: Run, box: Box, server: Server) -> None:
    """What a watch of the old configuration saw is known there by the paths of the watches alone."""
    for name in ("old", "old/deep", "flat", "flat/deep", "other"):
        (server.backing / name).mkdir()
        write(server.backing / name / "f")
    server.mount()
    config = """
told = ShellScheduler("echo TOLD {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC/mnt/old", {"IN_CLOSE_WRITE": told}, rec=True),
    Watch("$SRC/mnt/flat", {"IN_CLOSE_WRITE": told}) MORE])
"""
    daemon = run(config.replace("MORE", ""))
    new = ["old", "old/deep", "flat", "flat/deep", "other"]
    more = "".join(f', Watch("$SRC/mnt/{name}", {{"IN_CLOSE_WRITE": told}}, initial="all")' for name in new)
    box.write_config(config.replace("MORE", more))
    daemon.reload()
    for name in ("flat/deep", "other"):
        daemon.wait_out(f"TOLD {server.point}/{name}/f")
    write(server.point / "old" / "new")
    daemon.wait_out(f"TOLD {server.point}/old/new")
    for name in ("old", "old/deep", "flat"):
        assert daemon.count(f"TOLD {server.point}/{name}/f") == 0
    assert daemon.terminate() == 0
