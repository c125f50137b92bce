"""The life of the Python process that runs jobs: it ends by itself, and one end of a job is no end of anything else."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from control import Operator
from vocabulary import REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has no process of its own for that")

# What a config may leave for the end of its process; each says so in a file.
ENDS = """
import asyncio, atexit, logging, logging.handlers, tempfile, threading, time
def end(name):
    with open("$TMP/ends", "a") as ends:
        ends.write(name + "\\n")
atexit.register(end, "atexit")
keep = tempfile.TemporaryDirectory(dir="$TMP")
def work():
    threading.main_thread().join()
    end("thread")
threading.Thread(target=work).start()
memory = logging.handlers.MemoryHandler(1000, target=logging.FileHandler("$TMP/records"), flushLevel=logging.CRITICAL)
logging.getLogger().addHandler(memory)
async def job(event, task_id):
    print("begun", flush=True)
    try:
        await asyncio.sleep(99)
    finally:
        end("finally")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})], shutdown_timeout=1)
"""


def ends(box: Box) -> list[str]:
    path = box.tmp / "ends"
    return sorted(path.read_text().split()) if path.exists() else []


def temporary(box: Box) -> list[str]:
    return [name for name in os.listdir(box.tmp) if name.startswith("tmp")]


def test_what_a_config_leaves_for_the_end_is_done_at_a_sigterm(box: Box) -> None:
    daemon = box.run(ENDS, "-d")
    write(box.src / "f")
    daemon.wait_out("begun")
    assert len(temporary(box)) == 1
    assert daemon.terminate() == 0
    assert ends(box) == ["atexit", "finally", "thread"]
    assert temporary(box) == []
    records = (box.tmp / "records").read_text()
    for text in ("start listening", "got signal SIGTERM, shutdown", "shutdown timeout exceeded", "stop listening"):
        assert text in records


def test_what_a_config_leaves_for_the_end_is_done_at_a_reload(box: Box) -> None:
    daemon = box.run(ENDS, "-d")
    write(box.src / "f")
    daemon.wait_out("begun")
    box.write_config("pyinotifyd = Pyinotifyd()\n")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: ends(box) == ["atexit", "finally", "thread"])
    wait_until(lambda: temporary(box) == [])
    wait_until(lambda: "stop listening" in (box.tmp / "records").read_text())
    assert "got signal SIGHUP" in (box.tmp / "records").read_text()
    assert daemon.terminate() == 0


def test_the_end_of_a_config_has_the_shutdown_timeout(box: Box) -> None:
    """Longer than any grace: a thread that has three seconds of work left is not killed."""
    daemon = box.run(
        ENDS.replace('    end("thread")', '    time.sleep(3); end("thread")').replace("timeout=1", "timeout=20")
    )
    assert daemon.terminate() == 0
    assert ends(box) == ["atexit", "thread"]


def test_an_end_that_has_no_end_is_made_when_the_time_is_over(box: Box) -> None:
    daemon = box.run(ENDS.replace('    end("thread")', "    time.sleep(99)"))
    assert daemon.terminate() == 0


def test_what_jobs_started_does_not_outlive_the_daemon(box: Box) -> None:
    daemon = box.run(ENDS.replace("    print(", '    import subprocess; subprocess.Popen(["sleep", "98"])\n    print('))
    write(box.src / "f")
    daemon.wait_out("begun")
    assert daemon.terminate() == 0
    wait_until(lambda: daemon.children() == [])
    assert ends(box) == ["atexit", "finally", "thread"]


# ---- a host that is needed no more

# A job and a command that do not end when they are asked to; each execution of the config says so.
STUBBORN = """
import asyncio
with open("$TMP/executed", "a") as executed:
    executed.write("VERSION\\n")
async def job(event, task_id):
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            print("asked", flush=True)
            LAST
command = ShellScheduler("trap '' TERM; while :; do sleep 0.1; done")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [job, command]})], shutdown_timeout=TIMEOUT)
"""


def stubborn(version: str, last: str = "pass", timeout: int = 1) -> str:
    return STUBBORN.replace("VERSION", version).replace("LAST", last).replace("TIMEOUT", str(timeout))


def executed(box: Box) -> list[str]:
    return (box.tmp / "executed").read_text().split()


# What happens while the command still runs: the daemon kills the host, or it ends by itself.
LAST = pytest.mark.parametrize("last", ["pass", "import os; os._exit(3)"], ids=["killed", "ends"])


@LAST
@pytest.mark.parametrize("ended_by", ["SIGTERM", "second SIGINT"])
def test_a_host_that_ended_at_a_stop_is_not_started_again(run: Run, box: Box, ended_by: str, last: str) -> None:
    daemon = run(stubborn("old", last, 1 if ended_by == "SIGTERM" else 30))
    write(box.src / "f")
    daemon.wait_out("begun")
    if ended_by == "SIGTERM":
        daemon.signal(signal.SIGTERM)
    else:
        daemon.signal(signal.SIGINT)
        daemon.wait_log("got signal SIGINT, shutdown")
        daemon.signal(signal.SIGINT)
    daemon.wait_out("asked")
    assert daemon.wait_exit() == 0
    assert executed(box) == ["old"]
    assert daemon.count("started again|running again") == 0
    assert daemon.count("config host") == (0 if last == "pass" else 1)
    assert daemon.count("ongoing task cancelled") == 2


@LAST
def test_a_host_that_ended_for_a_reload_is_not_started_again(run: Run, box: Box, last: str) -> None:
    """The old config would be executed after the new one is in force."""
    daemon = run(stubborn("old", last))
    write(box.src / "f")
    daemon.wait_out("begun")
    old = daemon.host()
    box.write_config(stubborn("new"))
    daemon.reload()
    daemon.wait_log("ongoing task cancelled", count=2)
    wait_until(lambda: len(daemon.children()) == 1 and daemon.host() != old)
    assert executed(box) == ["old", "new"]
    assert daemon.count("started again|running again") == 0
    assert daemon.count("config host") == (0 if last == "pass" else 1)


def test_a_replaced_config_gets_a_host_for_the_jobs_that_it_still_has(run: Run, box: Box) -> None:
    """Only then: what waits for its time needs none."""
    config = """
with open("$TMP/executed", "a") as executed:
    executed.write("old\\n")
async def job(event, task_id):
    print("ran", flush=True)
later = TaskScheduler(job, delay=3600)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": later})])
"""
    daemon = run(config, "--control", box.tmp / "control")
    write(box.src / "f")
    daemon.wait_log("schedule task")
    old = daemon.host()
    box.write_config('pyinotifyd = Pyinotifyd([Watch("$SRC", {})])')
    daemon.reload()
    os.kill(old, signal.SIGKILL)
    daemon.wait_log("config host was killed by SIGKILL, 0 running job.s. failed$")
    Operator(box.tmp / "control").post("/v1/tasks/run", {"all": True})
    daemon.wait_out("ran")
    daemon.wait_log("task finished")
    wait_until(lambda: daemon.children() == [])
    assert executed(box) == ["old", "old"]


# ---- ends of jobs


@pytest.mark.parametrize(
    "exits", ["sys.exit(1)", "sys.exit('words')", "raise SystemExit", "raise KeyboardInterrupt", "raise GeneratorExit"]
)
def test_sys_exit_in_a_job_fails_its_task_and_the_daemon_goes_on(run: Run, box: Box, exits: str) -> None:
    config = f"""
import sys
async def job(event, task_id):
    if event.name == "bad":
        {exits}
    print("ran", event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": job}})])
"""
    daemon = run(config)
    write(box.src / "bad")
    failed = daemon.wait_log("ERROR.*failed")
    assert exits.split()[-1].partition("(")[0].replace("sys.exit", "SystemExit") in failed.string
    assert f"path={box.src}/bad" in failed.string
    write(box.src / "good")
    daemon.wait_out("ran good")
    assert daemon.count("is started again") == daemon.count("shutdown") == 0
    assert daemon.terminate() == 0


PRINTS = """
import io, logging, os, sys
CLOSES
async def job(event, task_id):
    if event.name == "closes":
        sys.__stdout__.close()
        sys.__stderr__.close()
    with open("$TMP/" + event.name, "w") as file:
        print("to stdout", event.name, flush=True)
        print("to stderr", event.name, file=sys.stderr, flush=True)
        file.write("of the job")
    logging.warning("ran %s", event.name)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""


@pytest.mark.parametrize(
    "closes",
    [
        "pass",
        "sys.stdout.close()",
        "sys.stderr.close()",
        "with sys.stdout, sys.stderr: pass",
        "os.close(1)",
        "os.close(2)",
        "for fd in range(3): os.close(fd)",
        "sys.stdout = sys.stderr = None",
        "sys.stderr = io.StringIO()",
    ],
)
def test_jobs_go_on_whatever_was_closed_of_what_they_print_to(run: Run, box: Box, closes: str) -> None:
    daemon = run(PRINTS.replace("CLOSES", closes))
    host = daemon.host()
    for name in ("closes", "other"):
        write(box.src / name)
        daemon.wait_log(f"WARNING - ran {name}")
        assert (box.tmp / name).read_text() == "of the job"
        if "os." not in closes and "None" not in closes:
            daemon.wait_out(f"to stdout {name}")
    daemon.wait_log("task finished", count=2)
    assert daemon.host() == host
    # At its end, too.
    assert daemon.terminate() == 0
    assert daemon.count("config host|ERROR|Traceback") == 0


def test_a_job_that_awaits_has_blocked_nothing(run: Run, box: Box) -> None:
    """With the time after which a host counts as blocked: nothing is said then."""
    config = """
import asyncio
async def job(event, task_id):
    await asyncio.sleep(6)
    print("woke", flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_out("woke")
    assert daemon.count("has blocked") == 0


BUSY = """
import logging, time
async def job(event, task_id):
    logging.warning("ran %s", event.name)
    time.sleep(0.01)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})], shutdown_timeout=1)
"""


def test_nothing_starts_after_its_cancel(run: Run, box: Box) -> None:
    """Neither what was queued nor what the host had not begun; and each start has one end."""
    daemon = run(BUSY)
    for number in range(2000):
        write(box.src / f"f{number}")
    daemon.wait_log("- ran f0$")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("shutdown timeout exceeded")
    over = next(number for number, line in enumerate(daemon.lines) if "shutdown timeout exceeded" in line)
    assert daemon.wait_exit() == 0
    late = [line for line in daemon.lines[over:] if "- ran f" in line]
    assert len(late) <= 5, late
    finished, cancelled = daemon.count("task finished"), daemon.count("ongoing task cancelled")
    assert finished + cancelled == daemon.count("start task") < 2000
    # One that ended after it was asked to counts as cancelled.
    assert 0 <= daemon.count("- ran f") - finished <= 5


# ---- jobs that wait for others

# Each job notes that it was called; it blocks, as jobs should not.
BLOCKING = """
import os, time
async def job(event, task_id):
    with open("$TMP/called", "a") as called:
        called.write(event.name + "\\n")
    if event.name == "poison":
        os._exit(1)
    time.sleep(0.005)
s = TaskScheduler(job%s)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": s})], shutdown_timeout=1)
"""


def called(box: Box) -> list[str]:
    file = box.tmp / "called"
    return file.read_text().split() if file.exists() else []


def flood(box: Box, operator: Operator, names: list[str]) -> None:
    """All of them due at once."""
    operator.post("/v1/pause")
    for name in names:
        (box.src / name).touch()
    operator.wait_scheduler("s", queued=len(names))
    operator.post("/v1/resume")


def control(box: Box) -> tuple[str, str]:
    return "--control", os.fspath(box.tmp / "c.sock")


def test_a_job_that_ends_its_process_takes_none_along_that_have_not_begun(run: Run, box: Box) -> None:
    daemon, operator = run(BLOCKING % ", retry=Retry(times=3)", *control(box)), Operator(box.tmp / "c.sock")
    names = [f"f{number:03}" for number in range(500)]
    flood(box, operator, [*names[:20], "poison", *names[20:]])
    operator.post("/v1/sync", {"idle": True})
    # What the process may have begun is known to some jobs.
    failed = operator.scheduler("s")["failed"]
    assert 1 <= failed <= 16, failed
    assert len(called(box)) == len(set(called(box))), "none is run twice"
    assert operator.scheduler("s")["done"] == 501 - failed
    assert len(called(box)) >= 501 - failed
    daemon.wait_log(r"status 1, \d+ running job\(s\) failed(, \d+ wait for the next one)?; it is started again")


@pytest.mark.parametrize("options", ["", ", timeout=1.5"])
def test_jobs_that_have_not_begun_go_on_in_the_next_configuration_and_have_no_timeout(
    run: Run, box: Box, options: str
) -> None:
    daemon, operator = run(BLOCKING % options, *control(box)), Operator(box.tmp / "c.sock")
    names = [f"f{number:03}" for number in range(600)]
    flood(box, operator, names)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("configuration loaded")
    operator.post("/v1/sync", {"idle": True})
    assert sorted(called(box)) == names
    assert daemon.count("task failed") == 0


def test_a_start_that_is_taken_back_leaves_its_room_to_others(run: Run, box: Box) -> None:
    """Each file has two events, the second of which starts its job anew: often before the first was sent."""
    config = BLOCKING % ', on_busy="restart", timeout=60'
    config = config.replace('"IN_CREATE": s', '"IN_CREATE": s, "IN_CLOSE_WRITE": s')
    daemon, operator = run(config, *control(box)), Operator(box.tmp / "c.sock")
    for number in range(30):
        daemon.signal(signal.SIGSTOP)
        write(box.src / f"f{number}")
        daemon.signal(signal.SIGCONT)
        if number % 3:
            wait_until(lambda: f"f{number}" in called(box), f"the job of f{number}")  # noqa: B023 # called at once
    operator.post("/v1/sync", {"idle": True})
    assert set(called(box)) == {f"f{number}" for number in range(30)}


def test_a_job_that_waits_for_another_one_has_no_timeout(run: Run, box: Box) -> None:
    """Not even those that a new process gets before it has said how fast it is."""
    config = (BLOCKING % ", timeout=2").replace("sleep(0.005)", "sleep(0.6)")
    daemon, operator = run(config, *control(box)), Operator(box.tmp / "c.sock")
    flood(box, operator, [f"f{number:02}" for number in range(8)])
    operator.post("/v1/sync", {"idle": True})
    assert daemon.count("task failed") == 0
    assert len(called(box)) == 8


def test_a_job_has_no_timeout_while_one_of_another_scheduler_blocks(run: Run, box: Box) -> None:
    """Though the daemon knows the process as a fast one."""
    config = (BLOCKING % ", timeout=1").replace("0.005", "3 * (event.name == 'slow')")
    config = config.replace('"IN_CREATE": s', '"IN_CREATE": s, "IN_DELETE": TaskScheduler(job)')
    write(box.src / "slow")
    daemon, operator = run(config, *control(box)), Operator(box.tmp / "c.sock")
    flood(box, operator, [f"f{number:02}" for number in range(50)])
    operator.post("/v1/sync", {"idle": True})
    (box.src / "slow").unlink()
    wait_until(lambda: "slow" in called(box), "the job that blocks")
    time.sleep(0.2)
    for number in range(3):
        (box.src / f"late{number}").touch()
    operator.post("/v1/sync", {"idle": True})
    assert daemon.count("task failed") == 0
    assert len(called(box)) == 54


def test_jobs_that_have_not_begun_at_a_stop_go_on_in_the_next_daemon(run: Run, box: Box) -> None:
    arguments = (*control(box), "--state", os.fspath(box.tmp / "state"))
    daemon, operator = run(BLOCKING % "", *arguments), Operator(box.tmp / "c.sock")
    names = [f"f{number:03}" for number in range(600)]
    flood(box, operator, names)
    assert daemon.terminate() == 0
    assert len(called(box)) < 600, "it stops before all of them are done"
    run(BLOCKING % "", *arguments)
    operator.post("/v1/sync", {"idle": True})
    assert len(called(box)) == len(set(called(box)))
    interrupted = operator.get("/v1/failed")["tasks"]
    assert {task["path"].rpartition("/")[2] for task in interrupted} <= set(called(box)), "they had begun"
    assert set(called(box)) | {task["path"].rpartition("/")[2] for task in interrupted} == set(names)


# ---- levels, filters and syslog


def test_a_job_may_set_levels(run: Run, box: Box) -> None:
    config = """
async def job(event, task_id):
    if not event.dir:
        setLoglevel(DEBUG if event.name == "on" else ERROR, logname="sched")
    print(event.name, flush=True)
mark = TaskScheduler(job, logname="mark", dirs=True, files=False)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [job, mark], "IN_ATTRIB": FileManagerScheduler([])})])
"""
    daemon = run(config)
    write(box.src / "on")
    # Its end comes behind the level.
    daemon.wait_log("task finished")
    os.utime(box.src / "on")
    daemon.wait_log("sched - DEBUG - no rule in ruleset matches")
    write(box.src / "off")
    daemon.wait_out("off")
    # The end of a job of another scheduler comes behind the level, too.
    (box.src / "directory").mkdir()
    daemon.wait_log("mark - INFO - task finished")
    before = daemon.count("sched - ")
    write(box.src / "on")
    os.utime(box.src / "on")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("got signal SIGHUP")
    assert daemon.count("sched - (DEBUG|INFO)") == before


FILTERED = """
import logging
class Quiet(logging.Filter):
    def filter(self, record):
        record.msg = record.getMessage().replace("start", "START")
        record.args = ()
        return "hidden" not in record.msg
logging.getLogger("mine").addFilter(Quiet())
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true", logname="mine"),
    "IN_ATTRIB": ShellScheduler("true")})])
"""


def test_filters_of_a_logger_hold_for_the_records_of_the_daemon(run: Run, box: Box) -> None:
    daemon = run(FILTERED)
    write(box.src / "hidden")
    write(box.src / "shown")
    daemon.wait_log(f"mine - INFO - task finished, mask=IN_CREATE, path={box.src}/shown")
    daemon.wait_log(f"mine - INFO - START task, mask=IN_CREATE, path={box.src}/shown")
    os.utime(box.src / "hidden")
    daemon.wait_log(f"sched - INFO - start task, mask=IN_ATTRIB, path={box.src}/hidden")
    assert daemon.count("mine - .*hidden") == 0
    # Without the process whose filters they are, they are written.
    os.kill(daemon.host(), signal.SIGKILL)
    daemon.wait_log("is started again")
    write(box.src / "hidden too")
    daemon.wait_log(f"mine - INFO - .* task.*path={box.src}/hidden too")


@pytest.mark.parametrize(
    ("setting", "sched", "other"),
    [
        ('logging.getLogger("sched").disabled = True', False, True),
        ('logging.getLogger("sched").propagate = False', False, True),
        ('logging.getLogger("sched").propagate = False; logging.getLogger("sched").addHandler(file)', False, True),
        ("logging.disable(logging.INFO)", False, False),
        ("logging.basicConfig(force=True, handlers=[file])", False, False),
        ("logging.getLogger().handlers[0].setLevel(logging.ERROR)", False, False),
        ("logging.getLogger().addHandler(file)", True, True),
    ],
)
def test_what_pythons_logging_keeps_back_is_not_written(box: Box, setting: str, sched: bool, other: bool) -> None:
    """The daemon's handler is the one of the root logger."""
    daemon = box.start(f"""
import logging
file = logging.FileHandler("$TMP/log")
{setting}
sched = ShellScheduler("true")
other = ShellScheduler("touch $DST/done", logname="other")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": [sched, other]}})])
""")

    def is_done() -> bool:
        write(box.src / str(time.monotonic_ns()))
        return (box.dst / "done").exists()

    wait_until(is_done, "the command")
    assert daemon.terminate() == 0
    assert bool(daemon.count("sched - INFO - start task")) == sched, daemon.tail
    assert bool(daemon.count("other - INFO - start task")) == other, daemon.tail
    if "file)" in setting or "[file]" in setting:
        assert "start task" in (box.tmp / "log").read_text()


def test_the_last_record_of_a_filtered_logger_is_written(run: Run, box: Box) -> None:
    """It was kept for filters in a process that had ended."""
    daemon = run(FILTERED.replace('"mine").add', '"daemon").add').replace("START", "start"))
    assert daemon.terminate() == 0
    assert daemon.lines[-1].endswith("daemon - INFO - shutdown complete"), daemon.tail


@pytest.fixture
def syslog(box: Box) -> Iterator[socket.socket]:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(box.tmp / "log"))
    server.settimeout(30)
    yield server
    server.close()


def test_bytes_that_are_no_text_may_stand_wherever_code_can_put_them(run: Run, box: Box) -> None:
    """Paths are bytes; what else Python code names by them is shown."""
    config = """
import logging, os
RAW = os.fsdecode(b"\\xff")
os.environ["NAME" + RAW] = RAW
logging.getLogger("of" + RAW).setLevel(logging.DEBUG)
logging.getLogger("filtered" + RAW).addFilter(lambda record: True)
enableSyslog(address="$TMP/log" + RAW)
async def job(event, task_id):
    logging.getLogger("of" + RAW).debug("hello")
job.__qualname__ = "job" + RAW
command = ShellScheduler(argv=["cp", "/proc/self/environ", "$TMP/out"])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": [job, command]})], state="$TMP/state" + RAW)
"""
    raw = os.fsencode(box.tmp)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(raw + b"/log\xff")
        server.settimeout(30)
        daemon = run(config)
        write(box.src / "f")
        daemon.wait_log("task finished", count=2)
        daemon.wait_log(r"pyinotifyd/of\\udcff - DEBUG - hello")
        assert server.recv(1000).startswith(b"<")
    assert b"NAME\xff=\xff" in (box.tmp / "out").read_bytes().split(b"\0")
    assert os.path.exists(raw + b"/state\xff/state.db")


@pytest.mark.parametrize(
    "line",
    ["setLoglevel(INFO, RAW)", 'ShellScheduler("true", logname=RAW)', 'FileManagerRule("delete", "^/x", user=RAW)'],
)
def test_bytes_that_are_no_text_are_no_name(box: Box, line: str) -> None:
    daemon = box.call(config=f'import os\nRAW = os.fsdecode(b"\\xff")\n{line}\npyinotifyd = Pyinotifyd()\n')
    assert daemon.exit_code == 1
    assert "expected a text in UTF-8" in daemon.lines[0]
    assert f'File "{box.config}", line 3' in daemon.log
    assert line in daemon.log


LOGS = """
import logging
setLoglevel(DEBUG, logname="x")
logging.getLogger("x").error("too early")
enableSyslog(address="$TMP/log", logname="x")
logging.getLogger("x").error("while it loads")
logging.getLogger("x").debug("details")
logging.getLogger("y").error("of another")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": None})])
"""


def test_what_a_config_logs_while_it_executes_goes_to_syslog(run: Run, box: Box, syslog: socket.socket) -> None:
    daemon = run(LOGS)
    assert syslog.recv(1000) == b"<11>pyinotifyd/x: while it loads\0"
    assert syslog.recv(1000) == b"<15>pyinotifyd/x: details\0"
    # Again at a reload, by the target that is there already: once.
    daemon.reload()
    assert [syslog.recv(1000) for _ in range(3)] == [
        b"<11>pyinotifyd/x: too early\0",
        b"<11>pyinotifyd/x: while it loads\0",
        b"<15>pyinotifyd/x: details\0",
    ]
    assert daemon.terminate() == 0
    syslog.setblocking(False)
    with pytest.raises(BlockingIOError):
        syslog.recv(1000)


# ---- jobs that fork


def test_a_child_that_a_job_forks_and_lets_return_takes_no_task_away(run: Run, box: Box) -> None:
    config = """
import os
async def job(event, task_id):
    if os.fork() == 0:
        return
    os.wait()
    print(event.name, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": TaskScheduler(job, timeout=20)})])
"""
    daemon = run(config)
    for number in range(20):
        write(box.src / f"f{number}")
        daemon.wait_log(f"task finished.*{box.src}/f{number},")
    forked = rf"process \d+, which 'job' forked at {box.config}:4"
    assert daemon.count(f"{forked}, came back to the loop that runs the jobs, and was ended") == 20
    assert daemon.count("start task") == 20
    assert daemon.terminate() == 0
    for number in range(20):
        daemon.wait_out(f"^f{number}$")


# ---- events in other processes


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_an_event_can_go_to_another_process(run: Run, box: Box, method: str) -> None:
    """The package is not installed: what the other process imports is in this one."""
    config = f"""
import asyncio, concurrent.futures, multiprocessing, operator
pool = None
async def job(event, task_id):
    global pool
    if pool is None:
        pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("{method}"))
    told = await asyncio.get_running_loop().run_in_executor(pool, repr, event)
    print(told == repr(event), told, flush=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": job}})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_out(f"True <Event .*pathname={box.src}/f")
    write(box.src / "g")
    daemon.wait_out(f"True <Event .*pathname={box.src}/g")
    assert daemon.terminate() == 0
