"""How tasks run, as a config says it: what is accepted, refused and described."""

from __future__ import annotations

import textwrap

import pytest
from conftest import DESCRIBE, DONE, FAIL, NOTHING, pack_starts
from test_jobs import stop

BEGIN = """
async def job(event, task_id): pass
async def told(event, task_id): pass
class Mine(Exception): pass
rule = FileManagerRule("delete", "^/a")
"""


def running(describe, text):
    """Return what is described of the scheduler `s`, and the names of all."""
    described = describe(BEGIN + f"s = {text}\npyinotifyd = Pyinotifyd([Watch('/w', {{'IN_CREATE': s}})])\n")
    schedulers = described["schedulers"]
    return schedulers[0]["running"], [scheduler["name"] for scheduler in schedulers]


RETRY = {"times": 5, "delay": 10.0, "factor": 2.0, "max_delay": 600.0, "jitter": 0.1, "on": None}
ON = {"errors": False, "statuses": [], "timeout": False, "signal": False}


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("TaskScheduler(job)", {}),
        ("ShellScheduler('true')", {}),
        ("FileManagerScheduler(rule)", {}),
        ("TaskScheduler(job, timeout=5, max_delay=2.5, delay=2)", {"timeout": 5.0, "max_delay": 2.5}),
        ("ShellScheduler('true', max_rate=(3, 0.5), on_busy='rerun')", {"max_rate": [3, 0.5], "on_busy": "rerun"}),
        ("TaskScheduler(job, on_busy='restart')", {"on_busy": "restart"}),
        ("TaskScheduler(job, batch=Batch())", {"batch": {"quiet": 2.0, "max_wait": 30.0, "max_files": 1000}}),
        (
            "ShellScheduler('true', batch=Batch(0, 0.5, 7), max_rate=(3, 1))",
            {"batch": {"quiet": 0.0, "max_wait": 0.5, "max_files": 7}, "max_rate": [3, 1]},
        ),
        ("FileManagerScheduler(rule, retry=Retry())", {"retry": RETRY}),
        (
            "ShellScheduler('true', retry=Retry(None, 0, 1, 0, 0, on=[1, 75, 'timeout', 'signal']))",
            {
                "retry": {
                    "times": None,
                    "delay": 0.0,
                    "factor": 1.0,
                    "max_delay": 0.0,
                    "jitter": 0.0,
                    "on": {"errors": False, "statuses": [1, 75], "timeout": True, "signal": True},
                }
            },
        ),
        ("TaskScheduler(job, retry=Retry(on=[Mine, OSError]))", {"retry": {**RETRY, "on": {**ON, "errors": True}}}),
        (
            "FileManagerScheduler(rule, settle=Settle(False, 2, 3, '{dirname}/{stem}.ok', 60, 0.5))",
            {
                "settle": {
                    "no_writer": False,
                    "stable": 2.0,
                    "min_size": 3,
                    "marker": "{dirname}/{stem}.ok",
                    "give_up": 60.0,
                    "check": 0.5,
                }
            },
        ),
        ("TaskScheduler(job, retry=Retry(on=['timeout']))", {"retry": {**RETRY, "on": {**ON, "timeout": True}}}),
    ],
)
def test_what_is_described(describe, text, changes):
    """Numbers are seconds, what is not given is null."""
    assert running(describe, text)[0] == {**NOTHING, **changes}


def test_receivers_of_failures_are_described(describe):
    """Whether an event map has them or not, with receivers of their own."""
    text = "ShellScheduler('true', on_failure=[told, ShellScheduler('mail', name='mail', on_failure=[told])])"
    described, names = running(describe, text)
    # The innermost is made first, and has the name of the function.
    assert names == ["s", "scheduler-4", "mail", "told"]
    assert described["on_failure"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TaskScheduler(job, timeout=0)", "timeout: expected more than 0 seconds, got 0"),
        ("TaskScheduler(job, timeout=-1)", "timeout: expected 0 or more seconds, got -1"),
        ("TaskScheduler(job, timeout='5')", "timeout: expected <class 'int'> or <class 'float'>, got <class 'str'>"),
        ("ShellScheduler('true', delay=5, max_delay=4)", "max_delay: expected at least the delay of 5 seconds, got 4"),
        ("ShellScheduler('true', retry=3)", "retry: expected a Retry instead of 3, got <class 'int'>"),
        (
            "FileManagerScheduler(rule, retry=Retry(on=[1]))",
            "retry: on= is for commands and jobs, all failures of file rules are tried again",
        ),
        ("TaskScheduler(job, retry=Retry(on=[1]))", "retry: a job fails by exceptions or a timeout, not by 1"),
        (
            "TaskScheduler(job, retry=Retry(on=['signal']))",
            "retry: a job fails by exceptions or a timeout, not by 'signal'",
        ),
        (
            "ShellScheduler('true', retry=Retry(on=[OSError]))",
            "retry: a command fails by exit statuses, signals or a timeout, not by OSError",
        ),
        ("Retry(0)", "times: expected at least 1, got 0"),
        ("Retry(delay=700)", "max_delay: expected at least the delay of 700 seconds, got 600"),
        ("Retry(factor=0.5)", "factor: expected a number from 1 to 1000, got 0.5"),
        ("Retry(jitter=2)", "jitter: expected a number from 0 to 1, got 2"),
        ("Retry(on=75)", "on: expected <class 'list'>, got <class 'int'>"),
        ("Retry(on=[0])", "on: expected exit statuses from 1 to 255, exceptions, 'timeout' or 'signal', got 0"),
        ("Retry(on=['timout'])", "on: expected one of timeout, signal, got timout, did you mean 'timeout'?"),
        ("ShellScheduler('true', on_busy='requeue')", "on_busy: expected one of skip, rerun, restart, got requeue"),
        (
            "FileManagerScheduler(rule, on_busy='rerun')",
            "FileManagerScheduler.__init__() got an unexpected keyword argument 'on_busy'",
        ),
        (
            "ShellScheduler('true', max_rate=5)",
            "max_rate: expected <class 'tuple'> or <class 'list'>, got <class 'int'>",
        ),
        ("ShellScheduler('true', max_rate=(5,))", "max_rate: expected (starts, seconds), got (5,)"),
        ("ShellScheduler('true', max_rate=(0, 5))", "max_rate: expected at least 1, got 0"),
        ("ShellScheduler('true', max_rate=(5, 0))", "max_rate: expected more than 0 seconds, got 0"),
        (
            "ShellScheduler('true', on_failure='mail')",
            "on_failure: expected a scheduler, a coroutine function or a list of these, got 'mail'",
        ),
        (
            "ShellScheduler('true', retries=3)",
            "ShellScheduler.__init__() got an unexpected keyword argument 'retries', did you mean 'retry'?",
        ),
    ],
)
def test_what_is_refused(fault, text, said):
    """In one line, at its place."""
    value = fault(BEGIN + f"s = {text}\n")
    assert value["message"].startswith(said)
    assert value["locations"][-1]["line"] == 6


def test_an_exception_that_is_not_tried_again_is_final(host):
    """Which classes are meant, only Python knows; those below them as well."""
    daemon = host(
        textwrap.dedent("""
        async def job(event, task_id):
            raise FileNotFoundError if event.wd == 1 else ValueError
        s = TaskScheduler(job, retry=Retry(on=[OSError]))
        t = TaskScheduler(job, retry=Retry())
        pyinotifyd = Pyinotifyd([Watch("/", {"IN_CREATE": [s, t]})])
        """)
    )
    daemon.expect(DESCRIBE)
    for scheduler, wd, final in ((0, 1, False), (0, 2, True), (1, 2, False)):
        daemon.start([{"handle": 1, "scheduler": scheduler, "wd": wd}])
        assert daemon.expect(FAIL)["final"] == final
    stop(daemon)


def test_an_event_tells_of_a_failure(host):
    """Beside what it tells anyway; other events have none of that."""
    daemon = host(
        "async def job(event, task_id):\n    print(getattr(event, 'error', None), getattr(event, 'attempts', 0),"
        " getattr(event, 'task_id', None), getattr(event, 'src_pathname', None), event.path, flush=True)\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_MOVED_TO': job})])\n"
    )
    daemon.expect(DESCRIBE)
    plain = {"handle": 1, "mask": 0x80, "flags": 0}
    moved = {"handle": 2, "mask": 0x80, "flags": 4 | 8, "src_pathname": b"/w/from", "path": b"w"}
    failed = {**moved, "handle": 3, "flags": 4 | 8 | 64, "error": b"exit status 3", "attempts": b"6", "failed": b"id"}
    overflow = {
        "handle": 4,
        "mask": 0x4000,
        "flags": 32 | 64,
        "pathname": b"",
        "error": b"x",
        "attempts": b"1",
        "failed": b"i",
    }
    daemon.start([plain, moved, failed])
    for wanted in ("None 0 None None /w", "None 0 None /w/from w", "exit status 3 6 id /w/from w"):
        assert daemon.line().decode().strip() == wanted
    assert sorted(daemon.collect(DONE, 3)) == [1, 2, 3]
    assert pack_starts([overflow]).endswith(b"\0x\x001\0i")
    stop(daemon)
