"""Installed and run as a service: installer, systemd unit and its sandbox, OpenRC script, notification protocol.

Nothing here touches the machine: the installer works below DESTDIR, or in a mount namespace with copies of what it
changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vocabulary import DEADLINE_S, Box, Daemon, binary, need, wait_until, write

ROOT = Path(__file__).resolve().parent.parent
SHARE = ROOT / "crates/pyinotifyd/share"
UNIT = SHARE / "systemd/pyinotifyd.service"

# systemd-analyze security, 0 is best, 10 worst; docs/sandbox.md says what holds it there.
EXPOSURE_MAX = 4.0
EXPOSURE_STRICT_MAX = 0.5

NOTHING = "pyinotifyd = Pyinotifyd()\n"


def call(*command: str | os.PathLike[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, with both outputs as text."""
    words = [os.fspath(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options)


# ---- the installer


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory that stands for /, with systemd and OpenRC."""
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "sbin").mkdir()
    write(tmp_path / "sbin/openrc")
    (tmp_path / "sbin/openrc").chmod(0o755)
    return tmp_path


def program(tree: Path) -> Path:
    """The program to install; a copy of it where its path holds blanks, which OpenRC does not take."""
    if " " not in os.fspath(binary().resolve()):
        return binary().resolve()
    copy = tree.with_name(f"{tree.name}-bin")
    if not copy.exists():
        shutil.copy(binary(), copy)
    return copy.resolve()


def installer(option: str, tree: Path) -> subprocess.CompletedProcess[str]:
    return call(program(tree), option, env={**os.environ, "DESTDIR": str(tree)})


def test_install_writes_all_files_and_says_so(tree: Path) -> None:
    done = installer("--install", tree)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    for line in [
        "INFO: systemd detected",
        f"INFO:  => install file {tree}/lib/systemd/system/pyinotifyd.service",
        "INFO: openrc detected",
        f"INFO:  => install file {tree}/etc/init.d/pyinotifyd",
        f"INFO:  => install file {tree}/etc/conf.d/pyinotifyd",
        f"INFO:  => create directory {tree}/etc/pyinotifyd",
        f"INFO:  => install file {tree}/etc/pyinotifyd/config.py",
    ]:
        assert line in lines
    assert lines[-1] == "INFO: pyinotifyd successfully installed"
    assert (tree / "etc/init.d/pyinotifyd").stat().st_mode & 0o777 == 0o755


def test_the_unit_starts_the_program_that_installed_it(tree: Path) -> None:
    installer("--install", tree)
    text = (tree / "lib/systemd/system/pyinotifyd.service").read_text()
    assert f"\nExecStart={program(tree)}\n" in text


def test_uninstall_takes_back_what_was_not_changed(tree: Path) -> None:
    installer("--install", tree)
    with open(tree / "etc/conf.d/pyinotifyd", "a") as file:
        file.write("PYINOTIFYD_OPTS=-d\n")
    done = installer("--uninstall", tree)
    assert done.returncode == 0
    assert f"INFO:  => uninstall file {tree}/etc/pyinotifyd/config.py" in done.stderr
    assert f"INFO:  => delete directory {tree}/etc/pyinotifyd" in done.stderr
    assert (
        f"WARNING:  => keep modified file {tree}/etc/conf.d/pyinotifyd, you have to remove it manually" in done.stderr
    )
    left = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert left == ["etc/conf.d/pyinotifyd", "sbin/openrc"]


def test_without_root_nothing_is_touched(root: None, box: Box) -> None:
    box.tmp.chmod(0o755)
    program = box.tmp / "pyinotifyd"
    shutil.copy(binary(), program)
    for option in ["--install", "--uninstall"]:
        done = call(program, option, user=65534)
        assert done.returncode == 2
        assert done.stderr == "ERROR: you need to have root privileges, please try again\n"


def test_a_read_only_etc_is_two_errors(root: None, tmp_path: Path) -> None:
    need("unshare")
    script = (
        f"mount -t tmpfs none /lib/systemd/system && mount --bind {tmp_path} /etc && mount -o "
        f"remount,ro,bind /etc && exec {shlex.quote(str(binary()))} -i"
    )
    done = call("unshare", "-m", "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len([line for line in errors if "/etc/pyinotifyd: Read-only file system" in line]) == 1, done.stderr
    assert errors[-1].startswith("ERROR: unable to install pyinotifyd completely")


# ---- systemd


def installed_unit(tree: Path, started: str = "/bin/true") -> Path:
    """The unit as installed here, but starting a program that systemd-analyze finds executable everywhere."""
    done = installer("--install", tree)
    assert done.returncode == 0, done.stderr
    unit = tree / "lib/systemd/system/pyinotifyd.service"
    unit.write_text(unit.read_text().replace(str(program(tree)), started))
    return unit


def systemd_version() -> int:
    return int(call("systemd-analyze", "--version").stdout.split()[1])


def test_systemd_finds_nothing_wrong_with_the_unit(tree: Path) -> None:
    need("systemd-analyze")
    # The library's name tells the installer which systemd it is.
    library = tree / f"usr/lib/systemd/libsystemd-shared-{systemd_version()}.so"
    library.parent.mkdir(parents=True)
    library.touch()
    done = call("systemd-analyze", "verify", "--man=no", installed_unit(tree))
    assert done.returncode == 0, done.stderr
    assert "pyinotifyd" not in done.stderr


def test_systemd_finds_nothing_wrong_with_the_user_unit(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit = tmp_path / "pyinotifyd.service"
    text = (SHARE / "systemd/user/pyinotifyd.service").read_text().replace("/usr/bin/pyinotifyd", "/bin/true")
    unit.write_text(text)
    done = call(
        "systemd-analyze", "verify", "--user", "--man=no", unit, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    )
    assert "pyinotifyd.service:" not in done.stderr, done.stderr


def exposure(unit: Path) -> float:
    done = call("systemd-analyze", "security", "--offline=true", "--no-pager", unit, env={**os.environ, "LC_ALL": "C"})
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze can't judge a file: {done.stderr}")
    return float(found[1])


def test_the_sandbox_is_as_tight_as_written_down(tmp_path: Path) -> None:
    need("systemd-analyze")
    score = exposure(UNIT)
    # A drop-in, merged as systemd does it: lists are added to, an empty assignment clears them.
    strict = tmp_path / "pyinotifyd.service"
    drop_in = (SHARE / "systemd/strict.conf").read_text().replace("[Service]\n", "")
    strict.write_text(UNIT.read_text().replace("[Install]", drop_in + "\n[Install]"))
    strict_score = exposure(strict)
    report = f"systemd {systemd_version()}: exposure {score}, with strict.conf {strict_score}"
    print(report)
    assert score <= EXPOSURE_MAX
    assert strict_score <= EXPOSURE_STRICT_MAX
    if systemd_version() == 252:
        assert report in (ROOT / "docs/sandbox.md").read_text(), f"docs/sandbox.md does not say: {report}"


def test_each_exception_of_the_sandbox_is_explained() -> None:
    text = UNIT.read_text()
    for setting in [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateNetwork",
        "MemoryDenyWriteExecute",
        "ProtectProc",
    ]:
        assert re.search(rf"^# .*{setting}=", text, re.M), setting


# ---- the conversation with systemd


class Supervisor:
    """The other end of NOTIFY_SOCKET: collects what the daemon says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.fspath(path))
        self.socket.settimeout(0.05)
        self.messages: list[dict[str, str]] = []

    def wait_for(self, assignment: str) -> dict[str, str]:
        """The next message that holds `KEY=VALUE` or, with an empty value, the key."""
        key, _, value = assignment.partition("=")
        seen = len(self.messages)

        def found() -> dict[str, str] | None:
            try:
                text = self.socket.recv(65536).decode()
                self.messages.append(dict(line.split("=", 1) for line in text.splitlines()))
            except TimeoutError:
                pass
            return next((one for one in self.messages[seen:] if key in one and value in ("", one[key])), None)

        message = wait_until(found, lambda: f"{assignment}; got {self.messages}")
        assert message is not None
        return message

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def supervisor(box: Box) -> Iterator[Supervisor]:
    made = Supervisor(box.tmp / "notify")
    yield made
    made.close()


def supervised(box: Box, supervisor: Supervisor, config: str, **env: str) -> Daemon:
    return box.start(config, env={"NOTIFY_SOCKET": str(supervisor.path), **env})


def test_systemd_hears_of_start_reload_and_stop(box: Box, supervisor: Supervisor) -> None:
    daemon = supervised(box, supervisor, NOTHING)
    supervisor.wait_for("READY=1")
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.signal(signal.SIGHUP)
    reloading = supervisor.wait_for("RELOADING=1")
    assert int(reloading["MONOTONIC_USEC"]) >= before_us
    supervisor.wait_for("READY=1")
    daemon.signal(signal.SIGTERM)
    supervisor.wait_for("STOPPING=1")
    assert daemon.wait_exit() == 0


def test_a_refused_reload_ends_for_systemd_too(box: Box, supervisor: Supervisor) -> None:
    daemon = supervised(box, supervisor, NOTHING)
    supervisor.wait_for("READY=1")
    box.write_config("nonsense(")
    daemon.signal(signal.SIGHUP)
    supervisor.wait_for("RELOADING=1")
    supervisor.wait_for("READY=1")
    assert daemon.running


def test_ready_is_said_when_the_watches_are_set(box: Box, supervisor: Supervisor) -> None:
    supervised(
        box,
        supervisor,
        'pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": ShellScheduler("echo {pathname}")})])',
    )
    supervisor.wait_for("READY=1")
    write(box.src / "f")
    box.daemons[0].wait_out(f"{box.src}/f")


def test_more_time_is_asked_for_while_tasks_finish(box: Box, supervisor: Supervisor) -> None:
    config = """
sched = ShellScheduler("while ! test -e $TMP/go; do sleep 0.05; done")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": sched})], shutdown_timeout=60)
"""
    daemon = supervised(box, supervisor, config)
    supervisor.wait_for("READY=1")
    write(box.src / "f")
    daemon.wait_log("execute shell command")
    daemon.signal(signal.SIGTERM)
    assert int(supervisor.wait_for("EXTEND_TIMEOUT_USEC=")["EXTEND_TIMEOUT_USEC"]) > 0
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0


def test_the_watchdog_is_fed(box: Box, supervisor: Supervisor) -> None:
    supervised(box, supervisor, NOTHING, WATCHDOG_USEC="400000")
    for _ in range(3):
        supervisor.wait_for("WATCHDOG=1")


def test_commands_and_jobs_cannot_speak_to_systemd(box: Box, supervisor: Supervisor) -> None:
    config = """
import os
print("config:", os.environ.get("NOTIFY_SOCKET"), flush=True)
sched = ShellScheduler('echo command: "${NOTIFY_SOCKET-None}" "${WATCHDOG_USEC-None}"')
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": sched})])
"""
    daemon = supervised(box, supervisor, config, WATCHDOG_USEC="60000000")
    supervisor.wait_for("READY=1")
    write(box.src / "f")
    daemon.wait_out("command: None None")
    daemon.wait_out("config: None")


# ---- the journal


class Journal:
    """A journald of its own in a mount namespace with an empty /run. The daemon's stderr leads nowhere near it."""

    PROGRAM = Path("/lib/systemd/systemd-journald")
    SETUP = """
mount -t tmpfs none /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nRateLimitBurst=0\\n' > /run/systemd/journald.conf.d/test.conf
echo ready
exec "$@"
"""

    def __init__(self, *program: str) -> None:
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", self.SETUP, "sh", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.inside = ["nsenter", "-m", f"--target={self.process.pid}", "--"]
        # As systemd does it: device and inode of stderr are in the environment.
        self.before = [*self.inside, "sh", "-c", 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"', "sh"]

    def entries(self, *matches: str) -> list[dict[str, str]]:
        done = call(*self.inside, "journalctl", "-q", "--all", "--directory=/run/log/journal", "-o", "json", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for(self, count: int, *matches: str) -> list[dict[str, str]]:
        def found() -> list[dict[str, str]] | None:
            entries = self.entries(*matches)
            return entries if len(entries) >= count else None

        entries = wait_until(found, lambda: f"{count} entries with {matches}; all: {self.entries()}")
        assert entries is not None
        return entries

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def journal(root: None) -> Iterator[Journal]:
    need("unshare", "nsenter", "journalctl")
    if not Journal.PROGRAM.exists():
        pytest.skip("needs systemd-journald")
    made = Journal(str(Journal.PROGRAM))
    wait_until(
        lambda: call(*made.inside, "test", "-S", "/run/systemd/journal/socket").returncode == 0, "journald listens"
    )
    yield made
    made.close()


def test_the_journal_finds_records_by_task_path_event_and_scheduler(box: Box, journal: Journal) -> None:
    config = """
echoes = ShellScheduler("exit 3", logname="echoes")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": echoes})])
"""
    daemon = box.start(config, before=journal.before)
    journal.wait_for(1, "LOGGER=daemon")
    for name in ("a", "b\nPRIORITY=0"):
        write(box.src / name)
    entries = journal.wait_for(3, f"PYINOTIFYD_PATH={box.src}/a")
    (task,) = {entry["PYINOTIFYD_TASK_ID"] for entry in entries}
    assert [entry["MESSAGE"] for entry in entries] == [
        f"{text}, mask=IN_CLOSE_WRITE, path={box.src}/a, task_id={task}"
        for text in (
            "start task",
            "execute shell command, cmd=exit 3",
            "task failed: exited with status 3",
        )
    ]
    assert [entry["PRIORITY"] for entry in entries] == ["6", "6", "3"]
    for entry in entries:
        assert entry["SYSLOG_IDENTIFIER"] == "pyinotifyd/echoes"
        assert entry["LOGGER"] == entry["PYINOTIFYD_SCHEDULER"] == "echoes"
        assert entry["PYINOTIFYD_EVENT"] == "IN_CLOSE_WRITE"
        assert entry["_TRANSPORT"] == "journal"
    assert journal.entries(f"PYINOTIFYD_TASK_ID={task}") == entries
    assert len(journal.wait_for(6, "PYINOTIFYD_EVENT=IN_CLOSE_WRITE")) == 6
    assert journal.entries("PRIORITY=0") == [], "a name cannot make a field"
    assert daemon.terminate() == 0
    assert "shutdown complete" in [entry["MESSAGE"] for entry in journal.wait_for(1, "LOGGER=daemon")]
    assert daemon.lines == [], "nothing is said twice"


def test_the_journal_finds_events_that_made_no_task(box: Box, journal: Journal) -> None:
    config = """
setLoglevel(DEBUG)
rules = FileManagerScheduler([FileManagerRule("delete", r"^$SRC/other$")])
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CREATE": rules}, exclude_filter=[r".*/secret$"])])
"""
    box.start(config, before=journal.before)
    journal.wait_for(1, "LOGGER=daemon", "--grep=start listening")
    for name in ("secret", "unmatched"):
        write(box.src / name)
    (unmatched,) = journal.wait_for(1, f"PYINOTIFYD_PATH={box.src}/unmatched", "PYINOTIFYD_SCHEDULER=sched")
    assert unmatched["MESSAGE"] == f"no rule in ruleset matches, mask=IN_CREATE, path={box.src}/unmatched"
    entries = journal.entries(f"PYINOTIFYD_PATH={box.src}/secret", "LOGGER=eventmap")
    assert [entry["MESSAGE"] for entry in entries][1] == f"pathname {box.src}/secret is excluded"
    assert (entries[0]["PYINOTIFYD_EVENT"], entries[0]["PRIORITY"]) == ("IN_CREATE", "7")
    assert all("PYINOTIFYD_TASK_ID" not in entry and "PYINOTIFYD_SCHEDULER" not in entry for entry in entries)


def test_a_config_that_cannot_be_used_is_one_error_in_the_journal(box: Box, journal: Journal) -> None:
    assert box.call(config="nonsense = 1 +\n", before=journal.before).exit_code == 1
    (entry,) = journal.wait_for(1, "LOGGER=root")
    assert entry["PRIORITY"] == "3"
    assert entry["MESSAGE"].startswith("config file: ")
    assert "nonsense = 1 +\n" in entry["MESSAGE"]


def test_a_flood_of_records_all_come_to_the_journal_with_their_fields(box: Box, journal: Journal) -> None:
    """Far more than its queue takes at once (net.unix.max_dgram_qlen)."""
    config = """
deletes = FileManagerScheduler([FileManagerRule("delete", r".*")], logname="deletes")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CREATE": deletes})])
"""
    daemon = box.start(config, before=journal.before)
    journal.wait_for(1, "LOGGER=daemon")
    daemon.signal(signal.SIGSTOP)
    journal.process.send_signal(signal.SIGSTOP)
    for number in range(1000):
        write(box.src / f"f{number}")
    daemon.signal(signal.SIGCONT)
    wait_until(lambda: not os.listdir(box.src), "all files are deleted, although nobody takes the records")
    journal.process.send_signal(signal.SIGCONT)
    finished = journal.wait_for(1000, "LOGGER=deletes", "--grep=^task finished")
    entries = journal.entries(f"PYINOTIFYD_PATH={box.src}/f500")
    assert [entry["MESSAGE"].split()[0] for entry in entries] == ["start", "delete", "task"]
    assert {entry["PYINOTIFYD_TASK_ID"] for entry in entries} == {entries[0]["PYINOTIFYD_TASK_ID"]}
    assert {entry["PYINOTIFYD_PATH"] for entry in finished} == {f"{box.src}/f{number}" for number in range(1000)}
    assert daemon.lines == []


def test_a_record_of_a_megabyte_comes_to_the_journal_whole(box: Box, journal: Journal) -> None:
    """Longer than a datagram can be."""
    config = """
command = ShellScheduler(": " + "x" * 1_000_000)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CREATE": command})])
"""
    daemon = box.start(config, before=journal.before)
    journal.wait_for(1, "LOGGER=daemon")
    write(box.src / "f")
    (entry,) = journal.wait_for(1, f"PYINOTIFYD_PATH={box.src}/f", "--grep=^execute shell command")
    assert entry["MESSAGE"].startswith("execute shell command, cmd=: " + "x" * 1_000_000 + ", mask=IN_CREATE, ")
    assert daemon.lines == []


def test_without_the_journals_socket_records_are_lines_with_priorities(box: Box, root: None) -> None:
    need("unshare", "nsenter")
    journal = Journal("cat")
    try:
        daemon = box.start(
            'pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CREATE": ShellScheduler("exit 3")})])',
            before=journal.before,
        )
        daemon.wait_log(f"^<6>pyinotifyd/daemon: start listening for inotify events on '{box.src}'$")
        write(box.src / "a")
        daemon.wait_log(
            f"^<3>pyinotifyd/sched: task failed: exited with status 3, mask=IN_CREATE, path={box.src}/a, task_id="
        )
        assert daemon.terminate() == 0
        assert all(re.match("<[0-7]>pyinotifyd/", line) for line in daemon.lines)
    finally:
        journal.close()


# ---- OpenRC


class Machine:
    """A mount namespace with an OpenRC that believes to have booted, and copies of /etc and /run."""

    SETUP = """
mkdir -p {dir}/etc && cp -a /etc/. {dir}/etc/ && mount --bind {dir}/etc /etc
mount -t tmpfs none /run
for name in daemons exclusive failed hotplugged inactive options scheduled started starting stopping tmp wasinactive; do
    mkdir -p /run/openrc/$name
done
touch /run/openrc/softlevel
mount -t tmpfs none /var/log
mount -t tmpfs none /usr/lib/systemd/system
mkdir -p /etc/init.d /etc/conf.d
rm -f /etc/init.d/*
printf '#!/sbin/openrc-run\\nstart() {{ :; }}\\n' > /etc/init.d/localmount
chmod +x /etc/init.d/localmount
echo ready
exec cat
"""

    def __init__(self, directory: Path) -> None:
        script = self.SETUP.format(dir=directory)
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it; standard error comes with standard output."""
        into = ["nsenter", "-m", f"--target={self.process.pid}", "--", "sh", "-c", command + " 2>&1"]
        return call(*into, stdin=subprocess.DEVNULL)

    def read(self, path: str) -> str:
        return self.run(f"cat {path}").stdout

    def close(self) -> None:
        self.run("rc-service pyinotifyd stop")
        self.process.kill()
        self.process.wait()


@pytest.fixture
def machine(root: None, box: Box) -> Iterator[Machine]:
    need("openrc-run", "rc-service", "unshare", "nsenter")
    made = Machine(box.tmp)
    program = box.tmp / "pyinotifyd"
    shutil.copy(binary(), program)
    installed = made.run(f"{program} --install")
    assert "INFO: openrc detected" in installed.stdout, installed.stdout
    yield made
    made.close()


def test_openrc_starts_reloads_and_stops(machine: Machine) -> None:
    started = machine.run("rc-service pyinotifyd start")
    assert started.returncode == 0, started.stdout
    assert "started" in machine.run("rc-service pyinotifyd status").stdout
    log = "/var/log/pyinotifyd.log"
    wait_until(lambda: "no watches configured" in machine.read(log), lambda: machine.read(log))
    assert machine.run(f"stat -c %a {log}").stdout == "600\n"
    assert machine.run("stat -c %a /var/lib/pyinotifyd /var/lib/pyinotifyd/state.db").stdout == "700\n600\n"

    reloaded = machine.run("rc-service pyinotifyd reload")
    assert reloaded.returncode == 0, reloaded.stdout
    wait_until(lambda: "got signal SIGHUP, reload config file" in machine.read(log), lambda: machine.read(log))

    stopped = machine.run("rc-service pyinotifyd stop")
    assert stopped.returncode == 0, stopped.stdout
    wait_until(lambda: "shutdown complete" in machine.read(log), lambda: machine.read(log))
    assert "stopped" in machine.run("rc-service pyinotifyd status").stdout


def test_openrc_refuses_a_bad_config(machine: Machine) -> None:
    assert machine.run("rc-service pyinotifyd configtest").returncode == 0
    assert machine.run("rc-service pyinotifyd start").returncode == 0
    log = "/var/log/pyinotifyd.log"
    wait_until(lambda: "no watches configured" in machine.read(log), lambda: machine.read(log))
    pid = machine.read("/run/pyinotifyd.pid")
    machine.run("echo 'nonsense(' > /etc/pyinotifyd/config.py")
    for verb in ["configtest", "reload", "restart"]:
        refused = machine.run(f"rc-service pyinotifyd {verb}")
        assert refused.returncode != 0, f"{verb}: {refused.stdout}"
        assert "ERROR: config file:" in refused.stdout
    assert machine.read("/run/pyinotifyd.pid") == pid, "the running one goes on"
    assert Path(f"/proc/{pid.strip()}").exists()


def test_openrc_passes_on_what_conf_d_says(machine: Machine) -> None:
    machine.run("cp /etc/pyinotifyd/config.py /etc/pyinotifyd/other.py")
    machine.run(
        "echo 'PYINOTIFYD_CONFIG=/etc/pyinotifyd/other.py PYINOTIFYD_OPTS=-d PYINOTIFYD_UMASK=0027' >> "
        "/etc/conf.d/pyinotifyd"
    )
    assert machine.run("rc-service pyinotifyd start").returncode == 0
    pid = machine.read("/run/pyinotifyd.pid").strip()

    def words() -> list[bytes]:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")

    # start-stop-daemon writes the file before it has become the daemon.
    wait_until(lambda: words()[1:4] == [b"--config", b"/etc/pyinotifyd/other.py", b"-d"], lambda: f"{words()}")
    assert "Umask:\t0027" in Path(f"/proc/{pid}/status").read_text()


# ---- the default configuration


# With its ">>>" and "<<<" lines, which a user may well select with the rest.
BLOCK = re.compile(r"^## >>> (\w+): .*?^## <<<$", re.M | re.S)
DEFAULT_CONFIG = (SHARE / "config.py").read_text()


def as_told(text: str) -> str:
    """What a user does to a block who reads the head of the file: remove the first "# " of its lines."""
    return re.sub(r"^# ?(?!#)|^# (?=#)", "", text, flags=re.M)


def as_editors_do(text: str) -> str:
    """What "toggle comment" does to a block that is selected."""
    return re.sub(r"^# ?", "", text, flags=re.M)


def test_the_default_config_loads_and_watches_nothing(box: Box) -> None:
    daemon = box.run(DEFAULT_CONFIG)
    assert daemon.count("no watches configured") == 1
    assert daemon.terminate() == 0


@pytest.mark.parametrize("uncommented", [as_told, as_editors_do])
@pytest.mark.parametrize("name", [match[1] for match in BLOCK.finditer(DEFAULT_CONFIG)])
def test_each_block_of_the_default_config_works(box: Box, name: str, uncommented: Callable[[str], str]) -> None:
    config = BLOCK.sub(lambda match: uncommented(match[0]) if match[1] == name else match[0], DEFAULT_CONFIG)
    assert config.count("\npyinotifyd = ") == 1
    config = config.replace("/srv/", f"{box.tmp}/srv/")
    for path in re.findall(rf'"({box.tmp}/srv/[^"\\^]+)"', config):
        # A pattern has a match.
        os.makedirs(path.replace("*", "one"), exist_ok=True)
    tested = box.call("-t", config=config)
    assert tested.exit_code == 0, tested.log
    assert "config file ok" in tested.log
    # Where no syslog server runs, the block that names it is warned of, and nothing else is.
    missing = 0 if os.path.exists("/dev/log") else tested.count("there is no syslog server at '/dev/log'")
    assert tested.count("WARNING|ERROR") == missing, tested.log


def test_all_blocks_of_the_default_config_work_together(box: Box) -> None:
    config = BLOCK.sub(lambda match: as_told(match[0]), DEFAULT_CONFIG).replace("/srv/", f"{box.tmp}/srv/")
    incoming = box.tmp / "srv/incoming"
    incoming.mkdir(parents=True)
    daemon = box.run(config)
    daemon.wait_log(re.escape(f"start listening for inotify events on '{incoming}'"))
    write(incoming / "report.done", "done")
    wait_until((box.tmp / "srv/outgoing/report").exists, lambda: daemon.tail)


# ---- help


def long_options() -> list[str]:
    return sorted(set(re.findall(r"--[a-z][a-z-]+", call(binary(), "--help").stdout)))


def test_every_option_is_in_the_man_page() -> None:
    text = (SHARE / "man/pyinotifyd.8").read_text().replace("\\-", "-")
    for option in long_options():
        assert option in text, f"{option} is missing"


def test_man_pages_are_well_formed() -> None:
    need("mandoc")
    for page in (SHARE / "man").iterdir():
        done = call("mandoc", "-Tlint", "-W", "warning", page)
        assert done.returncode == 0, done.stdout


def test_man_pages_and_help_fit_80_columns() -> None:
    need("mandoc")
    shown = [call("mandoc", "-Tutf8", "-O", "width=78", page).stdout for page in (SHARE / "man").iterdir()]
    shown += [call(binary(), option).stdout for option in ("-h", "--help")]
    for text in shown:
        assert text
        for line in re.sub(".\b", "", text).splitlines():
            assert len(line) <= 80, line


def with_the_program_in_path(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "PATH": f"{binary().parent}:{os.environ['PATH']}"}


def test_bash_completes_options_events_and_configs(tmp_path: Path) -> None:
    need("bash")
    (tmp_path / "config.py").touch()
    (tmp_path / "readme.txt").touch()
    (tmp_path / "dir").mkdir()

    def completed(*words: str) -> list[str]:
        given = " ".join(words)
        function = f"_clap_complete_pyinotifyd pyinotifyd {words[-1]} {words[-2]}"
        script = (
            f"source {shlex.quote(str(SHARE))}/completions/pyinotifyd.bash; COMP_WORDS=({given}); "
            f"COMP_CWORD={len(words) - 1}; "
            f'{function}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
        return sorted(call("bash", "-c", script, cwd=tmp_path, env=with_the_program_in_path(tmp_path)).stdout.split())

    assert completed("pyinotifyd", "--con") == ["--config", "--configtest", "--control"]
    assert completed("pyinotifyd", "--") == long_options()
    assert completed("pyinotifyd", "-c", "''") == ["config.py", "dir/"]
    assert completed("pyinotifyd", "--explain", "/tmp/a", "IN_CLOSE_W") == ["IN_CLOSE_WRITE"]
    assert completed("pyinotifyd", "--completions", "''") == ["bash", "fish", "zsh"]


def test_a_daemon_is_asked_for_completions_by_its_own_variable_only(box: Box) -> None:
    """Else a variable that another program left in the environment would end it."""
    assert box.call("-t", config="pyinotifyd = Pyinotifyd()", env={"COMPLETE": "bash"}).lines == [
        "INFO: config file ok"
    ]


class Terminal:
    """A program on a terminal of its own; what it shows is collected."""

    def __init__(self, *argv: str | os.PathLike[str], **options: object) -> None:
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, **options
        )
        os.close(theirs)
        os.set_blocking(self.ours, False)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, pattern: str) -> None:
        def found() -> bool:
            # Nothing to read yet; or nobody has the other end open any more (EIO).
            with contextlib.suppress(OSError):
                self.shown += os.read(self.ours, 65536).decode()
            return re.search(pattern, self.shown, re.M) is not None

        wait_until(found, lambda: f"{pattern!r} on the terminal; shown: {self.shown!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*argv: str | os.PathLike[str], **options: object) -> Terminal:
        made.append(Terminal(*argv, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_zsh_completes_options_with_their_meaning(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    need("zsh")
    functions = tmp_path / "functions"
    functions.mkdir()
    shutil.copy(SHARE / "completions/_pyinotifyd", functions)
    zsh = terminal(
        "zsh", "-f", "-i", cwd=tmp_path, env={**with_the_program_in_path(tmp_path), "TERM": "dumb", "PS1": "> "}
    )
    zsh.type(f"fpath=({functions} $fpath); autoload -U compinit && compinit -u -d {tmp_path}/dump; echo loa''ded\r")
    zsh.wait_for("^loaded")
    zsh.type("pyinotifyd --conf\t\t")
    zsh.wait_for(r"--configtest .*-- Check the config file")


def test_fish_completes_options_events_and_configs(tmp_path: Path) -> None:
    need("fish")
    (tmp_path / "config.py").touch()

    def completed(line: str) -> list[str]:
        script = f"source {shlex.quote(str(SHARE))}/completions/pyinotifyd.fish; complete -C '{line}'"
        env = with_the_program_in_path(tmp_path)
        return [one.partition("\t")[0] for one in call("fish", "-c", script, cwd=tmp_path, env=env).stdout.splitlines()]

    assert completed("pyinotifyd --conf") == ["--config", "--configtest"]
    assert sorted(completed("pyinotifyd --")) == long_options()
    assert completed("pyinotifyd -c conf") == ["config.py"]
    assert completed("pyinotifyd --explain /tmp/a IN_CLOSE_W") == ["IN_CLOSE_WRITE"]


# ---- first contact


def test_without_a_config_two_lines_say_what_to_do(root: None, tmp_path: Path) -> None:
    need("unshare")
    done = call("unshare", "-m", "sh", "-c", f"mount --bind {tmp_path} /etc && exec {shlex.quote(str(binary()))}")
    assert done.returncode == 1
    assert done.stdout == ""
    fault, advice = done.stderr.splitlines()
    assert re.fullmatch("ERROR: config file: .*/etc/pyinotifyd/config.py.*", fault)
    assert re.fullmatch("INFO: next: .*-c FILE.*--install.*", advice)


def test_with_the_default_config_two_lines_say_what_to_do(box: Box) -> None:
    daemon = box.run(DEFAULT_CONFIG)
    daemon.wait_log(f"next: the config file is '{box.config}'; .*-t")
    assert len(daemon.lines) == 2, daemon.log


@pytest.mark.parametrize("variable", ["", "1"])
def test_colours_are_for_terminals_and_no_color_is_honoured(
    box: Box, terminal: Callable[..., Terminal], variable: str
) -> None:
    box.write_config(DEFAULT_CONFIG)
    shown = terminal(binary(), "-c", box.config, env={**os.environ, "NO_COLOR": variable})
    shown.wait_for("next: .*\n")
    if variable:
        assert "\x1b" not in shown.shown
        assert re.search(
            r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - pyinotifyd/daemon - WARNING - no watches", shown.shown, re.M
        )
    else:
        assert "\x1b[" in shown.shown
