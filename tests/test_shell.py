"""Shell commands: what is put into them, how they run, what of them is logged, how many run at once."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, alive, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")


def shell(command: str, flags: str = "IN_CREATE", options: str = "", before: str = "", more: str = "") -> str:
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return (
        f"{before}\nsched = ShellScheduler(cmd={command!r}{options})\n"
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}})]{more})'
    )


# Writes its arguments, one a line, NUL at the end, to a file of its own.
ARGUMENTS = r"""printf '%s\0' "$@" > "$TMP/out.$$" && mv "$TMP/out.$$" "$TMP/args" """


def script(box: Box) -> Path:
    """A program that saves its arguments where `arguments` finds them."""
    path = box.tmp / "task.sh"
    path.write_text("#!/bin/sh\n" + box.text(ARGUMENTS))
    path.chmod(0o755)
    return path


def arguments(box: Box) -> list[str]:
    wait_until(lambda: (box.tmp / "args").exists(), "the command ran")
    words = (box.tmp / "args").read_bytes().split(b"\0")[:-1]
    (box.tmp / "args").unlink()
    return [os.fsdecode(word) for word in words]


# ---- placeholders


def test_placeholders_are_the_events_values(run: Run, box: Box) -> None:
    daemon = run(shell(f"{script(box)} {{maskname}} {{pathname}} {{src_pathname}}", "IN_MOVED_TO IN_MOVED_FROM"))
    write(box.tmp / "f")
    (box.tmp / "f").rename(box.src / "a")
    assert arguments(box) == ["IN_MOVED_TO", f"{box.src}/a", ""]
    daemon.wait_log("task finished", count=1)
    (box.src / "a").rename(box.src / "b")
    daemon.wait_log("task finished", count=3)
    assert daemon.count(re.escape(f"cmd={script(box)} IN_MOVED_TO {box.src}/b {box.src}/a,")) == 1


def test_maskname_is_without_isdir(run: Run, box: Box) -> None:
    run(shell(f"{script(box)} {{maskname}}", options=", dirs=True"))
    (box.src / "d").mkdir()
    assert arguments(box) == ["IN_CREATE"]


def test_every_occurrence_is_replaced_and_other_braces_stay(run: Run, box: Box) -> None:
    run(shell(f"{script(box)} {{pathname}} {{pathname}} {{x}} '{{}}' {{PATHNAME}} a{{pathname}}b"))
    write(box.src / "f")
    path = f"{box.src}/f"
    assert arguments(box) == [path, path, "{x}", "{}", "{PATHNAME}", f"a{path}b"]


def test_double_braces_are_replaced_inside(run: Run, box: Box) -> None:
    run(shell(f"{script(box)} {{{{pathname}}}}"))
    write(box.src / "f")
    assert arguments(box) == ["{" + f"{box.src}/f" + "}"]


NAMES = [
    "plain",
    "a b",
    " lead",
    "trail ",
    "'",
    '"',
    "a'b\"c",
    "$(touch PWNED)",
    "`touch PWNED`",
    ";touch PWNED;",
    "&& touch PWNED",
    "|touch PWNED",
    "> PWNED",
    "*",
    "?",
    "[a]",
    "~",
    "\\",
    "\\n",
    "a\nb",
    "\ttab",
    "-rf",
    "--help",
    "#no",
    "!x",
    "%s%n",
    "ä€",
    "{maskname}",
    "{pathname}",
    "{src_pathname}",
    "x{src_pathname}y",
    "\x01\x1b[31m",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_gets_any_name_as_one_word(run: Run, box: Box, name: str) -> None:
    if REFERENCE and "{" in name:
        pytest.skip("the original replaces inside of what it has put in")
    daemon = run(shell(f"{script(box)} {{pathname}} end"), cwd=box.dst)
    write(box.src / name)
    assert arguments(box) == [f"{box.src}/{name}", "end"]
    daemon.wait_log("task finished")
    assert os.listdir(box.dst) == []


@ours_only
def test_a_command_gets_a_name_that_is_not_utf8_byte_for_byte(run: Run, box: Box) -> None:
    run(shell(f"{script(box)} {{pathname}}"))
    name = os.fsencode(box.src) + b"/\xff\xfe caf\xe9'"
    write(name)
    assert [os.fsencode(word) for word in arguments(box)] == [name]


def test_the_values_are_quoted_as_shlex_does(run: Run, box: Box) -> None:
    daemon = run(shell("true {maskname} {pathname} {src_pathname}"))
    write(box.src / "it's; here")
    daemon.wait_log("execute shell command")
    text = (
        f"execute shell command, cmd=true IN_CREATE "
        f"{shlex.quote(f'{box.src}/' + chr(105) + 't' + chr(39) + 's; here')} '', mask=IN_CREATE"
    )
    assert any(text in line for line in daemon.lines)


def test_a_safe_value_has_no_quotes(run: Run, box: Box) -> None:
    daemon = run(shell("true {pathname}"))
    write(box.src / "f")
    daemon.wait_log(rf"cmd=true {box.src}/f, mask=IN_CREATE, path={box.src}/f, task_id=[0-9a-f-]{{36}}$")


def test_the_command_is_run_by_sh(run: Run, box: Box) -> None:
    run(shell("test -f {pathname} && cd / && for w in a b; do echo $w$((1+1)); done > $TMP/new; mv $TMP/new $TMP/out"))
    write(box.src / "f")
    wait_until(lambda: (box.tmp / "out").exists())
    assert (box.tmp / "out").read_text() == "a2\nb2\n"


# ---- records


def test_records_of_a_command(run: Run, box: Box) -> None:
    daemon = run(shell("true {pathname}"))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert daemon.said(box.src / "f") == ["start task", f"execute shell command, cmd=true {box.src}/f", "task finished"]
    assert len(daemon.task_ids(box.src / "f")) == 1
    assert {record.logger for record in daemon.records if record.fields} == {"sched"}


@ours_only
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 3", "exited with status 3"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("no-such-command-anywhere", "exited with status 127"),
    ],
)
def test_a_command_that_fails_is_a_failed_task_with_its_status(run: Run, box: Box, command: str, why: str) -> None:
    daemon = run(shell(command))
    write(box.src / "f")
    daemon.wait_log(f"sched - ERROR - task failed: {why}, mask=IN_CREATE, path={box.src}/f, task_id=")
    assert daemon.count("task finished") == 0


@ours_only
def test_a_command_that_succeeds_is_no_warning(run: Run, box: Box) -> None:
    daemon = run(shell("true"))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert daemon.count("WARNING") == 0


def test_the_task_lasts_as_long_as_the_shell(run: Run, box: Box) -> None:
    daemon = run(shell("while ! test -e $TMP/go; do sleep 0.02; done"))
    write(box.src / "f")
    daemon.wait_log("execute shell command")
    write(box.tmp / "other")
    assert daemon.count("task finished") == 0
    write(box.tmp / "go")
    daemon.wait_log("task finished")


def test_the_task_does_not_wait_for_background_children(run: Run, box: Box) -> None:
    daemon = run(shell("setsid sleep 300 & exit 0"))
    write(box.src / "f")
    daemon.wait_log("task finished", timeout_s=10)


# ---- where it runs


def test_a_command_has_the_daemons_directory_environment_and_umask(run: Run, box: Box) -> None:
    daemon = run(
        shell("(pwd; echo $GIVEN; umask) > $TMP/new; mv $TMP/new $TMP/out"),
        cwd=box.dst,
        env={"GIVEN": "from outside"},
        before=["sh", "-c", 'umask 027; exec "$@"', "sh"],
    )
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert (box.tmp / "out").read_text().split("\n")[:3] == [str(box.dst), "from outside", "0027"]


SURROUNDED = """
import os
os.environ["SET"] = {value!r}
os.environ["CHANGED"] = "by the config"
del os.environ["REMOVED"]
os.chdir({directory!r})
os.umask({umask})
"""


def surrounded(value: str, directory: str, umask: str) -> str:
    command = 'echo "$SET|$CHANGED|${REMOVED-gone}|$KEPT|$(pwd)|$(umask)" > $TMP/new; mv $TMP/new $TMP/out'
    return shell(command, before=SURROUNDED.format(value=value, directory=directory, umask=umask))


def test_what_the_config_changes_around_it_holds_for_commands(run: Run, box: Box) -> None:
    """Environment, directory and umask: as if the config ran in the daemon itself."""
    given = {"CHANGED": "outside", "REMOVED": "outside", "KEPT": "outside"}
    config = surrounded("a b", str(box.dst), "0o027")
    daemon = run(config, env=given, before=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert (box.tmp / "out").read_text() == f"a b|by the config|gone|outside|{box.dst}|0027\n"


@ours_only
def test_a_reload_takes_over_what_the_new_config_changes_around_it(run: Run, box: Box) -> None:
    given = {"CHANGED": "outside", "REMOVED": "outside", "KEPT": "outside"}
    daemon = run(surrounded("one", str(box.dst), "0o027"), env=given)
    box.write_config(surrounded("two", str(box.src), "0o022"))
    daemon.reload()
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert (box.tmp / "out").read_text() == f"two|by the config|gone|outside|{box.src}|0022\n"
    box.write_config(shell('echo "${SET-none}|$CHANGED|$REMOVED" > $TMP/new; mv $TMP/new $TMP/out'))
    daemon.reload()
    write(box.src / "g")
    daemon.wait_log("task finished", count=2)
    assert (box.tmp / "out").read_text() == "none|outside|outside\n", "what it no longer sets is as it was outside"


@ours_only
def test_a_reload_finds_the_config_although_it_changed_the_directory(box: Box) -> None:
    config = box.write_config('import os\nos.chdir("/")\n' + shell("true")).name
    interpreter = os.path.relpath(sys.executable, box.tmp)
    daemon = box.start(None, "-c", config, "--python", interpreter).wait_ready()
    daemon.reload()
    write(box.src / "f")
    daemon.wait_log("task finished")


@ours_only
def test_a_variable_that_is_not_utf8_comes_to_commands_byte_for_byte(run: Run, box: Box) -> None:
    before = "import os\nos.environb[b'RAW'] = b'\\xff\\xfe'\n"
    daemon = run(shell("printenv RAW > $TMP/new; mv $TMP/new $TMP/out", before=before))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert (box.tmp / "out").read_bytes() == b"\xff\xfe\n"


@ours_only
def test_a_command_finds_the_event_in_its_environment(run: Run, box: Box) -> None:
    daemon = run(shell("env -0 > $TMP/new; mv $TMP/new $TMP/out", "IN_MOVED_TO"))
    write(box.tmp / "f")
    (box.tmp / "f").rename(box.src / "a")
    daemon.wait_log("task finished")
    (box.src / "a").rename(box.src / "b")
    daemon.wait_log("task finished", count=2)
    env = dict(word.split("=", 1) for word in (box.tmp / "out").read_text().split("\0") if word)
    assert env["PYINOTIFYD_MASKNAME"] == "IN_MOVED_TO"
    assert env["PYINOTIFYD_PATHNAME"] == f"{box.src}/b"
    assert env["PYINOTIFYD_SRC_PATHNAME"] == f"{box.src}/a"
    assert env["PYINOTIFYD_TASK_ID"] in daemon.task_ids(box.src / "b")


def test_stdout_and_stderr_of_a_command_are_the_daemons(run: Run, box: Box) -> None:
    daemon = run(shell("echo to-out; echo to-err >&2"))
    write(box.src / "f")
    daemon.wait_out("to-out")
    daemon.wait_log("to-err")


@ours_only
def test_stdin_of_a_command_is_empty(run: Run, box: Box) -> None:
    import subprocess

    daemon = run(shell("cat; readlink /proc/self/fd/0"), stdin=subprocess.PIPE)
    write(box.src / "f")
    daemon.wait_out("/dev/null")


def test_a_command_inherits_no_descriptor(run: Run, box: Box) -> None:
    daemon = run(shell("ls -l /proc/$$/fd/ > $TMP/new; mv $TMP/new $TMP/out"))
    write(box.src / "f")
    daemon.wait_log("task finished")
    numbers = re.findall(r" (\d+) -> ", (box.tmp / "out").read_text())
    # The shell itself may hold a copy at 10 or above while it redirects.
    assert sorted(int(number) for number in numbers if int(number) < 10) == [0, 1, 2]
    assert "inotify" not in (box.tmp / "out").read_text()


def test_a_command_has_no_blocked_and_no_ignored_signals(run: Run, box: Box) -> None:
    daemon = run(shell("grep Sig /proc/self/status > $TMP/new; mv $TMP/new $TMP/out"))
    write(box.src / "f")
    daemon.wait_log("task finished")
    masks = dict(re.findall(r"(Sig\w+):\s+([0-9a-f]+)", (box.tmp / "out").read_text()))
    assert int(masks["SigBlk"], 16) == 0
    # Numbers 32 and 33 are the C library's own; its posix_spawn leaves them ignored.
    assert int(masks["SigIgn"], 16) & 0x7FFFFFFF == 0


@ours_only
def test_a_command_has_a_process_group_of_its_own(run: Run, box: Box) -> None:
    daemon = run(shell("echo $$ $(cut -d' ' -f5 /proc/$$/stat)"))
    write(box.src / "f")
    pid, group = daemon.wait_out(r"(\d+) (\d+)").groups()
    assert pid == group


# ---- how many


def test_commands_of_different_paths_run_in_parallel(run: Run, box: Box) -> None:
    daemon = run(shell("echo BEGUN; while ! test -e $TMP/go; do sleep 0.05; done"))
    for number in range(10):
        write(box.src / f"f{number}")
    daemon.wait_out("BEGUN", count=10)
    write(box.tmp / "go")
    daemon.wait_log("task finished", count=10)


def test_a_second_event_for_a_path_is_skipped_while_its_command_runs(run: Run, box: Box) -> None:
    daemon = run(shell("echo BEGUN; while ! test -e $TMP/go; do sleep 0.05; done", "IN_CREATE IN_CLOSE_WRITE"))
    write(box.src / "f")
    daemon.wait_log("WARNING - skip event due to ongoing task, mask=IN_CLOSE_WRITE")
    write(box.tmp / "go")
    daemon.wait_log("task finished")
    assert daemon.stdout.count("BEGUN") == 1


@ours_only
def test_max_jobs_bounds_how_many_run_at_once_in_order_and_none_is_lost(run: Run, box: Box) -> None:
    command = 'echo "+{pathname}" >> $TMP/trace; sleep 0.02; echo "-{pathname}" >> $TMP/trace'
    daemon = run(shell(command, options=", max_jobs=3"))
    daemon.signal(signal.SIGSTOP)
    for number in range(60):
        write(box.src / f"f{number:02}")
    daemon.signal(signal.SIGCONT)
    daemon.wait_log("task finished", count=60)
    running = most = 0
    for line in (box.tmp / "trace").read_text().splitlines():
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    assert most <= 3
    started = [record.fields["path"] for record in daemon.records if record.said.startswith("execute shell command")]
    assert started == sorted(started)
    assert len(started) == 60


@ours_only
def test_the_first_time_that_commands_wait_is_said_once(run: Run, box: Box) -> None:
    daemon = run(shell("sleep 0.05", options=", max_jobs=1"))
    for number in range(10):
        write(box.src / f"f{number:02}")
    daemon.wait_log("task finished", count=10)
    assert daemon.count("WARNING.*max_jobs") == 1


@ours_only
def test_by_default_at_most_64_commands_run_at_once(run: Run, box: Box) -> None:
    daemon = run(shell("while ! test -e $TMP/go; do sleep 0.2; done"))
    for number in range(200):
        write(box.src / f"f{number}")
    daemon.wait_log("WARNING.*max_jobs")
    daemon.wait_log("execute shell command", count=64)
    assert daemon.count("execute shell command") == 64
    write(box.tmp / "go")
    daemon.wait_log("task finished", count=200)


# ---- their end


@ours_only
def test_at_the_end_of_the_timeout_the_whole_group_is_ended(run: Run, box: Box) -> None:
    """TERM first, KILL for what ignores it; nothing that the daemon started lives on."""
    command = "trap '' TERM; sh -c 'echo $$ > $TMP/inner; sleep 300' & echo $$ > $TMP/outer; wait; sleep 300"
    daemon = run(shell(command, more=", shutdown_timeout=1"))
    write(box.src / "f")
    wait_until(lambda: (box.tmp / "inner").exists() and (box.tmp / "inner").read_text().strip())
    wait_until(lambda: (box.tmp / "outer").exists() and (box.tmp / "outer").read_text().strip())
    assert daemon.terminate() == 0
    pids = [int((box.tmp / name).read_text()) for name in ("inner", "outer")]
    wait_until(lambda: not any(map(alive, pids)), "both are gone")
    daemon.wait_log(f"WARNING - ongoing task cancelled, mask=IN_CREATE, path={box.src}/f")


def test_a_command_that_ends_within_the_timeout_is_waited_for(run: Run, box: Box) -> None:
    daemon = run(shell("sleep 0.3; echo done > $TMP/out", more=", shutdown_timeout=20"))
    write(box.src / "f")
    daemon.wait_log("execute shell command")
    assert daemon.terminate() == 0
    assert (box.tmp / "out").read_text() == "done\n"
    assert daemon.said(box.src / "f")[-1] == "task finished"
