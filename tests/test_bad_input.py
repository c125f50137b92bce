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
    """It stands for the config files in it."""
    write(box.src / "bad.py", "(")
    assert "config file: '(' was never closed" in box.call("-c", box.src).log


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
        ("pyinotifyd = Pyinotifyd()\npyinotifyd = (\n    3\n)\nx = 1\n", 2, "pyinotifyd = ("),
        ("x = 1\nimport pyinotifyd\n", 2, "import pyinotifyd"),
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


# ---- the table: each wrong config, the line that it is wrong in, and what is said of it

# What stands before each config. The line numbers below count from the line behind it.
BEGIN = """import logging, os
async def job(event, task_id): pass
async def one(event): pass
def plain(event, task_id): pass
s = ShellScheduler("true")
def rule(**more): return FileManagerRule(**{"action": "move", "src_re": "^$SRC/(.*)$", "dst_re": "$DST/a", **more})
"""
END = '\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": s})])\n'
BEFORE = BEGIN.count("\n")

WRONG = [
    # names
    (
        'ShellScheduler("a", name="a b")',
        1,
        "name: expected at most 100 of the characters A-Z, a-z, 0-9, '.', '_' and '-', got 'a b'",
    ),
    (
        'a = ShellScheduler("a", name="x")\nb = ShellScheduler("b", name="x")',
        2,
        "name: 'x' is the name of the scheduler at $CONFIG:7 already, give each a name of its own",
    ),
    ("x = Rule()", 1, "name 'Rule' is not defined, did you mean 'FileManagerRule'?"),
    ("x = Scheduler(job)", 1, "name 'Scheduler' is not defined, did you mean 'TaskScheduler'?"),
    ("x = ShellSchedulr('true')", 1, "name 'ShellSchedulr' is not defined, did you mean 'ShellScheduler'?"),
    (
        "x = ShellScheduler('true', delai=3)",
        1,
        "ShellScheduler.__init__() got an unexpected keyword argument 'delai', did you mean 'delay'?",
    ),
    (
        "x = Watch('/x', recursive=True)",
        1,
        "Watch.__init__() got an unexpected keyword argument 'recursive', did you mean 'rec'?",
    ),
    (
        "x = ShellScheduler(command='true')",
        1,
        "ShellScheduler.__init__() got an unexpected keyword argument 'command', did you mean 'cmd'?",
    ),
    ("s.dely = 3", 1, "ShellScheduler has no attribute 'dely', did you mean 'delay'?"),
    # jobs
    (
        "x = TaskScheduler(plain)",
        1,
        "job: expected coroutine, got <class 'function'>: write 'async def plain(event, task_id)' instead of 'def'",
    ),
    (
        "x = TaskScheduler(lambda event, task_id: None)",
        1,
        "job: expected coroutine, got <class 'function'>: write 'async def <lambda>(event, task_id)' instead of 'def'",
    ),
    (
        "async def many(event, task_id): yield\nx = TaskScheduler(many)",
        2,
        "job: expected coroutine, got <class 'function'>: many yields, which makes an async generator of it; a job "
        "must not yield",
    ),
    (
        "import functools\nasync def many(event, task_id, more): yield\n"
        "x = TaskScheduler(functools.partial(many, more=1))",
        3,
        "job: expected coroutine, got <class 'functools.partial'>: many yields, which makes an async generator of it; "
        "a job must not yield",
    ),
    ("x = ShellScheduler('echo \\0')", 1, "cmd: a command can't get a NUL byte: 'echo \\x00'"),
    ("x = TaskScheduler(None)", 1, "job: expected coroutine, got <class 'NoneType'>: None"),
    ("x = TaskScheduler('job')", 1, "job: expected coroutine, got <class 'str'>: 'job'"),
    ("x = TaskScheduler(one)", 1, "job: it is called with (event, task_id), but is defined as one(event)"),
    (
        "async def three(event, task_id, more): pass\nx = TaskScheduler(three)",
        2,
        "job: it is called with (event, task_id), but is defined as three(event, task_id, more)",
    ),
    (
        "async def named(event, *, task_id): pass\nx = TaskScheduler(named)",
        2,
        "job: it is called with (event, task_id), but is defined as named(event, *, task_id)",
    ),
    ("x = TaskScheduler(job())", 1, "job() missing 2 required positional arguments: 'event' and 'task_id'"),
    (
        "x = ShellScheduler('true', job)",
        1,
        "job: expected None, got <class 'function'>: a ShellScheduler has no job, a TaskScheduler has",
    ),
    # numbers
    ("x = TaskScheduler(job, delay=-1)", 1, "delay: expected 0 or more seconds, got -1"),
    ("x = ShellScheduler('true', delay=-0.5)", 1, "delay: expected 0 or more seconds, got -0.5"),
    ("x = ShellScheduler('true', delay='5')", 1, "delay: expected <class 'int'> or <class 'float'>, got <class 'str'>"),
    ("x = ShellScheduler('true', delay=float('nan'))", 1, "delay: expected at most 1000000000 seconds, got nan"),
    ("x = ShellScheduler('true', max_jobs=0)", 1, "max_jobs: expected at least 1 job, got 0"),
    ("x = Pyinotifyd(shutdown_timeout=-3)", 1, "timeout: expected 0 or more seconds, got -3"),
    # commands
    ("x = ShellScheduler(['ls'])", 1, "cmd: expected <class 'str'>, got <class 'list'>"),
    (
        "s.cmd = 'echo `cat {pathname}`'",
        -1,
        'cmd: {pathname} stands in backticks, where its value cannot be quoted: use "$PYINOTIFYD_PATHNAME"',
    ),
    (
        "s.cmd = 'eval {pathname}'",
        -1,
        "cmd: {pathname} stands in text that a shell reads once more, where its value cannot be quoted: use "
        '"$PYINOTIFYD_PATHNAME" in single quotes, or give it as an argument, as in sh -c \'ls "$1"\' sh {pathname}',
    ),
    (
        "s.cmd = 'sh -c \"ls {src_pathname}\"'",
        -1,
        "cmd: {src_pathname} stands in text that a shell reads once more, where its value cannot be quoted: use "
        '"$PYINOTIFYD_SRC_PATHNAME" in single quotes, or give it as an argument, as in sh -c \'ls "$1"\' sh '
        "{src_pathname}",
    ),
    (
        's.cmd = \'x={pathname}; "$SHELL" -c "ls $x"\'',
        -1,
        "cmd: {pathname} stands in text that a shell reads once more, where its value cannot be quoted: use "
        '"$PYINOTIFYD_PATHNAME" in single quotes, or give it as an argument, as in sh -c \'ls "$1"\' sh {pathname}',
    ),
    (
        "s.cmd = 'sh -c \"ls $PYINOTIFYD_PATHNAME\"'",
        -1,
        "cmd: $PYINOTIFYD_PATHNAME stands in text that a shell reads once more, where its value cannot be quoted: use "
        '"$PYINOTIFYD_PATHNAME" in single quotes, or give it as an argument, as in sh -c \'ls "$1"\' sh {pathname}',
    ),
    (
        "s.cmd, s.argv = None, ['perl', '-e', 'print \"{pathname}\"']",
        -1,
        "argv: {pathname} stands in text that perl executes, where its value cannot be quoted: give it as an argument, "
        "as in perl -e 'CODE' {pathname}",
    ),
    (
        "s.cmd = 'echo \"$(cat {maskname})\"'",
        -1,
        'cmd: {maskname} stands in $(...) in quotes, where its value cannot be quoted: use "$PYINOTIFYD_MASKNAME"',
    ),
    (
        "s.cmd = 'cat <<E\\n{pathname}\\nE'",
        -1,
        "cmd: {pathname} stands in or behind a here-document, where its value cannot be quoted: use "
        '"$PYINOTIFYD_PATHNAME"',
    ),
    (
        "s.cmd = 'echo ${pathname}'",
        -1,
        'cmd: {pathname} stands behind a $, where its value cannot be quoted: use "$PYINOTIFYD_PATHNAME"',
    ),
    # event maps
    (
        "x = EventMap(event_map={'IN_DELETE': Cancel})",
        1,
        "event_map: IN_DELETE: Cancel lacks the scheduler whose tasks it cancels, write Cancel(scheduler)",
    ),
    (
        "x = EventMap(event_map={'IN_DELETE': ShellScheduler})",
        1,
        "event_map: IN_DELETE: ShellScheduler is a class, write ShellScheduler(...) or the variable that holds one",
    ),
    (
        "x = Watch('/x', {'IN_CREATE': 'true'})",
        1,
        "job: expected coroutine, got <class 'str'>: IN_CREATE is mapped to 'true', write a scheduler, "
        "Cancel(scheduler), a coroutine function or a list of these",
    ),
    (
        "x = Watch('/x', {'IN_CREATE': [s, None]})",
        1,
        "job: expected coroutine, got <class 'NoneType'>: IN_CREATE is mapped to None, write a scheduler, "
        "Cancel(scheduler), a coroutine function or a list of these",
    ),
    (
        "x = Watch('/x', {'IN_CREATE': plain})",
        1,
        "job: expected coroutine, got <class 'function'>: write 'async def plain(event, task_id)' instead of 'def' "
        "(event_map: IN_CREATE)",
    ),
    (
        "x = Watch('/x', {'IN_CREATE': one})",
        1,
        "job: it is called with (event, task_id), but is defined as one(event) (event_map: IN_CREATE)",
    ),
    (
        "x = Watch('/x', {'IN_CLOSE_WRITE|IN_MOVED_TO': s})",
        1,
        "event_map: invalid flag: IN_CLOSE_WRITE|IN_MOVED_TO, write an entry for each event: 'IN_CLOSE_WRITE': "
        "..., 'IN_MOVED_TO': ...",
    ),
    (
        "x = Watch('/x', {'IN_CREATE, IN_DELETE': s})",
        1,
        "event_map: invalid flag: IN_CREATE, IN_DELETE, write an entry for each event: 'IN_CREATE': ..., "
        "'IN_DELETE': ...",
    ),
    (
        "x = Watch('/x', {'IN_CLOSE': s})",
        1,
        "event_map: invalid flag: IN_CLOSE, write an entry for each event: 'IN_CLOSE_WRITE': ..., "
        "'IN_CLOSE_NOWRITE': ...",
    ),
    (
        "x = Watch('/x', {'IN_MOVE': s})",
        1,
        "event_map: invalid flag: IN_MOVE, write an entry for each event: 'IN_MOVED_FROM': ..., 'IN_MOVED_TO': ...",
    ),
    (
        "x = Watch('/x', {'IN_CREATE|IN_ISDIR': s})",
        1,
        "event_map: invalid flag: IN_CREATE|IN_ISDIR, write 'IN_CREATE', and dirs=True at its scheduler",
    ),
    (
        "x = Watch('/x', {'ALL_EVENTS': s})",
        1,
        "event_map: invalid flag: ALL_EVENTS, write default_sched=... for all events",
    ),
    ("x = Watch('/x', {'in_create': s})", 1, "event_map: invalid flag: in_create, did you mean 'IN_CREATE'?"),
    ("x = Watch('/x', {256: s})", 1, "event_map: invalid flag: 256, write the event's name as a string"),
    ("x = Watch('/x', [s])", 1, "event_map: expected <class 'dict'>, got <class 'list'>"),
    ("x = Cancel(job)", 1, "task: expected a scheduler instead of <function job at *>, got <class 'function'>"),
    ("x = Cancel('s')", 1, "task: expected a scheduler instead of 's', got <class 'str'>"),
    # watches
    ("x = Watch('~/in', {})", 1, "path: ~ is not expanded, write os.path.expanduser('~/in')"),
    ("x = Watch(['/x', '~user'], {})", 1, "path: ~ is not expanded, write os.path.expanduser('~user')"),
    ("x = Watch('', {})", 1, "path: expected a path, got an empty string"),
    ("x = Watch(5, {})", 1, "path: expected <class 'str'> or <class 'list'>, got <class 'int'>"),
    (
        "x = Watch('/x', {}, exclude_filter='^/x/tmp')",
        1,
        "exclude_filter: [Errno 2] No such file or directory: '^/x/tmp'; a string is the path of a file with one "
        "expression a line, write ['^/x/tmp'] for one expression",
    ),
    (
        "x = Watch('/x', {}, exclude_filter=5)",
        1,
        "exclude_filter: expected <class 'str'> or <class 'list'>, got <class 'int'>",
    ),
    ("x = Pyinotifyd(['/x'])", 1, "watches: expected a Watch instead of '/x', got <class 'str'>"),
    (
        "x = Pyinotifyd(s)",
        1,
        "watches: expected a Watch instead of *, got <class 'pyinotifyd.scheduler.ShellScheduler'>",
    ),
    # rules
    (
        "x = FileManagerRule('mvoe', '^/a', '/b')",
        1,
        "action: expected [copy, move, delete], got mvoe, did you mean 'move'?",
    ),
    ("x = FileManagerRule(5, '^/a', '/b')", 1, "action: expected [copy, move, delete], got 5"),
    ("x = FileManagerRule('move', '^/a')", 1, 'dst_re: move needs a destination, write dst_re=r"/where/to/\\\\1"'),
    ("x = FileManagerRule('copy', '^/a', '')", 1, 'dst_re: copy needs a destination, write dst_re=r"/where/to/\\\\1"'),
    (
        "x = FileManagerRule('move', '^/(a)', '/b/\\1')",
        1,
        "dst_re: holds the control character '\\\\x01', write the string as r\"...\" to keep its backslashes",
    ),
    (
        "x = FileManagerRule('move', '\\b/a', '/b')",
        1,
        "src_re: holds the control character '\\\\x08', write the string as r\"...\" to keep its backslashes",
    ),
    ("x = FileManagerRule('move', '^/a', '~/b')", 1, "dst_re: ~ is not expanded, write os.path.expanduser('~/b')"),
    (
        "x = FileManagerRule('move', '^/a', '/b', filemode=0o10000)",
        1,
        "filemode: expected a mode from 0 to 0o7777, got 4096",
    ),
    (
        "x = FileManagerRule('move', '^/a', '/b', filemode='644')",
        1,
        "filemode: expected <class 'int'>, got <class 'str'>",
    ),
    ("x = FileManagerScheduler('move')", 1, "rules: expected a FileManagerRule instead of 'move', got <class 'str'>"),
    (
        "x = FileManagerScheduler([rule(), s])",
        1,
        "rules: expected a FileManagerRule instead of *, got <class 'pyinotifyd.scheduler.ShellScheduler'>",
    ),
    ("x = rule(src_re='(')", BEFORE, "missing ), unterminated subpattern at position 0"),
    (
        "x = rule(on_conflict='replace')",
        BEFORE,
        "on_conflict: expected one of fail, overwrite, skip, rename, newer, same, got replace, did you mean 'rename'?",
    ),
    (
        "x = rule(on_conflict='skp')",
        BEFORE,
        "on_conflict: expected one of fail, overwrite, skip, rename, newer, same, got skp, did you mean 'skip'?",
    ),
    ("x = rule(on_conflict=True)", BEFORE, "on_conflict: expected <class 'str'>, got <class 'bool'>"),
    (
        "x = rule(overwrite=True, on_conflict='skip')",
        BEFORE,
        "on_conflict: overwrite=True is on_conflict=\"overwrite\", not 'skip', give one of them",
    ),
    ("x = rule(verify=1)", BEFORE, "verify: expected <class 'bool'>, got <class 'int'>"),
    ("x = rule(action='delete', verify=True)", BEFORE, "verify: delete has no destination, this is for move and copy"),
    (
        "x = rule(action='delete', on_conflict='skip')",
        BEFORE,
        "on_conflict: delete has no destination, this is for move and copy",
    ),
    (
        "x = rule(action='delete', mounted='/mnt')",
        BEFORE,
        "mounted: delete has no destination, this is for move and copy",
    ),
    (
        "x = rule(action='copy', prune=True)",
        BEFORE,
        "prune: copy leaves the source where it is, this is for move and delete",
    ),
    ("x = rule(trash='trash')", BEFORE, "trash: expected an absolute path, got 'trash'"),
    ("x = rule(trash='~/trash')", BEFORE, "trash: ~ is not expanded, write os.path.expanduser('~/trash')"),
    ("x = rule(mounted=5)", BEFORE, "mounted: expected <class 'str'>, got <class 'int'>"),
    (
        "s = FileManagerScheduler(rule(mounted='/mnt/nas'))",
        BEFORE,
        "mounted: '/mnt/nas' is no directory above the destination '$DST/a'",
    ),
    (
        "x = rule(trsh='/x')",
        BEFORE,
        "FileManagerRule.__init__() got an unexpected keyword argument 'trsh', did you mean 'trash'?",
    ),
    # how tasks run
    ("x = ShellScheduler('true', timeout=0)", 1, "timeout: expected more than 0 seconds, got 0"),
    ("x = ShellScheduler('true', timeout=-1)", 1, "timeout: expected 0 or more seconds, got -1"),
    ("x = ShellScheduler('true', timeout=True)", 1, "timeout: expected seconds, got True"),
    (
        "x = ShellScheduler('true', timeout='5')",
        1,
        "timeout: expected <class 'int'> or <class 'float'>, got <class 'str'>",
    ),
    ("x = ShellScheduler('true', max_jobs=2**40)", 1, "max_jobs: expected at most 4294967295, got 1099511627776"),
    ("x = ShellScheduler('true', retry=5)", 1, "retry: expected a Retry instead of 5, got <class 'int'>"),
    ("x = Retry(times=0)", 1, "times: expected at least 1, got 0"),
    ("x = Retry(times=2**40)", 1, "times: expected at most 4294967295, got 1099511627776"),
    ("x = Retry(delay=-1)", 1, "delay: expected 0 or more seconds, got -1"),
    ("x = Retry(delay=10, max_delay=5)", 1, "max_delay: expected at least the delay of 10 seconds, got 5"),
    ("x = Retry(factor=0.5)", 1, "factor: expected a number from 1 to 1000, got 0.5"),
    ("x = Retry(factor=float('nan'))", 1, "factor: expected a number from 1 to 1000, got nan"),
    ("x = Retry(jitter=2)", 1, "jitter: expected a number from 0 to 1, got 2"),
    (
        "x = Retry(on=[])",
        1,
        "on: names no failure, leave it out to try all again, or leave out the Retry",
    ),
    (
        "x = Retry(on=['timout'])",
        1,
        "on: expected one of timeout, signal, got timout, did you mean 'timeout'?",
    ),
    (
        "x = Retry(on=[0])",
        1,
        "on: expected exit statuses from 1 to 255, exceptions, 'timeout' or 'signal', got 0",
    ),
    (
        "x = Retry(tmies=3)",
        1,
        "Retry.__init__() got an unexpected keyword argument 'tmies', did you mean 'times'?",
    ),
    (
        "x = ShellScheduler('true', retry=Retry(on=[ValueError]))",
        1,
        "retry: a command fails by exit statuses, signals or a timeout, not by ValueError",
    ),
    (
        "x = TaskScheduler(job, retry=Retry(on=[75]))",
        1,
        "retry: a job fails by exceptions or a timeout, not by 75",
    ),
    (
        "x = FileManagerScheduler(rule(), retry=Retry(on=['timeout']))",
        1,
        "retry: on= is for commands and jobs, all failures of file rules are tried again",
    ),
    (
        "x = ShellScheduler('true', delay=9, max_delay=5)",
        1,
        "max_delay: expected at least the delay of 9 seconds, got 5",
    ),
    (
        "x = ShellScheduler('true', on_busy='restrat')",
        1,
        "on_busy: expected one of skip, rerun, restart, got restrat, did you mean 'restart'?",
    ),
    (
        "x = FileManagerScheduler(rule(), on_busy='rerun')",
        1,
        "FileManagerScheduler.__init__() got an unexpected keyword argument 'on_busy'",
    ),
    (
        "x = ShellScheduler('true', on_failure=plain)",
        1,
        "job: expected coroutine, got <class 'function'>: write 'async def plain(event, task_id)' instead of 'def' "
        "(on_failure)",
    ),
    (
        "x = ShellScheduler('true', on_failure=[s, one])",
        1,
        "job: it is called with (event, task_id), but is defined as one(event) (on_failure)",
    ),
    (
        "x = ShellScheduler('true', on_failure=ShellScheduler)",
        1,
        "on_failure: expected a scheduler, a coroutine function or a list of these, got <class "
        "'pyinotifyd.scheduler.ShellScheduler'>",
    ),
    (
        "x = ShellScheduler('true', on_failure='mail')",
        1,
        "on_failure: expected a scheduler, a coroutine function or a list of these, got 'mail'",
    ),
    (
        "x = ShellScheduler('true', max_rate=5)",
        1,
        "max_rate: expected <class 'tuple'> or <class 'list'>, got <class 'int'>",
    ),
    ("x = ShellScheduler('true', max_rate=(0, 5))", 1, "max_rate: expected at least 1, got 0"),
    ("x = ShellScheduler('true', max_rate=(1, 0))", 1, "max_rate: expected more than 0 seconds, got 0"),
    ("x = ShellScheduler('true', max_rate=(2**40, 1))", 1, "max_rate: expected at most 4294967295, got 1099511627776"),
    ("x = ShellScheduler('true', settle=5)", 1, "settle: expected a Settle instead of 5, got <class 'int'>"),
    (
        "x = Settle(no_writer=False)",
        1,
        "Settle: asks for nothing, give it at least one of no_writer, stable, min_size, marker",
    ),
    (
        "x = Settle(marker='{nmae}')",
        1,
        "marker: {nmae} is none of {pathname}, {dirname}, {name}, {stem}, did you mean 'name'?",
    ),
    ("x = Settle(check=0)", 1, "check: expected more than 0 seconds, got 0"),
    ("x = Settle(stable=9, give_up=5)", 1, "give_up: expected at least stable, which is 9 seconds, got 5"),
    (
        "x = Settle(min_size=2**70)",
        1,
        "min_size: no file has more than 9223372036854775807 bytes, got 1180591620717411303424",
    ),
    ("x = Pyinotifyd(max_jobs=0)", 1, "max_jobs: expected at least 1, got 0"),
    # what goes round, and what lies in the trash
    ("x = rule(generations=0)", BEFORE, "generations: expected at least 1, got 0"),
    ("x = rule(trash_keep=5)", BEFORE, "trash_keep: there is nothing to keep without a trash, give trash="),
    ("x = rule(trash='/t', trash_keep=0)", BEFORE, "trash_keep: expected more than 0 seconds, got 0"),
    # the log
    ("setLoglevel('LOUD')", 1, "Unknown level: 'LOUD'"),
    ("enableSyslog(address=('host', 0))", 1, "address: expected a port from 1 to 65535, got 0"),
    ("enableSyslog(address=5)", 1, "address: expected a path or (host, port), got 5"),
    (
        "enableSyslog(loglevel=INFO, lglevel=INFO)",
        1,
        "enableSyslog: loglevel and lglevel are the same, give one of them",
    ),
]


def said(wanted: str, found: str) -> bool:
    """`*` at one place stands for what differs between two runs."""
    begin, star, end = wanted.partition("*") if wanted.endswith("*") or " instead of " in wanted else (wanted, "", "")
    return found.startswith(begin) and found.endswith(end) if star else found == wanted


@ours_only
@pytest.mark.parametrize(("config", "line", "text"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_config_is_refused_in_one_line_with_its_place(box: Box, config: str, line: int, text: str) -> None:
    daemon = box.call("-t", config=BEGIN + config + END)
    assert said(
        text.replace("\\\\", "\\").replace("$CONFIG", str(box.config)).replace("$DST", str(box.dst)), first_line(daemon)
    ), daemon.lines[0]
    # A fault that shows only in the end is told where its object was made; -1 is the scheduler `s`.
    number = BEFORE - 1 if line == -1 else BEFORE if line == BEFORE else BEFORE + line
    assert f'  File "{box.config}", line {number}' in daemon.lines, daemon.tail


def test_the_places_of_what_stands_far_down_in_a_config_are_told(box: Box) -> None:
    # Python itself is not asked for them there: it counts from the first line each time.
    lines = ["x = 0"] * 9000 + ['a = ShellScheduler("a", name="x")', "", 'b = ShellScheduler("b", name="x")']
    daemon = box.call("-t", config="\n".join([*lines, "pyinotifyd = Pyinotifyd()"]))
    assert f"name: 'x' is the name of the scheduler at {box.config}:9001 already" in first_line(daemon)
    assert f'  File "{box.config}", line 9003' in daemon.lines, daemon.tail


ODD = [
    (
        "s.cmd = 'echo {path} {pathname}'",
        -1,
        "cmd: {path} is no placeholder and stays as it is, did you mean {pathname}?",
    ),
    ("s.cmd = 'echo {pathnam}'", -1, "cmd: {pathnam} is no placeholder and stays as it is, did you mean {pathname}?"),
    (
        "s.cmd = 'echo {task_id}'",
        -1,
        "cmd: {task_id} is no placeholder and stays as it is, a command has it as $PYINOTIFYD_TASK_ID in its "
        "environment",
    ),
    (
        "s.cmd = 'echo {name}'",
        -1,
        "cmd: {name} is no placeholder and stays as it is, there is only {maskname}, {pathname}, {src_pathname}",
    ),
    (
        "s.cmd = 'cp {pathname} /x/$(basename {pathname})'",
        -1,
        "cmd: $(basename {pathname}) stands outside of quotes, where a shell splits its value at blanks, and takes * "
        'and ? in it for a pattern: write "$(basename "$PYINOTIFYD_PATHNAME")"',
    ),
    (
        "s.cmd = \"sudo sh -c 'ls $PYINOTIFYD_PATHNAME'\"",
        -1,
        "cmd: sudo does not hand on the environment, so that $PYINOTIFYD_PATHNAME is empty there: name the user by "
        "user=, or give the value as an argument, as in sh -c 'ls \"$1\"' sh {pathname}",
    ),
    ("s.cmd = 'echo {FILE}'", -1, "cmd: {FILE} is no placeholder and stays as it is, did you mean {pathname}?"),
    ("s.cmd = 'echo {src} {event}'", -1, "cmd: {event} is no placeholder and stays as it is, did you mean {maskname}?"),
    (
        "s.cmd = 'watch ls {pathname}'",
        -1,
        "cmd: watch gives its arguments to another shell as text, which reads the value of {pathname} once more, "
        "and may execute it; write watch -x",
    ),
    (
        "x = ShellScheduler(argv=['psql', '-c', \"insert '{pathname}' x\"]); w = {'IN_CREATE': x}",
        1,
        "argv: psql may execute an argument as text that holds the value of {pathname}, and so the value: let a "
        "program pass it as a parameter, as in python3 -c 'CODE' {pathname}",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$SRC/(.*)$', '$DST/a', filemode=644)); w = "
        "{'IN_CREATE': r}",
        1,
        "filemode: 644 is 0o1204, write 0o644 if that is meant",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$SRC/(.*)$', '$DST/a', dirmode=755)); w = {'IN_CREATE': r}",
        1,
        "dirmode: 755 is 0o1363, write 0o755 if that is meant",
    ),
    (
        "c = ShellScheduler('true', umask=22); w = {'IN_CREATE': c}",
        1,
        "umask: 22 is 0o26, write 0o22 if that is meant",
    ),
    ("unused = ShellScheduler('true')", 1, "no event map of a watch uses the scheduler 'unused'"),
    (
        "w = {'IN_CREATE': s,\n 'IN_DELETE': None,\n 'IN_CREATE': Cancel(s), 'IN_OPEN': s}",
        3,
        "IN_CREATE stands twice in this event map, only this entry counts; write a list for both (the first is in "
        "line 7)",
    ),
    ("w = {}", "w", "nothing is mapped for '$SRC', so that this watch does nothing: give it an event_map"),
    (
        "w = {'IN_UNMOUNT': s}",
        "w",
        "IN_UNMOUNT is an event of the watched directory, which the scheduler 's' does not take: give it dirs=True",
    ),
    (
        "f = ['.*/p']",
        "w",
        "exclude_filter: '.*/p' matches the path of the watch itself, '$SRC', so that no event of it is left; "
        "begin the pattern with that path",
    ),
    (
        "f = ['tmp']",
        "w",
        "exclude_filter: 'tmp' matches no path of this watch, as it is compared from the start of the whole path; "
        "write r'^$SRC/...' or put '.*' before it",
    ),
    (
        "f = ['^/other/tmp']",
        "w",
        "exclude_filter: '^/other/tmp' matches no path of this watch, as it is compared from the start of the "
        "whole path; write r'^$SRC/...' or put '.*' before it",
    ),
    (
        "more = [Watch('$SRC', {'IN_DELETE': s}, rec=True, exclude_filter=['^$SRC/(?!.*[.]pdf$).'])]",
        1,
        "exclude_filter: '^$SRC/(?!.*[.]pdf$).' matches the directories in '$SRC', too, so that none of them is "
        "watched; a pattern cannot tell a file from a directory",
    ),
    (
        "import os; os.path.lexists('$TMP/link') or os.symlink('$SRC', '$TMP/link'); "
        "more = [Watch('$TMP/link', {'IN_DELETE': s}, rec=True)]",
        1,
        "'$TMP/link' is a symbolic link, through which rec=True watches no subdirectories that are there: name the "
        "directory that it leads to",
    ),
    ("p = '$TMP/*/nothing'", "w", "'$TMP/*/nothing' matches nothing now; what comes to match it is watched then"),
    (
        "more = [Watch('$SRC', {'IN_DELETE': s})]",
        1,
        "'$SRC' is in an earlier watch, too, which has the same scheduler 's': its tasks see each event twice; "
        "write one watch with both maps",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$SRC/(.*)$', '$TMP/no/a')); w = {'IN_CREATE': r}",
        1,
        "the destination '$TMP/no' does not exist: make it, or write auto_create=True, "
        "or mounted= if a filesystem has to be mounted there",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$SRC/(.*)$', '/proc/sys/a')); w = {'IN_CREATE': r}",
        1,
        "the destination '/proc/sys' is on proc, where the kernel alone makes files",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$SRC/(.*)$', '$TMP/no/a', mounted='$TMP')); "
        "w = {'IN_CREATE': r}",
        1,
        "'$TMP' is not mounted: the rule fails until it is",
    ),
    (
        "r = FileManagerScheduler(FileManagerRule('move', '^$TMP/other/(.*)$', '$TMP/no/a', trash='$SRC')); "
        "w = {'IN_CREATE': r}",
        1,
        "this rule is never reached, since no watch whose events come to 'r' leads to what src_re matches",
    ),
    (
        "enableSyslog(address='$TMP/no')",
        1,
        "enableSyslog: there is no syslog server at '$TMP/no', its records are lost until there is; name another "
        "one with address=",
    ),
]

# A config of which a row sets the map, the filters, the path or further watches.
ODD_BEGIN = BEGIN + 'w = {"IN_CREATE": s}; f = []; p = "$SRC"; more = []\n'
ODD_END = "\npyinotifyd = Pyinotifyd([Watch(p, w, exclude_filter=f), *more])\n"


@ours_only
@pytest.mark.parametrize(("config", "line", "text"), ODD, ids=[row[0] for row in ODD])
def test_an_odd_config_is_warned_of_with_its_place(box: Box, config: str, line: int | str | None, text: str) -> None:
    daemon = box.call("-t", config=ODD_BEGIN + config + ODD_END)
    assert daemon.exit_code == 0, daemon.tail
    last = BEFORE + 1 + config.count("\n") + 2
    number = (
        {-1: BEFORE - 1, -2: BEFORE, "w": last}.get(line)
        if not isinstance(line, int) or line < 0
        else BEFORE + 1 + line
    )
    place = "" if line is None else f"{box.config}:{number}: "
    names = {"$SRC": str(box.src), "$TMP": str(box.tmp), "line 7": f"line {BEFORE + 2}"}
    for name, value in names.items():
        text = text.replace(name, value)
    warnings = [one.removeprefix("WARNING: ") for one in daemon.lines if one.startswith("WARNING: ")]
    assert any(said(place + text, one) for one in warnings), daemon.tail


@ours_only
def test_an_annotation_needs_no_import(box: Box) -> None:
    daemon = box.call(
        "-t",
        config=(
            "async def job(event: Event, task_id: str): pass\npyinotifyd = Pyinotifyd([Watch('$SRC', {'IN_CREATE': "
            "job})])"
        ),
    )
    assert daemon.lines == ["INFO: config file ok"]


@ours_only
def test_usual_modes_are_no_mistakes(box: Box) -> None:
    """Decimal numbers that are the right mode, however they look in octal digits."""
    rules = ", ".join(
        f"rule(filemode={mode}, dirmode={mode})"
        for mode in (0o644, 420, 0o755, 493, 0o600, 0o2775, 0o700, 511, 0, 0o444)
    )
    config = (
        BEGIN + f"pyinotifyd = Pyinotifyd([Watch('$SRC', {{'IN_CREATE': [s, FileManagerScheduler([{rules}])]}})])\n"
    )
    daemon = box.call("-t", config=config)
    assert not [line for line in daemon.lines if "mode" in line], daemon.tail


@ours_only
def test_a_missing_syslog_server_is_said_at_the_start(run: Run, box: Box) -> None:
    daemon = run("enableSyslog(address='$TMP/no')\npyinotifyd = Pyinotifyd([Watch('$SRC', {})])")
    daemon.wait_log(f"WARNING - {box.config}:1: enableSyslog: there is no syslog server at '{box.tmp}/no'")
