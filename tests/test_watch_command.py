"""`pyinotifyd watch`: events printed, or a command run for each, without a config file."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from vocabulary import DEADLINE_S, REFERENCE, Box, Daemon, drop, need, wait_until, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original needs a config file")

# How a pipe is told to hold little (fcntl(2)); Python has the name from 3.10 on.
F_SETPIPE_SZ = 1031


def watch(box: Box, *arguments: str | os.PathLike[str]) -> Daemon:
    """Start it on the box's `src`, and wait until it watches."""
    return box.start(None, "watch", box.src, *arguments).wait_ready()


def refused(box: Box, *arguments: str) -> str:
    """What it says on a line that it cannot use."""
    daemon = box.call("watch", *arguments)
    assert daemon.exit_code == 2
    assert daemon.stdout == ""
    return daemon.log


def printed(daemon: Daemon) -> list[tuple[str, str]]:
    """Event and path of each line."""
    pattern = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (IN_[A-Z_|]+) (.*)")
    found = [pattern.fullmatch(line) for line in daemon.out.lines]
    assert all(found), daemon.stdout
    return [match.groups() for match in found if match]  # type: ignore[misc]  # two groups


def wait_printed(daemon: Daemon, event: str, path: Path) -> None:
    wait_until(lambda: (event, str(path)) in printed(daemon), lambda: f"{event} {path}; got {daemon.stdout}")


# ---- without a command


def test_each_event_is_a_line(box: Box) -> None:
    daemon = watch(box)
    write(box.src / "a b")
    (box.src / "a b").rename(box.src / "c")
    (box.src / "c").unlink()
    wait_printed(daemon, "IN_DELETE", box.src / "c")
    seen = [(event, Path(path).name) for event, path in printed(daemon)]
    expected = [("IN_CREATE", "a b"), ("IN_OPEN", "a b"), ("IN_MODIFY", "a b"), ("IN_CLOSE_WRITE", "a b")]
    expected += [("IN_MOVED_FROM", "a b"), ("IN_MOVED_TO", "c"), ("IN_DELETE", "c")]
    assert seen == expected
    assert all(level == "INFO" for level in {record.level for record in daemon.records})
    assert "task" not in daemon.log


def test_new_subdirectories_are_watched_and_existing_ones(box: Box) -> None:
    (box.src / "old").mkdir()
    daemon = watch(box, "--on", "create,close_write")
    (box.src / "new/deep").mkdir(parents=True)
    write(box.src / "new/deep/f")
    write(box.src / "old/f")
    wait_printed(daemon, "IN_CREATE|IN_ISDIR", box.src / "new/deep")
    wait_printed(daemon, "IN_CLOSE_WRITE", box.src / "new/deep/f")
    wait_printed(daemon, "IN_CLOSE_WRITE", box.src / "old/f")


def test_without_subdirectories_there_are_none(box: Box) -> None:
    (box.src / "old").mkdir()
    daemon = watch(box, "--no-rec", "--on", "create")
    write(box.src / "old/f")
    (box.src / "new").mkdir()
    write(box.src / "new/f")
    write(box.src / "end")
    wait_printed(daemon, "IN_CREATE", box.src / "end")
    assert [Path(path).name for _, path in printed(daemon)] == ["new", "end"]


def test_excluded_paths_are_left_out(box: Box) -> None:
    (box.src / "skip").mkdir()
    daemon = watch(box, "--on", "create", "--exclude", r".*\.tmp$", "--exclude", f"{box.src}/skip")
    for name in ("a.tmp", "skip/b", "a.tmp.kept"):
        write(box.src / name)
    wait_printed(daemon, "IN_CREATE", box.src / "a.tmp.kept")
    assert [Path(path).name for _, path in printed(daemon)] == ["a.tmp.kept"]


def test_a_hostile_name_is_escaped_as_in_the_log(box: Box) -> None:
    daemon = watch(box, "--on", "close_write")
    write(os.fsencode(box.src) + b"/a\n\x1b[31m\xff\xe2\x80\xaebc")
    wait_printed(daemon, "IN_CLOSE_WRITE", box.src / r"a\x0a\x1b[31m\udcff\u202ebc")


def test_json_lines_have_all_that_an_event_has(box: Box) -> None:
    daemon = watch(box, "--json", "--on", "create,moved_to")
    write(box.src / "a")
    (box.src / "a").rename(box.src / "b")
    (box.src / "d").mkdir()
    write(os.fsencode(box.src) + b"/\xff\n")
    os.rename(os.fsencode(box.src) + b"/\xff\n", os.fsencode(box.src) + b"/\xfe")
    daemon.wait_out("_b64.*src_path_b64")
    lines = [json.loads(line) for line in daemon.out.lines]
    assert [list(line) for line in lines[:3]] == [["time", "event", "path", "src_path", "dir", "synthetic"]] * 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line.pop("time")) for line in lines)
    src = str(box.src)
    event = {"event": "IN_CREATE", "src_path": None, "dir": False, "synthetic": False}
    assert lines[0] == {**event, "path": f"{src}/a"}
    assert lines[1] == {**event, "event": "IN_MOVED_TO", "path": f"{src}/b", "src_path": f"{src}/a"}
    assert lines[2] == {**event, "event": "IN_CREATE|IN_ISDIR", "path": f"{src}/d", "dir": True}
    assert lines[3]["path"] == f"{src}/\ufffd\n"
    assert b64decode(lines[3]["path_b64"]) == os.fsencode(box.src) + b"/\xff\n"
    assert b64decode(lines[-1]["path_b64"]) == os.fsencode(box.src) + b"/\xfe"
    assert b64decode(lines[-1]["src_path_b64"]) == os.fsencode(box.src) + b"/\xff\n"


def test_a_file_in_a_new_directory_is_printed_even_if_it_came_too_early(box: Box) -> None:
    """The gap of a program that watches a new directory and does not look what is in it."""
    daemon = watch(box, "--json", "--on", "create,close_write")
    wanted = set()
    for number in range(50):
        path = box.src / f"d{number}/e/f"
        path.parent.mkdir(parents=True)
        write(path)
        wanted.add(str(path))

    def closed() -> set[str]:
        lines = [json.loads(line) for line in daemon.out.lines]
        return {line["path"] for line in lines if line["event"] == "IN_CLOSE_WRITE"}

    wait_until(lambda: wanted <= closed(), lambda: f"missing: {sorted(wanted - closed())}")
    assert any(json.loads(line)["synthetic"] for line in daemon.out.lines)


@pytest.mark.parametrize("event", [False, True], ids=["idle", "with an event"])
def test_a_closed_stdout_ends_it(box: Box, event: bool) -> None:
    """As with `| head -1`: also if nothing happens any more."""
    read, writing = os.pipe()
    arguments: list[str | Path] = [box.program, "watch", box.src, "--on", "create"]
    with open(read, "rb", buffering=0) as reader:
        process = subprocess.Popen(arguments, stdout=writing, stderr=subprocess.PIPE, cwd=box.tmp)
        os.close(writing)
        assert process.stderr
        try:
            wait_until(lambda: b"start listening" in process.stderr.readline())  # type: ignore[union-attr]
            write(box.src / "a")
            assert reader.read(1 << 16).endswith(b"/a\n")
            reader.close()
            if event:
                write(box.src / "b")
            _, said = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 0
            assert b"INFO - stdout was closed, shutdown\n" in said
            assert b"WARNING" not in said
        finally:
            process.kill()


def test_nothing_is_lost_while_nobody_reads(box: Box) -> None:
    """Its own lines fill up, then the kernel's queue; what overflows there is found again."""
    count = 30_000
    process = subprocess.Popen(
        [box.program, "watch", box.src, "--on", "create,q_overflow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    try:
        fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)
        wait_until(lambda: b"start listening" in process.stderr.readline())  # type: ignore[union-attr]
        for number in range(count):
            os.close(os.open(box.src / f"{number:06}", os.O_CREAT))
        used = cpu_s(process.pid)
        # Signals are answered although nobody reads.
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: b"status: " in process.stderr.readline())  # type: ignore[union-attr]
        assert cpu_s(process.pid) - used < 5
        names: set[bytes] = set()
        rest = b""
        while len(names) < count:
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], f"{len(names)} of {count}"
            *lines, rest = (rest + os.read(process.stdout.fileno(), 1 << 16)).split(b"\n")
            names |= {line.rpartition(b"/")[2] for line in lines if b" IN_CREATE " in line}
    finally:
        process.kill()
        process.communicate()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("busy", "last"), [("skip", "one"), ("rerun", "two")])
def test_what_comes_while_the_command_runs_is_handled_as_it_says(box: Box, busy: str, last: str) -> None:
    copy = 'cp "$1" "$2/copy"; touch "$2/copied"; until test -e "$2/go"; do sleep 0.02; done'
    daemon = watch(box, "--on", "close_write", "--on-busy", busy, "--", "sh", "-c", copy, "sh", "{pathname}", box.dst)
    write(box.src / "a", "one")
    wait_until(lambda: (box.dst / "copied").exists(), lambda: daemon.tail)
    write(box.src / "a", "two")
    if busy == "skip":
        daemon.wait_log("WARNING - skip event due to ongoing task")
    (box.dst / "go").touch()
    daemon.wait_log("task finished", count=1 if busy == "skip" else 2)
    assert (box.dst / "copy").read_text() == last


@pytest.mark.parametrize("pattern", ["", ".*"])
def test_an_expression_that_excludes_everything_is_warned_of(box: Box, pattern: str) -> None:
    daemon = watch(box, "--exclude", pattern, "--exclude", f"{box.src}/skip")
    line = f"WARNING: --exclude: '{re.escape(pattern)}' matches the path of the watch itself, '{box.src}', so that no"
    daemon.wait_log(line)
    assert daemon.count("WARNING") == 1


def test_an_expression_that_excludes_nothing_is_warned_of(box: Box) -> None:
    daemon = watch(box, "--exclude", "tmp")
    daemon.wait_log("WARNING: --exclude: 'tmp' matches no path of this watch")


def test_a_full_disk_is_an_error(box: Box) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([box.program, "watch", box.src], stdout=full, stderr=subprocess.PIPE)
    assert process.stderr
    try:
        wait_until(lambda: b"start listening" in process.stderr.readline())  # type: ignore[union-attr]
        write(box.src / "a")
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1
        assert b"ERROR - cannot write to stdout: No space left on device, shutdown\n" in said
    finally:
        process.kill()


# ---- with a command


def test_a_command_gets_the_path_at_its_end(box: Box) -> None:
    daemon = watch(box, "--", "echo", "it's", "$HOME")
    write(box.src / "a b")
    drop(box.src / "c")
    daemon.wait_out(f"^it's [$]HOME {box.src}/a b$")
    daemon.wait_out(f"^it's [$]HOME {box.src}/c$")


def test_fields_stand_in_any_argument(box: Box) -> None:
    daemon = watch(box, "--on", "moved_to", "--", "echo", "-{maskname}-", "{src_pathname}>{pathname}", "{other}")
    write(box.src / "a")
    (box.src / "a").rename(box.src / "b;id")
    daemon.wait_out(f"^-IN_MOVED_TO- {box.src}/a>{box.src}/b;id {{other}}$")
    assert daemon.out.lines == [f"-IN_MOVED_TO- {box.src}/a>{box.src}/b;id {{other}}"]


def test_no_shell_reads_a_hostile_name(box: Box) -> None:
    daemon = watch(box, "--", "cp", "-t", box.dst, "--", "{pathname}")
    names = [b"$(touch pwned)", b"a\nb", b"-rf", b"\xff'\"", b";id", b"{pathname}"]
    for name in names:
        write(os.fsencode(box.src) + b"/" + name)
    wait_until(lambda: sorted(os.listdir(os.fsencode(box.dst))) == sorted(names), lambda: daemon.tail)
    assert not (box.tmp / "pwned").exists()


def test_directories_are_events_too(box: Box) -> None:
    daemon = watch(box, "--on", "create,delete", "--", "echo", "{maskname}", "{pathname}")
    (box.src / "d").mkdir()
    daemon.wait_out(f"IN_CREATE {box.src}/d")
    daemon.wait_log("task finished")
    (box.src / "d").rmdir()
    daemon.wait_out(f"IN_DELETE {box.src}/d")


@pytest.mark.parametrize("how", ["cp", "mv", "rsync"])
def test_a_tree_that_programs_bring_is_handled_file_by_file(box: Box, how: str) -> None:
    need(how)
    tree = box.tmp / "tree"
    (tree / "one/two").mkdir(parents=True)
    names = {"a", "one/b", "one/two/c"}
    for name in names:
        write(tree / name, name)
    daemon = watch(box, "--", "echo")
    commands: dict[str, list[str | Path]] = {
        "cp": ["cp", "-r", tree, box.src],
        "mv": ["mv", tree, box.src],
        "rsync": ["rsync", "-r", tree, box.src],
    }
    subprocess.run(commands[how], check=True)
    for name in names:
        daemon.wait_out(f"^{box.src}/tree/{name}$")


def test_delay_jobs_timeout_and_retry_are_those_of_a_scheduler(box: Box) -> None:
    options = ["--delay", "0.3", "--jobs", "1", "--timeout", "0.5", "--retry", "1"]
    daemon = watch(box, *options, "--", "sh", "-c", "sleep 30")
    write(box.src / "a")
    daemon.wait_log("schedule task, delay=0.3")
    write(box.src / "a")
    write(box.src / "b")
    daemon.wait_log("re-schedule task, delay=0.3")
    daemon.wait_log(r"1 task is running \(max_jobs\)")
    daemon.wait_log(r"attempt 1 failed: timeout after 0.5 s; tried again in \d")
    daemon.wait_log("ERROR - task failed: timeout after 0.5 s")


def test_a_batch_is_one_run_for_all_paths(box: Box) -> None:
    daemon = watch(box, "--batch", "--delay", "0.5", "--", "sh", "-c", 'echo $# "$@"; xargs -0 echo list', "sh")
    for name in ("a", "b c"):
        write(box.src / name)
    daemon.wait_out(f"^2 {box.src}/a {box.src}/b c$")
    daemon.wait_out(f"^list {box.src}/a {box.src}/b c$")
    daemon.wait_log("task finished")
    assert daemon.count("start task") == 1


def test_what_is_there_already_is_told_if_that_is_wanted(box: Box) -> None:
    (box.src / "old").mkdir()
    write(box.src / "old/f")
    daemon = watch(box, "--initial", "--", "echo")
    daemon.wait_out(f"^{box.src}/old/f$")
    lines = watch(box, "--initial", "--json", "--on", "create,close_write")
    lines.wait_out(f'"IN_CLOSE_WRITE","path":"{box.src}/old/f".*"synthetic":true')
    without = watch(box, "--on", "create")
    write(box.src / "end")
    wait_printed(without, "IN_CREATE", box.src / "end")
    assert len(printed(without)) == 1


def test_a_command_that_fails_is_said_to(box: Box) -> None:
    daemon = watch(box, "--", "sh", "-c", "exit 3")
    write(box.src / "a")
    assert "status 3" in daemon.wait_log("ERROR - task failed: .*").group()
    daemon = watch(box, "--", "/no/such/program")
    write(box.src / "a")
    daemon.wait_log("ERROR - task failed: .*No such file")


def test_a_misspelt_field_is_warned_of(box: Box) -> None:
    daemon = watch(box, "--", "echo", "{filename}")
    assert "{filename} is no placeholder and stays as it is, did you mean {pathname}?" in daemon.log


def test_a_dry_run_runs_nothing(box: Box) -> None:
    daemon = watch(box, "--dry-run", "--", "touch", box.dst / "made", "{pathname}")
    write(box.src / "a")
    daemon.wait_log(f"would execute .*touch {box.dst}/made {box.src}/a")
    daemon.terminate()
    assert list(box.dst.iterdir()) == []


# ---- where it looks


def test_a_path_that_is_missing_is_waited_for(box: Box) -> None:
    wanted = box.src / "not/yet"
    daemon = box.start(None, "watch", wanted, "--on", "create").wait_ready()
    assert "start listening" not in daemon.log
    wanted.mkdir(parents=True)
    daemon.wait_log(f"start listening for inotify events on '{wanted}'")
    write(wanted / "f")
    wait_printed(daemon, "IN_CREATE", wanted / "f")


def test_a_path_that_is_missing_is_told_as_it_was_typed(box: Box) -> None:
    daemon = box.start(None, "watch", box.src / "i[n]*?")
    daemon.wait_log(re.escape(f"no path matches '{box.src}/i[n]*?'"))


def test_several_paths_and_a_file(box: Box) -> None:
    write(box.tmp / "one")
    daemon = box.start(None, "watch", box.src, "dst", box.tmp / "one", "--on", "close_write").wait_ready()
    for path in (box.src / "a", box.dst / "b", box.tmp / "one", box.tmp / "other", box.src / "end"):
        write(path)
    wait_printed(daemon, "IN_CLOSE_WRITE", box.src / "end")
    assert [path for _, path in printed(daemon)] == [
        f"{box.src}/a",
        f"{box.dst}/b",
        f"{box.tmp}/one",
        f"{box.src}/end",
    ]


def test_a_path_is_no_pattern(box: Box) -> None:
    literal, other = box.src / "[a]*", box.src / "a-file"
    literal.mkdir()
    other.mkdir()
    daemon = box.start(None, "watch", literal, "--on", "create").wait_ready()
    daemon.wait_log(r"start listening for inotify events on '.*/\[a\]\*'")
    write(other / "f")
    write(literal / "f")
    wait_printed(daemon, "IN_CREATE", literal / "f")
    assert len(printed(daemon)) == 1


# ---- how it ends, and signals


def test_ctrl_c_ends_it_at_once(box: Box) -> None:
    daemon = watch(box, "--", "sh", "-c", "echo $$; exec sleep 1000")
    write(box.src / "a")
    pid = int(daemon.wait_out(r"\d+").group())
    daemon.signal(signal.SIGINT)
    assert daemon.wait_exit() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert "got signal SIGINT, shutdown" in daemon.log
    assert daemon.lines[-1].endswith("shutdown complete")
    waiting = watch(box, "--delay", "1000", "--", "echo")
    write(box.src / "a")
    waiting.wait_log("schedule task")
    waiting.signal(signal.SIGINT)
    assert waiting.wait_exit() == 0
    assert waiting.stdout == ""


def test_sigterm_lets_tasks_end(box: Box) -> None:
    daemon = watch(box, "--", "sh", "-c", "echo begun; sleep 0.3; echo done")
    write(box.src / "a")
    daemon.wait_out("begun")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit() == 0
    assert "done" in daemon.out.lines
    assert "task finished" in daemon.log


def test_sighup_has_nothing_to_reload_and_sigusr1_says_the_status(box: Box) -> None:
    daemon = watch(box, "--", "echo")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("got signal SIGHUP, but there is no config file to reload")
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log(f"status: watch '{box.src}'")
    daemon.wait_log(r"status: scheduler run \(command\): 0 waiting, 0 queued, 0 running")
    write(box.src / "a")
    daemon.wait_out(f"{box.src}/a")


def test_a_terminal_that_is_closed_ends_it(box: Box) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [box.program, "watch", box.src, "--", "true"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert process.stderr
    try:
        wait_until(lambda: b"start listening" in process.stderr.readline())  # type: ignore[union-attr]
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
        assert b"the terminal is gone, shutdown" in said
    finally:
        process.kill()


# ---- what it does not need


def test_no_python_and_no_socket(box: Box) -> None:
    runtime = box.tmp / "runtime"
    runtime.mkdir()
    env = {
        "PYINOTIFYD_PYTHON": "/no/such/python",
        "PATH": "/usr/bin:/bin",
        "RUNTIME_DIRECTORY": str(runtime),
        "XDG_RUNTIME_DIR": str(runtime),
    }
    daemon = box.start(None, "watch", box.src, "--on", "create", env=env).wait_ready()
    write(box.src / "a")
    wait_printed(daemon, "IN_CREATE", box.src / "a")
    assert daemon.children() == []
    assert list(runtime.iterdir()) == []
    assert not [target for target in daemon.descriptors().values() if "python" in target]


# ---- the config file that does the same


LINES = [
    ["--", "cp", "{pathname}", "/dst"],
    [
        "--on",
        "create,delete_self",
        "--no-rec",
        "--exclude",
        r".*\.tmp$",
        "--exclude",
        ".*'\"\\\\",
        "--",
        "it's",
        '"$x"\\',
    ],
    ["--delay", "1.5", "--jobs", "3", "--timeout", "60", "--retry", "4", "--", "true"],
    ["--batch", "--", "tar", "-cf", "/dst/all.tar", "--", "{pathnames}"],
    ["--batch", "--delay", "25", "--initial", "--", "true"],
]


@pytest.mark.parametrize("arguments", [*LINES, [], ["--json", "--on", "create"]], ids=lambda words: " ".join(words))
def test_the_printed_config_is_ok(box: Box, arguments: list[str]) -> None:
    config = box.call("watch", box.src, box.dst, "--print-config", *arguments)
    assert config.exit_code == 0
    assert config.lines == []
    tested = box.call("-t", config=config.stdout + "\n")
    assert tested.lines == ["INFO: config file ok"]


@pytest.mark.parametrize("arguments", LINES, ids=lambda words: " ".join(words))
def test_the_printed_config_explains_the_same(box: Box, arguments: list[str]) -> None:
    (box.src / "d").mkdir()
    config = box.call("watch", box.src, "--print-config", *arguments).stdout + "\n"
    place = re.compile(r" \([^()]*config\.py:\d+\)")
    texts = []
    for path in (box.src / "a", box.src / "a.tmp", box.src / "d", box.src / "d/e", box.tmp / "elsewhere"):
        mine = box.call(f"--explain={path}", "watch", box.src, *arguments)
        theirs = box.call(f"--explain={path}", config=config)
        assert (mine.exit_code, theirs.exit_code) == (0, 0)
        assert mine.stdout == place.sub("", theirs.stdout)
        texts.append(mine.stdout)
    assert "scheduler 'run'" in texts[0]


@pytest.mark.parametrize("json_lines", [False, True])
def test_the_printed_config_prints_the_same(box: Box, json_lines: bool) -> None:
    arguments = ["--on", "create,close_write,moved_to", *(["--json"] if json_lines else [])]
    (box.src / "there").touch()
    config = box.call("watch", box.src, "--print-config", *arguments).stdout + "\n"
    mine, theirs = watch(box, *arguments), box.run(config)
    write(box.src / "a b")
    drop(box.src / "c")
    write(os.fsencode(box.src) + b"/\xff\n")
    os.rename(box.src / "there", os.fsencode(box.src) + b"/\xfe")

    def shown(daemon: Daemon) -> list[object]:
        if not json_lines:
            return [line.split(" ", 2)[2] for line in daemon.out.lines]
        lines = [json.loads(line) for line in daemon.out.lines]
        return [[(name, value) for name, value in line.items() if name != "time"] for line in lines]

    wait_until(lambda: len(shown(mine)) == 6 and len(shown(theirs)) == 6, lambda: f"{shown(mine)} {shown(theirs)}")
    assert shown(mine) == shown(theirs)


def test_the_printed_config_runs_the_same_commands(box: Box) -> None:
    directory = os.fsencode(box.src) + b"/\xff 'n\n"
    os.mkdir(directory)
    arguments: list[str] = [os.fsdecode(directory), "--print-config", "--", "cp", "--", "{pathname}", str(box.dst)]
    config = box.call("watch", *arguments)
    path = box.tmp / "printed.py"
    path.write_text(config.stdout + "\n")
    daemon = box.start(None, "-c", path).wait_ready()
    write(directory + b"/f")
    wait_until(lambda: (box.dst / "f").exists(), lambda: daemon.tail)


# ---- wrong lines


def test_what_is_wrong_is_said_before_anything_happens(box: Box) -> None:
    assert "<PATH>..." in refused(box)
    assert "unknown event" in refused(box, ".", "--on", "closed")
    assert "write moved_from,moved_to" in refused(box, ".", "--on", "create,move")
    assert "this version has no such backend" in refused(box, ".", "--backend", "poll")
    assert "write {pathnames}" in refused(box, ".", "--batch", "--", "ls", "{pathname}")
    assert "expected 0 or more seconds" in refused(box, ".", "--delay", "-1", "--", "true")
    assert "--timeout is for commands" in refused(box, ".", "--timeout", "1")
    assert "'--json' cannot be used with" in refused(box, ".", "--json", "--", "true")
    assert "invalid value '[' for '--exclude <RE>'" in refused(box, ".", "--exclude", "[")
    for option in ("--retry", "--jobs"):
        assert "expected at most 4294967295" in refused(box, ".", option, "99999999999", "--", "true")
    assert "Usage: pyinotifyd watch" in refused(box, ".", "--no-such-option")
    config = box.call("-c", "config.py", "watch", ".")
    assert config.exit_code == 2
    assert "the argument '--config' cannot be used with 'watch'" in config.log


def test_help_is_on_stdout(box: Box) -> None:
    for option in ("-h", "--help"):
        daemon = box.call("watch", option)
        assert (daemon.exit_code, daemon.lines) == (0, [])
        for spelling in ("--on", "--no-rec", "--exclude", "--delay", "--jobs", "--timeout", "--retry", "--json"):
            assert spelling in daemon.stdout


@pytest.mark.parametrize("shell", ["bash"])
def test_completions_know_events(box: Box, shell: str) -> None:
    words = ["pyinotifyd", "watch", "--on", "create,clo"]
    env = {**os.environ, "PYINOTIFYD_COMPLETE": shell, "_CLAP_COMPLETE_INDEX": "3", "_CLAP_IFS": "\n"}
    asked = subprocess.run([box.program, "--", *words], env=env, capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["create,close_write", "create,close_nowrite"]


def test_a_limit_of_open_files_is_not_taken_for_one_of_inotify(box: Box) -> None:
    """inotify_init1(2) has one error for both."""
    said: list[str] = []
    # With fewer than it takes to begin it ends at once.
    while not any("too many open files; raise the limit (ulimit -n" in text for text in said):
        before = ["sh", "-c", f'ulimit -n {len(said) + 5}; exec "$@"', "sh"]
        argv: list[str | Path] = [*before, box.program, "watch", box.src, "--", "false"]
        said.append(subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False).stderr)
        assert not re.search("max_user_instances|panicked", said[-1]), said
