"""The log on stderr: its format, its loggers and levels, its texts, and whose records are in it."""

from __future__ import annotations

import datetime
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, Record, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")


ONE = 'sched = TaskScheduler(record%s)\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched})]%s)\n'


def one(options: str = "", more: str = "", before: str = "") -> str:
    return before + "\n" + ONE % (options, more)


# ---- format


def test_a_record_is_time_logger_level_text(run: Run, box: Box) -> None:
    daemon = run(one(), record=True)
    write(box.src / "f")
    daemon.wait_log("task finished")
    for line in daemon.lines:
        record = Record.parse(line)
        assert record, line
        said = datetime.datetime.strptime(record.time, "%Y-%m-%d %H:%M:%S,%f")
        assert abs(said - datetime.datetime.now()) < datetime.timedelta(minutes=2)


@pytest.mark.parametrize("zone", ["XXX-5:30", "Asia/Kolkata", ":Asia/Kolkata"])
def test_times_are_local_times(box: Box, zone: str) -> None:
    if "/" in zone and not Path("/usr/share/zoneinfo/Asia/Kolkata").exists():
        pytest.skip("needs tzdata")
    daemon = box.run(one(), record=True, env={"TZ": zone})
    now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=5, minutes=30))).replace(tzinfo=None)
    said = datetime.datetime.strptime(daemon.records[0].time, "%Y-%m-%d %H:%M:%S,%f")
    assert abs(said - now) < datetime.timedelta(minutes=2)


def test_while_the_config_loads_a_record_is_level_and_text(run: Run, box: Box) -> None:
    config = "import logging\nlogging.warning('while it %s', 'loads')\nlogging.getLogger('x').error('named')\n" + one()
    daemon = run(config, record=True)
    assert daemon.lines[:2] == ["WARNING: while it loads", "ERROR: named"]


def test_records_of_a_task_end_in_mask_path_and_task_id(run: Run, box: Box) -> None:
    daemon = run(one(", dirs=True"), record=True)
    (box.src / "d").mkdir()
    uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    daemon.wait_log(
        rf"pyinotifyd/sched - INFO - start task, mask=IN_CREATE\|IN_ISDIR, path={box.src}/d, task_id={uuid}$"
    )
    daemon.wait_log(
        rf"pyinotifyd/sched - INFO - task finished, mask=IN_CREATE\|IN_ISDIR, path={box.src}/d, task_id={uuid}$"
    )


@ours_only
def test_control_characters_and_bad_bytes_of_names_are_escaped(run: Run, box: Box) -> None:
    """So that no name forges a line of its own or speaks to a terminal."""
    daemon = run(one(), record=True)
    forged = "2026-01-01 00:00:00,000 - pyinotifyd - INFO - forged"
    write(os.fsencode(box.src) + b"/a\n" + forged.encode() + b"\x1b[31m\r\x07\xff")
    daemon.wait_log("task finished")
    assert forged not in daemon.lines
    for line in daemon.lines:
        assert Record.parse(line), line
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\udc80-\udcff]", line), line


# ---- texts of the daemon


def test_start_names_the_path(run: Run, box: Box) -> None:
    daemon = run(one(), record=True)
    daemon.wait_log(rf"pyinotifyd/daemon - INFO - start listening for inotify events on '{box.src}'$")


def test_start_names_a_list_as_python_writes_it(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch(["$SRC", "$DST"], {})])')
    text = f"start listening for inotify events on '['{box.src}', '{box.dst}']'"
    assert any(line.endswith(text) for line in daemon.lines)


def test_start_is_said_of_each_watch(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {}), Watch("$DST", {})])')
    daemon.wait_log(f"start listening for inotify events on '{box.dst}'$")
    daemon.wait_log(f"start listening for inotify events on '{box.src}'$")


def test_no_watches_is_a_warning_and_the_daemon_stays(run: Run, box: Box) -> None:
    daemon = run("pyinotifyd = Pyinotifyd()")
    daemon.wait_log("pyinotifyd/daemon - WARNING - no watches configured, the daemon will not do anything$")
    assert daemon.terminate() == 0


def test_shutdown_texts(run: Run, box: Box) -> None:
    daemon = run(one(), "-d", record=True)
    assert daemon.terminate() == 0
    texts = [(record.level, record.text) for record in daemon.records if record.logger == "daemon"]
    assert texts[-3:] == [
        ("INFO", "got signal SIGTERM, shutdown"),
        ("DEBUG", f"stop listening for inotify events on '{box.src}'"),
        ("INFO", "shutdown complete"),
    ]


def test_logname_of_pyinotifyd_is_for_its_listening_records(run: Run, box: Box) -> None:
    daemon = run(one(more=', logname="mine"'), "-d", record=True)
    daemon.wait_log("pyinotifyd/mine - INFO - start listening")
    assert daemon.terminate() == 0
    daemon.wait_log("pyinotifyd/daemon - INFO - got signal SIGTERM, shutdown")
    assert daemon.count("pyinotifyd/mine - DEBUG - stop listening") == 1


# ---- levels


def test_the_default_level_is_info(run: Run, box: Box) -> None:
    daemon = run(one(), record=True)
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert daemon.count("DEBUG") == 0


def test_the_global_level(box: Box) -> None:
    daemon = box.start(one(before="setLoglevel(ERROR)"), record=True)

    def seen() -> bool:
        # There is no line to wait for that says that it listens.
        (box.src / "f").touch()
        (box.src / "f").unlink()
        return bool(daemon.events)

    wait_until(seen)
    assert daemon.terminate() == 0
    assert daemon.lines == []


def test_a_level_by_name_beats_the_global_one_in_both_directions(box: Box) -> None:
    before = """
setLoglevel(WARNING)
setLoglevel(DEBUG, logname="eventmap")
setLoglevel("INFO", "daemon")
"""
    daemon = box.run(one(before=before), record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    daemon.wait_log("pyinotifyd/eventmap - DEBUG - received event")
    assert daemon.count("pyinotifyd/sched") == 0


def test_a_level_by_name_silences_one_scheduler(run: Run, box: Box) -> None:
    config = """
quiet = TaskScheduler(record, logname="quiet")
loud = TaskScheduler(record, logname="loud")
setLoglevel(WARNING, "quiet")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [quiet, loud]})])
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/loud - INFO - task finished")
    wait_until(lambda: len(daemon.events) == 2)
    assert daemon.count("pyinotifyd/quiet") == 0


def test_the_debug_log_shows_events_that_no_map_has(run: Run, box: Box) -> None:
    daemon = run('setLoglevel(DEBUG, "eventmap")\npyinotifyd = Pyinotifyd([Watch("$SRC", {})])')
    write(box.src / "f")
    for name, mask in (("IN_CREATE", "0x100"), ("IN_OPEN", "0x20"), ("IN_MODIFY", "0x2"), ("IN_CLOSE_WRITE", "0x8")):
        daemon.wait_log(
            rf"pyinotifyd/eventmap - DEBUG - received event, mask={mask}, maskname={name}, pathname={box.src}/f, wd=1$"
        )


@pytest.mark.parametrize("delay", ["5", "5.0", "2.50", "1e3", "10**3", "1/3", "True"])
def test_delays_are_printed_as_python_prints_the_number(run: Run, box: Box, delay: str) -> None:
    daemon = run(one(f", delay={delay}", ", shutdown_timeout=0"), record=True)
    write(box.src / "f")
    write(box.src / "g")
    daemon.wait_log(
        f"sched - INFO - schedule task, delay={re.escape(str(eval(delay)))}, mask=IN_CREATE, path={box.src}/f, task_id="
    )


@pytest.mark.parametrize("timeout", ["30", "0.5", "2.50"])
def test_timeouts_are_printed_as_python_prints_the_number(run: Run, box: Box, timeout: str) -> None:
    daemon = run(one(", delay=300", f", shutdown_timeout={timeout}"), record=True)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log(f"sched - INFO - wait {re.escape(str(eval(timeout)))} seconds for 1 remaining")


# ---- the same fault a thousand times


def paths_of(daemon: Daemon, text: str) -> list[str]:
    return sorted(record.fields["path"] for record in daemon.records if record.said.startswith(text))


@ours_only
def test_each_file_that_a_rule_fails_for_is_told_once(run: Run, box: Box) -> None:
    """Each is something that was not done: a count would not say what is left to do."""
    rule = 'FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/missing/\\1")'
    daemon = run(
        f'sched = FileManagerScheduler([{rule}])\npyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": sched}})])'
    )
    for number in range(1000):
        write(box.src / f"f{number}")
    daemon.wait_log("task failed", count=1000)
    errors = [line for line in daemon.lines if " - ERROR - " in line]
    assert len(errors) == 1000
    for number in range(1000):
        assert sum(f"'{box.src}/f{number}'" in line for line in errors) == 1


@ours_only
def test_each_command_that_fails_is_told_once(run: Run, box: Box) -> None:
    daemon = run('sched = ShellScheduler("exit 3")\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched})])')
    for number in range(300):
        write(box.src / f"f{number}")
    daemon.wait_log("task failed", count=300)
    assert daemon.count("task finished") == 0
    assert paths_of(daemon, "task failed: exited with status 3") == sorted(
        f"{box.src}/f{number}" for number in range(300)
    )
    assert daemon.count("max_jobs") <= 1


@ours_only
def test_directories_that_cannot_be_watched_do_not_flood_the_log(box: Box, plain_user: None) -> None:
    for number in range(500):
        (box.src / f"before{number}").mkdir(0)
    daemon = box.run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")}, rec=True, auto_add=True)])'
    )
    for number in range(500):
        (box.src / f"later{number}").mkdir(0)
    write(box.src / "end")
    daemon.wait_log(f"task finished.*{box.src}/end")
    told = daemon.count("cannot watch")
    assert 1 <= told <= 20, "some show what is wrong, the others are counted"
    assert len(daemon.lines) <= 40


@ours_only
def test_a_path_that_comes_and_goes_does_not_flood_the_log(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch(["$SRC/root", "$DST"], {"IN_CREATE": ShellScheduler("true")})])')
    for _ in range(300):
        (box.src / "root").mkdir()
        wait_until(lambda: daemon.watches_path(box.src / "root"), lambda: daemon.tail)
        (box.src / "root").rmdir()
    write(box.dst / "end")
    daemon.wait_log(f"task finished.*{box.dst}/end")
    assert 1 <= daemon.count(f"'{box.src}/root'.* does not exist") <= 20
    assert len(daemon.lines) <= 60


@ours_only
def test_names_that_are_not_utf8_are_no_fault_of_their_own(run: Run, box: Box) -> None:
    sched = 'FileManagerScheduler([FileManagerRule("delete", r".*")])'
    daemon = run(f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": {sched}}})])')
    for number in range(1000):
        write(os.fsencode(box.src) + b"/\xff%d" % number)
    daemon.wait_log("task finished", count=1000)
    assert os.listdir(box.src) == []
    assert daemon.count("WARNING|ERROR|Traceback") == 0


# ---- the config's own records


def test_records_of_jobs_come_in_the_same_stream_and_format(run: Run, box: Box) -> None:
    config = """
import logging
async def job(event, task_id):
    logging.info("from the root logger %s", 1)
    logging.getLogger("mine").warning("from a named one")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": TaskScheduler(job)})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/root - INFO - from the root logger 1$")
    daemon.wait_log("pyinotifyd/mine - WARNING - from a named one$")


def test_records_of_jobs_are_in_order_with_the_daemons(run: Run, box: Box) -> None:
    config = """
import logging
async def job(event, task_id):
    logging.info("inside %s", event.name)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": TaskScheduler(job)})])
"""
    daemon = run(config)
    for number in range(30):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=30)
    for number in range(30):
        texts = [record.text for record in daemon.records if re.search(rf"\bf{number}\b", record.text)]
        assert [re.split(r",| f\d", text)[0] for text in texts] == ["start task", "inside", "task finished"]


def test_debug_records_of_jobs_obey_the_levels(run: Run, box: Box) -> None:
    config = """
import logging
setLoglevel(DEBUG, "loud")
async def job(event, task_id):
    logging.debug("unheard")
    logging.getLogger("loud").debug("heard")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": TaskScheduler(job)})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/loud - DEBUG - heard")
    daemon.wait_log("task finished")
    assert daemon.count("unheard") == 0


def test_handlers_that_the_config_adds_get_the_daemons_records(run: Run, box: Box) -> None:
    config = """
import logging
handler = logging.FileHandler("$TMP/own.log")
handler.setFormatter(logging.Formatter("%(name)s|%(levelname)s|%(message)s"))
logging.getLogger().addHandler(handler)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("task finished")

    def text() -> str:
        return (box.tmp / "own.log").read_text()

    wait_until(lambda: "sched|INFO|task finished" in text(), lambda: text())
    assert f"daemon|INFO|start listening for inotify events on '{box.src}'" in text()
    # And stderr has each of them once.
    assert daemon.count("task finished") == 1


def test_a_handler_of_one_logger_gets_the_records_of_that_one(run: Run, box: Box) -> None:
    config = """
import logging
logging.getLogger("sched").addHandler(logging.FileHandler("$TMP/own.log"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("task finished")
    wait_until(lambda: "task finished" in (box.tmp / "own.log").read_text())
    assert "start listening" not in (box.tmp / "own.log").read_text()


@ours_only
def test_a_second_daemon_on_one_config_names_the_first(box: Box) -> None:
    text = 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")})])\n'
    first = box.run(text)
    assert box.call("-t", config=text).lines == ["INFO: config file ok"]
    box.config.write_text(box.text(text))
    first.reload()
    second = box.start(None, "-c", box.config).wait_ready()
    said = rf"daemon - WARNING - another daemon \(pid {first.pid}\) runs with the config file '{box.config}'"
    second.wait_log(said)
    first.reload()
    assert first.count("another daemon") == 0
    assert first.terminate() == 0
    # The lock went with its holder, children and hosts do not keep it.
    second.reload()
    third = box.start(None, "-c", box.config).wait_ready()
    third.wait_log(rf"another daemon \(pid {second.pid}\) runs with the config file")
    assert second.count("another daemon") == 1


@ours_only
def test_a_missing_path_is_not_said_to_be_listened_on_before_it_is_watched(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$TMP/absent/in", {}), Watch(["$TMP/no", "$SRC"], {})])')
    daemon.wait_log(f"'{box.tmp}/absent/in' does not exist, waiting for it")
    daemon.wait_log(r"start listening for inotify events on '\[.*/no', '.*/src'\]'")
    assert daemon.count(f"start listening for inotify events on '{box.tmp}/absent") == 0
    (box.tmp / "absent/in").mkdir(parents=True)
    daemon.wait_log(f"start listening for inotify events on '{box.tmp}/absent/in'")
    daemon.reload()
    assert daemon.count(f"start listening for inotify events on '{box.tmp}/absent/in'") == 2
    (box.tmp / "absent/in").rmdir()
    daemon.wait_log(f"'{box.tmp}/absent/in' does not exist, waiting for it", count=2)
    daemon.reload()
    assert daemon.count(f"start listening for inotify events on '{box.tmp}/absent/in'") == 2


def test_a_traceback_of_logging_exception_is_in_the_log(run: Run, box: Box) -> None:
    config = """
import logging
async def job(event, task_id):
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("caught")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": TaskScheduler(job)})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/root - ERROR - caught")
    daemon.wait_log("ZeroDivisionError: division by zero")
    daemon.wait_log("task finished")


def test_print_of_a_job_goes_to_stdout(run: Run, box: Box) -> None:
    daemon = run(
        'async def job(event, task_id):\n    print("hello", flush=True)\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])'
    )
    write(box.src / "f")
    daemon.wait_out("^hello$")


def test_a_traceback_of_a_job_shows_the_line_of_the_config(run: Run, box: Box) -> None:
    config = """async def job(event, task_id):
    raise RuntimeError("oh")  # the line
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": job})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("RuntimeError: oh")
    if not REFERENCE:
        daemon.wait_log(rf'File "{box.config}", line 2, in job')
        daemon.wait_log('raise RuntimeError\\("oh"\\)')
