"""What goes wrong is said in one clear line that names what, where and what to do, and disturbs nothing that runs."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from vocabulary import REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original says it otherwise")

FIRST = "ERROR: config file: "


def first_line(daemon: Daemon) -> str:
    assert daemon.exit_code == 1, daemon.tail
    line = daemon.lines[0]
    assert line.startswith(FIRST), daemon.lines
    assert daemon.stdout == ""
    text = line[len(FIRST) :]
    if not REFERENCE:
        assert text.strip(), "the text is empty"
    return text


# ---- the config file itself


def test_a_missing_config(box: Box) -> None:
    daemon = box.call("-c", box.tmp / "no.py")
    assert first_line(daemon).startswith(f"[Errno 2] No such file or directory: '{box.tmp}/no.py'")


def test_an_unreadable_config(box: Box, plain_user: None) -> None:
    box.write_config("x").chmod(0)
    daemon = box.call("-c", box.config)
    assert first_line(daemon).startswith(f"[Errno 13] Permission denied: '{box.config}'")


def test_a_directory_as_config(box: Box) -> None:
    daemon = box.call("-c", box.src)
    assert first_line(daemon).startswith(f"[Errno 21] Is a directory: '{box.src}'")


def test_an_empty_config(box: Box) -> None:
    assert "pyinotifyd" in first_line(box.call(config=""))


def test_a_config_that_is_not_utf8(box: Box) -> None:
    (box.tmp / "config.py").write_bytes(b"x = '\xff'\n")
    assert "utf-8" in first_line(box.call("-c", box.config)).lower().replace("utf8", "utf-8")


def test_a_config_with_a_nul_byte(box: Box) -> None:
    (box.tmp / "config.py").write_bytes(b"x = 1\0\n")
    assert "null byte" in first_line(box.call("-c", box.config)).lower()


def test_a_syntax_error_names_the_line(box: Box) -> None:
    daemon = box.call(config="x = 1\ny = (\n")
    assert "line 2" in first_line(daemon)


@ours_only
def test_a_syntax_error_shows_the_users_line_and_caret(box: Box) -> None:
    daemon = box.call(config="x = 1\ny = 1 +* 2\n")
    first_line(daemon)
    assert f'File "{box.config}", line 2' in daemon.log
    assert "y = 1 +* 2" in daemon.log
    assert re.search(r"^\s+\^+$", daemon.log, re.M)


@ours_only
@pytest.mark.parametrize(
    ("config", "line", "source"),
    [
        ("x = 1\nraise ValueError('oh')\n", 2, "raise ValueError('oh')"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "return 1 / 0"),
        ("pyinotifyd = Pyinotifyd()\npyinotifyd.add_watch(path=5, event_map={})\n", 2, "pyinotifyd.add_watch(path=5"),
        ("import no_such_module_anywhere\n", 1, "import no_such_module_anywhere"),
        ("\n\npyinotifyd = Pyinotfyd()\n", 3, "pyinotifyd = Pyinotfyd()"),
        (
            'r = FileManagerRule("move", "(")\n'
            'pyinotifyd = Pyinotifyd([Watch("/", {"IN_CREATE": FileManagerScheduler(r)})])\n',
            1,
            'FileManagerRule("move", "(")',
        ),
    ],
)
def test_an_error_shows_file_line_and_the_users_own_source(box: Box, config: str, line: int, source: str) -> None:
    daemon = box.call(config=config)
    first_line(daemon)
    assert f'File "{box.config}", line {line}' in daemon.log
    assert source in daemon.log
    # Not our own frames: they help nobody.
    files = re.findall(r'File "([^"]*)", line', daemon.log)
    assert set(files) == {str(box.config)}


@ours_only
def test_with_debug_the_whole_traceback_follows(box: Box) -> None:
    daemon = box.call("-d", config="raise ValueError('oh')\n")
    assert daemon.exit_code == 1
    assert next(line for line in daemon.lines if not line.startswith("DEBUG: ")).startswith(FIRST)
    assert "Traceback (most recent call last)" in daemon.log


@ours_only
def test_a_misspelt_name_says_which_was_meant(box: Box) -> None:
    assert "Pyinotifyd" in first_line(box.call(config="pyinotifyd = Pyinotfyd()\n"))


@ours_only
def test_an_assertion_without_text_is_said_with_its_source(box: Box) -> None:
    daemon = box.call(config="x = 1\nassert x == 2\n")
    first_line(daemon)
    assert "assert x == 2" in daemon.log


def test_an_error_in_an_imported_module_names_that_file(box: Box) -> None:
    (box.tmp / "mine.py").write_text("x = 1\ny = 1 / 0\n")
    daemon = box.call(config='import sys\nsys.path.insert(0, "$TMP")\nimport mine\n')
    assert "division by zero" in first_line(daemon)
    if not REFERENCE:
        assert f'File "{box.tmp}/mine.py", line 2' in daemon.log


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_in_the_config_ends_the_program_with_its_code_silently(box: Box, code: int) -> None:
    daemon = box.call(config=f"import sys\nsys.exit({code})\n")
    assert daemon.exit_code == code
    assert daemon.lines == []


def test_print_in_the_config_is_on_stdout(run: Run, box: Box) -> None:
    daemon = run('print("from the config")\npyinotifyd = Pyinotifyd([Watch("$SRC", {})])')
    daemon.wait_out("^from the config$")
    assert daemon.terminate() == 0


@ours_only
def test_an_interrupt_ends_a_config_that_never_returns(box: Box) -> None:
    daemon = box.start("import time\nprint('HERE', flush=True)\nwhile True: time.sleep(0.1)\n")
    daemon.wait_out("HERE")
    begun = time.monotonic()
    os.killpg(daemon.pid, signal.SIGINT)
    daemon.wait_exit()
    assert time.monotonic() - begun < 5
    assert daemon.exit_code != 0
    wait_until(lambda: daemon.children() == [])


@ours_only
def test_a_term_ends_a_config_that_never_returns(box: Box) -> None:
    daemon = box.start("print('HERE', flush=True)\nwhile True: pass\n")
    daemon.wait_out("HERE")
    daemon.signal(signal.SIGTERM)
    daemon.wait_exit(timeout_s=10)
    wait_until(lambda: daemon.children() == [])


@ours_only
@pytest.mark.parametrize(
    "config",
    [
        "import os; os._exit(0)",
        "import os; os.abort()",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.close(0); os.closerange(3, 100); pyinotifyd = Pyinotifyd()",
    ],
)
def test_a_config_that_kills_its_interpreter_is_an_error(box: Box, config: str) -> None:
    daemon = box.call(config=config)
    assert daemon.exit_code == 1
    # What the interpreter itself says of its death may come before.
    assert daemon.count(f"^{FIRST}.") == 1


@ours_only
@pytest.mark.parametrize(
    "config",
    [
        "def f(): f()\nf()\n",
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n",
        "raise BaseException('odd')\n",
        "raise SystemExit('words')\n",
    ],
)
def test_odd_exceptions_are_said(box: Box, config: str) -> None:
    daemon = box.call(config=config)
    assert daemon.exit_code == 1
    assert daemon.log.strip()
    assert "panicked" not in daemon.log


# ---- what it names


@ours_only
def test_a_path_that_is_not_there_is_said(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$TMP/missing", {})])')
    daemon.wait_log(f"{box.tmp}/missing.*(does not exist|not there|missing|No such file)")
    assert daemon.count("Traceback") == 0


@ours_only
def test_a_path_with_a_bracket_in_its_name_is_watched_as_it_is_written(run: Run, box: Box) -> None:
    """`[1]` is a pattern that does not match itself; where a directory of that very name is there, it is meant."""
    (box.tmp / "in[1]").mkdir()
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$TMP/in[1]", recorder("IN_CREATE"))])', record=True)
    write(box.tmp / "in[1]" / "f")
    daemon.wait_event("IN_CREATE", box.tmp / "in[1]" / "f")


@ours_only
def test_an_unreadable_path_is_said(box: Box, plain_user: None) -> None:
    (box.src / "shut").mkdir()
    (box.src / "shut").chmod(0)
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("$SRC/shut", {})])')
    daemon.wait_log(f"{box.src}/shut.*(?i:permission denied)")


@ours_only
def test_a_misspelt_event_says_which_was_meant(box: Box) -> None:
    daemon = box.call(config='pyinotifyd = Pyinotifyd([Watch("/", {"IN_CLOSEWRITE": None})])')
    text = first_line(daemon)
    assert text.startswith("event_map: invalid flag: IN_CLOSEWRITE")
    assert "IN_CLOSE_WRITE" in text


@ours_only
@pytest.mark.parametrize("pattern", ["(?P<a>", "[z-a]", r"(?P=no)", "a{2,1}", "(?L)a"])
def test_a_bad_exclude_pattern_is_refused_at_load(box: Box, pattern: str) -> None:
    text = first_line(box.call(config=f'pyinotifyd = Pyinotifyd([Watch("/", {{}}, exclude_filter=[r"{pattern}"])])'))
    assert text


@ours_only
def test_a_command_that_the_shell_can_not_find_is_a_failed_task(run: Run, box: Box) -> None:
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("/no/such/command {pathname}")})])'
    )
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed: exited with status 127, mask=IN_CREATE, path=.*/f, task_id=")
    write(box.src / "g")
    daemon.wait_log("task failed", count=2)
    assert daemon.count("task finished") == 0


@ours_only
def test_the_same_fault_a_thousand_times_does_not_flood_the_log(run: Run, box: Box) -> None:
    """A job that fails is a line a task, that is asked for; a root that stays away is not."""
    daemon = run('pyinotifyd = Pyinotifyd([Watch(["$TMP/missing", "$SRC"], {"IN_CREATE": ShellScheduler("true")})])')
    for number in range(100):
        (box.tmp / f"noise{number}").mkdir()
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert daemon.count(f"{box.tmp}/missing") <= 2


@ours_only
def test_an_instance_changed_at_run_time_is_refused_clearly(run: Run, box: Box) -> None:
    config = """
async def job(event, task_id):
    pyinotifyd.add_watch("/tmp", {})
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("ERROR|Error")
    assert daemon.running


@ours_only
def test_stderr_that_nobody_reads_any_more_does_not_kill(box: Box) -> None:
    """The reader of the log goes away: the daemon goes on."""
    import subprocess

    from vocabulary import binary

    box.write_config(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("cat {pathname} >> $TMP/seen")})])'
    )
    process = subprocess.Popen(
        [binary(), "-c", box.config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr
        while b"start listening" not in process.stderr.readline():
            assert process.poll() is None
        process.stderr.close()
        for number in range(5):
            write(box.src / f"f{number}", f"{number}\n")
        wait_until(lambda: (box.tmp / "seen").exists())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
