"""Configs on their way through a real host: what is described, and what is said of those that can't be used."""

from __future__ import annotations

import os
import re
import sys
import textwrap

import pytest
from conftest import DESCRIBE, EXIT, FAULT, HOST_HELLO, NOTHING, PACKAGE, VERSION

MINIMAL = "pyinotifyd = Pyinotifyd()\n"

# The shapes that configs have in documentation and in the wild.
EXAMPLES = {
    "all about a job": """
        import asyncio
        import logging

        async def custom(event, task_id):
            await asyncio.sleep(10)
            logging.info(f"{task_id}: {event}")

        task_sched = TaskScheduler(
            job=custom, files=True, dirs=False, delay=0, logname="sched", global_vars=globals(), singlejob=False)
        event_map = EventMap(default_sched=task_sched)
        pyinotifyd = Pyinotifyd()
        pyinotifyd.add_watch(path="/src", event_map=event_map, rec=True, auto_add=True)
        """,
    "all events": """
        async def custom(event, task_id):
            pass

        task_sched = TaskScheduler(job=custom, files=True, dirs=True)
        pyinotifyd = Pyinotifyd(watches=[], shutdown_timeout=30, logname="daemon")
        pyinotifyd.add_watch(
        \tpath="/src",
        \tevent_map={
                "IN_ACCESS": None,
                "IN_ATTRIB": None,
                "IN_CLOSE_NOWRITE": None,
                "IN_CLOSE_WRITE": task_sched,
                "IN_CREATE": task_sched,
                "IN_DELETE": Cancel(task_sched),
                "IN_DELETE_SELF": Cancel(task_sched),
                "IN_IGNORED": None,
                "IN_MODIFY": Cancel(task_sched),
                "IN_MOVE_SELF": None,
                "IN_MOVED_FROM": Cancel(task_sched),
                "IN_MOVED_TO": task_sched,
                "IN_OPEN": None,
                "IN_Q_OVERFLOW": None,
                "IN_UNMOUNT": Cancel(task_sched)},
        \trec=True)
        """,
    "a command": """
        shell_sched = ShellScheduler(cmd="/usr/local/bin/x {maskname} {pathname} {src_pathname}", files=True,
            dirs=False)
        pyinotifyd = Pyinotifyd()
        pyinotifyd.add_watch(path="/src", event_map={"IN_WRITE_CLOSE": shell_sched}, rec=True, auto_add=True)
        """,
    "rules": """
        move_rule = FileManagerRule(
            action="move", src_re="^/src/(?P<path>.*)\\.to_move$", dst_re="/dst/\\g<path>", auto_create=True,
            rec=False, filemode=0o644, dirmode=0o755, user=None, group=None, override=False)
        copy_rule = FileManagerRule(action="copy", src_re="^/src/(?P<path>.*)\\.to_copy$", dst_re="/dst/\\g<path>")
        delete_rule = FileManagerRule(action="delete", src_re="^/src/(?P<path>.*)\\.to_delete$", rec=False)
        file_sched = FileManagerScheduler(rules=[move_rule, copy_rule, delete_rule], delay=60, files=True, dirs=False)
        event_map = {"IN_CLOSE_WRITE": file_sched, "IN_MODIFY": Cancel(file_sched)}
        pyinotifyd = Pyinotifyd(shutdown_timeout=35)
        pyinotifyd.add_watch(path="/src", event_map=event_map, rec=True, auto_add=True)
        """,
    "watches and filters": """
        w = Watch(path="/src", event_map={}, rec=False, auto_add=False, exclude_filter=["^/src/sub$"])
        pyinotifyd = Pyinotifyd()
        pyinotifyd.add_watch(watch=w)
        pyinotifyd.add_watch(path=["/a", "/b"], exclude_filter=["^/a/c$"])
        """,
    "log": """
        setLoglevel(INFO)
        setLoglevel(INFO, logname="daemon")
        enableSyslog(loglevel=INFO, address="/dev/log")
        enableSyslog(lglevel=INFO, name="daemon")
        pyinotifyd = Pyinotifyd()
        """,
    "imports": """
        from pyinotifyd import EventMap, Watch, Pyinotifyd, setLoglevel, enableSyslog, Event
        from pyinotifyd.scheduler import (
            TaskScheduler, Cancel, ShellScheduler, FileManagerRule, FileManagerScheduler)

        async def custom(event: Event, task_id: str) -> None:
            pass

        pyinotifyd = Pyinotifyd([Watch("/src", {"IN_CREATE": custom})])
        """,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_loads(describe, name):
    """As printed, non-raw strings with backslashes included."""
    described = describe(textwrap.dedent(EXAMPLES[name]))
    assert described["levels"][""] == 20


def test_the_whole_description(describe, tmp_path):
    """Every field."""
    described = describe(
        textwrap.dedent("""
        async def work(event, task_id): pass
        job = TaskScheduler(work, dirs=True, delay=2.5, logname=None, singlejob=1, max_jobs=3)
        shell = ShellScheduler("echo {pathname}", delay=0, logname="shell")
        more = dict(durable=True, verify=True, trash="/t/../trash", mounted="/mnt/", prune=True)
        rule = FileManagerRule("move", "^/a", "/b", True, True, 0o755, 0o644, "root", "adm", True, **more)
        files = FileManagerScheduler(rule, delay=True)
        unused = ShellScheduler("true")
        enableSyslog(address="/log\\udcff")
        enableSyslog(INFO, ("localhost", 514), "x")
        pyinotifyd = Pyinotifyd(shutdown_timeout=12.5, logname=None, state="/x/../s\\udcff", history=7)
        pyinotifyd.add_watch(
            ["/x", "/y\\udcff"], {"IN_OPEN": [shell, Cancel(job)], "IN_CREATE": files, "IN_DELETE": []}, None,
                True, True,
            ["^/x/z"], "w")
        pyinotifyd.add_watch("rel", EventMap(event_map={"IN_ACCESS": shell}, exclude_filter=["q"]))
        """)
    )
    file = str(tmp_path / "config.py")
    assert described == {
        "logname": "pyinotifyd",
        "shutdown_timeout": 12.5,
        "max_jobs": None,
        "state": {"path": "/s\udcff", "never": False},
        "history": 7,
        "watches": [
            {
                "paths": ["/x", "/y\udcff"],
                "path_text": "['/x', '/y\\udcff']",
                "rec": True,
                "auto_add": True,
                "initial": "none",
                "logname": "w",
                "exclude": [{"pattern": "^/x/z", "at": described["watches"][0]["at"]}],
                "map": {"IN_OPEN": [{"schedule": 0}, {"cancel": 1}], "IN_CREATE": [{"schedule": 2}]},
                "at": described["watches"][0]["at"],
                "settings": described["watches"][0]["settings"],
            },
            {
                "paths": ["rel"],
                "path_text": "rel",
                "rec": False,
                "auto_add": False,
                "initial": "none",
                "logname": "watch",
                "exclude": [{"pattern": "q", "at": {"file": file, "line": 16}}],
                "map": {"IN_ACCESS": [{"schedule": 0}]},
                "at": {"file": file, "line": 16},
                "settings": described["watches"][1]["settings"],
            },
        ],
        "schedulers": [
            {
                "kind": "shell",
                "name": "shell",
                "file": "config",
                "named": False,
                "logname": "shell",
                "files": True,
                "dirs": False,
                "delay": 0.0,
                "delay_text": "0",
                "singlejob": False,
                "max_jobs": 64,
                "at": {"file": file, "line": 4},
                "cmd": "echo {pathname}",
                "command": {
                    "argv": None,
                    "user": None,
                    "group": None,
                    "umask": None,
                    "nice": 0,
                    "cwd": None,
                    "env": {},
                    "limits": {},
                    "stdin": "null",
                    "output": "inherit",
                },
                "does": "echo {pathname}",
                "running": NOTHING,
                "settings": described["schedulers"][0]["settings"],
            },
            {
                "kind": "job",
                "name": "job",
                "file": "config",
                "named": False,
                "logname": "pyinotifyd.scheduler",
                "files": True,
                "dirs": True,
                "delay": 2.5,
                "delay_text": "2.5",
                "singlejob": True,
                "max_jobs": 3,
                "at": {"file": file, "line": 3},
                "job": "work",
                "does": described["schedulers"][1]["does"],
                "running": NOTHING,
                "settings": described["schedulers"][1]["settings"],
            },
            {
                "kind": "files",
                "name": "files",
                "file": "config",
                "named": False,
                "logname": "sched",
                "files": True,
                "dirs": False,
                "delay": 1.0,
                "delay_text": "True",
                "singlejob": False,
                "max_jobs": None,
                "at": {"file": file, "line": 7},
                "rules": [
                    {
                        "action": "move",
                        "src_re": "^/a",
                        "dst_re": "/b",
                        "auto_create": True,
                        "dirmode": 0o755,
                        "filemode": 0o644,
                        "user": "root",
                        "group": "adm",
                        "rec": True,
                        "durable": True,
                        "on_conflict": "overwrite",
                        "verify": True,
                        "trash": "/trash",
                        "trash_keep": None,
                        "generations": 8,
                        "mounted": "/mnt",
                        "prune": True,
                        "at": described["schedulers"][2]["rules"][0]["at"],
                    }
                ],
                "does": described["schedulers"][2]["does"],
                "running": NOTHING,
                "settings": described["schedulers"][2]["settings"],
            },
        ],
        "levels": {"": 20},
        "syslog": [
            {"address": {"path": "/log\udcff"}, "level": None, "logname": None, "at": {"file": file, "line": 9}},
            {"address": {"host": ["localhost", 514]}, "level": 20, "logname": "x", "at": {"file": file, "line": 10}},
        ],
        "environ": {},
        "cwd": None,
        "umask": None,
        "control": {"path": None, "group": None, "metrics": None, "never": False},
        "loose_patterns": [],
        "handlers": False,
        "filtered": [],
        "hints": [{"text": "no event map of a watch uses the scheduler 'unused'", "at": {"file": file, "line": 8}}],
        "stays": True,
        "stays_because": "jobs",
        "settings": described["settings"],
    }


def test_how_a_command_runs_is_described_and_belongs_to_what_it_does(describe):
    """A scheduler without these arguments does what it did before there were any."""
    text = """
        plain = ShellScheduler("true")
        options = dict(user="media", group=7, umask=0o27, nice=-1, cwd="/\\udcff", env={"A": "\\udcfe"},
                       limits={"nofile": 64, "core": None}, stdin="json", output="log")
        all = ShellScheduler(argv=["true", "{pathname}"], **options)
        pyinotifyd = Pyinotifyd([Watch("/x", {"IN_CREATE": [plain, all]})])
        """
    plain, full = describe(textwrap.dedent(text))["schedulers"]
    assert plain["does"] == plain["cmd"] == "true"
    assert full["cmd"] is None
    assert full["command"] == {
        "argv": ["true", "{pathname}"],
        "user": "media",
        "group": 7,
        "umask": 0o27,
        "nice": -1,
        "cwd": "/\udcff",
        "env": {"A": "\udcfe"},
        "limits": {"nofile": 64, "core": None},
        "stdin": "json",
        "output": "log",
    }
    other = describe(textwrap.dedent(text.replace("nice=-1", "nice=1")))["schedulers"][1]
    assert other["does"] != full["does"]


# An argument of each scheduler, of a watch and of all, beside what the test below has already.
CHANGES = {
    "first": "files=False, dirs=True, delay=1.0, logname='x', singlejob=True, max_jobs=2, timeout=5, max_delay=3, "
    "retry=Retry(2), retry=Retry(on=[OSError]), on_failure=last, max_rate=(1, 2), settle=Settle(), "
    "settle=Settle(stable=5), on_busy='rerun', persist=False, rerun=True",
    "last": "name='other', nice=1, cwd='/', batch=Batch()",
}


def _each(arguments):
    return [part.strip() for part in re.split(r", (?=\w+=)", arguments)]


@pytest.mark.parametrize("scheduler", CHANGES)
def test_each_argument_of_a_scheduler_counts_as_a_change_and_its_place_does_not(describe, scheduler):
    """What differs in the description differs in the text that a reload compares."""
    text = """
async def work(event, task_id): pass
last = ShellScheduler("true"LAST)
first = TaskScheduler(workFIRST)
pyinotifyd = Pyinotifyd([Watch("/x", {"IN_CREATE": [ORDER]})])
"""

    def settings(argument="", order="first, last", before=""):
        more = {name.upper(): f", {argument}" if argument and name == scheduler else "" for name in CHANGES}
        config = text.replace("ORDER", order)
        for word, arguments in more.items():
            config = config.replace(word, arguments)
        described = describe(before + config)
        found = {one["name"]: one["settings"] for one in described["schedulers"]}
        return found.get(scheduler) or found["other"]

    plain = settings()
    assert settings(order="last, first", before="\n\n") == plain
    retried = settings("retry=Retry()")
    for argument in _each(CHANGES[scheduler]):
        assert settings(argument) not in (plain, retried), argument


def test_what_holds_for_a_watch_and_for_all_counts_as_a_change(describe):
    """A watch's map by the names of its schedulers; what holds for all by its name."""
    text = """
first, last = ShellScheduler("true"), ShellScheduler("true")
pyinotifyd = Pyinotifyd([Watch("/x", {"IN_CREATE": first, "IN_OPEN": last})])
"""
    plain = describe(text)
    assert describe("\n" + text)["settings"] == plain["settings"]
    for old, new in [
        ('"IN_OPEN": last', '"IN_OPEN": Cancel(last)'),
        ('"IN_OPEN": last', '"IN_OPEN": first'),
        ("last})", "last}, rec=True)"),
        ("last})", "last}, auto_add=True)"),
        ("last})", 'last}, initial="all")'),
        ("last})", 'last}, exclude_filter=["y"])'),
    ]:
        assert describe(text.replace(old, new))["watches"][0]["settings"] != plain["watches"][0]["settings"], new
    for name, argument in [
        ("shutdown_timeout", "shutdown_timeout=1"),
        ("max_jobs", "max_jobs=3"),
        ("history", "history=3"),
        ("state", "state=False"),
        ("control", "control=False"),
        ("logname", "logname='x'"),
    ]:
        settings = describe(text.replace("last})])", "last})], " + argument + ")"))["settings"]
        assert {key for key in settings if settings[key] != plain["settings"][key]} == {name}, argument


def test_levels_are_numbers(describe):
    """Python's logging takes a bool for one."""
    text = "import logging\nlogging.getLogger('x').setLevel(True)\nsetLoglevel(True)\npyinotifyd = Pyinotifyd()"
    assert repr(describe(text)["levels"]) == "{'': 1, 'x': 1}"


def test_hello_says_who_is_there(host):
    """Protocol, version, which Python, and where that looks for modules."""
    value = host().hello()
    path = value.pop("path")
    assert str(PACKAGE) in path
    assert os.path.dirname(os.__file__) in path
    assert value == {
        "protocol": 5,
        "version": VERSION,
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
    }


@pytest.mark.parametrize("change", [{"protocol": 1}, {"version": "1.9.9"}])
def test_another_version_is_refused(host, change):
    """Two halves of different versions don't work together."""
    daemon = host()
    daemon.hello(**change)
    value = daemon.expect(FAULT)
    assert "have to be of one version" in value["message"]
    assert daemon.wait()[0] == 1


def test_the_namespace(describe):
    """Names without imports, `__name__` and `__file__`."""
    describe(
        "assert (DEBUG, INFO, WARNING, ERROR, CRITICAL) == (10, 20, 30, 40, 50)\n"
        "assert __name__ == 'builtins', __name__\n"
        "assert __file__.endswith('/config.py')\n"
        "import pyinotifyd as module\n"
        "assert module.EventMap is EventMap and module.TaskScheduler is TaskScheduler\n"
        "assert 'os' not in globals()\n" + MINIMAL
    )


def test_a_config_is_utf_8_unless_it_says_otherwise(describe):
    """With a BOM, with a cookie, with neither."""
    text = "pyinotifyd = Pyinotifyd([Watch('/ä')])\n"
    for content in (
        text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1"),
        text.replace("\n", "\r\n").encode(),
    ):
        assert describe(content)["watches"][0]["paths"] == ["/ä"]


FAULTS = [
    ("x = 1\n", "the config defines no variable 'pyinotifyd'", []),
    ("pyinotifyd = 1\n", "pyinotifyd: expected a Pyinotifyd instead of 1, got <class 'int'>", [(1, "pyinotifyd = 1")]),
    ("import pyinotifyd\n", "pyinotifyd: expected", [(1, "import pyinotifyd")]),
    ("globals()['pyinotifyd'] = 1\n", "pyinotifyd: expected", []),
    ("x = 1\n1/0\n", "division by zero", [(2, "1/0")]),
    ("{}['key']\n", "KeyError: 'key'", [(1, "{}['key']")]),
    ("raise ValueError\n", "ValueError without a text", [(1, "raise ValueError")]),
    ("raise ValueError('x')\n", "ValueError: x", [(1, "raise ValueError('x')")]),
    ("raise StopIteration(7)\n", "StopIteration: 7", [(1, "raise StopIteration(7)")]),
    ("assert False\n", "AssertionError without a text", [(1, "assert False")]),
    ("prnt('x')\n", "name 'prnt' is not defined, did you mean 'print'?", [(1, "prnt('x')")]),
    ("s = ShelScheduler('x')\n", "name 'ShelScheduler' is not defined, did you mean 'ShellScheduler'?", None),
    ("ShellScheduler(cmd='x', dely=1)\n", "did you mean 'delay'?", [(1, "ShellScheduler(cmd='x', dely=1)")]),
    ("if True\n  x\n", "(config.py, line 1)", [(1, "if True")]),
    ("x = (\n", "(config.py, line 1)", None),
    ("x = '\x00'\n", "null", None),
    (b"x = '\xe9'\n", "utf-8", None),
    (b"# coding: nonsense\n", "nonsense", None),
    ("import nonexistent_module_x\n", "No module named 'nonexistent_module_x'", [(1, "import nonexistent_module_x")]),
    ("def f(n):\n    f(n)\nf(1)\n", "maximum recursion depth exceeded", None),
    ("open('/nonexistent')\n", "[Errno 2] No such file or directory: '/nonexistent'", [(1, "open('/nonexistent')")]),
    ("class E(Exception):\n  def __str__(self): return 1/0\nraise E\n", "whose text can't be made", None),
    ("raise KeyboardInterrupt\n", "KeyboardInterrupt without a text", None),
    ("class Q(BaseException): pass\nraise Q('away we go')\n", "away we go", None),
    (
        "import json\ndef f():\n    json.loads('{')\nf()\n",
        "Expecting property name",
        [(4, "f()"), (3, "    json.loads('{')")],
    ),
    ("s = ShellScheduler(\n    1)\n", "cmd: expected <class 'str'>, got <class 'int'>", None),
    ("pyinotifyd = Pyinotifyd()\npyinotifyd._watches.append(1)\n", "watches: expected", []),
    (
        "s = FileManagerScheduler([])\ns.rules.append(1)\npyinotifyd = Pyinotifyd([Watch('/', {'IN_OPEN': s})])\n",
        "rules: ",
        [],
    ),
]


@pytest.mark.parametrize(("config", "text", "places"), FAULTS)
def test_what_is_said_of_a_bad_config(fault, tmp_path, config, text, places):
    """A first line that a person understands, the user's own lines, a traceback without ours."""
    value = fault(config)
    assert text.lower() in value["message"].lower()
    if places is not None:
        assert [(place["line"], place["source"]) for place in value["locations"]] == places
    assert all(place["file"] == str(tmp_path / "config.py") for place in value["locations"])
    assert "pyinotifyd/host" not in value["traceback"]
    assert "pyinotifyd/scheduler" not in value["traceback"]
    assert value["traceback"].strip()


def test_columns_count_characters(fault):
    """A caret under the right place, on Pythons that know it."""
    value = fault("ä = 'ö'; x = 1 / 0; y = 2\n")
    place = value["locations"][0]
    if sys.version_info >= (3, 11):
        assert (place["column"], place["end_column"]) == (14, 19)
    else:
        assert (place["column"], place["end_column"]) == (None, None)
    place = fault("x = 1\nä = 'ö'; y = = 1\n")["locations"][0]
    assert (place["line"], place["column"], place["source"]) == (2, 14, "ä = 'ö'; y = = 1")


def test_a_group_of_exceptions(fault):
    """Its own text, and the traceback of all of them."""
    if sys.version_info < (3, 11):
        pytest.skip("exception groups are of Python 3.11 and newer")
    value = fault("raise ExceptionGroup('two faults', [ValueError('one'), KeyError('two')])\n")
    assert "two faults (2 sub-exceptions)" in value["message"]
    assert "ValueError: one" in value["traceback"]


@pytest.mark.parametrize(
    ("argument", "code", "message"),
    [("", 0, None), ("None", 0, None), ("3", 3, None), ("True", 1, None), ("'no disk'", 1, "no disk")],
)
def test_sys_exit(host, argument, code, message):
    """As Python ends with it."""
    daemon = host(f"import sys\nprint('out')\nsys.exit({argument})\n")
    assert daemon.expect(EXIT) == {"code": code, "message": message}
    assert daemon.wait() == (code, "out\n", "")


def test_prints_come_out_before_the_description(host):
    """In order with what the daemon writes after it."""
    daemon = host(
        "import time, threading\nprint('hello')\nthreading.Thread(target=time.sleep, args=(60,)).start()\n" + MINIMAL
    )
    daemon.expect(DESCRIBE)
    assert daemon.line() == b"hello\n"


STAYS = [
    ("", None),
    ("import logging, asyncio, concurrent.futures, tempfile\nlogging.info('x')\n", None),
    ("async def job(e, t): pass\nx = TaskScheduler(job)\n", None),
    ("import logging\nlogging.getLogger('other').addHandler(logging.StreamHandler())\n", None),
    ("import logging\nlogging.getLogger().addHandler(logging.NullHandler())\n", None),
    ("import logging\nlogging.getLogger().addHandler(logging.StreamHandler())\n", "handlers"),
    ("import logging\nlogging.getLogger('daemon').addHandler(logging.StreamHandler())\n", "handlers"),
    ("import logging\nlogging.basicConfig(force=True)\n", "handlers"),
    ("import atexit\natexit.register(print, 'x')\n", "atexit"),
    ("import tempfile\nd = tempfile.TemporaryDirectory()\n", "atexit"),
    ("import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n", "threads"),
]


if sys.version_info < (3, 14):
    LOOP = (
        "import asyncio, warnings\nwarnings.simplefilter('ignore')\nloop = asyncio.get_event_loop()\n"
        "async def serve(): return await asyncio.start_server(print, '127.0.0.1')\n"
    )
    STAYS += [
        (LOOP, None),
        *(
            (LOOP + use, "jobs")
            for use in (
                "loop.call_soon(print)\n",
                "loop.call_later(99, print)\n",
                "loop.run_in_executor(None, str)\n",
                "server = loop.run_until_complete(serve())\n",
            )
        ),
        (
            "import asyncio\nasync def work(): await asyncio.sleep(99)\n"
            "import warnings\nwarnings.simplefilter('ignore')\n"
            "task = asyncio.get_event_loop().create_task(work())\n",
            "jobs",
        ),
    ]
STAYS += [("import asyncio\nasync def work(): print(end='')\nasyncio.run(work())\n", None)]


@pytest.mark.parametrize(("config", "reason"), STAYS)
def test_who_stays(host, config, reason):
    """Only those that left something behind which only Python can do."""
    daemon = host(config + MINIMAL)
    value = daemon.expect(DESCRIBE)
    assert (value["stays"], value["stays_because"]) == (reason is not None, reason)
    if reason is None:
        assert daemon.next() == (None, None)
        assert daemon.wait() == (0, "", "")


def test_the_surroundings_that_a_config_changes(describe, tmp_path):
    """They hold for the daemon's commands, so it has to know."""
    value = describe(
        "import os\nos.environ['NEW'] = 'a\\udcff'\ndel os.environ['HOME']\nos.chdir('/')\nos.umask(0o27)\n" + MINIMAL,
        env={"HOME": "/home/x", "KEPT": "x"},
    )
    assert value["environ"] == {"NEW": "a\udcff", "HOME": None}
    assert (value["cwd"], value["umask"]) == ("/", 0o27)


def test_a_config_that_changes_its_user_is_refused(fault):
    """The daemon can't follow."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    value = fault("import os\nos.setgroups([65534])\n" + MINIMAL)
    assert "has changed its user or groups" in value["message"]


def test_a_function_for_a_signal_is_warned_of(host):
    """The daemon's signals don't reach it."""
    daemon = host("import signal\nsignal.signal(signal.SIGUSR1, lambda *a: None)\n" + MINIMAL)
    daemon.expect(DESCRIBE)
    assert [log["level"] for log in daemon.logs] == [30]
    assert "sets a function for SIGUSR1" in daemon.logs[0]["message"]


def test_a_config_that_forks(host):
    """A child that comes out at the end says nothing to the daemon."""
    daemon = host("import os\nif os.fork() == 0:\n    print('child', flush=True)\nelse:\n    os.wait()\n" + MINIMAL)
    daemon.expect(DESCRIBE)
    assert daemon.next() == (None, None)
    assert daemon.wait() == (0, "child\n", "")


IN_MEMORY = """
import os, subprocess, sys, threading, multiprocessing
import json
assert sys.path[0] not in ("", "/", os.getcwd()), sys.path
assert not any("/proc/" in entry for entry in sys.path)
try:
    import local_module
except ImportError:
    pass
else:
    raise AssertionError("imported from the current directory")
import pyinotifyd as module
from pyinotifyd.scheduler import TaskScheduler as Other
assert Other is TaskScheduler and module.Event.__name__ == "Event"
# Not by subprocess, which closes all descriptors itself.
os.system("ls -l /proc/self/fd > fds")
with open("fds") as listing:
    fds = listing.read()
subprocess.run(["true"], check=True)
assert "socket:" not in fds and "memfd" not in fds and "pipe" in fds, fds
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
process = multiprocessing.get_context("fork").Process(target=print, args=("process",))
process.start()
process.join()
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(pool.map(len, ["abc"]))
async def job(event, task_id):
    from pyinotifyd import EventMap
    raise ValueError(event.name)
pyinotifyd = Pyinotifyd([Watch("/", {"IN_OPEN": job})])
"""


def test_a_host_from_memory(booted, tmp_path):
    """As the daemon starts it: no file, nothing from the current directory, nothing leaks into children."""
    (tmp_path / "local_module.py").touch()
    (tmp_path / "pyinotifyd.py").write_text("raise AssertionError('imported from the current directory')")
    daemon = booted(IN_MEMORY, cwd=tmp_path)
    assert daemon.expect(DESCRIBE)["stays_because"] == "jobs"
    daemon.start([{"handle": 1}])
    value = daemon.next()[1]
    assert value["exception"] == "ValueError: f"
    assert value["traceback"].count("File") == 1
    daemon.send(6)
    assert daemon.wait() == (0, "thread\nprocess\n[3]\n", "")


def test_errors_from_memory(booted):
    """Our own frames are left out there, too."""
    value = booted("x = 1\nShellScheduler(1)\n").expect(FAULT)
    assert [place["line"] for place in value["locations"]] == [2]
    assert value["traceback"].count("File") == 1


def test_boot_speaks_to_old_pythons():
    """The check of the version can be read by Pythons that can't read the rest."""
    source = (PACKAGE / "boot.py").read_text()
    head = source[: source.index("import marshal")]
    assert "sys.version_info < (3, 9)" in head
    for new in ('f"', "f'", ":=", "->", "nonlocal"):
        assert new not in source


def test_versions_agree():
    """The package's version is the workspace's."""
    import pyinotifyd

    assert pyinotifyd.__version__ == VERSION
    workspace = (PACKAGE.parent.parent.parent / "Cargo.toml").read_text()
    assert f'version = "{VERSION}"' in workspace


def test_hello_is_needed(host):
    """Anything else is refused."""
    daemon = host()
    daemon.send(6)
    assert daemon.next()[0] == HOST_HELLO
    assert daemon.next()[0] == FAULT
    assert daemon.wait()[0] == 1


def test_expressions_of_unused_rules_are_told_also_when_the_config_fails(describe, fault, tmp_path):
    """The daemon checks them, in place of Python; a bad one that came before the fault is the one to tell."""
    text = "rule = FileManagerRule('delete', '(')\n"
    made = [{"pattern": "(", "at": {"file": str(tmp_path / "config.py"), "line": 1}}]
    assert describe(text + "pyinotifyd = Pyinotifyd()")["loose_patterns"] == made
    assert fault(text + "1 / 0")["patterns"] == made
