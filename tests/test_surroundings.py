"""Where the daemon is started: signals, descriptors, limits, variables and filesystems that its parent left it.

A supervisor, a cron job, a container or a script of an administrator starts it, and each leaves something odd behind.
What it inherits must not make it deaf, end it, or reach the commands that it starts.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from vocabulary import DEADLINE_S, READY, REFERENCE, Box, Daemon, binary, need, tree, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")

ECHO = (
    'pyinotifyd = Pyinotifyd([Watch("$SRC", '
    '{"IN_CLOSE_WRITE": ShellScheduler("echo RAN {pathname}")})], shutdown_timeout=2)'
)
COPY = """
sched = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\\1")])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched})], shutdown_timeout=2)
"""
JOB = """
async def job(event, task_id):
    print("RAN", event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": job})], shutdown_timeout=2)
"""

OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


def can_unshare(*words: str) -> bool:
    return subprocess.run(["unshare", *words, "true"], capture_output=True, check=False).returncode == 0


needs_own_mounts = pytest.mark.skipif(not can_unshare("--mount"), reason="mount namespaces are not allowed here")


# ---- signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGCHLD", "SIGHUP"])
def test_a_signal_that_the_parent_has_blocked_is_heard(run: Run, box: Box, name: str) -> None:
    """The mask is inherited (sigprocmask(2)): a thread that blocks signals around its fork is enough."""
    number = signal.Signals[name]
    daemon = run(ECHO, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [number]))
    write(box.src / "f")
    daemon.wait_log("task finished", timeout_s=10)
    if number == signal.SIGHUP:
        daemon.reload()
    daemon.signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
    assert daemon.wait_exit(10) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGCHLD", "SIGHUP", "SIGPIPE"])
def test_a_signal_that_the_parent_ignores_is_heard(run: Run, box: Box, name: str) -> None:
    number = signal.Signals[name]
    daemon = run(ECHO, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    write(box.src / "f")
    daemon.wait_log("task finished", timeout_s=10)
    if number == signal.SIGHUP:
        daemon.reload()
    assert daemon.terminate(10) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGCHLD", "SIGUSR1"])
def test_commands_inherit_no_blocked_signal(run: Run, box: Box, name: str) -> None:
    """Else a command that waits for a signal, or one that is to be ended at the timeout, is deaf."""
    config = ECHO.replace("echo RAN {pathname}", "grep SigBlk /proc/self/status")
    number = signal.Signals[name]
    daemon = run(config, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [number]))
    write(box.src / "f")
    assert int(daemon.wait_out(r"SigBlk:\s+([0-9a-f]+)", timeout_s=10).group(1), 16) == 0


@pytest.mark.parametrize("name", ["SIGQUIT", "SIGUSR1", "SIGTSTP"])
def test_commands_inherit_no_ignored_signal(run: Run, box: Box, name: str) -> None:
    """A shell ignores SIGQUIT for what it starts in the background, and a shell cannot set a signal again that was
    ignored when it began."""
    config = ECHO.replace("echo RAN {pathname}", "grep SigIgn /proc/self/status")
    number = signal.Signals[name]
    daemon = run(config, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    write(box.src / "f")
    ignored = int(daemon.wait_out(r"SigIgn:\s+([0-9a-f]+)", timeout_s=10).group(1), 16)
    assert not ignored & 1 << number - 1


# ---- descriptors


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("config", ["command", "job"])
def test_standard_descriptors_that_are_closed_are_not_taken_by_others(box: Box, closed: str, config: str) -> None:
    """What is opened first would get their numbers, and the log or a command's output would go into it."""
    text = {"command": ECHO.replace("echo RAN {pathname}", "echo RAN; echo x >> $TMP/seen"), "job": JOB}[config]
    if config == "job":
        text = text.replace('print("RAN", event.name, flush=True)', 'open("$TMP/seen", "a").write("x")')
    box.write_config("print('hello', flush=True)\n" + text)
    argv = ["sh", "-c", f'exec "$@" {closed}', "sh", str(binary()), "-c", str(box.config)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def seen() -> bool:
            write(box.src / "f")
            return (box.tmp / "seen").exists()

        wait_until(seen)
        for number in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == "/dev/null"
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_descriptors_that_the_parent_left_open_do_not_reach_commands(run: Run, box: Box) -> None:
    """A secret that a careless parent has open is for the daemon at most."""
    write(box.tmp / "secret", "secret")
    secret = os.open(box.tmp / "secret", os.O_RDONLY)
    try:
        daemon = run(ECHO.replace("echo RAN {pathname}", "readlink /proc/self/fd/*; echo DONE"), pass_fds=[secret])
        write(box.src / "f")
        daemon.wait_out("DONE")
        assert "secret" not in daemon.stdout
    finally:
        os.close(secret)


# ---- limits

# Above what a start itself writes (the host's modules, in the program's own file).
LIMIT = 2 << 20


def test_a_file_beyond_the_limit_of_sizes_is_an_error_and_nothing_else(run: Run, box: Box) -> None:
    """`ulimit -f`, `LimitFSIZE=`: the kernel sends SIGXFSZ, whose default action would end the daemon."""
    daemon = run(COPY, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)))
    write(box.src / "big", b"x" * (2 * LIMIT))
    daemon.wait_log("ERROR.*(File too large|Errno 27)")
    daemon.wait_log("task (finished|failed)")
    write(box.src / "small", "small")
    wait_until(lambda: tree(box.dst) == {"small": "small"}, lambda: daemon.tail)
    assert daemon.terminate() == 0


def test_a_log_that_has_reached_the_limit_of_sizes_ends_nothing(box: Box) -> None:
    box.write_config(COPY)
    # There is room for the first lines.
    write(box.tmp / "log", b"\n" * (LIMIT - 2000))
    with open(box.tmp / "log", "ab") as log:
        process = subprocess.Popen(
            [binary(), "-c", box.config],
            stdin=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
        )
    try:
        wait_until(lambda: READY.encode() in (box.tmp / "log").read_bytes())
        for number in range(100):
            write(box.src / f"f{number}")
        wait_until(lambda: len(os.listdir(box.dst)) == 100 or process.poll() is not None)
        assert process.poll() is None
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


# ---- variables


VARIABLES: dict[str, dict[str, str | None]] = {
    "no PATH": {"PATH": None},
    "no HOME": {"HOME": None},
    "ASCII": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"},
    "a locale that is not there": {"LC_ALL": "xx_YY.bogus"},
    "a zone that is not there": {"TZ": ":/nonexistent"},
    "no assertions": {"PYTHONOPTIMIZE": "2"},
    "interactive": {"PYTHONINSPECT": "1"},
    "warnings are errors": {"PYTHONWARNINGS": "error"},
    "development mode": {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONMALLOC": "debug"},
    "a supervisor that is gone": {"NOTIFY_SOCKET": "/nonexistent", "WATCHDOG_USEC": "99999999999999999999"},
    "a supervisor with an impossible name": {"NOTIFY_SOCKET": "x" * 300, "WATCHDOG_USEC": "0", "LISTEN_FDS": "3"},
    "another's journal": {"JOURNAL_STREAM": "1:1"},
    "another package of our name": {"PYTHONPATH": "$TMP/evil"},
}


@pytest.mark.parametrize("kind", VARIABLES)
@pytest.mark.parametrize("what", ["command", "job"])
def test_strange_variables_change_nothing(box: Box, kind: str, what: str) -> None:
    (box.tmp / "evil").mkdir()
    (box.tmp / "evil" / "pyinotifyd.py").write_text("raise SystemExit('the wrong package')")
    text = {
        "command": "echo RAN; echo x >> $TMP/seen",
        "job": 'open("$TMP/seen", "ab").write(os.fsencode(event.pathname)); open(event.pathname)',
    }
    config = ECHO.replace("echo RAN {pathname}", text["command"])
    if what == "job":
        config = "import os\n" + JOB.replace('print("RAN", event.name, flush=True)', text["job"])
    environment = {
        **os.environ,
        **{name: box.text(value) for name, value in VARIABLES[kind].items() if value is not None},
    }
    for name, value in VARIABLES[kind].items():
        if value is None:
            environment.pop(name, None)
    box.write_config(config)
    process = subprocess.Popen(
        [binary(), "-c", box.config],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr
        while READY.encode() not in process.stderr.readline():
            assert process.poll() is None
        path = os.fsencode(box.src) + b"/caf\xe9 \xff"
        write(path)
        line = b""
        while b"task finished" not in line:
            line = process.stderr.readline()
            assert b"ERROR" not in line
            assert process.poll() is None
        assert (box.tmp / "seen").read_bytes() == (path if what == "job" else b"x\n")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_with_no_variable_at_all(run: Run, box: Box) -> None:
    """As `env -i`; the mark of the test is the only one left."""
    daemon = run(JOB, before=["env", "-i"])
    write(box.src / "f")
    daemon.wait_out("RAN f")
    assert daemon.terminate() == 0
    wait_until(lambda: not Path(f"/proc/{daemon.pid}").exists())


# ---- filesystems


@ours_only
@needs_own_mounts
def test_without_proc_what_is_missing_is_said(box: Box, root: None) -> None:
    daemon = box.start(ECHO, before=[*OWN_MOUNTS, 'mount -t tmpfs none /proc && exec "$@"', "sh"])
    daemon.wait_exit()
    assert daemon.exit_code == 1
    assert daemon.count("^ERROR: ") == 1
    assert "/proc" in daemon.log
    assert daemon.count("Traceback|panicked") == 0


@needs_own_mounts
def test_a_root_filesystem_that_is_read_only_is_enough(run: Run, box: Box, root: None) -> None:
    """What is watched and written to lies elsewhere; nothing of ours needs a place of its own."""
    script = f'mount --bind {box.tmp} {box.tmp} && mount -o remount,bind,ro / && exec "$@"'
    daemon = run(COPY, before=[*OWN_MOUNTS, script, "sh"])
    write(box.src / "f", "content")
    wait_until(lambda: tree(box.dst) == {"f": "content"}, lambda: daemon.tail)
    daemon.reload()
    assert daemon.terminate() == 0


@needs_own_mounts
def test_a_destination_that_becomes_read_only_and_writable_again(run: Run, box: Box, root: None) -> None:
    """As a disk with errors does: each file is told, nothing is left behind, and the next one works."""
    subprocess.run(["mount", "-t", "tmpfs", "none", box.dst], check=True)
    try:
        daemon = run(COPY)
        subprocess.run(["mount", "-o", "remount,ro", box.dst], check=True)
        write(box.src / "a")
        daemon.wait_log("ERROR.*Read-only file system.*/a\\b")
        subprocess.run(["mount", "-o", "remount,rw", box.dst], check=True)
        write(box.src / "b", "b")
        wait_until((box.dst / "b").exists, lambda: daemon.tail)
        daemon.wait_log("task finished")
        assert tree(box.dst) == {"b": "b"}
        daemon.kill()
    finally:
        subprocess.run(["umount", "-l", box.dst], check=False)


def test_a_working_directory_that_is_gone(run: Run, box: Box) -> None:
    (box.tmp / "gone").mkdir()
    daemon = run(ECHO, before=["sh", "-c", f'cd {box.tmp}/gone && rmdir {box.tmp}/gone && exec "$@"', "sh"])
    write(box.src / "f")
    daemon.wait_out("RAN")
    assert daemon.terminate() == 0


# ---- who is who among processes


@pytest.mark.skipif(
    not can_unshare("--pid", "--fork", "--kill-child", "--mount-proc"), reason="PID namespaces are not allowed here"
)
def test_as_the_first_process_it_reaps_what_others_leave(run: Run, box: Box, root: None) -> None:
    """In a container the daemon is PID 1: all orphans are its children, and signals have no default action."""
    command = "for n in 1 2 3 4 5 6 7 8; do setsid sh -c 'true' & done; exit 0"
    daemon = run(
        ECHO.replace("echo RAN {pathname}", command),
        before=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    )
    (inner,) = map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())
    for number in range(10):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=10)
    wait_until(lambda: not Path(f"/proc/{inner}/task/{inner}/children").read_text().split(), "all are reaped")
    os.kill(inner, signal.SIGTERM)
    assert daemon.wait_exit() == 0


# ---- clocks

# Put before the C library's: the wall clock as this file says, in seconds beside the true one.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    FILE *file = clock == CLOCK_REALTIME ? fopen(getenv("TEST_CLOCK"), "r") : NULL;
    long beside = 0;
    if (file) { if (fscanf(file, "%ld", &beside) == 1) time->tv_sec += beside; fclose(file); }
    return result;
}
"""


def wall_clock(box: Box, beside_s: int) -> dict[str, str]:
    """Variables for a daemon whose wall clock is what `clock` says, in seconds beside the true one."""
    need("cc")
    (box.tmp / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", box.tmp / "clock.so", box.tmp / "clock.c"], check=True)
    write(box.tmp / "clock", str(beside_s))
    return {"LD_PRELOAD": f"{box.tmp}/clock.so", "TEST_CLOCK": f"{box.tmp}/clock"}


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_wall_clock_that_jumps_changes_no_delay(run: Run, box: Box, jump_s: int) -> None:
    config = (
        'pyinotifyd = Pyinotifyd([Watch("$SRC", '
        '{"IN_CREATE": ShellScheduler("echo RAN $(basename {pathname})", delay=1.5)})])'
    )
    daemon = run(config, env=wall_clock(box, 0))
    begun = time.monotonic()
    write(box.src / "a")
    daemon.wait_log("schedule task")
    write(box.tmp / "clock.new", str(jump_s))
    (box.tmp / "clock.new").rename(box.tmp / "clock")
    daemon.wait_out("RAN a", timeout_s=15)
    assert time.monotonic() - begun > 1.4
    daemon.wait_log("task finished.*/a,")
    # That the daemon's clock did jump is seen by its log.
    records = [record for record in daemon.records if record.fields.get("path") == f"{box.src}/a"]
    first, last = (datetime.strptime(record.time, "%Y-%m-%d %H:%M:%S,%f") for record in (records[0], records[-1]))
    assert abs((last - first).total_seconds() - jump_s) < 60
    write(box.src / "b")
    daemon.wait_out("RAN b", timeout_s=15)
    assert daemon.terminate() == 0


# ---- no room for processes


@ours_only
def test_without_room_for_processes_tasks_wait_and_are_done_later(run: Run, box: Box, root: None) -> None:
    """A limit of processes (ulimit -u, TasksMax=) is said once, and nothing is lost by it."""
    as_nobody = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "prlimit", "--nproc=40:40"]
    if subprocess.run([*as_nobody, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs setpriv and prlimit")
    if not box.become_plain_user():
        pytest.skip("needs a python3 that a plain user may run")
    box.before = as_nobody
    for path in (box.tmp, box.src, box.dst, box.program):
        os.chown(path, 54321, 54321)
    rule = 'FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)[.]in$", r"$DST/\\1")])'
    daemon = run(
        f"""moves = {rule}
command = ShellScheduler("echo RAN {{pathname}}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": moves, "IN_CLOSE_WRITE": command}})])"""
    )
    hogs = [subprocess.Popen(["sleep", "300"], user=54321, group=54321, extra_groups=[]) for _ in range(40)]
    try:
        write(box.src / "a.in")
        daemon.wait_log("WARNING - cannot start a thread for file rules now.*1 wait")
        write(box.src / "b")
        daemon.wait_log("WARNING - cannot start shell commands now.*wait")
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    wait_until((box.dst / "a").exists, lambda: daemon.tail)
    daemon.wait_out(f"RAN {box.src}/b")


# Answers a system call with an error, as the sandboxes of containers do with those that they don't know: a filter of
# seccomp(2) in classic BPF, on the number of the call alone.
REFUSE = """
import ctypes, os, struct, sys
number, errno = int(sys.argv[1]), int(sys.argv[2])
step = lambda code, yes, no, value: struct.pack("HBBI", code, yes, no, value)
steps = [step(0x20, 0, 0, 0), step(0x15, 0, 1, number), step(0x06, 0, 0, 0x50000 | errno), step(0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(steps))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)), 0, 0) == 0
os.execvp(sys.argv[3], sys.argv[3:])
"""


@ours_only
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls of x86-64")
@pytest.mark.parametrize("number", [437, 439, 332], ids=["openat2", "faccessat2", "statx"])
@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_a_sandbox_that_refuses_newer_system_calls(run: Run, box: Box, number: int, errno: int) -> None:
    """faults.md B11: older sandboxes answer what they don't know with EPERM, and nothing was watched."""
    (box.tmp / "link").symlink_to(box.src)
    config = COPY.replace('Watch("$SRC"', 'Watch(["$SRC", "$TMP/link"]').replace("$TMP", str(box.tmp))
    daemon = run(config, before=[sys.executable, "-c", REFUSE, str(number), str(errno)])
    write(box.src / "f", "content")
    wait_until(lambda: tree(box.dst) == {"f": "content"}, lambda: daemon.tail)
    assert not daemon.count("cannot watch|does not exist")


@ours_only
@pytest.mark.parametrize("limit", ["-S -s 64", "-s 128"], ids=["soft", "hard"])
def test_a_small_stack_is_enough(run: Run, box: Box, limit: str) -> None:
    """The limit is raised; where that is not allowed, the program makes a stack of its own."""
    rule = 'FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1")])'
    daemon = run(
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": {rule}}})])',
        before=["sh", "-c", f'ulimit {limit}; exec "$@"', "sh"],
    )
    write(box.src / "f")
    wait_until((box.dst / "f").exists, lambda: daemon.tail)
    assert daemon.terminate() == 0
