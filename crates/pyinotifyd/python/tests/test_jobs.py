"""Jobs in a real host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import (
    CANCEL,
    CANCELLED,
    DEADLINE_S,
    DESCRIBE,
    DONE,
    DROPPED,
    FAIL,
    HOST_LOG,
    RECALL,
    START,
    START_BATCH,
    STOP,
    TAKEN,
    Daemon,
    pack_starts,
)

# What the daemon takes for granted before the host says more.
STARTS_A_TURN_FIRST = 8


def config(body, imports=""):
    """Return a config whose job has `body`."""
    return (
        f"import asyncio\n{imports}\n"
        "async def job(event, task_id):\n"
        f"{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': job})])\n"
    )


@pytest.fixture
def jobs(host):
    """Return a function that starts a host with a job, and waits until it has described itself."""

    def start(body, imports="", **kwargs):
        daemon = host(config(body, imports), **kwargs)
        assert daemon.expect(DESCRIBE)["stays_because"] == "jobs"
        return daemon

    return start


def packed(*handles):
    """Return the body of a frame of handles."""
    return b"".join(handle.to_bytes(8, "little") for handle in handles)


def stop(daemon, status=0):
    """Stop a host in an orderly way; return its stdout."""
    daemon.send(STOP)
    while daemon.next()[0] is not None:
        pass
    code, out, err = daemon.wait()
    assert (code, err) == (status, "")
    return out


def test_a_job_gets_the_event_and_the_id(jobs):
    """All attributes, exactly."""
    daemon = jobs("print(ascii(str(event)), task_id)")
    daemon.start(
        [
            {"handle": 1, "task_id": "id-1"},
            {"handle": 2, "mask": 0x40000100, "flags": 1, "pathname": b"/w/\xff", "task_id": "id-2"},
            {
                "handle": 3,
                "mask": 0x80,
                "flags": 2 | 4 | 16,
                "cookie": 9,
                "src_pathname": "/ä".encode(),
                "pathname": "/w/ö".encode(),
                "name_len": 2,
                "task_id": "id-3",
            },
            {"handle": 4, "flags": 8, "path": b"w", "wd": 2**31 - 1, "task_id": "id-4"},
            {
                "handle": 2**64 - 1,
                "mask": 0x4000,
                "wd": -1,
                "flags": 32,
                "pathname": b"",
                "name_len": 0,
                "task_id": "id-5",
            },
        ]
    )
    assert sorted(daemon.collect(DONE, 5)) == [1, 2, 3, 4, 2**64 - 1]
    lines = stop(daemon).splitlines()
    texts = [
        "<Event dir=False mask=0x100 maskname=IN_CREATE name=f path=/w pathname=/w/f wd=1 >",
        "<Event dir=True mask=0x40000100 maskname=IN_CREATE|IN_ISDIR name=\udcff path=/w pathname=/w/\udcff wd=1 >",
        "<Event cookie=9 dir=False mask=0x80 maskname=IN_MOVED_TO name=ö path=/w pathname=/w/ö src_pathname=/ä "
        "synthetic=True wd=1 >",
        f"<Event dir=False mask=0x100 maskname=IN_CREATE name=f path=w pathname=/w/f wd={2**31 - 1} >",
        "<Event mask=0x4000 maskname=IN_Q_OVERFLOW >",
    ]
    assert lines == [f"{ascii(text)} id-{number}" for number, text in enumerate(texts, 1)]


def test_the_number_of_a_scheduler_chooses_the_job(host):
    """Commands and rules have numbers, too."""
    daemon = host(
        "async def one(event, task_id): print('one')\n"
        "async def two(event, task_id): print('two')\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': [one, ShellScheduler('true'), two]})])\n"
    )
    assert [one["kind"] for one in daemon.expect(DESCRIBE)["schedulers"]] == ["job", "shell", "job"]
    daemon.start([{"handle": 1, "scheduler": 2}, {"handle": 2, "scheduler": 0}])
    assert sorted(daemon.collect(DONE, 2)) == [1, 2]
    assert stop(daemon) == "two\none\n"


def batch_of(handle, *events):
    """Return the body of a START_BATCH frame: its id stands with the first event."""
    return pack_starts([{"handle": handle, "task_id": "" if at else "id", **event} for at, event in enumerate(events)])


def test_a_job_of_a_batch_gets_all_events_in_one_call(jobs):
    daemon = jobs("print(task_id, *(ascii(one.pathname) + str(sorted(vars(one))[0]) for one in event))")
    failed = {"flags": 64, "error": b"why", "attempts": b"3", "failed": b"theirs"}
    moved = {"flags": 4, "src_pathname": b"/w/a"}
    daemon.start([{"handle": 1}])
    assert daemon.expect(FAIL)["task"] == 1, "one event is no list"
    daemon.send(START_BATCH, batch_of(7, {"pathname": b"/w/\xfe"}, {"pathname": b"/w/b", **moved}, failed))
    daemon.send(START_BATCH, batch_of(8, {"pathname": b"/w/c"}))
    assert sorted(daemon.collect(DONE, 2)) == [7, 8]
    assert stop(daemon) == "id '/w/\\udcfe'dir '/w/b'dir '/w/f'attempts\nid '/w/c'dir\n"


def test_a_batch_is_taken_cancelled_and_fails_as_one(jobs):
    daemon = jobs("await asyncio.sleep(99) if len(event) > 1 else int('x')")
    daemon.send(START_BATCH, batch_of(7, {}, {}))
    daemon.send(START_BATCH, batch_of(8, {}))
    assert daemon.expect(FAIL)["task"] == 8
    daemon.send(CANCEL, packed(7))
    assert daemon.collect(CANCELLED, 1) == [7]
    assert daemon.taken == 2
    stop(daemon)


def test_ten_thousand_jobs(jobs):
    """Each is taken, run and reported once, whether it awaits or not."""
    daemon = jobs("if event.wd % 2: await asyncio.sleep(0.01)")
    daemon.start([{"handle": handle, "wd": handle} for handle in range(10_000)])
    assert sorted(daemon.collect(DONE, 10_000)) == list(range(10_000))
    assert daemon.taken == 10_000
    stop(daemon)


def test_a_burst_is_reported_in_few_frames(jobs):
    """One frame of DONE for many jobs."""
    daemon = jobs("pass")
    daemon.start([{"handle": handle} for handle in range(500)])
    frames = done = 0
    while done < 500:
        done += len(daemon.expect(DONE))
        frames += 1
    assert frames <= 50


def test_jobs_run_in_parallel(jobs):
    """The one waits for the other, which comes later."""
    daemon = jobs(
        "if event.name == 'f': await event_happened.wait()\nelse: event_happened.set()",
        "event_happened = asyncio.Event()",
    )
    daemon.start([{"handle": 1}])
    daemon.start([{"handle": 2, "pathname": b"/w/g"}])
    assert sorted(daemon.collect(DONE, 2)) == [1, 2]
    stop(daemon)


def test_a_job_that_raises(jobs):
    """Its exception, and a traceback that begins at the job; others go on."""
    daemon = jobs("def deep(): raise ValueError('no\\nway')\nif event.wd == 1: deep()")
    daemon.start([{"handle": 5}, {"handle": 6, "wd": 2}])
    value = daemon.expect(FAIL)
    assert (value["task"], value["exception"]) == (5, "ValueError: no\nway")
    lines = value["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('config.py", line 5, in job')
    assert lines[2].strip() == "if event.wd == 1: deep()"
    assert daemon.collect(DONE, 1) == [6]
    stop(daemon)


def test_tracebacks_show_the_source_that_was_executed(jobs, tmp_path):
    """Not what has become of the file since."""
    daemon = jobs("raise ValueError  # the old text")
    (tmp_path / "config.py").write_text("\n" * 10)
    daemon.start([{"handle": 1}])
    assert "raise ValueError  # the old text" in daemon.expect(FAIL)["traceback"]


RAISES = [
    ("GeneratorExit", "GeneratorExit"),
    ("GeneratorExit('text')", "GeneratorExit: text"),
    ("KeyboardInterrupt", "KeyboardInterrupt"),
    ("SystemExit(3)", "SystemExit: 3"),
    ("StopIteration", "RuntimeError: coroutine raised StopIteration"),
    ("StopAsyncIteration", "StopAsyncIteration"),
    ("MemoryError", "MemoryError"),
    ("BaseException('text')", "BaseException: text"),
    ("Silent('text')", "Silent: <"),
    ("Leaving('text')", "Leaving: <"),
    ("Misplaced('text')", "Misplaced: <an exception whose text can't be made>"),
    ("deep()", "ValueError: 4999"),
]
ODD = """
class Silent(Exception):
    def __str__(self): raise ValueError
class Leaving(Exception):
    def __str__(self): raise SystemExit
class Misplaced(SyntaxError):
    text = property(lambda self: self.no)
    filename, lineno = 5, "x"
class Meta(type):
    def __instancecheck__(cls, one): raise SystemExit
class Judge(Exception, metaclass=Meta): pass
def deep():
    last = None
    for number in range(5000):
        try:
            raise ValueError(number) from last
        except ValueError as error:
            last = error
    return last
"""
if sys.version_info >= (3, 11):
    RAISES.append(("BaseExceptionGroup('text', [GeneratorExit()])", "BaseExceptionGroup: text (1 sub-exception)"))


@pytest.mark.parametrize("when", ["", "await asyncio.sleep(0.01)\n"], ids=["at once", "later"])
def test_whatever_a_job_raises_it_has_one_end(jobs, when):
    kinds = ", ".join(f"lambda: {kind}" for kind, _ in RAISES)
    daemon = jobs(f"{when}raise [{kinds}][event.wd]()", ODD)
    daemon.start([{"handle": 100 + number, "wd": number} for number in range(len(RAISES))])
    failed = [daemon.expect(FAIL) for _ in RAISES]
    for value in failed:
        kind, text = RAISES[value["task"] - 100]
        assert value["exception"].startswith(text), kind
        assert text in value["traceback"], kind
    assert sorted(value["task"] for value in failed) == [100 + number for number in range(len(RAISES))]
    daemon.start([{"handle": 1, "wd": 0}])
    assert daemon.expect(FAIL)["task"] == 1
    stop(daemon)


@pytest.mark.parametrize("when", ["", "await asyncio.sleep(0.01)\n"], ids=["at once", "later"])
def test_a_job_that_raises_a_cancel_of_its_own_was_cancelled(jobs, when):
    daemon = jobs(f"{when}raise asyncio.CancelledError")
    daemon.start([{"handle": 1}])
    assert daemon.expect(CANCELLED) == [1]
    stop(daemon)


def test_a_long_error_is_whole_in_its_traceback_alone(jobs):
    """The error is kept with each path of a batch."""
    daemon = jobs("raise ValueError('a' * 9000 + 'z')")
    daemon.start([{"handle": 1}])
    failed = daemon.expect(FAIL)
    assert failed["exception"].startswith("ValueError: aaa")
    assert failed["exception"].endswith("aaaz")
    assert " [... 4917 characters are left out ...] " in failed["exception"]
    assert len(failed["exception"]) < 4200
    assert failed["traceback"].endswith("ValueError: " + "a" * 9000 + "z\n")
    stop(daemon)


def test_an_exception_that_no_class_wants_to_know_ends_its_job(host):
    """A class may say itself what is one of its kind, and raise."""
    daemon = host(
        f"{ODD}async def job(event, task_id): raise ValueError('text')\n"
        "task = TaskScheduler(job, retry=Retry(times=1, on=[Judge]))\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': task})])\n"
    )
    daemon.expect(DESCRIBE)
    daemon.start([{"handle": 1}])
    failed = daemon.expect(FAIL)
    assert (failed["task"], failed["exception"], failed["final"]) == (1, "ValueError: text", True)
    stop(daemon)


def test_a_job_that_python_closes_says_nothing(jobs):
    """One that asyncio does not know of any more is not cancelled at the end, but closed with its loop gone."""
    daemon = jobs(
        "await asyncio.sleep(0.01)\ntask = asyncio.current_task()\nasyncio.tasks._unregister_task(task)\n"
        "atexit.register(task.get_coro().close)\nprint('alone', flush=True)\n"
        "try:\n    await asyncio.sleep(99)\nfinally:\n    print('closed', flush=True)",
        "import atexit",
    )
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"alone\n"
    daemon.send(STOP)
    assert daemon.expect(CANCELLED) == [1]
    assert daemon.next() == (None, None)
    assert daemon.wait() == (0, "closed\n", "")


def test_cancel(jobs):
    """A running job gets CancelledError; one that is not there is no error."""
    daemon = jobs(
        "try:\n    print('begun', flush=True)\n    await asyncio.sleep(99)\nexcept asyncio.CancelledError:\n"
        "    print('cancelled', flush=True)\n    raise"
    )
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.send(CANCEL, packed(1, 77))
    assert daemon.expect(CANCELLED) == [1]
    assert stop(daemon) == "cancelled\n"


def test_cancel_in_the_same_breath(jobs):
    """Jobs that had no turn yet never begin."""
    daemon = jobs("await asyncio.sleep(99)")
    count = 300
    frame = pack_starts([{"handle": handle} for handle in range(count)])
    cancel = packed(*range(count))
    daemon.sock.sendall(
        len(frame).to_bytes(4, "little") + b"\x03" + frame + len(cancel).to_bytes(4, "little") + b"\x04" + cancel
    )
    assert sorted(daemon.collect(DROPPED, count)) == list(range(count))
    stop(daemon)
    assert daemon.taken == 0


def test_what_was_dropped_is_told_before_what_was_taken(jobs):
    """The daemon counts what was taken in the order of the starts, without those that it knows as dropped."""
    daemon = jobs("import time; print('begun', flush=True); time.sleep(0.3) if event.wd == 1 else None")
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.start([{"handle": handle, "wd": 2} for handle in (2, 3, 4)])
    daemon.send(CANCEL, packed(2))
    told = []
    while DROPPED not in told:
        told.append(daemon.next(DROPPED, DONE)[0])
    assert daemon.taken <= 1
    stop(daemon)


def test_a_job_that_cancels_itself(jobs):
    """CancelledError that nobody asked for is reported as such."""
    daemon = jobs("raise asyncio.CancelledError")
    daemon.start([{"handle": 1}])
    assert daemon.expect(CANCELLED) == [1]
    stop(daemon)


def test_a_job_that_swallows_its_cancel(jobs):
    """It has finished."""
    daemon = jobs(
        "try:\n    print('begun', flush=True)\n    await asyncio.sleep(99)\nexcept asyncio.CancelledError: pass"
    )
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.send(CANCEL, packed(1))
    assert daemon.expect(DONE) == [1]
    stop(daemon)


def test_stop_cancels_and_ends(jobs):
    """Jobs end by CancelledError, finally blocks run, callbacks at the end are called."""
    daemon = jobs(
        "try:\n    print('begun', flush=True)\n    await asyncio.sleep(99)\nfinally:\n"
        "    await asyncio.sleep(0)\n    print('finally')",
        "import atexit\natexit.register(print, 'atexit')",
    )
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.send(STOP)
    assert daemon.expect(CANCELLED) == [1]
    assert daemon.wait() == (0, "finally\natexit\n", "")


def test_the_end_of_the_socket_ends_the_host(jobs):
    """Without a word of the daemon's."""
    daemon = jobs("print('begun', flush=True)\nawait asyncio.sleep(99)")
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.sock.close()
    assert daemon.process.wait(timeout=DEADLINE_S) == 0


def test_a_job_that_will_not_end_cannot_keep_the_host(jobs):
    """When the daemon is gone, there is a time for everything, and an end to it."""
    daemon = jobs(
        """
        print('begun', flush=True)
        while True:
            try:
                await asyncio.sleep(99)
            except asyncio.CancelledError:
                pass
        """,
        "import pyinotifyd.host.stay\npyinotifyd.host.stay.GONE_GRACE_S = 0.2",
    )
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.sock.close()
    assert daemon.process.wait(timeout=DEADLINE_S) == 1


@pytest.mark.parametrize("when", ["", "await asyncio.sleep(0.01)\n"])
@pytest.mark.parametrize(
    ("exits", "text"),
    [
        ("sys.exit(7)", "SystemExit: 7"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_job_that_exits(jobs, when, exits, text):
    """It has failed; other jobs go on."""
    daemon = jobs(f"if event.wd == 1: return await asyncio.sleep(0.1)\n{when}import sys; {exits}")
    daemon.start([{"handle": 1}, {"handle": 2, "wd": 2}])
    failed = daemon.expect(FAIL)
    assert (failed["task"], failed["exception"]) == (2, text)
    assert exits in failed["traceback"]
    assert daemon.expect(DONE) == [1]
    stop(daemon)


@pytest.mark.parametrize(
    "exits",
    [
        "asyncio.get_running_loop().call_soon(sys.exit, 'enough of it')",
        "asyncio.get_running_loop().create_task(exits())",
        "asyncio.get_running_loop().stop()",
    ],
)
def test_a_callback_that_exits_ends_nothing(jobs, exits):
    """The loop belongs to other jobs, too."""
    daemon = jobs(
        f"if event.wd == 1: return await asyncio.sleep(0.1)\n{exits}",
        "import sys\nasync def exits(): sys.exit('enough of it')",
    )
    daemon.start([{"handle": 1}, {"handle": 2, "wd": 2}])
    assert sorted(daemon.collect(DONE, 2)) == [1, 2]
    daemon.start([{"handle": 3}])
    assert daemon.expect(DONE) == [3]
    stop(daemon)
    said = [log["message"] for log in daemon.logs]
    assert sum("SystemExit('enough of it')" in text for text in said) >= ("exit" in exits)


def test_ends_of_jobs_that_exit_end_nothing(jobs):
    """Not even at the end."""
    daemon = jobs(
        "try:\n    print('begun', flush=True)\n    await asyncio.sleep(99)\nfinally:\n    sys.exit(event.wd)",
        "import atexit, sys\natexit.register(print, 'atexit')",
    )
    daemon.start([{"handle": handle, "wd": handle} for handle in (1, 2, 3)])
    for _ in range(3):
        assert daemon.line() == b"begun\n"
    daemon.send(STOP)
    assert sorted(daemon.expect(FAIL)["task"] for _ in range(3)) == [1, 2, 3]
    assert daemon.wait() == (0, "atexit\n", "")


def test_a_job_that_awaits_is_taken(jobs):
    """At once, although it goes on for long: what is not taken counts as blocked."""
    daemon = jobs("await asyncio.sleep(99)")
    for handle in (1, 2):
        daemon.start([{"handle": handle}])
        assert daemon.next(TAKEN) == (TAKEN, 1)
    daemon.send(STOP)
    assert sorted(daemon.collect(CANCELLED, 2)) == [1, 2]


# Tasks whose first step is not run at once, as all are before Python 3.12.
LAZY = "asyncio.get_running_loop().set_task_factory(lambda loop, coro, **more: asyncio.Task(coro, loop=loop, **more))"


@pytest.mark.parametrize("lazy", ["pass", LAZY])
def test_a_job_that_is_cancelled_before_its_first_step(jobs, lazy):
    """Python never runs it; its end is told nevertheless, once."""
    daemon = jobs(
        f"""
        if event.wd == 1:
            {lazy}
        elif event.wd == 2:
            for task in asyncio.all_tasks() - {{asyncio.current_task()}}:
                task.cancel()
        else:
            await asyncio.sleep(0)
            print("ran", flush=True)
        """
    )
    daemon.start([{"handle": 1}])
    assert daemon.expect(DONE) == [1]
    daemon.start([{"handle": 2, "wd": 2}, *({"handle": handle, "wd": 3} for handle in range(3, 6))])
    ends = {DONE: [], CANCELLED: []}
    while len(ends[DONE]) + len(ends[CANCELLED]) < 4:
        kind, handles = daemon.next(DONE, CANCELLED)
        ends[kind] += handles
    while daemon.taken < 5:
        daemon.next(TAKEN)
    # Where first steps are run at once, the job that cancels finds no others.
    eager = lazy == "pass" and sys.version_info >= (3, 12)
    assert sorted(ends[CANCELLED]) == ([] if eager else [3, 4, 5])
    assert stop(daemon).count("ran") == (3 if eager else 0)


def test_a_cancel_of_a_job_whose_task_waits_before_it(jobs):
    """A factory of the user's may run it inside of something else."""
    daemon = jobs(
        """
        if event.wd == 1:
            async def later(coro):
                await asyncio.sleep(0.05)
                await coro
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coro, **more: asyncio.Task(later(coro), loop=loop))
        """
    )
    daemon.start([{"handle": 1}])
    assert daemon.expect(DONE) == [1]
    daemon.start([{"handle": 2, "wd": 2}, {"handle": 3, "wd": 2}])
    daemon.send(CANCEL, packed(2))
    # Whether it was begun is up to the host.
    assert daemon.next(DONE, CANCELLED, DROPPED)[1] == [2]
    assert daemon.next(DONE, CANCELLED, DROPPED) == (DONE, [3])
    daemon.send(STOP)
    daemon.wait()


# The first step of a job at once, as from Python 3.12 on; it goes no further.
EAGER = """
kept = []
def eager(loop, coro, **more):
    kept.append((coro, coro.send(None)))
    return asyncio.Task(asyncio.sleep(99), loop=loop)
asyncio.get_event_loop().set_task_factory(eager)
"""


@pytest.mark.parametrize("last", [1, 5, 12, 20, 30, 100, 250])
@pytest.mark.parametrize("eager", ["", EAGER] if sys.version_info < (3, 14) else [""])
def test_a_process_that_ends_has_begun_no_more_than_it_has_told(jobs, eager, last):
    """However fast its turns grow: what it has not told is run by another one."""
    daemon = jobs(
        f"begun.append(event)\nif len(begun) == {last}: os._exit(9)\nawait asyncio.sleep(99)",
        "import os\nbegun = []\n" + eager,
    )
    daemon.open = STARTS_A_TURN_FIRST
    daemon.start([{"handle": handle} for handle in range(300)])
    assert daemon.next() == (None, None)
    assert daemon.process.wait() == 9
    assert daemon.taken <= last <= daemon.taken + daemon.open


@pytest.mark.parametrize("bad", ["coro.close(); sys.exit('x')", "coro.close(); return None"])
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asked for its loop, Python 3.14 has none yet")
def test_a_task_factory_that_fails_costs_its_job_only(jobs, bad):
    """However it fails: what comes after begins."""
    daemon = jobs(
        "await asyncio.sleep(0)",
        f"""
import sys
made = []
def factory(loop, coro, **more):
    made.append(1)
    if len(made) == 1:
        {bad}
    return asyncio.Task(coro, loop=loop)
asyncio.get_event_loop().set_task_factory(factory)
""",
    )
    daemon.start([{"handle": handle} for handle in range(40)])
    assert daemon.next(FAIL)[1]["task"] == 0
    assert sorted(daemon.collect(DONE, 39)) == list(range(1, 40))
    assert daemon.taken <= 40
    daemon.send(STOP)
    daemon.wait()


@pytest.mark.parametrize("word", [CANCEL, RECALL])
def test_a_cancel_that_is_there_comes_before_the_job(jobs, word):
    """However many jobs are before it: nothing starts after its cancel has arrived. The first has begun and ends."""
    daemon = jobs("import time; print('begun', flush=True); time.sleep(0.3) if event.wd == 1 else None")
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    # More than one read takes, while the job blocks. With a timeout, Python would wait for room before it is needed.
    handles = range(2, 1002)
    daemon.sock.settimeout(None)
    starts = pack_starts([{"handle": handle, "wd": 2, "pathname": b"/w/" + b"x" * 40} for handle in handles])
    for kind, body in ((START, starts), (word, packed(*handles) if word == CANCEL else b"")):
        daemon.sock.sendall(len(body).to_bytes(4, "little") + bytes([kind]) + body)
    assert daemon.expect(DONE) == [1]
    assert sorted(daemon.collect(DROPPED, len(handles))) == list(handles)
    assert stop(daemon) == ""


def test_a_job_that_crashes_the_interpreter(jobs):
    """Where, stands on stderr."""
    daemon = jobs("import os; os.abort()")
    daemon.start([{"handle": 1}])
    assert daemon.next() == (None, None)
    code, _, err = daemon.wait()
    assert code == -signal.SIGABRT
    assert "config.py" in err
    assert "in job" in err


def test_a_job_that_blocks(jobs):
    """TAKEN stays out, which the daemon sees; what it sends meanwhile is not lost."""
    daemon = jobs("import time; print('begun', flush=True); time.sleep(0.5) if event.wd == 1 else None")
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"begun\n"
    daemon.start([{"handle": handle, "wd": 2} for handle in range(2, 1002)])
    assert sorted(daemon.collect(DONE, 1001)) == list(range(1, 1002))
    stop(daemon)


def test_a_daemon_that_does_not_read(jobs):
    """Logs are bounded and counted, jobs go on; others begin when it knows which have."""
    daemon = jobs("for _ in range(event.wd): logging.info('x' * 50_000)", "import logging")
    daemon.start([{"handle": 1000, "wd": 501}, *({"handle": handle, "wd": 0} for handle in range(500))])
    deadline = time.monotonic() + DEADLINE_S
    before = -1.0
    while time.monotonic() < deadline:
        fields = open(f"/proc/{daemon.process.pid}/stat").read().rsplit(")", 1)[1].split()
        used = int(fields[11]) + int(fields[12])
        if fields[0] == "S" and used == before:
            break
        before = used
        time.sleep(0.2)
    handles = daemon.collect(DONE, 501)
    assert len(handles) == 501
    logs = len([log for log in daemon.logs if log["message"][0] == "x"])
    assert 50 < logs < 501
    daemon.start([{"handle": 2000}])
    daemon.collect(DONE, 1)
    lost = [log["message"] for log in daemon.logs if "were lost" in log["message"]]
    assert lost == [f"{501 - logs} log records of Python code were lost"]
    stop(daemon)


def test_what_is_left_to_say_is_said_at_the_end(jobs):
    """A daemon that reads only after its stop."""
    daemon = jobs(
        """
        begun.append(event)
        print("begun", flush=True)
        if len(begun) == 40:
            gate.set()
        await gate.wait()
        raise ValueError("x" * 50_000)
        """,
        "import asyncio\nbegun, gate = [], asyncio.Event()",
    )
    daemon.start([{"handle": handle} for handle in range(40)])
    for _ in range(40):
        assert daemon.line() == b"begun\n"
    daemon.send(STOP)
    assert sorted(daemon.expect(FAIL)["task"] for _ in range(40)) == list(range(40))
    assert daemon.next() == (None, None)


ASYNCIO = {
    "wait_for": "try:\n    await asyncio.wait_for(asyncio.sleep(99), 0.01)\nexcept asyncio.TimeoutError:\n"
    "    print('ok')",
    "gather": "print('ok' if await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2] else 'no')",
    "create_task": "print(await asyncio.create_task(asyncio.sleep(0, 'ok')))",
    "executor": "print(await asyncio.get_running_loop().run_in_executor(None, lambda: 'ok'))",
    "subprocess": (
        "p = await asyncio.create_subprocess_exec('echo', 'ok', stdout=asyncio.subprocess.PIPE)\n"
        "out, _ = await p.communicate()\nprint(out.decode().strip(), end='\\n' if p.returncode == 0 else 'no')"
    ),
    "blocking subprocess": "import subprocess\nsubprocess.run(['echo', 'ok'])",
    "current_task": "print('ok' if asyncio.current_task().cancel() is not None else 'no')\nawait asyncio.sleep(0)",
    "lock": "async with lock: print('ok')",
    "context": "print(var.get('ok')); var.set('no')",
    "async generator": "async def g():\n    yield 'ok'\nasync for x in g(): print(x)",
}
NEWER = {
    "timeout": "try:\n    async with asyncio.timeout(0.01): await asyncio.sleep(99)\nexcept TimeoutError:\n"
    "    print('ok')",
    "sync timeout": "async with asyncio.timeout(99): pass\nprint('ok')",
    "task group": "async with asyncio.TaskGroup() as g: t = g.create_task(asyncio.sleep(0, 'ok'))\nprint(t.result())",
}
if sys.version_info >= (3, 11):
    ASYNCIO.update(NEWER)


def test_tls_is_there_when_it_is_wanted(jobs):
    """Nothing stands in for it."""
    daemon = jobs(
        """
        import ssl
        from ssl import SSLContext, create_default_context
        assert type(ssl).__name__ == "module" and "_ssl" in sys.modules
        assert asyncio.sslproto.SSLProtocol
        context = create_default_context()
        try:
            await asyncio.open_connection("127.0.0.1", 1, ssl=context)
        except OSError:
            print("ok")
        """,
        "import sys, socket",
    )
    daemon.start([{"handle": 1}])
    kind, value = daemon.next()
    assert kind == DONE, value
    assert stop(daemon) == "ok\n"


def test_tls_loads_for_a_star(jobs):
    """All of its names."""
    daemon = jobs("print(SSLContext.__name__)", "from ssl import *")
    daemon.start([{"handle": 1}])
    assert daemon.expect(DONE) == [1]
    assert stop(daemon) == "SSLContext\n"


@pytest.mark.parametrize("name", ASYNCIO)
def test_asyncio_works_in_jobs(jobs, name):
    """Also several in a row: nothing of one job is seen by the next."""
    daemon = jobs(ASYNCIO[name], "import contextvars\nlock = asyncio.Lock()\nvar = contextvars.ContextVar('var')")
    daemon.start([{"handle": handle} for handle in range(3)])
    kind = CANCELLED if name == "current_task" else DONE
    assert sorted(daemon.collect(kind, 3)) == [0, 1, 2]
    assert stop(daemon) == "ok\n" * 3


def test_a_cancel_of_one_job_never_hits_the_next(jobs):
    """A job that asks for its own cancel and ends before it comes."""
    daemon = jobs(
        "if event.wd == 1: asyncio.current_task().cancel()\nelse: await asyncio.sleep(0); print('ok')",
    )
    daemon.start([{"handle": 1}, {"handle": 2, "wd": 2}, {"handle": 3}, {"handle": 4, "wd": 2}])
    assert sorted(daemon.collect(DONE, 4)) == [1, 2, 3, 4]
    assert stop(daemon) == "ok\nok\n"


def test_interrupts_pass_and_children_get_them(jobs):
    """Ctrl-C reaches the whole group; a child that the job starts dies of it."""
    daemon = jobs(
        "p = await asyncio.create_subprocess_exec('sleep', '99')\nprint(p.pid, flush=True)\nprint(await p.wait())"
    )
    daemon.start([{"handle": 1}])
    child = int(daemon.line())
    os.kill(daemon.process.pid, signal.SIGINT)
    os.kill(child, signal.SIGINT)
    assert daemon.collect(DONE, 1) == [1]
    assert stop(daemon) == f"-{int(signal.SIGINT)}\n"


def test_what_the_config_has_started_goes_on(host):
    """Tasks that it put onto the loop, objects that belong to it."""
    if sys.version_info >= (3, 14):
        pytest.skip("there is no loop before one is made any more")
    daemon = host(
        "import asyncio, warnings\nwarnings.simplefilter('ignore')\n"
        "queue = asyncio.Queue()\n"
        "async def work():\n    print(await queue.get(), flush=True)\n"
        "task = asyncio.get_event_loop().create_task(work())\n"
        "async def job(event, task_id): queue.put_nowait(event.name)\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': job})])\n"
    )
    daemon.expect(DESCRIBE)
    daemon.start([{"handle": 1}])
    assert daemon.line() == b"f\n"
    stop(daemon)


def test_a_forked_child_that_lives_on(jobs):
    """It holds no end of the socket that would keep the daemon waiting, if it is a command."""
    daemon = jobs(
        "p = subprocess.Popen(['sleep', '99'], stdout=-3, stderr=-3, close_fds=False)\nprint(p.pid, flush=True)",
        "import subprocess",
    )
    daemon.start([{"handle": 1}])
    child = int(daemon.line())
    try:
        assert daemon.collect(DONE, 1) == [1]
        daemon.send(STOP)
        assert daemon.next() == (None, None)
    finally:
        os.kill(child, signal.SIGKILL)


CHILDREN = {
    "returns": ("if os.fork() == 0:\n    return", 0),
    "raises": ("if os.fork() == 0:\n    raise ValueError('in the child')", 1),
    "waits": ("if os.fork() == 0:\n    await asyncio.sleep(0.01)", 1),
    "exits": ("if os.fork() == 0:\n    sys.exit(3)", 3),
    "was forked by a task": ("async def work():\n    os.fork()\nawait asyncio.create_task(work())", 1),
    "was forked by a callback": (
        "def work():\n    if os.fork() == 0:\n        sys.exit(3)\n"
        "asyncio.get_running_loop().call_soon(work)\nawait asyncio.sleep(0.01)",
        3,
    ),
    "was forked by a child": (
        "if os.fork() == 0:\n    if os.fork() == 0:\n        return\n    os._exit(os.wait()[1] >> 8)",
        0,
    ),
}


@pytest.mark.parametrize("name", CHILDREN)
def test_a_forked_child_that_comes_back_to_the_loop(jobs, name):
    """It takes no start away, runs no job a second time, and ends."""
    body, status = CHILDREN[name]
    body = f"print(os.getpid(), event.name, flush=True)\nif event.name == 'f':\n{textwrap.indent(body, '    ')}"
    daemon = jobs(f"{body}\n    print(os.wait()[1] >> 8, flush=True)", "import os, sys")
    daemon.start([{"handle": handle, "pathname": b"/w/f" if handle == 1 else b"/w/g"} for handle in range(1, 21)])
    done = daemon.collect(DONE, 20)
    for handle in range(21, 60):
        daemon.start([{"handle": handle, "pathname": b"/w/g"}])
        done += daemon.collect(DONE, 1)
    assert sorted(done) == list(range(1, 60))
    daemon.send(STOP)
    code, out, err = daemon.wait()
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[0] for line in lines if len(line) == 1] == [str(status)]
    assert [line[1] for line in lines if len(line) == 2].count("g") == 58
    assert {line[0] for line in lines if len(line) == 2} == {str(daemon.process.pid)}
    assert err.count(" - pyinotifyd/root - WARNING - process ") == (0 if status == 3 else 1)
    assert err.count("was ended; let it call os._exit()") == (0 if status == 3 else 1)
    by = "work" if name == "was forked by a task" else "job"
    forked = re.findall(rf"process \d+, which '{by}' forked at \S+:\d+, came back", err)
    assert len(forked) == (0 if status == 3 else 1)
    assert ("ValueError: in the child" in err) == (name == "raises")
    assert daemon.logs == []


HONEST = """
async def own_loop():
    await asyncio.sleep(0.01)
    return (await asyncio.get_running_loop().run_in_executor(None, len, "abc"))
def forked(function):
    pid = os.fork()
    if pid == 0:
        os._exit(function() or 0)
    return os.waitpid(pid, 0)[1] >> 8
def write_and_exit(queue):
    queue.put("from a process")
context = multiprocessing.get_context("fork")
"""


def test_forked_children_that_never_come_back(jobs):
    """They can do what they like, with loops and sockets of their own."""
    daemon = jobs(
        "print(forked(lambda: 7))\n"
        "print(forked(lambda: asyncio.run(own_loop())))\n"
        "print(forked(lambda: os.execvp('sh', ['sh', '-c', 'exit 5'])))\n"
        "print(subprocess.run(['sh', '-c', 'exit 4'], preexec_fn=os.setsid).returncode)\n"
        "loop = asyncio.get_running_loop()\n"
        "print(await loop.run_in_executor(None, forked, lambda: 6))\n"
        "queue = context.Queue()\n"
        "process = context.Process(target=write_and_exit, args=(queue,))\n"
        "process.start()\nprint(queue.get())\nprocess.join()\nprint(process.exitcode)\n"
        "with concurrent.futures.ProcessPoolExecutor(2, context) as pool:\n"
        "    print(await asyncio.gather(*(loop.run_in_executor(pool, abs, -n) for n in range(3))))\n"
        "with context.Pool(2) as pool:\n    print(pool.map(abs, [-1, -2]))\n"
        "print(await (await asyncio.create_subprocess_exec('true')).wait())",
        f"import concurrent.futures, multiprocessing, os, subprocess\n{HONEST}",
    )
    daemon.start([{"handle": 1}, {"handle": 2}])
    assert daemon.collect(DONE, 2) == [1, 2]
    lines = ["7", "3", "5", "4", "6", "from a process", "0", "[0, 1, 2]", "[1, 2]", "0"]
    assert sorted(stop(daemon).splitlines()) == sorted(2 * lines)


def test_changes_to_the_config_come_too_late(jobs):
    """And say so."""
    daemon = jobs("pyinotifyd.add_watch('/tmp')")
    daemon.start([{"handle": 1}])
    assert "the daemon has taken the config" in daemon.expect(FAIL)["exception"]


def test_the_host_dies_with_the_daemon(tmp_path):
    """Also when a job blocks: the kernel sees to it."""
    path = tmp_path / "config.py"
    path.write_text(config("import time; print('begun', flush=True); time.sleep(99)"))
    # A daemon between us and the host.
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from conftest import *
        daemon = Daemon([sys.executable, "-m", "pyinotifyd.host"], "/")
        daemon.load(sys.argv[2])
        daemon.expect(DESCRIBE)
        daemon.start([{"handle": 1}])
        daemon.line()
        print(daemon.process.pid, flush=True)
        sys.stdin.read()
        """
    )
    between = subprocess.Popen(
        [sys.executable, "-c", script, os.path.dirname(__file__), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pid = int(between.stdout.readline())
    between.kill()
    between.communicate()
    deadline = time.monotonic() + DEADLINE_S
    while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "the host lives on"
        time.sleep(0.01)


def test_the_host_dies_with_the_daemon_while_the_config_executes(host):
    daemon = host("import time\nprint('executes', flush=True)\ntime.sleep(99)")
    assert daemon.line() == b"executes\n"
    daemon.cut_lifeline()
    assert daemon.wait()[0] == -signal.SIGKILL


def test_a_daemon_that_ends_before_the_config_executes(host, tmp_path):
    """The host ends then: its lifeline has ended before anybody listens to it."""
    path = tmp_path / "config.py"
    path.write_text(config("pass"))
    daemon = host()
    daemon.cut_lifeline()
    daemon.load(path)
    assert daemon.wait()[0] == 1


def test_records_of_jobs(jobs):
    """Logger, level, text and traceback; in order with DONE."""
    daemon = jobs(
        """
        logging.getLogger("mine").warning("%s and %s", 1, 2)
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("bad")
        logging.debug("not seen")
        """,
        "import logging",
    )
    daemon.start([{"handle": 1}])
    kind, first = daemon.next(HOST_LOG, DONE)
    assert (kind, first["logger"], first["level"], first["message"], first["exc"]) == (
        HOST_LOG,
        "mine",
        30,
        "1 and 2",
        None,
    )
    assert abs(first["created"] - time.time()) < DEADLINE_S
    kind, second = daemon.next(HOST_LOG, DONE)
    assert (second["logger"], second["level"], second["message"]) == ("root", 40, "bad")
    assert second["exc"].startswith("Traceback")
    assert "ZeroDivisionError" in second["exc"]
    assert daemon.next(HOST_LOG, DONE)[0] == DONE
    stop(daemon)


def test_frames_in_pieces(jobs):
    """However the socket cuts them."""
    daemon = jobs("pass")
    body = pack_starts([{"handle": handle} for handle in range(100)])
    frame = len(body).to_bytes(4, "little") + b"\x03" + body
    for begin in range(0, len(frame), 37):
        daemon.sock.sendall(frame[begin : begin + 37])
    assert sorted(daemon.collect(DONE, 100)) == list(range(100))
    stop(daemon)


def test_unknown_objects_as_jobs(host):
    """Mocks and marked functions are what asyncio says they are."""
    daemon = host(
        "from unittest.mock import AsyncMock\njob = AsyncMock()\n"
        "pyinotifyd = Pyinotifyd([Watch('/', {'IN_CREATE': TaskScheduler(job)})])\n"
    )
    assert json.dumps(daemon.expect(DESCRIBE))
    daemon.start([{"handle": 1}])
    assert daemon.collect(DONE, 1) == [1]


def test_the_daemon_class_closes(tmp_path):
    """The test's own machinery: a host that is not there is noticed."""
    daemon = Daemon([sys.executable, "-c", "pass"], tmp_path)
    assert daemon.next() == (None, None)
    daemon.close()
