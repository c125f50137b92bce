"""What the objects of a config accept and refuse, and what they say then."""

from __future__ import annotations

import functools

import pyinotifyd
import pytest
from pyinotifyd import checked, levels
from pyinotifyd.watch import FLAGS

NAMES = {name: getattr(pyinotifyd, name) for name in pyinotifyd.__all__ if name != "Event"}


async def job(event, task_id):
    """Do nothing."""


def plain(event, task_id):
    """Do nothing, but not as a coroutine."""


class Bound:
    """Has a job as its method."""

    async def job(self, event, task_id):
        """Do nothing."""

    async def __call__(self, event, task_id):
        """Do nothing."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Begin without levels and syslog."""
    monkeypatch.setattr(levels, "levels", {"": 20})
    monkeypatch.setattr(levels, "syslog", [])
    monkeypatch.setattr(checked._Force, "begun", False)


def run(code):
    """Execute a line as a config would; return its variable `x`."""
    namespace = {**NAMES, "job": job, "plain": plain, "Bound": Bound, "functools": functools}
    namespace["sched"] = NAMES["TaskScheduler"](job)
    namespace["shell"] = NAMES["ShellScheduler"]("true")
    namespace["rule"] = NAMES["FileManagerRule"]("delete", "^/x")
    exec(compile(code, "config.py", "exec"), namespace)
    return namespace.get("x")


INT = "<class 'int'>"
STR = "<class 'str'>"
BOOL = "<class 'bool'>"
NUMBER = "<class 'int'> or <class 'float'>"
RULE = "a FileManagerRule instead of"
TASK = "a scheduler instead of"
NONE = "<class 'NoneType'>"

REFUSED = [
    # TaskScheduler
    ("TaskScheduler(plain)", "job: expected coroutine, got <class 'function'>"),
    ("TaskScheduler(lambda e, t: None)", "job: expected coroutine, got <class 'function'>"),
    ("TaskScheduler(None)", f"job: expected coroutine, got {NONE}"),
    ("TaskScheduler('job')", f"job: expected coroutine, got {STR}"),
    ("TaskScheduler(Bound())", "job: expected coroutine, got <class 'test_api.Bound'>"),
    ("TaskScheduler(functools.partial(plain))", "job: expected coroutine, got <class 'functools.partial'>"),
    ("TaskScheduler(job, files=1)", f"files: expected {BOOL}, got {INT}"),
    ("TaskScheduler(job, dirs=None)", f"dirs: expected {BOOL}, got {NONE}"),
    ("TaskScheduler(job, delay='1')", f"delay: expected {NUMBER}, got {STR}"),
    ("TaskScheduler(job, delay=None)", f"delay: expected {NUMBER}, got {NONE}"),
    ("TaskScheduler(job, delay=float('nan'))", "delay: expected at most 1000000000 seconds, got nan"),
    ("TaskScheduler(job, delay=float('inf'))", "delay: expected at most 1000000000 seconds, got inf"),
    ("TaskScheduler(job, logname=1)", f"logname: expected {STR}, got {INT}"),
    ("TaskScheduler(job, global_vars=[])", "global_vars: expected <class 'dict'>, got <class 'list'>"),
    ("TaskScheduler(job, global_vars=None)", f"global_vars: expected <class 'dict'>, got {NONE}"),
    ("TaskScheduler(job, max_jobs='1')", f"max_jobs: expected {INT}, got {STR}"),
    ("TaskScheduler(job, max_jobs=0)", "max_jobs: expected at least 1 job, got 0"),
    ("TaskScheduler(job, max_jobs=True)", "max_jobs: expected at least 1 job, got True"),
    ("sched.delay = '5'", f"delay: expected {NUMBER}, got {STR}"),
    # Cancel
    ("Cancel(job)", f"task: expected {TASK} *, got <class 'function'>"),
    ("Cancel(None)", f"task: expected {TASK} *, got {NONE}"),
    ("Cancel(Cancel(sched))", f"task: expected {TASK} *, got <class 'pyinotifyd.scheduler.Cancel'>"),
    # ShellScheduler
    ("ShellScheduler(1)", f"cmd: expected {STR}, got {INT}"),
    ("ShellScheduler(['true'])", f"cmd: expected {STR}, got <class 'list'>"),
    ("ShellScheduler('true', files=1)", f"files: expected {BOOL}, got {INT}"),
    # FileManagerRule
    ("FileManagerRule('link', 'x')", "action: expected [copy, move, delete], got link"),
    ("FileManagerRule(None, 'x')", "action: expected [copy, move, delete], got None"),
    ("FileManagerRule([], 'x')", "action: expected [copy, move, delete], got []"),
    ("FileManagerRule('move', 1)", f"src_re: expected {STR}, got {INT}"),
    ("FileManagerRule('move', 'x', None)", f"dst_re: expected {STR}, got {NONE}"),
    ("FileManagerRule('move', 'x', auto_create=1)", f"auto_create: expected {BOOL}, got {INT}"),
    ("FileManagerRule('move', 'x', overwrite=1)", f"overwrite: expected {BOOL}, got {INT}"),
    ("FileManagerRule('move', 'x', override=1)", f"overwrite: expected {BOOL}, got {INT}"),
    ("FileManagerRule('move', 'x', dirmode='755')", f"dirmode: expected {INT}, got {STR}"),
    ("FileManagerRule('move', 'x', filemode=0.5)", f"filemode: expected {INT}, got <class 'float'>"),
    ("FileManagerRule('move', 'x', filemode=0o100644)", "filemode: expected a mode from 0 to 0o7777, got 33188"),
    ("FileManagerRule('move', 'x', dirmode=-1)", "dirmode: expected a mode from 0 to 0o7777, got -1"),
    ("FileManagerRule('move', 'x', user=0)", f"user: expected {STR}, got {INT}"),
    ("FileManagerRule('move', 'x', group=0)", f"group: expected {STR}, got {INT}"),
    ("FileManagerRule('move', 'x', rec=None)", f"rec: expected {BOOL}, got {NONE}"),
    ("FileManagerRule('move', 'x', durable=1)", f"durable: expected {BOOL}, got {INT}"),
    # FileManagerScheduler
    ("FileManagerScheduler('x')", f"rules: expected {RULE} *, got {STR}"),
    ("FileManagerScheduler([rule, 1])", f"rules: expected {RULE} *, got {INT}"),
    ("FileManagerScheduler((rule,))", f"rules: expected {RULE} *, got <class 'tuple'>"),
    ("FileManagerScheduler(rule, dirs='x')", f"dirs: expected {BOOL}, got {STR}"),
    # Watch
    ("Watch(1)", f"path: expected {STR} or <class 'list'>, got {INT}"),
    ("Watch(('/a',))", f"path: expected {STR} or <class 'list'>, got <class 'tuple'>"),
    ("Watch(['/a', 1])", f"path: expected {STR}, got {INT}"),
    ("Watch('')", "path: expected a path, got an empty string"),
    ("Watch('/a\\0b')", "path: a path can't hold a NUL byte: '/a\\x00b'"),
    ("Watch('/a', rec=1)", f"rec: expected {BOOL}, got {INT}"),
    ("Watch('/a', auto_add=1)", f"auto_add: expected {BOOL}, got {INT}"),
    ("Watch('/a', [])", "event_map: expected <class 'dict'>, got <class 'list'>"),
    ("Watch('/a', exclude_filter=1)", f"exclude_filter: expected {STR} or <class 'list'>, got {INT}"),
    ("Watch('/a', exclude_filter=[1])", f"exclude_filter: expected {STR}, got {INT}"),
    ("Watch('/a', logname=1)", f"logname: expected {STR}, got {INT}"),
    # EventMap
    ("EventMap(event_map='x')", f"event_map: expected <class 'dict'>, got {STR}"),
    ("EventMap(event_map={'IN_CREATED': sched})", "event_map: invalid flag: IN_CREATED, did you mean 'IN_CREATE'?"),
    ("EventMap(event_map={'in_delete': sched})", "event_map: invalid flag: in_delete, did you mean 'IN_DELETE'?"),
    ("EventMap(event_map={'XYZ': sched})", "event_map: invalid flag: XYZ"),
    ("EventMap(event_map={'ALL_EVENTS': sched})", "event_map: invalid flag: ALL_EVENTS"),
    ("EventMap(event_map={256: sched})", "event_map: invalid flag: 256"),
    ("EventMap(event_map={'XYZ': None})", "event_map: invalid flag: XYZ"),
    ("EventMap(event_map={'IN_OPEN': plain})", "job: expected coroutine, got <class 'function'>"),
    ("EventMap(event_map={'IN_OPEN': [sched, None]})", f"job: expected coroutine, got {NONE}"),
    ("EventMap(event_map={'IN_OPEN': (sched,)})", "job: expected coroutine, got <class 'tuple'>"),
    ("EventMap(default_sched=1)", f"job: expected coroutine, got {INT}"),
    # Pyinotifyd
    ("Pyinotifyd('x')", f"watches: expected a Watch instead of 'x', got {STR}"),
    ("Pyinotifyd([1])", f"watches: expected a Watch instead of 1, got {INT}"),
    ("Pyinotifyd(shutdown_timeout='1')", f"timeout: expected {NUMBER}, got {STR}"),
    ("Pyinotifyd(shutdown_timeout=float('nan'))", "timeout: expected at most 1000000000 seconds, got nan"),
    ("Pyinotifyd(shutdown_timeout=float('inf'))", "timeout: expected at most 1000000000 seconds, got inf"),
    ("Pyinotifyd(shutdown_timeout=-1)", "timeout: expected 0 or more seconds, got -1"),
    ("Pyinotifyd(logname=1)", f"logname: expected {STR}, got {INT}"),
    ("Pyinotifyd().set_watches(1)", f"watches: expected a Watch instead of 1, got {INT}"),
    ("Pyinotifyd().set_shutdown_timeout(None)", f"timeout: expected {NUMBER}, got {NONE}"),
    ("Pyinotifyd().add_watch(watch='/a')", f"watches: expected a Watch instead of '/a', got {STR}"),
    ("Pyinotifyd().add_watch()", f"path: expected {STR} or <class 'list'>, got {NONE}"),
    # Logging
    ("enableSyslog(address=1)", "address: expected a path or (host, port), got 1"),
    ("enableSyslog(address=('h', 0))", "address: expected a port from 1 to 65535, got 0"),
    ("setLoglevel(INFO, logname=1)", f"logname: expected {STR}, got {INT}"),
    # A bool is no number
    ("FileManagerRule('delete', '^/x', filemode=True)", "filemode: expected a mode from 0 to 0o7777, got True"),
    ("FileManagerRule('delete', '^/x', dirmode=False)", "dirmode: expected a mode from 0 to 0o7777, got False"),
    ("Retry(delay=True)", "delay: expected seconds, got True"),
    ("Retry(max_delay=True)", "max_delay: expected seconds, got True"),
    ("Retry(factor=True)", "factor: expected a number from 1 to 1000, got True"),
    ("Retry(jitter=False)", "jitter: expected a number from 0 to 1, got False"),
    ("Batch(quiet=True)", "quiet: expected seconds, got True"),
    ("Batch(max_wait=True)", "max_wait: expected seconds, got True"),
    ("Settle(stable=True)", "stable: expected seconds, got True"),
    ("Settle(give_up=True)", "give_up: expected seconds, got True"),
    ("TaskScheduler(job, timeout=True)", "timeout: expected seconds, got True"),
    ("enableSyslog(address=('h', True))", "address: expected a port from 1 to 65535, got True"),
    # Bytes that are no text
    ("TaskScheduler(job, logname='a\\udcff')", "logname: expected a text in UTF-8, got 'a\\udcff'"),
    ("Watch('/a', logname='\\udcff')", "logname: expected a text in UTF-8, got '\\udcff'"),
    ("Pyinotifyd(logname='\\udcff')", "logname: expected a text in UTF-8, got '\\udcff'"),
    ("FileManagerRule('delete', '^/x', user='\\udcff')", "user: expected a text in UTF-8, got '\\udcff'"),
    ("FileManagerRule('delete', '^/x', group='\\udcff')", "group: expected a text in UTF-8, got '\\udcff'"),
    ("setLoglevel(INFO, '\\udcff')", "logname: expected a text in UTF-8, got '\\udcff'"),
    ("enableSyslog(name='\\udcff')", "logname: expected a text in UTF-8, got '\\udcff'"),
    ("enableSyslog(address=('\\udcff', 514))", "address: expected a text in UTF-8, got '\\udcff'"),
]


@pytest.mark.parametrize(("code", "text"), REFUSED)
def test_a_wrong_value_is_refused_with_its_name_and_type(code, text):
    """Each check has its text, which people search for."""
    with pytest.raises(AssertionError) as caught:
        run(code)
    # `*` stands for the value's own text, where an object of a config was expected.
    begin, _, end = text.partition("*")
    assert str(caught.value).startswith(begin)
    assert end in str(caught.value)
    assert "did you mean" in text or "did you mean" not in str(caught.value)


RAISED = [
    ("ShellScheduler('true', job)", AssertionError, "job: expected None"),
    ("FileManagerScheduler([], job)", AssertionError, "job: expected None"),
    ("EventMap({})", TypeError, "positional argument"),
    ("TaskScheduler(job, dely=1)", TypeError, "unexpected keyword argument 'dely'"),
    ("FileManagerRule('move', 'x', overwrite=True, override=True)", TypeError, "overwrite and override are the same"),
    ("Pyinotifyd().add_watch('/a', watch=Watch('/b'))", TypeError, "watch= is a whole watch"),
    ("enableSyslog(INFO, lglevel=INFO)", TypeError, "loglevel and lglevel are the same"),
    ("setLoglevel('LOUD')", ValueError, "Unknown level: 'LOUD'"),
    ("enableSyslog('LOUD')", ValueError, "Unknown level: 'LOUD'"),
    ("setLoglevel(None)", TypeError, "loglevel: not an integer or a valid string: None"),
    ("sched.dely = 1", AttributeError, "TaskScheduler has no attribute 'dely', did you mean 'delay'?"),
    ("Watch('/a').path = '/b'", AttributeError, "Watch has no attribute 'path'"),
    (
        "Watch('/a', exclude_filter='/nonexistent')",
        AssertionError,
        "No such file or directory: '/nonexistent'; a string is",
    ),
]


@pytest.mark.parametrize(("code", "kind", "text"), RAISED)
def test_a_wrong_call_is_refused(code, kind, text):
    """What is not a matter of one argument's type raises what Python raises for it."""
    with pytest.raises(kind) as caught:
        run(code)
    assert text in str(caught.value)


ACCEPTED = [
    "TaskScheduler(job, True, False, 0, 'sched', {}, False)",
    "TaskScheduler(Bound().job)",
    "TaskScheduler(functools.partial(job))",
    "TaskScheduler(functools.partial(Bound().job))",
    "TaskScheduler(job, delay=True)",
    "TaskScheduler(job, delay=0.25)",
    "TaskScheduler(job, logname=None)",
    "TaskScheduler(job, singlejob='yes')",
    "ShellScheduler('true', max_jobs=None)",
    "FileManagerScheduler([])",
    "FileManagerScheduler(rule, singlejob=True)",
    "FileManagerRule('move', 'x', 'y', True, True, 0o755, 0o644, 'u', 'g', True)",
    "FileManagerRule('move', 'x', 'y', override=True, durable=True)",
    "Watch('/a', None, None, False, False, None, 'watch')",
    "Watch([], {})",
    "Watch('/a', EventMap())",
    "EventMap(event_map={'IN_CREATE': []}, exclude_filter=[], logname='x')",
    "Pyinotifyd([], 30, 'daemon')",
    "Pyinotifyd(Watch('/a'), 0.5)",
    "Pyinotifyd(shutdown_timeout=True)",
]


@pytest.mark.parametrize("code", ACCEPTED)
def test_what_is_documented_is_accepted(code):
    """All arguments, in their order."""
    assert run(f"x = {code}") is not None


def test_defaults():
    """They are those of the documentation."""
    sched, shell, rule = run("x = TaskScheduler(job), ShellScheduler('a'), FileManagerRule('delete', 'a')")
    values = ("files", "dirs", "delay", "logname", "global_vars", "singlejob")
    assert [getattr(sched, name) for name in values] == [True, False, 0, "sched", {}, False]
    assert (sched.max_jobs, shell.max_jobs) == (None, 64)
    values = ("dst_re", "auto_create", "overwrite", "dirmode", "filemode", "user", "group", "rec", "durable")
    assert [getattr(rule, name) for name in values] == ["", False, False, None, None, None, None, False, None]
    watch, daemon = run("x = Watch('/a'), Pyinotifyd()")
    assert (watch.path(), watch.rec, watch.auto_add, watch.exclude_filter, watch.logname) == (
        "/a",
        False,
        False,
        None,
        "watch",
    )
    assert (daemon._watches, daemon._shutdown_timeout, daemon.logname) == ([], 30, "daemon")
    assert daemon.name == "pyinotifyd"
    assert run("x = FileManagerRule.valid_actions") == ["copy", "move", "delete"]


def test_a_list_of_watches_is_taken_as_it_is_then():
    """What becomes of the list, and a list that is refused, change nothing."""
    code = """
watches = [Watch('/a')]
x = Pyinotifyd(watches)
watches.clear()
try:
    x.set_watches(5)
except AssertionError:
    x.set_shutdown_timeout(timeout=3)
"""
    daemon = run(code)
    assert ([watch.path() for watch in daemon._watches], daemon._shutdown_timeout) == (["/a"], 3)


def test_events_have_their_bits():
    """As in inotify(7)."""
    flags = run("x = EventMap.flags")
    assert (flags["IN_CLOSE_WRITE"], flags["IN_IGNORED"], len(flags)) == (8, 0x8000, 15)


def test_override_is_overwrite():
    """Both spellings mean the same."""
    for spelling in ("overwrite", "override"):
        assert run(f"x = FileManagerRule('move', 'a', 'b', {spelling}=True)").overwrite is True


def test_a_default_scheduler_is_for_all_events_and_the_map_overrides_it():
    """None takes an event out again."""
    for code in (
        "EventMap(default_sched=sched, event_map={'IN_OPEN': None, 'IN_DELETE': Cancel(sched)})",
        "Watch('/a', {'IN_OPEN': None, 'IN_DELETE': Cancel(sched)}, sched).event_map()",
        "Watch('/a', EventMap(event_map={'IN_OPEN': None, 'IN_DELETE': Cancel(sched)}), sched).event_map()",
    ):
        mapped = dict(run(f"x = {code}").items())
        assert list(mapped) == [flag for flag in FLAGS if flag != "IN_OPEN"]
        assert [type(one).__name__ for one in mapped["IN_DELETE"]] == ["Cancel"]
        assert len({id(reactions[0]) for flag, reactions in mapped.items() if flag != "IN_DELETE"}) == 1


def test_a_bare_coroutine_function_gets_a_scheduler_for_each_event():
    """With the defaults of TaskScheduler."""
    mapped = dict(run("x = EventMap(event_map={'IN_OPEN': job, 'IN_CREATE': [job, sched]})").items())
    schedulers = [mapped["IN_OPEN"][0], *mapped["IN_CREATE"]]
    assert len({id(one) for one in schedulers}) == 3
    assert [type(one).__name__ for one in schedulers] == ["TaskScheduler"] * 3
    assert schedulers[0].job is job


def test_the_schedulers_of_watches():
    """Each once, those whose tasks are only cancelled as well."""
    daemon = run(
        "y = FileManagerScheduler([])\n"
        "x = Pyinotifyd()\n"
        "x.add_watch('/a', {'IN_OPEN': [sched, shell], 'IN_DELETE': [Cancel(sched), Cancel(y)]})\n"
        "x.add_watch(watch=Watch('/b', {'IN_OPEN': sched}))"
    )
    names = ["TaskScheduler", "ShellScheduler", "FileManagerScheduler"]
    assert [type(one).__name__ for one in daemon.schedulers()] == names
    assert [watch.path() for watch in daemon._watches] == ["/a", "/b"]


def test_a_pattern_is_a_text_that_has_one():
    """As a compiled expression has."""
    rule = run("x = FileManagerRule('move', '^/a', '/b')")
    assert (rule.src_re, rule.src_re.pattern, type(rule.src_re.pattern)) == ("^/a", "^/a", str)
    rule.src_re = "^/c"
    assert rule.src_re.pattern == "^/c"
    assert rule.src_re.startswith("^")


@pytest.mark.parametrize(
    "text",
    ["ShellScheduler('true', None)", "ShellScheduler('true', job=None)", "FileManagerScheduler([], None, delay=2)"],
)
def test_a_job_that_is_none_is_accepted(text):
    """It was a parameter once."""
    assert run(f"x = {text}").delay in (0, 2)


def test_an_old_name_of_an_event_is_taken_with_a_warning(caplog):
    """Old documentation uses it."""
    mapped = dict(run("x = EventMap(event_map={'IN_WRITE_CLOSE': sched})").items())
    assert list(mapped) == ["IN_CLOSE_WRITE"]
    assert "there is no IN_WRITE_CLOSE, taken as IN_CLOSE_WRITE" in caplog.text


def test_a_filter_file(tmp_path):
    """One expression a line; empty lines and comments don't count, bytes that are not UTF-8 do."""
    path = tmp_path / "filter"
    path.write_bytes(b"# comment\n\n  ^/a b  \n\t# another\n^/\xff\n")
    watch = run(f"x = Watch('/a', exclude_filter={str(path)!r})")
    assert watch.excluded == [("^/a b", (str(path), 3)), ("^/\udcff", (str(path), 5))]


OVERRIDES = [
    "class Own(TaskScheduler):\n    def process_event(self, event): pass",
    "class Own(TaskScheduler):\n    async def shutdown(self, timeout): pass",
    "class Own(FileManagerScheduler):\n    def schedule(self, event): pass",
    "class Own(EventMap):\n    def process_IN_CREATE(self, event): pass",
    "class Own(Watch):\n    def start(self, loop): pass",
    "class Own(Pyinotifyd):\n    def schedulers(self): return []",
    "class Mixin:\n    def cancel(self): pass\nclass Own(Mixin, ShellScheduler): pass",
]


@pytest.mark.parametrize("code", OVERRIDES)
def test_a_class_that_overrides_what_the_daemon_does_is_refused(code):
    """Its code would never run; the line names class and method."""
    with pytest.raises(TypeError) as caught:
        run(code)
    name = code.rpartition("def ")[2].partition("(")[0]
    owner = "Mixin" if "Mixin" in code else "Own"
    assert f"class {owner} overrides the method {name!r}" in str(caught.value)


def test_a_class_that_adds_to_ours_is_accepted():
    """Own attributes, methods and jobs are its business."""
    own = run(
        "class Own(TaskScheduler):\n"
        "    def __init__(self, db):\n"
        "        self.db = db\n"
        "        super().__init__(self.run, delay=3)\n"
        "    async def run(self, event, task_id): pass\n"
        "x = Own('db')"
    )
    assert (own.db, own.delay, own.at) == ("db", 3, ("config.py", 4))


def test_where_an_object_was_made():
    """The line of the user's, also through other functions of ours."""
    watch = run("\n\nd = Pyinotifyd()\nd.add_watch(\n  '/a', {'IN_OPEN': job})\nx = d._watches[0]")
    assert watch.at[0] == "config.py"
    assert watch.at[1] in (4, 5)
    assert dict(watch.event_map().items())["IN_OPEN"][0].at == watch.at


def test_levels_are_kept_by_name():
    """Numbers, names, and the root's."""
    run("setLoglevel(WARNING)\nsetLoglevel('DEBUG', 'a')\nsetLoglevel(15, logname='b.c')\nsetLoglevel(ERROR, 'root')")
    assert levels.levels == {"": 40, "a": 10, "b.c": 15}


def test_syslog_servers():
    """Both spellings; the same one twice is one."""
    run(
        "enableSyslog()\nenableSyslog(loglevel=INFO, address='/dev/log')\n"
        "enableSyslog(lglevel='ERROR', name='daemon')\n"
        "enableSyslog(INFO, ('localhost', 514), 'x')\nenableSyslog(INFO)"
    )
    servers = [
        {"address": "/dev/log", "level": None, "logname": None},
        {"address": "/dev/log", "level": 20, "logname": None},
        {"address": "/dev/log", "level": 40, "logname": "daemon"},
        {"address": ["localhost", 514], "level": 20, "logname": "x"},
    ]
    assert levels.syslog == [
        {**server, "at": {"file": "config.py", "line": line}} for line, server in enumerate(servers, 1)
    ]


LATE = [
    "sched.delay = 1",
    "pyinotifyd.add_watch('/b')",
    "pyinotifyd.set_shutdown_timeout(1)",
    "TaskScheduler(job)",
    "enableSyslog()",
]


def test_a_class_that_adds_to_ours_keeps_what_it_likes(monkeypatch):
    """Its jobs may count and remember; what the daemon has taken stays refused."""
    monkeypatch.setattr(checked._Force, "begun", False)
    own = run("class Own(TaskScheduler): pass\nx = Own(job, delay=3)\nx.count = 0")
    checked.put_in_force()
    own.count += 1
    own.seen = {"a"}
    with pytest.raises(RuntimeError, match="Own.delay can't be set any more"):
        own.delay = 1
    assert (own.count, own.seen, own.delay) == (1, {"a"}, 3)


@pytest.mark.parametrize("code", LATE)
def test_what_comes_too_late_is_refused(code, monkeypatch):
    """A job that changes the config would wonder why nothing happens."""
    monkeypatch.setattr(checked._Force, "begun", False)
    namespace = {**NAMES, "job": job}
    exec("sched = TaskScheduler(job)\npyinotifyd = Pyinotifyd()", namespace)
    checked.put_in_force()
    with pytest.raises(RuntimeError, match="the daemon has taken the config"):
        exec(code, namespace)
