"""How tasks run: tried again, stopped in time, told of, not too many at once."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

import pytest

from control import Operator
from vocabulary import REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has no such arguments")


def watching(mapped: str, more: str = "") -> str:
    return f'{more}\npyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": {mapped}}})])\n'


# Fails until there are two lines, one for each try.
TWICE = (
    'ShellScheduler("echo try >> $TMP/tries; test $(wc -l < $TMP/tries) -ge 3", '
    "retry=Retry(times=%s, delay=0.1, jitter=0))"
)


def tries(box: Box) -> int:
    path = box.tmp / "tries"
    return len(path.read_text().split()) if path.exists() else 0


def test_a_command_is_tried_again_until_it_works(run: Run, box: Box) -> None:
    daemon = run(watching(TWICE % 5))
    write(box.src / "f")
    daemon.wait_log("task finished")
    assert tries(box) == 3
    assert daemon.count("task failed") == 0
    ids = {record.fields["task_id"] for record in daemon.records if "task_id" in record.fields}
    assert len(ids) == 1


def test_a_command_fails_for_good_after_the_last_try(run: Run, box: Box) -> None:
    daemon = run(watching(TWICE % 1))
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed")
    assert tries(box) == 2
    assert daemon.count("task finished") == 0


JOB = """
import asyncio
async def job(event, task_id):
    print("try", flush=True)
    raise {raised}("oh")
"""


@pytest.mark.parametrize(("raised", "count"), [("FileNotFoundError", 3), ("ValueError", 1)])
def test_only_the_exceptions_that_are_named_are_tried_again(run: Run, box: Box, raised: str, count: int) -> None:
    retry = "Retry(times=2, delay=0.1, jitter=0, on=[OSError])"
    daemon = run(watching(f"TaskScheduler(job, retry={retry})", JOB.format(raised=raised)))
    write(box.src / "f")
    daemon.wait_log(f"ERROR - task failed: {raised}: oh")
    assert daemon.stdout.count("try") == count


@pytest.mark.parametrize(("status", "count"), [(75, 3), (1, 1)])
def test_only_the_statuses_that_are_named_are_tried_again(run: Run, box: Box, status: int, count: int) -> None:
    retry = "Retry(times=2, delay=0.1, jitter=0, on=[75])"
    daemon = run(watching(f'ShellScheduler("echo try >> $TMP/tries; exit {status}", retry={retry})'))
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed")
    assert tries(box) == count


def test_a_job_that_takes_too_long_has_failed(run: Run, box: Box) -> None:
    job = """
import asyncio
async def job(event, task_id):
    try:
        await asyncio.sleep(99)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
"""
    daemon = run(watching("TaskScheduler(job, timeout=0.3)", job))
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed: timeout after 0.3 s, mask=IN_CREATE, ")
    daemon.wait_out("cancelled")


def test_a_command_that_takes_too_long_has_failed(run: Run, box: Box) -> None:
    daemon = run(watching('ShellScheduler("sleep 98", timeout=0.3)'))
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed: timeout after 0.3 s, mask=IN_CREATE, ")
    write(box.src / "g")
    daemon.wait_log("task failed: timeout", count=2)


def test_a_job_that_does_not_heed_its_cancellation_costs_no_other_its_host(run: Run, box: Box) -> None:
    """It has failed, keeps its place until it is over, and nothing else happens."""
    jobs = """
import asyncio, time
async def stubborn(event, task_id):
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            print("NO", flush=True)
    print("OVER", event.name, flush=True)
async def patient(event, task_id):
    await asyncio.sleep(6)
"""
    daemon = run(watching("[TaskScheduler(stubborn, timeout=0.3, max_jobs=1), TaskScheduler(patient)]", jobs))
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed: timeout after 0.3 s")
    host = daemon.host()
    write(box.src / "g")
    daemon.wait_out("OVER f")
    daemon.wait_log("INFO - task finished", count=2)
    assert daemon.host() == host
    daemon.wait_out("OVER g")


TOLD = """
async def told(event, task_id):
    print("TOLD", event.error, event.attempts, event.task_id != task_id, event.pathname, flush=True)
"""


@pytest.mark.parametrize("receivers", ["told", "[told]", "TaskScheduler(told, files=False, delay=5)"])
def test_a_failure_is_told(run: Run, box: Box, receivers: str) -> None:
    """Whatever the receiver's delay and kinds of objects say."""
    retry = "Retry(times=2, delay=0.1, jitter=0)"
    daemon = run(watching(f'ShellScheduler("exit 3", retry={retry}, on_failure={receivers})', TOLD))
    write(box.src / "f")
    found = daemon.wait_out(f"TOLD (.*) 3 True {box.src}/f")
    assert "3" in found.group(1)
    daemon.wait_log("task failed")
    (failed,) = [record for record in daemon.records if record.text.startswith("task failed")]
    assert failed.fields["path"] == str(box.src / "f")


@pytest.mark.parametrize(
    "receiver",
    [
        'ShellScheduler("echo TOLD {error} of {pathname}: $PYINOTIFYD_ERROR.")',
        'ShellScheduler(argv=["sh", "-c", "echo TOLD $1 of $2: $PYINOTIFYD_ERROR.", "sh", "{error}", "{pathname}"])',
        """ShellScheduler("python3 -c 'import json; e = json.load(open(0)); "
            "print(\\"TOLD\\", e[\\"error\\"], \\"of\\", e[\\"pathname\\"] + \\":\\", end=\\" \\")'; "
            "echo $PYINOTIFYD_ERROR.", stdin="json")""",
    ],
)
def test_a_command_gets_the_failure_as_a_value(run: Run, box: Box, receiver: str) -> None:
    """What stands in it is text, and nothing that a shell executes."""
    failing = """
async def failing(event, task_id):
    raise ValueError("no $(touch $TMP/PWNED) 'here")
"""
    daemon = run(watching(f"TaskScheduler(failing, on_failure={receiver})", failing))
    write(box.src / "f")
    error = r"ValueError: no \$\(touch \S+PWNED\) 'here"
    daemon.wait_out(rf"TOLD {error} of {box.src}/f: {error}\.")
    daemon.wait_log("INFO - task finished")
    assert not (box.tmp / "PWNED").exists()


def test_braces_of_a_command_that_gets_no_failures_stay(run: Run, box: Box) -> None:
    daemon = run(watching('ShellScheduler("echo TOLD {error} ${PYINOTIFYD_ERROR-unset}")'))
    write(box.src / "f")
    daemon.wait_out(r"TOLD \{error\} unset")


def test_a_failure_of_a_receiver_goes_no_further(run: Run, box: Box) -> None:
    config = watching(
        "s", 's = ShellScheduler("exit 3")\ns.on_failure = [ShellScheduler("exit 4", name="mail", on_failure=s)]'
    )
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("ERROR - task failed", count=2)
    write(box.src / "g")
    daemon.wait_log("ERROR - task failed", count=4)
    assert daemon.count("ERROR - task failed") == 4


def test_events_put_a_task_off_for_max_delay_at_most(run: Run, box: Box) -> None:
    daemon = run(
        's = ShellScheduler("true", delay=0.5, max_delay=1)\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MODIFY": s})])\n'
    )
    begun = time.monotonic()
    while daemon.count("task finished") == 0:
        assert time.monotonic() - begun < 20, daemon.tail
        with open(box.src / "f", "a") as file:
            file.write("more")
        time.sleep(0.05)
    assert time.monotonic() - begun >= 0.9


@pytest.mark.parametrize(("busy", "runs"), [("skip", 1), ("rerun", 2)])
def test_an_event_while_a_task_runs(run: Run, box: Box, busy: str, runs: int) -> None:
    config = f"""
s = ShellScheduler("echo try >> $TMP/tries; until test -e $TMP/go; do sleep 0.02; done", on_busy="{busy}")
mark = ShellScheduler("true", logname="mark")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": s, "IN_ATTRIB": [s, mark]}})])
"""
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("execute shell command")
    (box.src / "f").chmod(0o600)
    daemon.wait_log("mark - INFO - task finished")
    (box.tmp / "go").touch()
    daemon.wait_log("sched - INFO - task finished", count=runs)
    assert tries(box) == runs


@pytest.mark.parametrize("count", [1, 8, 400])
def test_what_a_command_does_to_its_own_file_is_an_event_while_it_runs(run: Run, box: Box, count: int) -> None:
    """Its end is learnt of at another descriptor than its events, and before they were read."""
    config = """
s = ShellScheduler("echo more >> {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": s})])
"""
    daemon = run(config, "--control", os.fspath(box.tmp / "c.sock"))
    for number in range(count):
        write(box.src / f"f{number}", "one\n")
    Operator(box.tmp / "c.sock").post("/v1/sync", {"idle": True})
    texts = {path.read_text() for path in box.src.iterdir()}
    assert texts == {"one\nmore\n"}
    assert daemon.count("start task") == count


def test_a_task_that_is_busy_is_started_anew(run: Run, box: Box) -> None:
    config = """
s = ShellScheduler("echo try >> $TMP/tries; test $(wc -l < $TMP/tries) -ge 2 || sleep 97", on_busy="restart")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": s, "IN_ATTRIB": s})])
"""
    daemon = run(config)
    write(box.src / "f")
    wait_until(lambda: tries(box) == 1)
    (box.src / "f").chmod(0o600)
    daemon.wait_log("task finished")
    assert tries(box) == 2


def test_no_more_tasks_start_than_the_rate_allows(run: Run, box: Box) -> None:
    daemon = run(watching('ShellScheduler("true", max_rate=(2, 1.5))'))
    begun = time.monotonic()
    for number in range(5):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=5)
    # Two at once, two after a span, one after another.
    assert time.monotonic() - begun >= 2.9


def test_commands_of_all_schedulers_together_are_bounded(run: Run, box: Box) -> None:
    command = "echo begin >> $TMP/seen; sleep 0.1; echo end >> $TMP/seen"
    daemon = run(
        f'a = ShellScheduler("{command}")\nb = ShellScheduler("{command}")\n'
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [a, b]})], max_jobs=1)\n'
    )
    for number in range(4):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=8)
    assert (box.tmp / "seen").read_text().split() == ["begin", "end"] * 8


def test_explain_says_how_a_task_runs(box: Box) -> None:
    config = watching(
        'ShellScheduler("true", timeout=5, retry=Retry(times=None), on_failure=told, max_delay=9, max_rate=(2, 3))',
        TOLD,
    )
    text = box.call("--explain", box.src / "f", config=config).stdout
    for words in (
        "is stopped after 5 s",
        "is tried again without end if it fails: after 10 s, then each pause is 2 times the one before, at most 600 s, "
        "all of it up to 10 % more or less",
        "tells scheduler 'told' if it fails for good",
        "waits at most 9 s",
        "starts when fewer than 2 tasks were started in 3 s",
    ):
        assert words in text, text
    daemon = box.call("-t", config=config)
    assert daemon.exit_code == 0
    assert any(re.search("that goes on failing is tried again without end", line) for line in daemon.lines), daemon.log


# ---- files that are not complete yet


def test_explain_says_what_a_task_waits_for(box: Box) -> None:
    settle = 'Settle(stable=5, min_size=1, marker="/srv/{stem}.ok", give_up=60)'
    text = box.call("--explain", box.src / "f", config=watching(f'ShellScheduler("true", settle={settle})')).stdout
    asked = "nobody writes to the file, it has not changed for 5 s, it has 1 bytes, '/srv/{stem}.ok' is there"
    assert f"waits until {asked}; fails if that takes more than 60 s" in text, text


def test_explain_says_what_a_rule_asks_for_and_what_a_start_tells(box: Box) -> None:
    rule = (
        'FileManagerRule("move", "^$SRC/(.*)$", r"$DST/\\1", mounted="$DST", verify=True, prune=True, trash="$TMP/t", '
    )
    config = f"""
take = FileManagerScheduler({rule} overwrite=True))
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": take}}, initial="all")])
"""
    text = box.call("--explain", box.src / "f", config=config).stdout
    for words in (
        'at the start of the daemon: everything that is there is told as new (initial="all")',
        f"fails unless '{box.dst}' is mounted (mounted)",
        "what is copied is read back and compared (verify)",
        f"what would be lost goes to '{box.tmp}/t' (trash)",
        "then removes the directories above that are empty (prune)",
    ):
        assert words in text, text


def test_a_settle_that_can_never_be_met_is_warned_of(box: Box) -> None:
    config = watching('ShellScheduler("true", settle=Settle(marker="$TMP/none/{stem}.ok"))')
    wanted = f"config.py:2: no file can settle: the directory '{box.tmp}/none' of its marker does not exist"
    assert any(line.endswith(wanted) for line in box.call("-t", config=config).lines)
    config = watching('ShellScheduler("true", files=False, dirs=True, settle=Settle())')
    wanted = "config.py:2: settle has no effect here: directories settle at once, and files=False"
    assert any(line.endswith(wanted) for line in box.call("-t", config=config).lines)


@pytest.mark.parametrize(("state", "persist", "lost"), [(False, True, True), (True, True, False), (True, False, True)])
def test_what_a_state_keeps_is_not_said_to_be_lost(box: Box, state: bool, persist: bool, lost: bool) -> None:
    config = watching(f'ShellScheduler("true", delay=3600, retry=Retry(times=None), persist={persist}, name="s")')
    options = ["--state", str(box.tmp / "state")] if state else []
    daemon = box.call("-t", *options, config=config)
    lines = daemon.lines
    assert daemon.exit_code == 0, lines
    for text in ("is longer than the shutdown_timeout", "is tried again without end"):
        assert any(text in line for line in lines) is lost, lines


def settling(arguments: str, action: str = 'ShellScheduler("true", settle=Settle(%s))') -> str:
    return watching(action % arguments)


def test_a_task_waits_until_nobody_writes(run: Run, box: Box) -> None:
    daemon = run(settling("check=0.1"), "-d")
    with open(box.src / "f", "w") as file:
        file.write("begin")
        file.flush()
        daemon.wait_log(f"DEBUG - not settled: .*path={box.src}/f", count=2)
        assert daemon.count("start task") == 0
    daemon.wait_log("task finished")
    assert daemon.count("ERROR") == 0


def test_a_task_waits_for_a_marker(run: Run, box: Box) -> None:
    daemon = run(settling('no_writer=False, marker="{dirname}/.{stem}.ok", check=0.1'), "-d")
    write(box.src / "f.part")
    daemon.wait_log(f"not settled: '{box.src}/.f.ok' is not there")
    assert daemon.count("start task") == 0
    (box.src / ".f.ok").touch()
    daemon.wait_log(f"task finished.*{box.src}/f.part")


def test_a_task_waits_for_size_and_quiet(run: Run, box: Box) -> None:
    daemon = run(settling("min_size=5, stable=0.5, check=0.1"), "-d")
    write(box.src / "f", "1234")
    daemon.wait_log("not settled: it has 4 of at least 5 bytes")
    write(box.src / "f", "12345")
    daemon.wait_log("not settled: it has been unchanged for less than 0.5 s")
    daemon.wait_log("task finished")


def test_a_file_that_does_not_settle_has_failed(run: Run, box: Box) -> None:
    daemon = run(settling("min_size=5, give_up=0.5, check=0.1"))
    write(box.src / "f", "")
    daemon.wait_log("ERROR - task failed: did not settle in 0.5 s: it has 0 of at least 5 bytes, mask=IN_CREATE, ")
    assert daemon.count("start task") == 0


def test_a_file_that_vanishes_meanwhile_is_dropped(run: Run, box: Box) -> None:
    daemon = run(settling("min_size=5, check=0.1"))
    write(box.src / "f")
    (box.src / "f").unlink()
    daemon.wait_log("INFO - vanished before it settled, task dropped")
    (box.src / "d").mkdir()
    write(box.src / "g", "content")
    daemon.wait_log(f"task finished.*{box.src}/g")


def test_a_rule_waits_for_its_file(run: Run, box: Box) -> None:
    rule = r'FileManagerScheduler(FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\1"), settle=Settle(check=0.1, %s))'
    daemon = run(settling("stable=0.2", rule))
    write(box.src / "f", "content")
    daemon.wait_log("task finished")
    assert (box.dst / "f").read_text() == "content"
