"""The command line: options, exit codes, and which output goes where."""

from __future__ import annotations

import re

import pytest

from vocabulary import EVENT_NAMES, REFERENCE, Box

EMPTY = "pyinotifyd = Pyinotifyd()\n"

ours_only = pytest.mark.skipif(REFERENCE, reason="the original has no such option, or says it otherwise")


@pytest.mark.parametrize("option", ["-v", "--version", "--vers", "--versio"])
def test_version(box: Box, option: str) -> None:
    daemon = box.call(option)
    assert re.fullmatch(r"pyinotifyd \(\d+\.\d+\.\d+\)", daemon.stdout)
    assert daemon.exit_code == 0
    assert daemon.lines == []


@pytest.mark.parametrize("option", ["-l", "--list", "--li"])
def test_list_is_the_event_names_one_a_line(box: Box, option: str) -> None:
    daemon = box.call(option)
    assert (
        [line.split()[0] for line in daemon.out.lines if line] == EVENT_NAMES
        if REFERENCE
        else daemon.out.lines == EVENT_NAMES
    )
    assert daemon.exit_code == 0
    assert daemon.lines == []


@pytest.mark.parametrize("option", ["-h", "--help", "--he"])
def test_help_is_on_stdout(box: Box, option: str) -> None:
    daemon = box.call(option)
    assert daemon.exit_code == 0
    assert daemon.lines == []
    assert "usage" in daemon.stdout.lower()
    for spelling in (
        "-h",
        "--help",
        "-c",
        "--config",
        "-d",
        "--debug",
        "-l",
        "--list",
        "-v",
        "--version",
        "-i",
        "--install",
        "-u",
        "--uninstall",
        "-t",
        "--configtest",
        "/etc/pyinotifyd/config.py",
    ):
        assert spelling in daemon.stdout


@pytest.mark.parametrize("option", ["-v", "-l", "-h"])
@ours_only
def test_what_needs_no_config_starts_no_python(box: Box, option: str) -> None:
    """Neither a broken interpreter nor a broken config matters."""
    daemon = box.call(option, "--python", "/no/such/python", config="syntax error (")
    assert daemon.exit_code == 0
    assert daemon.lines == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["-x"],
        ["stray"],
        ["-c"],
        ["--config"],
        ["-l", "-v"],
        ["-lv"],
        ["-t", "-v"],
        ["-i", "-u"],
        ["-i", "-t"],
        ["-u", "-l"],
        ["--list", "--configtest"],
        ["--conf", "x"],
        ["--version=1"],
    ],
)
def test_a_wrong_command_line_is_usage_on_stderr_and_exit_2(box: Box, arguments: list[str]) -> None:
    daemon = box.call(*arguments)
    assert daemon.exit_code == 2
    assert daemon.stdout == ""
    assert "usage" in daemon.log.lower()
    assert "error:" in daemon.log


@ours_only
def test_an_ambiguous_prefix_names_its_candidates(box: Box) -> None:
    daemon = box.call("--conf", "x")
    assert "--config" in daemon.log
    assert "--configtest" in daemon.log


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("--dryrun", "did you mean '--dry-run'"),
        ("--debg", "did you mean '--debug'"),
        ("--config-test", "did you mean '--configtest'"),
        ("--explian", "did you mean '--explain'"),
        ("./config.py", "a config file is named by '-c ./config.py'"),
        ("config.py", "a config file is named by '-c config.py'"),
        ("/etc/pyinotifyd", "a config file is named by '-c /etc/pyinotifyd'"),
    ],
)
@ours_only
def test_a_wrong_word_says_what_was_probably_meant(box: Box, word: str, advice: str) -> None:
    daemon = box.call(word)
    assert daemon.exit_code == 2
    assert daemon.stdout == ""
    assert advice in daemon.log.splitlines()[0]


@pytest.mark.parametrize(
    "spelling",
    [
        ["-t", "-c", "@"],
        ["-tc", "@"],
        ["-tc@"],
        ["-c@", "-t"],
        ["--config=@", "--configtest"],
        ["--config", "@", "--configt"],
        ["-dtc@"],
    ],
)
def test_configtest_in_all_spellings(box: Box, spelling: list[str]) -> None:
    config = str(box.write_config(EMPTY))
    daemon = box.call(*[word.replace("@", config) for word in spelling])
    assert daemon.exit_code == 0
    assert "INFO: config file ok" in daemon.lines
    assert daemon.stdout == ""


@ours_only
def test_of_several_configs_all_count(box: Box) -> None:
    (box.tmp / "bad.py").write_text("(")
    (box.tmp / "good.py").write_text(EMPTY)
    (box.tmp / "better.py").write_text(EMPTY)
    assert box.call("-t", "-c", box.tmp / "better.py", "-c", box.tmp / "good.py").exit_code == 0
    assert box.call("-t", "-c", box.tmp / "bad.py", "-c", box.tmp / "good.py").exit_code == 1
    assert box.call("-t", "-c", box.tmp / "good.py", "-c", box.tmp / "bad.py").exit_code == 1


def test_configtest_starts_nothing(box: Box) -> None:
    """No watch, no task, no listening; print in the config is seen."""
    daemon = box.call("-t", config='print("loaded")\npyinotifyd = Pyinotifyd([Watch("$SRC", {})])')
    assert daemon.exit_code == 0
    assert daemon.stdout == "loaded"
    assert daemon.count("start listening") == 0


def test_configtest_of_a_bad_config_is_one_line_and_exit_1(box: Box) -> None:
    daemon = box.call("-t", config="raise ValueError('the reason')")
    assert daemon.exit_code == 1
    assert daemon.lines[0] == "ERROR: config file: the reason"
    assert "INFO: config file ok" not in daemon.lines
    assert daemon.stdout == ""


def test_debug_shows_each_event(box: Box) -> None:
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("$SRC", {})])', "-d")
    (box.src / "d").mkdir()
    received = daemon.wait_received("IN_CREATE|IN_ISDIR", box.src / "d")
    assert received.text == f"dir=True, mask=0x40000100, maskname=IN_CREATE|IN_ISDIR, pathname={box.src}/d, wd=1"


def test_debug_beats_a_global_level_of_the_config(box: Box) -> None:
    daemon = box.run('setLoglevel(ERROR)\npyinotifyd = Pyinotifyd([Watch("$SRC", {})])', "--debug")
    (box.src / "d").mkdir()
    daemon.wait_received("IN_CREATE|IN_ISDIR", box.src / "d")


def test_debug_does_not_beat_a_level_by_name(box: Box) -> None:
    config = 'setLoglevel(ERROR, "eventmap")\npyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])'
    daemon = box.run(config, "-d", record=True)
    (box.src / "d").mkdir()
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "d")
    assert daemon.received == []


def test_nothing_of_the_daemon_goes_to_stdout(box: Box) -> None:
    daemon = box.run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("echo out"), '
        '"IN_OPEN": ShellScheduler("echo err >&2")})])',
        "-d",
    )
    (box.src / "f").touch()
    daemon.wait_log("task finished", count=2)
    assert daemon.terminate() == 0
    assert daemon.stdout == "out"
    assert "err" in daemon.lines


@ours_only
def test_python_option_chooses_the_interpreter(box: Box) -> None:
    wrapper = box.tmp / "my-python"
    import sys

    wrapper.write_text(f'#!/bin/sh\necho used > {box.tmp}/used\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    assert box.call("-t", "--python", wrapper, config=EMPTY).exit_code == 0
    assert (box.tmp / "used").exists()


@ours_only
def test_python_variable_chooses_the_interpreter(box: Box) -> None:
    wrapper = box.tmp / "my-python"
    import sys

    wrapper.write_text(f'#!/bin/sh\necho used > {box.tmp}/used\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    assert box.call("-t", config=EMPTY, env={"PYINOTIFYD_PYTHON": str(wrapper)}).exit_code == 0
    assert (box.tmp / "used").exists()


@ours_only
def test_a_missing_interpreter_is_one_clear_line(box: Box) -> None:
    daemon = box.call("-t", "--python", "/no/such/python", config=EMPTY)
    assert daemon.exit_code not in (0, None)
    assert "/no/such/python" in daemon.log
    assert "panicked" not in daemon.log


@ours_only
def test_an_interpreter_that_is_too_old_is_said(box: Box) -> None:
    wrapper = box.tmp / "old-python"
    # What a Python 2 does with our code: it does not understand it.
    wrapper.write_text(
        "#!/bin/sh\necho '  File \"<stdin>\", line 1' >&2\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n"
    )
    wrapper.chmod(0o755)
    daemon = box.call("-t", "--python", wrapper, config=EMPTY)
    assert daemon.exit_code not in (0, None)
    assert str(wrapper) in daemon.log
    assert "3.9" in daemon.log


@pytest.mark.parametrize("status", [126, 127])
@ours_only
def test_an_interpreter_that_leads_to_nothing_executable_is_not_called_too_old(box: Box, status: int) -> None:
    """pyenv's python3 is a script; its shell says by 126 or 127 that it could not execute the real one."""
    wrapper = box.tmp / "shim"
    wrapper.write_text(f"#!/bin/sh\nexit {status}\n")
    wrapper.chmod(0o755)
    daemon = box.call("-t", "--python", wrapper, config=EMPTY)
    assert daemon.exit_code == 1
    assert "3.9" not in daemon.log
    assert "cannot execute" in daemon.log


@ours_only
def test_an_interpreter_that_the_user_may_not_execute_is_not_called_missing(box: Box, plain_user: None) -> None:
    python = box.tmp / "python3"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o644)
    hidden = box.tmp / "hidden"
    hidden.mkdir(mode=0)
    for path in (python, hidden / "python3"):
        daemon = box.call("-t", "--python", path, config=EMPTY)
        assert daemon.exit_code == 1
        line = daemon.log.splitlines()[0]
        assert re.search(f"'{path}' that --python names: the user with uid \\d+ may not execute it$", line), line


@ours_only
def test_errors_of_the_system_are_in_the_words_that_people_know(box: Box) -> None:
    """Rust puts `(os error 24)` behind them."""
    config = "pyinotifyd = Pyinotifyd()\n"
    missing = box.tmp / "no/config.py"
    for daemon in (
        box.call("-t", config=config, before=["sh", "-c", 'ulimit -n 12; exec "$@"', "sh"]),
        box.call("-t", "-c", missing),
        box.call(
            "-t",
            config=config + "pyinotifyd.add_watch('$SRC/f/g', {})\n",
            before=["sh", "-c", ': > $0/f; exec "$@"', box.src],
        ),
    ):
        assert daemon.log
        assert "os error" not in daemon.log, daemon.log
    assert (
        "Too many open files" in box.call("-t", config=config, before=["sh", "-c", 'ulimit -n 12; exec "$@"', "sh"]).log
    )


@ours_only
def test_an_interpreter_that_ends_while_it_executes_the_config_is_not_called_too_old(box: Box) -> None:
    daemon = box.call("-t", config="import os\nos._exit(3)\n")
    assert daemon.exit_code == 1
    assert "ended with status 3" in daemon.log
    assert "3.9" not in daemon.log


@ours_only
def test_the_error_of_a_missing_interpreter_lists_all_places_tried(box: Box) -> None:
    program = box.tmp / "bin" / "pyinotifyd"
    program.parent.mkdir()
    import shutil

    from vocabulary import binary

    shutil.copy(binary(), program)
    config = box.write_config(EMPTY)
    import os
    import subprocess

    env = {key: value for key, value in os.environ.items() if key != "PYINOTIFYD_PYTHON"}
    env.update(PATH=str(box.dst), VIRTUAL_ENV=str(box.tmp / "venv"))
    done = subprocess.run(
        [program, "-t", "-c", config], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    for place in ("--python", f"{box.tmp}/bin/python3", f"{box.tmp}/venv/bin/python3", f"{box.dst}/python3"):
        assert place in done.stderr


def test_the_default_config_is_in_etc(box: Box) -> None:
    import os

    if os.path.exists("/etc/pyinotifyd/config.py"):
        pytest.skip("this machine has an /etc/pyinotifyd/config.py")
    daemon = box.call()
    assert daemon.exit_code == 1
    assert daemon.lines[0].startswith("ERROR: config file: ")
    assert "/etc/pyinotifyd/config.py" in daemon.lines[0]


def test_the_current_directory_is_not_on_the_path_of_imports(box: Box) -> None:
    (box.tmp / "json.py").write_text("raise SystemExit('shadowed')")
    (box.tmp / "pyinotifyd.py").write_text("raise SystemExit('shadowed')")
    if REFERENCE:
        pytest.skip("what is on the path there depends on how it was started")
    daemon = box.call("-t", config="import json\nfrom pyinotifyd import Pyinotifyd as P\npyinotifyd = P()", cwd=box.tmp)
    assert daemon.exit_code == 0, daemon.tail


def test_exit_code_of_a_normal_end_is_0(box: Box) -> None:
    daemon = box.run(EMPTY)
    assert daemon.terminate() == 0
    assert daemon.stdout == ""
