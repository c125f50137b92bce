"""The config file: its names, its classes with their arguments, defaults and checks, and how it is executed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import pytest

from vocabulary import REFERENCE, Box, Daemon, write

Run = Callable[..., Daemon]

JOB = "async def job(event, task_id): pass\n"
END = "\npyinotifyd = Pyinotifyd()\n"

ours_only = pytest.mark.skipif(REFERENCE, reason="the original refuses it")


def load(box: Box, config: str) -> Daemon:
    return box.call("-t", config=JOB + config + ("" if "\npyinotifyd =" in "\n" + config else END))


def accepted(box: Box, config: str) -> None:
    daemon = load(box, config)
    assert daemon.exit_code == 0, daemon.log


def refused(box: Box, config: str, text: str) -> None:
    """`text` is a regular expression for all that follows `ERROR: config file: ` on the first line."""
    daemon = load(box, config)
    assert daemon.exit_code == 1, daemon.log
    assert re.fullmatch("ERROR: config file: " + text, daemon.lines[0]), daemon.lines[0]


# Both the type that is wanted and, as it was printed for long, the type of that type are fine.
def expected(name: str, wanted: str, got: str) -> str:
    return rf"{name}: expected <class '({wanted}|type)'>( or <class 'list'>)?, got <class '{got}'>"


# ---- the namespace


@pytest.mark.parametrize(
    "name",
    [
        "DEBUG",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
        "Pyinotifyd",
        "Watch",
        "setLoglevel",
        "enableSyslog",
        "TaskScheduler",
        "Cancel",
        "ShellScheduler",
        "FileManagerRule",
        "FileManagerScheduler",
        pytest.param("EventMap", marks=ours_only),
    ],
)
def test_a_name_is_there_without_import(box: Box, name: str) -> None:
    accepted(box, f"{name}\n")


def test_the_levels_are_pythons(box: Box) -> None:
    accepted(
        box,
        "import logging\nfor n in 'DEBUG INFO WARNING ERROR CRITICAL'.split():\n"
        "    assert globals()[n] == getattr(logging, n)\n",
    )


@pytest.mark.parametrize("name", ["logging", "asyncio", "os", "json", "re"])
def test_other_modules_have_to_be_imported(box: Box, name: str) -> None:
    assert load(box, f"{name}\n").exit_code == 1
    accepted(box, f"import {name}\n{name}\n")


def test_the_classes_can_be_imported(box: Box) -> None:
    accepted(
        box,
        "from pyinotifyd import EventMap, Watch, Pyinotifyd, setLoglevel, enableSyslog\n"
        "from pyinotifyd.scheduler import TaskScheduler, Cancel, ShellScheduler, FileManagerRule, "
        "FileManagerScheduler\n"
        "p = Pyinotifyd([Watch('/', EventMap(event_map={'IN_CREATE': TaskScheduler(job)}))])\n",
    )


def test_imported_classes_are_those_of_the_namespace(box: Box) -> None:
    accepted(
        box,
        "import pyinotifyd as p\nimport pyinotifyd.scheduler as s\nassert p.Watch is Watch and s.Cancel is Cancel\n",
    )


def test_name_is_builtins(box: Box) -> None:
    accepted(box, "assert __name__ == 'builtins', __name__\n")


def test_a_config_may_hold_any_python(run: Run, box: Box) -> None:
    config = """
import threading, subprocess, dataclasses, tempfile
@dataclasses.dataclass
class Place:
    path: str
found = []
thread = threading.Thread(target=lambda: found.append(subprocess.run(["echo", "hi"], capture_output=True,
    text=True).stdout.strip()))
thread.start(); thread.join()
print("CONFIG", found, [Place(x) for x in "a"], (lambda: __name__)(), flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])
"""
    daemon = run(config, record=True)
    daemon.wait_out(r"CONFIG \['hi'\] \[Place\(path='a'\)\] builtins")
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")


def test_packages_of_the_interpreters_environment_can_be_imported(box: Box) -> None:
    """With the interpreter of a venv, what is installed there is found."""
    if REFERENCE:
        pytest.skip("the original runs in its own environment")
    import venv

    venv.create(box.tmp / "venv", symlinks=True)
    site = next((box.tmp / "venv" / "lib").glob("python*")) / "site-packages"
    (site / "only_in_this_venv.py").write_text("WORD = 'found'\n")
    python = box.tmp / "venv" / "bin" / "python"
    daemon = box.call("-t", "--python", python, config="import only_in_this_venv\nprint(only_in_this_venv.WORD)" + END)
    assert daemon.exit_code == 0, daemon.tail
    assert daemon.stdout == "found"
    assert (
        box.call("-t", config="import only_in_this_venv\n" + END, env={"VIRTUAL_ENV": str(box.tmp / "venv")}).exit_code
        == 0
    )


def test_stdin_of_a_config_is_left_alone(box: Box) -> None:
    daemon = box.call("-t", config="print('still')" + END)
    assert daemon.stdout == "still"


def test_utf8_in_a_config(box: Box) -> None:
    daemon = box.call("-t", config='x = "ä€"\nprint(len(x))' + END, env={"LC_ALL": "C.UTF-8"})
    assert daemon.stdout == "2"


# ---- the variable pyinotifyd


def test_the_variable_must_be_an_instance(box: Box) -> None:
    refused(
        box, "pyinotifyd = 5", r"pyinotifyd: expected (<class 'type'>|a Pyinotifyd instead of 5), got <class 'int'>"
    )


def test_a_missing_variable_is_said(box: Box) -> None:
    daemon = box.call("-t", config="x = 1\n")
    assert daemon.exit_code == 1
    assert daemon.lines[0].startswith("ERROR: config file: ")
    assert "pyinotifyd" in daemon.lines[0]
    if not REFERENCE:
        assert daemon.lines[0] != "ERROR: config file: 'pyinotifyd'", "a bare key says nothing"


# ---- TaskScheduler


def test_arguments_of_task_scheduler_in_their_order(box: Box) -> None:
    accepted(box, 'TaskScheduler(job, True, False, 10, "name", {}, False)\n')


def test_arguments_of_task_scheduler_by_keyword(box: Box) -> None:
    accepted(
        box,
        'TaskScheduler(job=job, files=True, dirs=False, delay=0, logname="sched", '
        "global_vars=globals(), singlejob=False)\n",
    )


@pytest.mark.parametrize(
    "job", ["lambda e, t: None", "None", "print", "'job'", "5", "type('C', (), {'__call__': job})()"]
)
def test_a_job_that_is_no_coroutine_function_is_refused(box: Box, job: str) -> None:
    refused(box, f"TaskScheduler({job})\n", "job: expected coroutine, got .*")


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("files=1", expected("files", "bool", "int")),
        ("dirs=0", expected("dirs", "bool", "int")),
        ("files='yes'", expected("files", "bool", "str")),
        ("delay='1'", expected("delay", "int|float|int or float", "str")),
        ("delay=None", expected("delay", "int|float|int or float", "NoneType")),
        ("global_vars=[]", expected("global_vars", "dict", "list")),
    ],
)
def test_wrong_types_of_task_scheduler(box: Box, argument: str, text: str) -> None:
    daemon = load(box, f"TaskScheduler(job, {argument})\n")
    assert daemon.exit_code == 1
    name, kind = argument.partition("=")[0], re.search(r"got <class '(\w+)'>", text)
    assert kind
    assert re.match(rf"ERROR: config file: {name}: expected .*, got <class '{kind.group(1)}'>", daemon.lines[0]), (
        daemon.lines[0]
    )


@ours_only
@pytest.mark.parametrize("delay", ["0.5", "1.0", "0", "True"])
def test_delay_may_be_any_number(box: Box, delay: str) -> None:
    accepted(box, f"TaskScheduler(job, delay={delay})\n")


@ours_only
@pytest.mark.parametrize("delay", ["float('nan')", "float('inf')"])
def test_delay_must_be_finite(box: Box, delay: str) -> None:
    refused(box, f"TaskScheduler(job, delay={delay})\n", "delay: .*")


def test_logname_may_be_none(box: Box) -> None:
    accepted(box, "TaskScheduler(job, logname=None)\n")


def test_an_unknown_argument_is_refused_by_name(box: Box) -> None:
    refused(box, "TaskScheduler(job, dealy=5)\n", ".*dealy.*")


# ---- Cancel


@pytest.mark.parametrize("scheduler", ["TaskScheduler(job)", "ShellScheduler('true')", "FileManagerScheduler([])"])
def test_cancel_takes_any_scheduler(box: Box, scheduler: str) -> None:
    accepted(box, f"Cancel({scheduler})\nCancel(task={scheduler})\n")


@pytest.mark.parametrize(("given", "kind"), [("job", "function"), ("None", "NoneType"), ("5", "int")])
def test_cancel_refuses_all_else(box: Box, given: str, kind: str) -> None:
    refused(
        box, f"Cancel({given})\n", rf"task: expected (<class '.*'>|a scheduler instead of .*), got <class '{kind}'>"
    )


# ---- ShellScheduler


def test_arguments_of_shell_scheduler(box: Box) -> None:
    accepted(
        box,
        'ShellScheduler("true")\n'
        'ShellScheduler(cmd="true", files=True, dirs=True, delay=5, logname="x", singlejob=True)\n',
    )


def test_cmd_must_be_a_string(box: Box) -> None:
    refused(box, "ShellScheduler(['ls'])\n", expected("cmd", "str", "list"))


@ours_only
def test_max_jobs_bounds_commands(box: Box) -> None:
    accepted(box, 'ShellScheduler("true", max_jobs=4)\nTaskScheduler(job, max_jobs=4)\n')
    refused(box, 'ShellScheduler("true", max_jobs=0)\n', "max_jobs: .*")


# ---- FileManagerRule, FileManagerScheduler


def test_arguments_of_file_manager_rule_in_their_order(box: Box) -> None:
    accepted(box, 'FileManagerRule("move", "^/a$", "/b", True, False, 0o755, 0o644, "root", "root", False)\n')


@pytest.mark.parametrize("action", ["move", "copy", "delete"])
def test_actions(box: Box, action: str) -> None:
    accepted(box, f'FileManagerRule("{action}", "^/a$", "/b")\n')


def test_an_unknown_action(box: Box) -> None:
    refused(box, 'FileManagerRule("rename", "^/a$")\n', r"action: expected \[copy, move, delete\], got ?rename.*")


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("src_re=5", "int"),
        ("dst_re=5", "int"),
        ("auto_create=1", "int"),
        ("overwrite=1", "int"),
        ("rec=1", "int"),
        ("dirmode='755'", "str"),
        ("filemode='644'", "str"),
        ("user=0", "int"),
        ("group=0", "int"),
    ],
)
def test_wrong_types_of_file_manager_rule(box: Box, argument: str, kind: str) -> None:
    name = argument.partition("=")[0]
    rest = "" if name == "src_re" else ', src_re="^/a"'
    named = "(auto_create|overwrite)" if name == "overwrite" else name
    kinds = "(int|bool)" if name == "overwrite" else kind
    refused(box, f'FileManagerRule("move"{rest}, {argument})\n', rf"{named}: expected .*, got <class '{kinds}'>")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", r"missing \), unterminated subpattern at position 0"),
        ("[a", "unterminated character set at position 0"),
        ("*", "nothing to repeat at position 0"),
        ("(?P<a>x)(?P<a>y)", "redefinition of group name 'a' as group 2; was group 1 at position 12"),
    ],
)
def test_a_bad_source_pattern_has_pythons_text(box: Box, pattern: str, text: str) -> None:
    config = (
        f'r = FileManagerRule("move", r"{pattern}", "/b")\n'
        f'pyinotifyd = Pyinotifyd([Watch("/", {{"IN_CREATE": FileManagerScheduler(r)}})])'
    )
    refused(box, config, f".*{text}.*")


def test_a_source_pattern_is_checked_even_if_its_rule_is_not_used(box: Box) -> None:
    refused(box, 'FileManagerRule("move", "(", "/b")\n', ".*missing \\), unterminated subpattern at position 0.*")


@ours_only
def test_both_spellings_of_overwrite(box: Box) -> None:
    accepted(
        box,
        'FileManagerRule("copy", "^/a$", "/b", override=True)\nFileManagerRule("copy", "^/a$", "/b", overwrite=True)\n',
    )


def test_rules_may_be_one_or_a_list(box: Box) -> None:
    accepted(
        box,
        'r = FileManagerRule("delete", "^/a$")\nFileManagerScheduler(r)\n'
        "FileManagerScheduler(rules=[r, r])\nFileManagerScheduler([])\n",
    )


@pytest.mark.parametrize(("rules", "kind"), [("'x'", "str"), ("[5]", "int"), ("None", "NoneType")])
def test_rules_must_be_rules(box: Box, rules: str, kind: str) -> None:
    refused(
        box,
        f"FileManagerScheduler({rules})\n",
        rf"rules: expected (<class '.*'>|a FileManagerRule instead of .*), got <class '{kind}'>",
    )


@ours_only
def test_file_manager_scheduler_has_the_same_arguments(box: Box) -> None:
    accepted(box, 'FileManagerScheduler([], files=True, dirs=True, delay=5, logname="x", singlejob=True)\n')


# ---- Watch, EventMap


def test_arguments_of_watch_in_their_order(box: Box) -> None:
    accepted(box, 'Watch("/", {}, None, True, True, ["^/x"], "watch")\n')


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("5, {}", "int"),
        ("None, {}", "NoneType"),
        ("'/', 5", "int"),
        ("'/', {}, rec=1", "int"),
        ("'/', {}, auto_add='x'", "str"),
    ],
)
def test_wrong_types_of_watch(box: Box, arguments: str, kind: str) -> None:
    refused(box, f"Watch({arguments})\n", rf"\w+: expected .*, got <class '{kind}'>")


def test_what_a_map_may_hold(box: Box) -> None:
    accepted(
        box,
        'Watch("/", {"IN_CREATE": job, "IN_DELETE": None, "IN_OPEN": [job, TaskScheduler(job)], '
        '"IN_MODIFY": Cancel(TaskScheduler(job)), "IN_ACCESS": []})\n',
    )


@pytest.mark.parametrize(
    "flag", ["'IN_CLOSE'", "'ALL_EVENTS'", "'IN_CREATE|IN_ISDIR'", "5", "'in_create'", "'IN_CREAT'"]
)
def test_an_unknown_flag_is_refused(box: Box, flag: str) -> None:
    refused(box, f'Watch("/", {{{flag}: job}})\n', f"event_map: invalid flag: {re.escape(flag.strip(chr(39)))}.*")


@ours_only
def test_an_unknown_flag_says_which_was_meant(box: Box) -> None:
    refused(box, 'Watch("/", {"IN_CREAT": job})\n', ".*IN_CREAT.*IN_CREATE.*")


@ours_only
def test_in_write_close_is_taken_for_in_close_write_with_a_warning(run: Run, box: Box) -> None:
    daemon = run(
        'm = recorder("IN_CLOSE_WRITE")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_WRITE_CLOSE": m["IN_CLOSE_WRITE"]})])',
        record=True,
    )
    assert daemon.count("WARNING.*IN_WRITE_CLOSE") == 1
    write(box.src / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")


def test_none_in_a_list_is_refused(box: Box) -> None:
    refused(box, 'Watch("/", {"IN_CREATE": [None]})\n', "job: expected coroutine.*")


def test_event_map_takes_keywords(box: Box) -> None:
    accepted(
        box,
        "from pyinotifyd import EventMap\n"
        'EventMap(event_map={"IN_CREATE": job}, exclude_filter=["^/x"], logname="m")\n',
    )


# ---- Pyinotifyd


def test_arguments_of_pyinotifyd(box: Box) -> None:
    accepted(box, 'pyinotifyd = Pyinotifyd([Watch("/", {})], 30, "daemon")\n')
    accepted(box, 'pyinotifyd = Pyinotifyd(watches=[], shutdown_timeout=30, logname="daemon")\n')
    accepted(box, 'pyinotifyd = Pyinotifyd(watches=Watch("/", {}))\n')


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [("5", "int"), ("[5]", "int"), ("shutdown_timeout='5'", "str"), ("shutdown_timeout=None", "NoneType")],
)
def test_wrong_types_of_pyinotifyd(box: Box, arguments: str, kind: str) -> None:
    refused(box, f"pyinotifyd = Pyinotifyd({arguments})\n", rf"\w+: expected .*, got <class '{kind}'>")


@ours_only
def test_shutdown_timeout_may_be_a_fraction(box: Box) -> None:
    accepted(box, "pyinotifyd = Pyinotifyd(shutdown_timeout=0.5)\n")


def test_add_watch_takes_arguments_or_a_watch(run: Run, box: Box) -> None:
    config = """
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch("$SRC", recorder("IN_CREATE"))
pyinotifyd.add_watch(path="$DST", event_map=recorder("IN_CREATE"), rec=False, auto_add=False,
    exclude_filter=["^$DST/no"])
pyinotifyd.add_watch(watch=Watch("$TMP", recorder("IN_DELETE")))
"""
    daemon = run(config, record=True)
    for path in (box.src / "f", box.dst / "f"):
        write(path)
        daemon.wait_event("IN_CREATE", path)
    write(box.tmp / "g")
    (box.tmp / "g").unlink()
    daemon.wait_event("IN_DELETE", box.tmp / "g")


def test_set_watches_and_set_shutdown_timeout(run: Run, box: Box) -> None:
    config = """
pyinotifyd = Pyinotifyd([Watch("$TMP/never", {})])
pyinotifyd.set_watches([Watch("$SRC", recorder("IN_CREATE"))])
pyinotifyd.set_shutdown_timeout(5)
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    assert daemon.count("never") == 0


def test_accessors(box: Box) -> None:
    accepted(
        box,
        """
t = TaskScheduler(job)
w = Watch("/", {"IN_CREATE": t})
assert w.path() in ("/", ["/"]), w.path()
assert w.event_map() is not None
p = Pyinotifyd([w])
assert p.schedulers() is not None
assert Pyinotifyd.name == "pyinotifyd", Pyinotifyd.name
assert sorted(FileManagerRule.valid_actions) == ["copy", "delete", "move"]
""",
    )


# ---- setLoglevel, enableSyslog


def test_spellings_of_set_loglevel(box: Box) -> None:
    accepted(
        box,
        'setLoglevel(INFO)\nsetLoglevel(INFO, logname="daemon")\nsetLoglevel("DEBUG")\n'
        'setLoglevel(loglevel=10, logname="x")\n',
    )


def test_an_unknown_level_has_pythons_text(box: Box) -> None:
    refused(box, 'setLoglevel("LOUD")\n', "Unknown level: 'LOUD'.*")


@ours_only
def test_spellings_of_enable_syslog(box: Box) -> None:
    accepted(
        box,
        'enableSyslog(loglevel=INFO, address="$TMP/no", logname="daemon")\nenableSyslog(lglevel=INFO, name="daemon")\n'
        'enableSyslog(address=("127.0.0.1", 9))\nenableSyslog()\n',
    )


# ---- what can't be honoured is refused


@ours_only
@pytest.mark.parametrize("method", ["schedule", "cancel", "start"])
def test_a_subclass_that_overrides_a_scheduler_is_refused(box: Box, method: str) -> None:
    config = f"""
class Mine(TaskScheduler):
    async def {method}(self, event): pass
pyinotifyd = Pyinotifyd([Watch("/", {{"IN_CREATE": Mine(job)}})])
"""
    refused(box, config, f".*Mine.*{method}.*|.*{method}.*Mine.*")


@pytest.mark.skipif(
    not os.environ.get("PYINOTIFYD_TEST_PYTHONS"), reason="PYINOTIFYD_TEST_PYTHONS names no further interpreters"
)
def test_other_interpreters_run_the_same_config(box: Box) -> None:
    for python in os.environ["PYINOTIFYD_TEST_PYTHONS"].split(":"):
        daemon = box.run(
            'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE"))])', "--python", python, record=True
        )
        path = box.src / f"f{abs(hash(python))}"
        write(path)
        daemon.wait_event("IN_CREATE", path)
        assert daemon.terminate() == 0


@ours_only
def test_the_log_says_which_interpreter_runs_the_config(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {})])', "-d", "--python", sys.executable)
    assert daemon.count(re.escape(sys.executable)) >= 1
