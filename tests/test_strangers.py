"""Attacks by processes of another user: a daemon of root's works where `nobody` may write, and is left at it.

Other than in `test_attacks.py`, the attacker here is not the test but processes with that user's rights, many at once.
"""

from __future__ import annotations

import os
import random
import signal
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, alive, mode_of, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="most of these succeed against the original")

NOBODY = 65534
SECRET = "secret of root's"
FLIPS_S = 4.0

needs_own_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="mount namespaces are not allowed here",
)


def as_nobody(work: Callable[[], None]) -> int:
    """Do it in a process of that user; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def for_a_while(step: Callable[[random.Random], None]) -> Callable[[], None]:
    """The step again and again until the time is over; what another process has just taken away is no obstacle."""

    def work() -> None:
        random_ = random.Random(os.getpid())
        ends = time.monotonic() + FLIPS_S
        while time.monotonic() < ends:
            try:
                step(random_)
            except OSError:
                continue

    return work


@contextmanager
def attackers(*steps: Callable[[random.Random], None], each: int = 2) -> Iterator[None]:
    """Several processes for each of these steps, until all are through."""
    pids = [as_nobody(for_a_while(step)) for step in steps for _ in range(each)]
    try:
        yield
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * len(pids)
        pids = []
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture
def home(box: Box, root: None) -> Path:
    """A directory of nobody's, with `in`, which is watched as `$SRC`; `$TMP/victim` holds what only root may touch."""
    box.tmp.chmod(0o711)
    victim = box.tmp / "victim"
    (victim / "sub").mkdir(parents=True)
    for name in ("f0.in", "f1.in", "f2.in", "sub/f0.in"):
        write(victim / name, SECRET)
        (victim / name).chmod(0o600)
    (victim / "sub").chmod(0o700)
    home = box.tmp / "home"
    (home / "in" / "sub").mkdir(parents=True)
    for path in (home, home / "in", home / "in" / "sub"):
        os.chown(path, NOBODY, NOBODY)
    box.src = home / "in"
    box.dst.chmod(0o755)
    return home


def victim_of(box: Box) -> dict[str, tuple[str, int, int]]:
    """Content or kind, mode and owner of everything there."""
    paths = sorted((box.tmp / "victim").rglob("*"))
    return {
        str(path.relative_to(box.tmp)): (
            path.read_text() if path.is_file() else "dir",
            mode_of(path),
            path.lstat().st_uid,
        )
        for path in paths
    }


def leaked(box: Box) -> list[str]:
    """Regular files at the destination or of nobody's that hold the secret; a link that was moved as a link holds
    nothing.
    """
    found = [*box.dst.rglob("*"), *(box.tmp / "home").rglob("*")]
    files = [path for path in found if stat.S_ISREG(path.lstat().st_mode) and "victim" not in str(path.resolve())]
    return [str(path) for path in files if SECRET in path.read_text()]


def harmful(action: str, options: str = "", flags: str = "IN_CLOSE_WRITE IN_MOVED_TO IN_CREATE") -> str:
    """A rule that would do as much harm as possible, on whatever appears."""
    more = ', auto_create=True, overwrite=True, filemode=0o666, dirmode=0o777, user="nobody", group="nogroup"'
    rule = f'FileManagerRule("{action}", r"(?s)^$SRC/(.*)$", r"$DST/\\1"{more if action != "delete" else ", rec=True"})'
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return f"""
setLoglevel(CRITICAL, "sched")
sched = FileManagerScheduler([{rule}], dirs=True{options})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}}, rec=True, auto_add=True)], shutdown_timeout=5)
"""


def at_work(box: Box, daemon: Daemon, action: str) -> None:
    """Wait until the rule does its work on a harmless file: an attack proves nothing against a daemon that sleeps."""

    def done() -> bool:
        write(box.tmp / "made", "harmless")
        os.chown(box.tmp / "made", NOBODY, NOBODY)
        (box.tmp / "made").rename(box.src / "last")
        time.sleep(0.05)
        return not (box.src / "last").exists() if action == "delete" else (box.dst / "last").exists()

    wait_until(done, lambda: daemon.tail)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["delete", "move", "copy"])
@pytest.mark.parametrize("delay", ["0", "0.05"])
def test_many_processes_flip_files_links_and_parents(run: Run, box: Box, home: Path, action: str, delay: str) -> None:
    before = victim_of(box)
    daemon = run(harmful(action, f", delay={delay}"))
    spare = home / "spare"

    def aside(random_: random.Random) -> Path:
        return spare.with_name(f"spare{os.getpid()}.{random_.random()}")

    def link_for_file(random_: random.Random) -> None:
        made = aside(random_)
        made.symlink_to(box.tmp / "victim" / f"f{random_.randrange(3)}.in")
        made.rename(box.src / "sub" / f"f{random_.randrange(3)}.in")

    def file(random_: random.Random) -> None:
        write(box.src / "sub" / f"f{random_.randrange(3)}.in", "bait") if random_.random() < 0.5 else None
        made = aside(random_)
        write(made, "bait")
        made.rename(box.src / f"f{random_.randrange(3)}.in")

    def link_for_parent(random_: random.Random) -> None:
        (box.src / "sub").rename(aside(random_))
        made = aside(random_)
        made.symlink_to(box.tmp / "victim")
        made.rename(box.src / "sub")

    def parent(random_: random.Random) -> None:
        made = aside(random_)
        (made / "sub").mkdir(parents=True)
        for number in range(3):
            write(made / f"f{number}.in", "bait")
        if (box.src / "sub").is_symlink():
            (box.src / "sub").unlink()
        made.rename(box.src / "sub")

    def special(random_: random.Random) -> None:
        os.mkfifo(box.src / f"p{random_.randrange(3)}.in")

    with attackers(link_for_file, file, link_for_parent, parent, special, each=1):
        pass
    at_work(box, daemon, action)
    assert daemon.terminate(15) == 0
    assert victim_of(box) == before
    assert leaked(box) == []


@pytest.mark.parametrize("action", ["delete", "move", "copy"])
def test_a_root_that_its_owner_swaps_for_a_link_to_what_is_not_his(run: Run, box: Box, home: Path, action: str) -> None:
    """The path of the watch leads to the victim then; what is there is root's, and no rule may touch it."""
    before = victim_of(box)
    daemon = run(harmful(action).replace("CRITICAL", "INFO"))

    def swap() -> None:
        (home / "in").rename(home / "away")
        (home / "in").symlink_to(box.tmp / "victim")

    os.waitpid(as_nobody(swap), 0)
    assert (home / "in").is_symlink()
    # Root itself works there, and makes events below the path of the watch.
    for _ in range(5):
        write(box.tmp / "victim" / "sub" / "new", SECRET)
        (box.tmp / "victim" / "sub" / "new").rename(box.tmp / "victim" / "f0.in")
        (box.tmp / "victim" / "f0.in").chmod(0o600)
        time.sleep(0.1)

    # Which path, owned by whom, and why.
    daemon.wait_log(
        f"cannot watch '{box.src}': the link '{box.src}' belongs to uid {NOBODY} and leads to what belongs to uid 0"
    )

    def swap_back() -> None:
        (home / "in").unlink()
        (home / "away").rename(home / "in")

    os.waitpid(as_nobody(swap_back), 0)
    at_work(box, daemon, action)
    assert daemon.terminate(15) == 0
    assert victim_of(box) == before
    assert leaked(box) == []


def test_no_command_runs_for_what_a_root_was_made_a_link_to(run: Run, box: Box, home: Path) -> None:
    """Neither at the swap nor at a reload or a start with the link in place; a link that gives nothing away is
    followed.
    """
    config = (
        f'pyinotifyd = Pyinotifyd([Watch("{box.src}", '
        f'{{"IN_CREATE": ShellScheduler("echo RAN {{pathname}}")}}, rec=True)])'
    )
    daemon = run(config)

    def swap() -> None:
        (home / "in").rename(home / "away")
        (home / "in").symlink_to(box.tmp / "victim")

    os.waitpid(as_nobody(swap), 0)
    daemon.wait_log(f"cannot watch '{box.src}': the link")
    daemon.reload()
    assert daemon.terminate() == 0
    daemon = box.start(config)
    daemon.wait_log(f"cannot watch '{box.src}': the link")
    write(box.tmp / "victim" / "new")

    def link_to_his_own() -> None:
        (home / "in").unlink()
        (home / "in").symlink_to(home / "away")

    os.waitpid(as_nobody(link_to_his_own), 0)
    daemon.wait_log(f"'{box.src}' is there, watching it")
    write(home / "away" / "his")
    daemon.wait_out(f"RAN {box.src}/his")
    assert "victim" not in daemon.stdout
    assert "new" not in daemon.stdout


def test_a_hard_link_to_roots_file_where_the_kernel_does_not_protect_them(run: Run, box: Box, home: Path) -> None:
    """fs.protected_hardlinks = 0 lets anybody link what he cannot read; the daemon sees that setting and gives no mode
    away.
    """
    write(box.tmp / "zero", "0\n")
    script = f'mount --bind {box.tmp}/zero /proc/sys/fs/protected_hardlinks && exec "$@"'
    config = harmful("move", flags="IN_CREATE").replace("CRITICAL", "INFO")
    daemon = run(config, before=["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"])
    os.link(box.tmp / "victim" / "f0.in", box.src / "h")
    daemon.wait_log("task (finished|failed)")
    assert mode_of(box.tmp / "victim" / "f0.in") == 0o600
    assert (box.tmp / "victim" / "f0.in").stat().st_uid == 0
    daemon.wait_log("ERROR.*(hard link|other names|names)")


@pytest.mark.parametrize("action", ["copy", "move"])
def test_devices_are_no_files(run: Run, box: Box, home: Path, action: str) -> None:
    daemon = run(harmful(action, flags="IN_CREATE").replace("CRITICAL", "INFO"))
    os.mknod(box.src / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.mknod(box.src / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    daemon.wait_log("task (finished|failed)", count=2, timeout_s=10)
    if action == "copy":
        assert list(box.dst.iterdir()) == []
        assert daemon.count("ERROR") == 2
    else:
        assert all(not stat.S_ISREG(path.lstat().st_mode) for path in box.dst.iterdir())


# ---- names


@pytest.mark.parametrize("action", ["copy", "move", "delete"])
def test_names_as_long_as_the_filesystem_takes(run: Run, box: Box, home: Path, action: str) -> None:
    """Temporary names, quoting and escaping make no name longer than that."""
    daemon = run(harmful(action, flags="IN_MOVED_TO").replace("CRITICAL", "INFO"))
    names = [
        fill * (255 // len(fill))
        for fill in (b"x", b"'", b"\n", b"\xff", b"%", b"{pathname}", b"\\", b"\x1b[31m", "ä".encode())
    ]
    for name in names:
        made = os.fsencode(box.tmp) + b"/made"
        write(made, b"content")
        os.chown(made, NOBODY, NOBODY)
        os.rename(made, os.fsencode(box.src) + b"/" + name)
    daemon.wait_log("task finished", count=len(names))
    assert daemon.count("ERROR") == 0
    there = {"copy": (True, True), "move": (False, True), "delete": (False, False)}[action]
    for name in names:
        found = tuple(os.path.lexists(os.fsencode(place) + b"/" + name) for place in (box.src, box.dst))
        assert found == there, name
    assert not [line for line in daemon.lines if "\x1b" in line]
    # No name has made a line of its own.
    assert all(" - pyinotifyd/" in line for line in daemon.lines)


def test_a_command_too_long_for_the_kernel_fails_alone(run: Run, box: Box, home: Path) -> None:
    """Quotes in a deep path make each placeholder five times as long; execve(2) refuses 128 KiB in one word."""
    command = "true" + " {pathname}" * 12 + "; echo RAN $(basename {pathname})"
    daemon = run(
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": ShellScheduler("{command}")}}, rec=True, '
        f"auto_add=True)])"
    )
    deep = box.src
    for _ in range(14):
        deep = deep / ("'" * 250)
    deep.mkdir(parents=True)
    write(deep / "f")
    daemon.wait_log("ERROR.*cannot start shell command.*(?i:argument list too long)")
    write(box.src / "after")
    daemon.wait_out("RAN after")
    daemon.wait_log("task finished.*/after,")
    assert daemon.terminate() == 0


@pytest.mark.parametrize(
    "text",
    [
        "event.pathname",
        "'name \\ud800 of ' + event.pathname",
        "'x' * (100 << 20)",
    ],
)
@pytest.mark.parametrize("how", ["raise ValueError({})", "logging.warning('%s', {})"])
def test_a_name_or_a_text_that_a_job_complains_of_ends_no_other_job(
    run: Run, box: Box, home: Path, text: str, how: str
) -> None:
    """Whoever may choose a name could else end the jobs of all the others."""
    config = f"""
import asyncio, logging
async def job(event, task_id):
    if "good" in event.name:
        print("BEGUN", flush=True)
        await asyncio.sleep(3)
        print("ENDED", flush=True)
    else:
        {how.format(text)}
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": job}})], shutdown_timeout=20)
"""
    daemon = run(config)
    host = daemon.host()
    write(box.src / "good")
    daemon.wait_out("BEGUN")
    write(os.fsencode(box.src) + b"/caf\xe9\xff")
    daemon.wait_out("ENDED")
    assert daemon.host() == host
    assert daemon.count("config host") == 0
    # What was complained of is in the log, at least in part.
    assert daemon.count("ValueError|WARNING") >= 1


# ---- the config


def test_a_config_that_an_access_list_opens_to_others_is_refused(box: Box, root: None) -> None:
    """A list's mask stands where the group's bits were (acl(5)): these say nothing of the group `root`."""
    box.tmp.chmod(0o711)
    config = box.write_config("pyinotifyd = Pyinotifyd()")
    config.chmod(0o600)
    owner, user, group, mask, other, nobody_in_particular = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF
    entries = [(owner, 6, nobody_in_particular), (user, 6, NOBODY), (group, 0, nobody_in_particular)]
    entries += [(mask, 6, nobody_in_particular), (other, 0, nobody_in_particular)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(config, "system.posix_acl_access", access)
    except OSError:
        pytest.skip("this filesystem has no access lists")

    def change() -> None:
        with open(config, "a") as file:
            file.write("\n# changed\n")

    assert os.waitstatus_to_exitcode(os.waitpid(as_nobody(change), 0)[1]) == 0, "the attack itself works"
    daemon = box.call("-t", "-c", config)
    assert daemon.exit_code == 1, daemon.log
    assert str(config) in daemon.log


# ---- processes


def test_a_command_that_stops_itself_ends_with_the_daemon(run: Run, box: Box) -> None:
    """A stopped process takes no SIGTERM; it gets SIGKILL."""
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("kill -STOP $$")})], shutdown_timeout=1)'
    )
    # The interpreter of the config is on its way out.
    wait_until(lambda: daemon.children() == [])
    write(box.src / "f")
    child = wait_until(lambda: next(iter(daemon.children()), None))
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 12
    wait_until(lambda: not alive(child))


def test_a_host_that_is_stopped_and_continued_loses_no_job(run: Run, box: Box) -> None:
    """More events than the daemon sends ahead; meanwhile other work goes on, and memory stays."""
    config = """
async def job(event, task_id):
    print("JOB", event.name, flush=True)
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)\\.in$", r"$DST/\\1")])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job, "IN_CLOSE_WRITE": move})])
setLoglevel(WARNING, "sched")
"""
    daemon = run(config)
    host = daemon.host()
    os.kill(host, signal.SIGSTOP)
    count = 4000
    for number in range(count):
        os.mknod(f"{box.src}/f{number}")
    write(box.src / "g.in")
    wait_until(lambda: (box.dst / "g").exists(), lambda: daemon.tail, timeout_s=10)
    daemon.wait_log("has (blocked|taken).*5 s|silent", timeout_s=20)
    os.kill(host, signal.SIGCONT)
    daemon.wait_out("JOB f", count=count)
    daemon.wait_out("JOB g.in")
    assert daemon.host() == host


@pytest.mark.parametrize("after", [0, 1, 50])
def test_a_host_killed_at_any_stage_costs_its_running_jobs_only(run: Run, box: Box, after: int) -> None:
    """While idle, with one job at work, with many: said, started again, and what comes then runs."""
    config = """
import asyncio
async def job(event, task_id):
    print("BEGUN", event.name, flush=True)
    await asyncio.sleep(0.3 if event.name.startswith("next") else 300)
    print("ENDED", event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})], shutdown_timeout=1)
"""
    daemon = run(config)
    for round_ in range(2):
        host = daemon.host()
        for number in range(after):
            write(box.src / f"f{round_}-{number}")
        if after:
            daemon.wait_out(f"BEGUN f{round_}", count=after)
        os.kill(host, signal.SIGKILL)
        daemon.wait_log("config host was killed by SIGKILL", count=round_ + 1)
        # Also while it is being started again.
        write(box.src / f"next{round_}")
        daemon.wait_out(f"ENDED next{round_}")
        assert daemon.count(f"task failed: the host of the job ended, it is not run again, .*/f{round_}-") == after
    assert daemon.terminate(10) == 0


def test_noise_beside_a_root_is_no_business_of_the_daemon(run: Run, box: Box, home: Path) -> None:
    """The parents of a root are watched for its sake; what strangers do there makes no task, no line and no memory."""
    daemon = run(harmful("move").replace("CRITICAL", "DEBUG"))
    lines, memory = len(daemon.lines), daemon.memory_kib()

    def noise(random_: random.Random) -> None:
        path = home / f"noise{os.getpid()}-{random_.random()}"
        path.mkdir()
        write(path / "f")
        (path / "f").rename(home / path.name.replace("noise", "other"))
        path.rmdir()
        (home / path.name.replace("noise", "other")).unlink()

    with attackers(noise):
        pass
    write(box.src / "last")
    wait_until(lambda: (box.dst / "last").exists(), lambda: daemon.tail)
    assert not [line for line in daemon.lines[lines:] if "noise" in line or "other" in line]
    assert daemon.memory_kib() - memory < 2000
