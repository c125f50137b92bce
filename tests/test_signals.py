"""Signals and the end: what is waited for, for how long, what is said, and with which exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from control import Operator
from vocabulary import DELAY, HELD, REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

REMAINING = "remainig" if REFERENCE else "remaining"

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")


def config(
    job: str = "record", options: str = "", timeout: str = "20", flags: str = "IN_CREATE", more: str = ""
) -> str:
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return (
        f"{HELD}\nsched = TaskScheduler({job}{options})\n"
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}{more}}})], shutdown_timeout={timeout})\n'
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_term_and_int_end_the_daemon_with_0(run: Run, box: Box, name: str) -> None:
    daemon = run(config(), record=True)
    daemon.signal(signal.Signals[name])
    assert daemon.wait_exit() == 0
    daemon.wait_log(f"pyinotifyd/daemon - INFO - got signal {name}, shutdown$")
    daemon.wait_log("pyinotifyd/daemon - INFO - shutdown complete$")


def test_an_interrupt_of_the_whole_group_ends_it_cleanly(run: Run, box: Box) -> None:
    """As Ctrl-C on a terminal does: all processes of the group get SIGINT at once."""
    import os

    daemon = run(config("held"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    os.killpg(daemon.pid, signal.SIGINT)
    daemon.wait_log("got signal SIGINT, shutdown")
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0
    assert "ENDED" in daemon.stdout
    assert daemon.count("Traceback|KeyboardInterrupt") == 0


def test_without_tasks_the_end_comes_at_once_and_without_wait_record(run: Run, box: Box) -> None:
    daemon = run(config(), record=True)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 5
    assert daemon.count("wait .* remaining") == 0


@ours_only
def test_usr1_logs_the_status(run: Run, box: Box) -> None:
    """Watches, each scheduler with its counts, and the ten tasks that are there longest."""
    rule = 'FileManagerRule("move", "^$SRC/never", "$DST/x")'
    daemon = run(
        f"{HELD}\nheld_task = TaskScheduler(held, max_jobs=1)\nlater = ShellScheduler('true', delay=3600)\n"
        f"mover = FileManagerScheduler([{rule}])\n"
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [held_task, later, mover]}), Watch("$DST", {})])'
    )
    (box.src / "sub").mkdir()
    for number in range(8):
        write(box.src / f"f{number}")
    daemon.wait_log("schedule task", count=8)
    daemon.wait_out("BEGUN")
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log("status: task", count=10)
    said = [line.split(" - INFO - status: ")[1] for line in daemon.lines if "INFO - status: " in line]
    assert re.fullmatch(
        r"2 watches \(\d+ in the kernel\), tasks: 8 waiting, 7 queued, 1 running; "
        r"so far \d+ events, 0 overflows, 1 run",
        said[0],
    ), said
    assert said[1:6] == [
        f"watch '{box.src}'",
        f"watch '{box.dst}'",
        "scheduler held_task (job): 0 waiting, 7 queued, 1 running",
        "scheduler later (command): 8 waiting, 0 queued, 0 running",
        "scheduler mover (file rules): 0 waiting, 0 queued, 0 running",
    ]
    assert len(said) == 16
    identifier = daemon.task_ids(box.src / "f0")[0]
    end = f"mask=IN_CREATE, path={box.src}/f0, task_id={identifier}"
    assert re.fullmatch(rf"task runs for \d+ s, scheduler=held_task, {end}", said[6]), said[6]
    assert re.fullmatch(
        rf"task waits, due in 3\d\d\d\.\d s, scheduler=later, mask=IN_CREATE, path={box.src}/f0, task_id=[\w-]+",
        said[7],
    ), said[7]
    assert re.match("task is queued for \\d+ s, scheduler=held_task, ", said[8]), said[8]
    write(box.tmp / "go")


@ours_only
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_usr1_and_usr2_end_nothing(run: Run, box: Box, name: str) -> None:
    daemon = run(config(options=f", delay={DELAY}"), record=True)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    for _ in range(20):
        daemon.signal(signal.Signals[name])
    daemon.wait_log("task finished")
    assert daemon.terminate() == 0


@ours_only
def test_usr1_while_the_config_executes_ends_nothing(box: Box) -> None:
    text = 'import time, os\nwhile not os.path.exists("$TMP/go"): time.sleep(0.01)\npyinotifyd = Pyinotifyd()'
    daemon = box.start("print('EXECUTES', flush=True)\n" + text)
    daemon.wait_out("EXECUTES")
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log("status: the config file is being executed")
    write(box.tmp / "go")
    daemon.wait_log("no watches configured")
    assert daemon.terminate() == 0


SLOW_START = """
import os, time
print("EXECUTES", flush=True)
while not os.path.exists("$TMP/go"): time.sleep(0.01)
sched = ShellScheduler("true", name="$NAME")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": sched})])
"""


@ours_only
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_while_the_config_executes_is_said_and_by_sigterm_a_normal_end(box: Box, name: str) -> None:
    daemon = box.start(SLOW_START)
    daemon.wait_out("EXECUTES")
    daemon.signal(signal.Signals[name])
    # Ctrl-C interrupts what was typed.
    assert daemon.wait_exit() == (0 if name == "SIGTERM" else 128 + signal.SIGINT)
    assert daemon.count(f"pyinotifyd/daemon - INFO - got signal {name}, shutdown$|INFO: got signal {name}, shutdown$")
    # A question that was not answered is none that was answered well.
    test = box.start(SLOW_START, "-t")
    test.wait_out("EXECUTES")
    test.signal(signal.Signals[name])
    assert test.wait_exit() == 128 + signal.Signals[name]
    assert test.count("config file ok") == 0


@ours_only
def test_a_reload_that_is_asked_for_while_the_config_executes_is_made(box: Box) -> None:
    daemon = box.start(SLOW_START.replace("$NAME", "old"))
    daemon.wait_out("EXECUTES")
    box.write_config(SLOW_START.replace("$NAME", "new"))
    daemon.signal(signal.SIGHUP)
    # The next signal is taken after that one.
    daemon.signal(signal.SIGUSR1)
    daemon.wait_log("status: the config file is being executed")
    write(box.tmp / "go")
    daemon.wait_log("got signal SIGHUP, reload config file")
    daemon.wait_log("scheduler new added, scheduler old removed")


def test_running_jobs_are_waited_for(run: Run, box: Box) -> None:
    daemon = run(config("held"), record=True)
    for name in ("a", "b"):
        write(box.src / name)
    daemon.wait_out("BEGUN", count=2)
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("sched - INFO - wait 20 seconds for 2 remaining task\\(s\\) to complete$")
    assert daemon.running
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0
    assert daemon.stdout.count("ENDED") == 2
    daemon.wait_log(f"sched - INFO - all {REMAINING} tasks completed$")
    assert daemon.count("task finished") == 2


@ours_only
def test_delayed_tasks_run_to_their_end(run: Run, box: Box) -> None:
    """The delay is waited for, then the job runs, awaits included."""
    job = (
        "async def slow(event, task_id):\n    await asyncio.sleep(0.3)\n    print('DONE', event.pathname, flush=True)\n"
    )
    daemon = run(job + config("slow", f", delay={DELAY}"), record=True)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    assert daemon.terminate() == 0
    assert daemon.stdout == f"DONE {box.src}/f"
    assert daemon.said(box.src / "f")[-2:] == ["start task", "task finished"]
    daemon.wait_log("all remaining tasks completed$")


@ours_only
def test_each_task_that_was_not_done_is_named(run: Run, box: Box) -> None:
    daemon = run(config("record", ", delay=100, max_jobs=1", timeout="0.3"), record=True)
    for name in ("a", "b"):
        write(box.src / name)
        daemon.wait_log(f"schedule task.*{box.src}/{name},")
    ids = [daemon.task_ids(box.src / name)[0] for name in ("a", "b")]
    assert daemon.terminate() == 0
    daemon.wait_log("sched - WARNING - shutdown timeout exceeded, cancel 2 remaining task\\(s\\)$")
    for name, identifier in zip(("a", "b"), ids):
        daemon.wait_log(f"sched - WARNING - not done: .*mask=IN_CREATE, path={box.src}/{name}, task_id={identifier}$")


@ours_only
def test_without_a_timeout_it_is_said_that_nothing_is_waited_for(run: Run, box: Box) -> None:
    daemon = run(config("record", ", delay=100", timeout="0"), record=True)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    assert daemon.terminate() == 0
    daemon.wait_log("sched - INFO - wait 0 seconds for 1 remaining task\\(s\\) to complete$")


@ours_only
def test_delayed_commands_run_to_their_end(run: Run, box: Box) -> None:
    config_ = (
        f'sched = ShellScheduler("sleep 0.3; echo DONE", delay={DELAY})\n'
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": sched}})])'
    )
    daemon = run(config_)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    assert daemon.terminate() == 0
    assert daemon.stdout == "DONE"


def test_the_timeout_cancels_running_jobs(run: Run, box: Box) -> None:
    daemon = run(config("held", timeout="1"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    assert daemon.terminate() == 0
    daemon.wait_log("sched - WARNING - shutdown timeout exceeded, cancel 1 remaining task\\(s\\)$")
    daemon.wait_log(f"sched - WARNING - ongoing task cancelled, mask=IN_CREATE, path={box.src}/f, task_id=")
    assert "ENDED" not in daemon.stdout


def test_a_cancelled_job_gets_cancelled_error(run: Run, box: Box) -> None:
    job = """
async def job(event, task_id):
    print("BEGUN", flush=True)
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        print("CANCELLED", flush=True)
        raise
"""
    daemon = run(job + config("job", timeout="1"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    assert daemon.terminate() == 0
    assert "CANCELLED" in daemon.stdout


@ours_only
def test_a_second_interrupt_ends_at_once(run: Run, box: Box) -> None:
    """What runs is ended: commands by TERM, then KILL; a job by its cancellation, or with its host."""
    daemon = run(
        """
import asyncio
async def deaf(event, task_id):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
polite = ShellScheduler("trap 'echo TERM; exit' TERM; echo BEGUN; sleep 3600 & wait")
rude = ShellScheduler("trap '' TERM; echo BEGUN; while :; do sleep 0.1; done")
waiting = ShellScheduler("true", delay=3600)
pyinotifyd = Pyinotifyd(
    [Watch("$SRC", {"IN_CREATE": [polite, rude, waiting, TaskScheduler(deaf)]})], shutdown_timeout=3600)
"""
    )
    write(box.src / "f")
    daemon.wait_out("BEGUN", count=2)
    daemon.signal(signal.SIGINT)
    daemon.wait_log("got signal SIGINT, shutdown$")
    assert daemon.running
    begun = time.monotonic()
    daemon.signal(signal.SIGINT)
    assert daemon.wait_exit(40) == 0
    assert time.monotonic() - begun < 30
    daemon.wait_log("daemon - WARNING - got signal SIGINT again, end at once$")
    assert "TERM" in daemon.stdout
    assert daemon.count(f"ongoing task cancelled, mask=IN_CREATE, path={box.src}/f, task_id=") == 3
    # No timeout was exceeded.
    daemon.wait_log("not done: interrupted, mask=IN_CREATE")
    assert daemon.count("interrupted, cancel 1 remaining task") == 4
    assert daemon.count("timeout exceeded") == 0
    daemon.wait_log("shutdown complete$")


def test_waiting_tasks_do_not_run_at_the_timeout(run: Run, box: Box) -> None:
    daemon = run(config(options=", delay=300", timeout="1"), record=True)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 10
    named = [] if REFERENCE else ["not done: shutdown timeout exceeded"]
    assert daemon.said(box.src / "f") == ["schedule task, delay=300", *named]


@ours_only
def test_a_stop_says_why_it_does_not_wait_for_a_task(run: Run, box: Box) -> None:
    daemon = run(
        """
fail = ShellScheduler("exit 1 # {pathname}", retry=Retry(delay=600))
hold = ShellScheduler("true # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": fail, "IN_CLOSE_WRITE": hold})])
""",
        "--control",
        box.tmp / "control.sock",
    )
    operator = Operator(box.tmp / "control.sock")
    operator.post("/v1/schedulers/hold/pause")
    write(box.src / "f")
    operator.wait_scheduler("fail", retrying=1)
    operator.wait_scheduler("hold", queued=1)
    assert daemon.terminate() == 0
    assert daemon.count("WARNING - not done: retries are not waited for, ") == 1
    assert daemon.count("WARNING - not done: its scheduler is paused, ") == 1


@pytest.mark.parametrize("timeout", ["0"])
def test_a_timeout_of_0_does_not_wait(run: Run, box: Box, timeout: str) -> None:
    daemon = run(config("held", timeout=timeout), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 5


# A job that takes 3.5 s to tidy up after its cancellation, and one that does not heed its own.
TIDIES = """
import asyncio
async def tidy(event, task_id):
    try:
        print("BEGUN", flush=True)
        await asyncio.sleep(99)
    finally:
        print("TIDIES", flush=True)
        await asyncio.sleep(3.5)
        print("TIDIED", flush=True)
async def deaf(event, task_id):
    while True:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            print("DEAF", flush=True)
tidies = TaskScheduler(tidy, name="tidies")
ignores = TaskScheduler(deaf, name="ignores")
"""


@ours_only
def test_a_job_has_as_long_as_a_command_to_tidy_up(run: Run, box: Box) -> None:
    daemon = run(TIDIES + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": tidies})], shutdown_timeout=1)')
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    assert daemon.terminate() == 0
    assert daemon.stdout.endswith("TIDIES\nTIDIED")


@ours_only
def test_a_job_that_was_cancelled_long_before_costs_no_other_its_time(run: Run, box: Box) -> None:
    """Its own time is over when the other one is asked to end."""
    daemon = run(
        TIDIES + 'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [ignores, tidies]})], shutdown_timeout=3)',
        "--control",
        box.tmp / "control.sock",
    )
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    Operator(box.tmp / "control.sock").post("/v1/tasks/cancel", {"scheduler": "ignores"})
    daemon.wait_out("DEAF")
    assert daemon.terminate() == 0
    assert daemon.stdout.endswith("TIDIES\nTIDIED")


@pytest.mark.parametrize(("second", "level"), [("SIGTERM", "WARNING"), ("SIGINT", "WARNING"), ("SIGHUP", "INFO")])
def test_a_second_signal_during_shutdown_is_only_said(run: Run, box: Box, second: str, level: str) -> None:
    daemon = run(config("held"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("wait 20 seconds for 1 remaining")
    daemon.signal(signal.Signals[second])
    daemon.wait_log(f"daemon - {level} - got signal {second}, but shutdown already in progress$")
    assert daemon.running
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0
    assert "ENDED" in daemon.stdout


def test_new_events_make_no_tasks_during_shutdown(run: Run, box: Box) -> None:
    daemon = run(config("held"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("remaining")
    write(box.src / "late")
    # Whether the event was looked at is seen by the running task's own path, which is skipped with a warning.
    write(box.tmp / "go")
    assert daemon.wait_exit() == 0
    assert daemon.said(box.src / "late") == []


@ours_only
def test_an_event_for_a_waiting_task_cancels_it_during_shutdown(run: Run, box: Box) -> None:
    daemon = run(config(options=", delay=3", timeout="30", flags="IN_CREATE IN_MODIFY"), record=True)
    write(box.src / "f", "")
    daemon.wait_log("schedule task")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("wait 30 seconds for 1 remaining")
    with open(box.src / "f", "a") as file:
        file.write("x")
    daemon.wait_log(f"scheduled task cancelled, mask=IN_MODIFY, path={box.src}/f")
    assert daemon.wait_exit() == 0
    assert "start task" not in daemon.said(box.src / "f")


@ours_only
def test_cancel_works_during_shutdown(run: Run, box: Box) -> None:
    daemon = run(config(options=", delay=3", timeout="30", more=', "IN_DELETE": Cancel(sched)'), record=True)
    write(box.src / "f", "")
    daemon.wait_log("schedule task")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("wait 30 seconds for 1 remaining")
    (box.src / "f").unlink()
    daemon.wait_log("scheduled task cancelled, mask=IN_DELETE")
    assert daemon.wait_exit() == 0
    assert "start task" not in daemon.said(box.src / "f")


def test_each_scheduler_waits_at_the_same_time(run: Run, box: Box) -> None:
    """Two schedulers that exceed a timeout of one second need one second, not two."""
    text = (
        HELD
        + """
one = TaskScheduler(held, logname="one")
two = TaskScheduler(held, logname="two")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [one, two]})], shutdown_timeout=2)
"""
    )
    daemon = run(text)
    write(box.src / "f")
    daemon.wait_out("BEGUN", count=2)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 3.9
    for name in ("one", "two"):
        daemon.wait_log(f"pyinotifyd/{name} - WARNING - shutdown timeout exceeded, cancel 1 remaining")


def test_nothing_is_left_running(run: Run, box: Box) -> None:
    daemon = run(config("held", timeout="1"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    daemon.terminate()
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")


@ours_only
def test_a_killed_daemon_leaves_no_host(run: Run, box: Box) -> None:
    daemon = run(config("held"), record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")


@ours_only
def test_a_config_without_jobs_leaves_no_python_running(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")})])')
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")
    write(box.src / "f")
    daemon.wait_log("task finished")
    daemon.reload()
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")


OWN_PIDS = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
needs_own_pids = pytest.mark.skipif(
    subprocess.run([*OWN_PIDS, "true"], capture_output=True, check=False).returncode != 0,
    reason="PID namespaces are not allowed here",
)


@ours_only
@needs_own_pids
def test_the_end_is_clean_where_the_leader_of_the_session_is_outside(run: Run, box: Box) -> None:
    """As in a container that was entered from outside: getsid(2) says 0 there."""
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("sleep 300 & exit 0")})])', before=OWN_PIDS
    )
    write(box.src / "f")
    daemon.wait_log("task finished")
    (inner,) = map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())
    os.kill(inner, signal.SIGTERM)
    assert daemon.wait_exit() == 0
    daemon.wait_log("shutdown")
    wait_until(lambda: daemon.children() == [], lambda: f"left: {daemon.children()}")
