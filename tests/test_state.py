"""Tasks that survive the end of the daemon: what waits, what runs, what has failed, and where all that is kept."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from control import Operator
from fuse import Filesystem
from test_surroundings import wall_clock
from vocabulary import DEADLINE_S, PROJECT, Box, Daemon, alive, need, wait_until, write
from vocabulary import disk as disk_image

# Longer than any test takes, shorter than somebody would wait who runs into it.
LATER = 600

WAITS = f"""
later = ShellScheduler(cmd="echo {{pathname}} >> $DST/done", delay={LATER})
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {{"IN_CLOSE_WRITE": later, "IN_DELETE": Cancel(later)}})],
                        state="$TMP/state")
"""

SOON = WAITS.replace(f"delay={LATER}", "delay=1")

RUNS = """
slow = ShellScheduler(cmd="echo $$$$ > $DST/pid; sleep {seconds}; echo {pathname} >> $DST/done"{more})
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": slow})], state="$TMP/state", shutdown_timeout=1)
"""


def runs(seconds: float, more: str = "") -> str:
    return RUNS.replace("{seconds}", str(seconds)).replace("{more}", more).replace("$$$$", "$$")


def rows(box: Box, sql: str) -> list[tuple[Any, ...]]:
    """What an administrator reads in the database."""
    with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=DEADLINE_S) as database:
        return database.execute(sql).fetchall()


def be_in(box: Box, state: str) -> int:
    """The tasks that are kept were in that state when the daemon ended; returns how many attempts were made."""
    attempt = 3 if state == "retrying" else 1
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE task SET state = ?, attempt = ?", (state, attempt))
    database.close()
    return attempt - 1


def make_due(box: Box) -> None:
    """What an hour without a daemon makes of its tasks."""
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE task SET due = due - 3600")
    database.close()


def wait_rows(box: Box, sql: str, expected: Sequence[tuple[Any, ...]]) -> None:
    wanted = list(expected)

    def found() -> bool:
        return (box.tmp / "state/state.db").exists() and rows(box, sql) == wanted

    wait_until(found, lambda: f"{wanted} from {sql}; got {rows(box, sql)}")


def crash(daemon: Daemon) -> None:
    """SIGKILL, for the daemon alone: what it started lives on as far as it can."""
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()


def due(box: Box) -> float:
    ((time_s,),) = rows(box, "SELECT due FROM task")
    assert isinstance(time_s, float)
    return time_s


def test_a_waiting_task_survives_a_crash_with_its_id_and_its_time(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "f")
    wait_rows(box, "SELECT path, state, scheduler, kind FROM task", [(f"{box.src}/f", "waiting", "later", "command")])
    before, (identifier,) = due(box), daemon.task_ids(box.src / "f")
    crash(daemon)
    again = box.run(WAITS)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    again.signal(signal.SIGUSR1)
    again.wait_log(f"status: .*{identifier}")
    again.terminate()
    assert abs(due(box) - before) < 0.1


def test_a_task_that_was_due_meanwhile_starts_at_once(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])
    crash(daemon)
    make_due(box)
    again = box.run(WAITS)
    again.wait_log("task finished")
    assert (box.dst / "done").read_text() == f"{box.src}/f\n"
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])
    wait_rows(box, "SELECT path, result, attempts FROM ended", [(f"{box.src}/f", "ok", 1)])


def test_a_stop_keeps_what_waits_and_is_over_at_once(box: Box) -> None:
    daemon = box.run(WAITS)
    for name in "abc":
        write(box.src / name)
    daemon.wait_log("schedule task", count=3)
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 10, "the shutdown timeout is 30 s"
    assert daemon.count(r"INFO - keep 3 waiting task\(s\)") == 1
    assert daemon.count("cancel") == 0
    assert [path for (path,) in rows(box, "SELECT path FROM task ORDER BY path")] == [f"{box.src}/{c}" for c in "abc"]


def test_a_stop_waits_for_what_becomes_due_within_its_time(box: Box) -> None:
    daemon = box.run(SOON)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    daemon.terminate()
    assert daemon.count("keep ") == 0
    assert (box.dst / "done").read_text() == f"{box.src}/f\n"
    assert rows(box, "SELECT count(*) FROM task") == [(0,)]


def test_without_a_state_nothing_is_kept(box: Box) -> None:
    config = WAITS.replace('state="$TMP/state"', "shutdown_timeout=0")
    daemon = box.run(config)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    daemon.terminate()
    assert daemon.count("not done") == 1
    assert not (box.tmp / "state").exists()


def test_a_scheduler_that_does_not_persist_has_its_tasks_cancelled(box: Box) -> None:
    config = WAITS.replace(f"delay={LATER}", f"delay={LATER}, persist=False").replace(
        "pyinotifyd = Pyinotifyd(", "pyinotifyd = Pyinotifyd(shutdown_timeout=0, "
    )
    daemon = box.run(config)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    daemon.terminate()
    assert daemon.count("not done") == 1
    assert rows(box, "SELECT count(*) FROM task") == [(0,)]


def test_failures_that_are_not_kept_are_listed_counted_and_retried_beside_those_that_are(box: Box) -> None:
    config = """
forgets = ShellScheduler(cmd="echo why; test -e $DST/ok", persist=False, output="log")
keeps = ShellScheduler(cmd="test -e $DST/ok")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": [forgets, keeps]})], state="$TMP/state",
                        control="$TMP/control.sock")
"""
    daemon = box.run(config)
    operator = Operator(box.tmp / "control.sock")
    for name in "ab":
        write(box.src / name)
        daemon.wait_log(f"task failed: .*{box.src}/{name},", count=2)

    def failed(query: str = "") -> set[tuple[str, str]]:
        answer = operator.get(f"/v1/failed{query}")
        assert answer["total"] == len(answer["tasks"])
        return {(task["scheduler"], Path(task["path"]).name) for task in answer["tasks"]}

    def counts() -> list[int]:
        return [operator.scheduler(name)["failed"] for name in ("forgets", "keeps")]

    assert failed() == {(name, file) for name in ("forgets", "keeps") for file in "ab"}
    assert failed("?scheduler=forgets") == {("forgets", "a"), ("forgets", "b")}
    assert failed(f"?path={box.src}/a") == {("forgets", "a"), ("keeps", "a")}
    latest = operator.get("/v1/failed?limit=1")
    assert (latest["total"], Path(latest["tasks"][0]["path"]).name) == (4, "b")
    assert counts() == [2, 2]
    task = operator.get("/v1/failed?scheduler=forgets")["tasks"][0]
    assert (task["exit_status"], task["output"]) == (1, "why\n")
    operator.post(f"/v1/failed/{task['id']}/forget")
    assert counts() == [1, 2]
    (box.dst / "ok").touch()
    assert len(operator.post("/v1/failed/retry", {"all": True})["done"]) == 3
    wait_until(lambda: counts() == [0, 0], lambda: daemon.tail)
    assert operator.refused(404, "POST", f"/v1/failed/{task['id']}/retry") != ""
    # They were never in the database.
    assert rows(box, "SELECT DISTINCT scheduler FROM ended") == [("keeps",)]


def test_a_task_whose_path_vanished_meanwhile_hears_of_it(box: Box) -> None:
    daemon = box.run(WAITS)
    for name in ("gone", "there"):
        write(box.src / name)
    wait_rows(box, "SELECT count(*) FROM task", [(2,)])
    crash(daemon)
    (box.src / "gone").unlink()
    again = box.run(WAITS)
    again.wait_log("scheduled task cancelled, .*gone")
    wait_rows(box, "SELECT path FROM task", [(f"{box.src}/there",)])


def test_a_task_that_is_due_hears_that_its_path_vanished_before_it_starts(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "gone")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])
    crash(daemon)
    make_due(box)
    (box.src / "gone").unlink()
    again = box.run(WAITS)
    again.wait_log("scheduled task cancelled, .*gone")
    assert again.count("start task") == 0


def test_what_happened_before_a_stop_is_handled_though_it_was_not_read_then(box: Box) -> None:
    """The queue of a busy tree is read once a millisecond, in which memory takes many files and a disk few."""
    script = "for number in $(seq 300); do echo x > f$1-$number; done; kill -TERM $2"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as src:
        for life in range(4):
            daemon = box.run(WAITS.replace("$SRC", src))
            argv = ["sh", "-c", script, "sh", str(life), str(daemon.pid)]
            subprocess.run(argv, cwd=src, check=True)
            assert daemon.wait_exit() == 0
        wait_rows(box, "SELECT count(*) FROM task", [(4 * 300,)])


def test_a_directory_that_is_renamed_just_after_a_start_keeps_its_tasks(box: Box) -> None:
    """While the daemon looks whether the files of its tasks are there."""
    config = WAITS.replace("Cancel(later)})]", "Cancel(later)}, rec=True)]")
    arguments, operator = ("--control", os.fspath(box.tmp / "c.sock")), Operator(box.tmp / "c.sock")
    here = box.src / "d"
    here.mkdir()
    daemon = box.run(config, *arguments)
    for number in range(3000):
        write(here / f"f{number}")
    operator.wait_scheduler("later", waiting=3000)
    for number in range(24):
        if number % 8 == 0:
            daemon.terminate()
            daemon = box.run(config, *arguments)
        here = here.rename(box.src / f"d{number}")
        # The daemon is to look between two renames.
        time.sleep(0.001)
    operator.post("/v1/sync")
    wait_until(lambda: {Path(task["path"]).parent for task in operator.tasks("?limit=5000")} == {here}, "all to follow")
    assert operator.scheduler("later")["waiting"] == 3000


def test_a_task_that_waits_for_a_deletion_is_not_put_off(box: Box) -> None:
    config = WAITS.replace('"IN_DELETE": Cancel(later)', '"IN_DELETE": later')
    daemon = box.run(config)
    write(box.src / "f")
    (box.src / "f").unlink()
    daemon.wait_log("re-schedule task.*IN_DELETE")
    wait_rows(box, f"SELECT mask FROM task WHERE mask = {0x200}", [(0x200,)])
    before = due(box)
    crash(daemon)
    again = box.run(config)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    write(box.src / "mark")
    again.wait_log("schedule task.*mark")
    again.terminate()
    ((after,),) = rows(box, "SELECT due FROM task WHERE path LIKE '%/f'")
    assert abs(after - before) < 0.1
    assert again.count("re-schedule") == 0


def test_a_command_that_was_running_has_failed(box: Box) -> None:
    daemon = box.run(runs(LATER))
    write(box.src / "f")
    wait_rows(box, "SELECT state, process_group IS NULL FROM task", [("running", 0)])
    pid = int((box.dst / "pid").read_text())
    crash(daemon)
    assert alive(pid), "it outlived the daemon"
    again = box.run(runs(LATER))
    again.wait_log("which outlived the earlier daemon")
    again.wait_log("task failed: interrupted: the daemon ended")
    assert not alive(pid)
    wait_rows(box, "SELECT error, open FROM ended", [("interrupted: the daemon ended", 1)])
    assert rows(box, "SELECT count(*) FROM task") == [(0,)]
    assert again.count("start task") == 0


def test_a_command_that_ignores_sigterm_is_killed(box: Box) -> None:
    config = runs(LATER, ", rerun=True").replace("echo $$", "trap '' TERM; echo $$")
    daemon = box.run(config)
    write(box.src / "f")
    wait_rows(box, "SELECT state, process_group IS NULL FROM task", [("running", 0)])
    pid = int((box.dst / "pid").read_text())
    crash(daemon)
    again = box.run(config)
    again.wait_log("start task")
    assert not alive(pid)


def outlived(box: Box, config: str) -> tuple[str, int]:
    """Crash a daemon whose command ignores SIGTERM; return the task's id, and the pid of the command."""
    daemon = box.run(config)
    write(box.src / "f")
    wait_rows(box, "SELECT state, process_group IS NULL FROM task", [("running", 0)])
    (identifier,) = daemon.task_ids(box.src / "f")
    crash(daemon)
    return identifier, int((box.dst / "pid").read_text())


def stubborn(more: str = "") -> str:
    return runs(LATER, more).replace("echo $$", "trap '' TERM; echo $$")


def test_a_command_that_outlived_the_daemon_runs_until_it_has_ended(box: Box) -> None:
    socket = box.tmp / "control.sock"
    identifier, pid = outlived(box, stubborn())
    again = box.run(stubborn(), "--control", socket)
    again.wait_log("end the command of .* which outlived the earlier daemon")
    (task,) = Operator(socket).tasks()
    assert (task["id"], task["state"], task["path"]) == (identifier, "running", f"{box.src}/f")
    assert Operator(socket).get("/v1/failed")["tasks"] == []
    assert Operator(socket).scheduler("slow")["running"] == 1
    again.wait_log("task failed: interrupted: the daemon ended")
    assert not alive(pid)
    assert Operator(socket).tasks() == []
    wait_rows(box, "SELECT id, error FROM ended", [(identifier, "interrupted: the daemon ended")])


def test_an_event_for_a_command_that_outlived_the_daemon_waits_for_its_end(box: Box) -> None:
    identifier, pid = outlived(box, stubborn())
    again = box.run(runs(0))
    again.wait_log("end the command of")
    write(box.src / "f")
    again.wait_log("start task")
    assert not alive(pid)
    again.wait_log("task finished")
    assert again.task_ids(box.src / "f") == [identifier]
    wait_rows(box, "SELECT id, result FROM ended", [(identifier, "ok")])


def test_a_stop_waits_for_the_end_of_a_command_that_outlived_the_daemon_before(box: Box) -> None:
    identifier, pid = outlived(box, stubborn())
    again = box.run(stubborn())
    again.wait_log("end the command of")
    assert again.terminate() == 0
    assert not alive(pid)
    assert rows(box, "SELECT id, state FROM task") == [(identifier, "running")]
    assert rows(box, "SELECT count(*) FROM ended") == [(0,)]
    box.run(stubborn()).wait_log("task failed: interrupted: the daemon ended")


def test_a_stop_ends_a_command_that_outlived_the_daemon_and_whose_scheduler_is_gone(box: Box) -> None:
    _, pid = outlived(box, stubborn())
    config = stubborn().replace("slow", "other")
    again = box.run(config)
    again.wait_log("end the command of")
    again.terminate()
    assert not alive(pid)
    wait_rows(box, "SELECT error FROM ended", [("the config has no scheduler slow",)])


def test_a_command_that_outlived_the_daemon_is_ended_by_the_next_but_one(box: Box) -> None:
    identifier, pid = outlived(box, stubborn())
    again = box.run(stubborn())
    again.wait_log("end the command of")
    write(box.src / "f")
    wait_rows(box, "SELECT detail ->> 'again', process_group FROM task", [(1, pid)])
    crash(again)
    assert alive(pid)
    last = box.run(runs(0))
    last.wait_log("task finished")
    assert not alive(pid)
    assert last.task_ids(box.src / "f") == [identifier]


# The shell ends at once; what it started takes its time.
ORPHANS = """
slow = ShellScheduler(cmd="(trap '' TERM; echo > $DST/ready; sleep 600) & echo $! > $DST/pid; wait")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": slow})], state="$TMP/state", shutdown_timeout=1)
"""


def orphaned(box: Box) -> tuple[Daemon, int, int]:
    """A daemon with a command that runs, the pid of its shell, and that of what the shell started."""
    daemon = box.run(ORPHANS, "--control", box.tmp / "control.sock")
    write(box.src / "f")
    wait_until(lambda: (box.dst / "ready").exists())
    pid = wait_until(lambda: (box.dst / "pid").read_text() if (box.dst / "pid").exists() else "")
    (shell,) = wait_until(lambda: [leader for (leader,) in rows(box, "SELECT process_group FROM task") if leader])
    return daemon, shell, int(pid)


def test_what_a_command_that_was_being_ended_has_left_is_ended_after_a_crash(box: Box) -> None:
    daemon, shell, pid = orphaned(box)
    Operator(box.tmp / "control.sock").run("cancel", "--all")
    assert rows(box, "SELECT detail ->> 'stopped', process_group FROM task") == [(1, shell)]
    wait_until(lambda: not alive(shell))
    crash(daemon)
    assert alive(pid)
    again = box.run(ORPHANS)
    again.wait_log(f"end the command of .* \\(pid {shell}\\), which outlived the earlier daemon")
    again.wait_log("task failed: interrupted: the daemon ended")
    assert not alive(pid)


def test_what_a_command_left_in_the_background_is_its_own_affair_after_a_crash_too(box: Box) -> None:
    daemon, shell, pid = orphaned(box)
    try:
        crash(daemon)
        os.kill(shell, signal.SIGKILL)
        wait_until(lambda: not alive(shell))
        again = box.run(ORPHANS)
        again.wait_log("task failed: interrupted: the daemon ended")
        assert again.count("outlived") == 0
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_task_whose_file_vanishes_before_its_command_has_ended_is_not_run_again(box: Box) -> None:
    config = stubborn(", rerun=True").replace("slow}", 'slow, "IN_DELETE": Cancel(slow)}')
    _, pid = outlived(box, config)
    again = box.run(config)
    again.wait_log("end the command of")
    (box.src / "f").unlink()
    again.wait_log("ongoing task cancelled")
    assert not alive(pid)
    wait_rows(box, "SELECT result, error FROM ended", [("cancelled", "its run was ended")])
    assert again.count("start task") == 0


def test_the_tasks_of_one_run_wait_together_for_the_end_of_its_command(box: Box) -> None:
    config = """
many = ShellScheduler(cmd="trap '' TERM; echo $$$$ > $DST/pid; sleep $SECONDS", batch=Batch(quiet=0.2), rerun=$RERUN)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": many})], state="$TMP/state", shutdown_timeout=1)
""".replace("$$$$", "$$")
    first = config.replace("$RERUN", "False").replace("$SECONDS", "600")
    daemon = box.run(first)
    for name in "abc":
        write(box.src / name)
    wait_rows(box, "SELECT count(*), count(DISTINCT process_group) FROM task WHERE state = 'running'", [(3, 1)])
    crash(daemon)
    pid = int((box.dst / "pid").read_text())
    again = box.run(config.replace("$RERUN", "True").replace("$SECONDS", "0"))
    again.wait_log("end the command of")
    assert again.count("end the command of") == 1
    write(box.src / "d")
    # What was gathered meanwhile is due as well: one run is for all.
    again.wait_log("task finished.*and 3 more")
    assert not alive(pid)
    wait_rows(box, "SELECT count(*), count(DISTINCT id) FROM ended WHERE result = 'ok'", [(4, 4)])
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])


def test_with_rerun_a_command_that_was_running_is_run_again(box: Box) -> None:
    daemon = box.run(runs(LATER, ", rerun=True"))
    write(box.src / "f")
    wait_rows(box, "SELECT state, process_group IS NULL FROM task", [("running", 0)])
    (identifier,) = daemon.task_ids(box.src / "f")
    crash(daemon)
    again = box.run(runs(0, ", rerun=True"))
    again.wait_log("task finished")
    assert again.task_ids(box.src / "f") == [identifier]
    wait_rows(box, "SELECT result FROM ended", [("ok",)])


def test_a_run_that_a_stop_interrupts_is_treated_as_one_that_a_crash_did(box: Box) -> None:
    daemon = box.run(runs(LATER))
    write(box.src / "f")
    daemon.wait_log("start task")
    daemon.terminate()
    daemon.wait_log("ongoing task cancelled")
    assert rows(box, "SELECT state FROM task") == [("running",)]
    again = box.run(runs(LATER))
    again.wait_log("task failed: interrupted: the daemon ended")


def test_jobs_fail_or_run_again_in_the_same_way(box: Box) -> None:
    config = """
import asyncio
async def wait(event, task_id):
    await asyncio.sleep(600)
once = TaskScheduler(wait)
again = TaskScheduler(wait, rerun=True)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": [once, again]})], state="$TMP/state")
"""
    daemon = box.run(config)
    write(box.src / "f")
    wait_rows(box, "SELECT scheduler, state FROM task ORDER BY scheduler", [("again", "running"), ("once", "running")])
    crash(daemon)
    box.run(config)
    ends = "SELECT scheduler, error, attempts FROM ended"
    wait_rows(box, ends, [("once", "interrupted: the daemon ended", 1)])
    wait_rows(box, "SELECT scheduler, state FROM task", [("again", "running")])


def test_a_failure_of_that_kind_is_told_to_its_receiver(box: Box) -> None:
    config = runs(LATER, ", on_failure=told").replace(
        "slow =", 'told = ShellScheduler(cmd="echo {error} > $DST/told")\nslow ='
    )
    daemon = box.run(config)
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("running",)])
    crash(daemon)
    box.run(config)
    wait_until(lambda: (box.dst / "told").exists() and (box.dst / "told").read_text())
    assert (box.dst / "told").read_text() == "interrupted: the daemon ended\n"


def test_what_tells_of_a_failure_survives_too(box: Box) -> None:
    config = """
told = ShellScheduler(cmd="echo {error} >> $DST/told", max_jobs=1, timeout=$TIMEOUT)
fails = ShellScheduler(cmd="exit 3", on_failure=told)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": fails})], state="$TMP/state")
"""
    blocked = config.replace("echo {error}", f"sleep {LATER}; echo {{error}}").replace("$TIMEOUT", "None")
    daemon = box.run(blocked)
    for name in "ab":
        write(box.src / name)
    wait_rows(box, "SELECT state FROM task WHERE scheduler = 'told' ORDER BY state", [("queued",), ("running",)])
    crash(daemon)
    box.run(config.replace("$TIMEOUT", "60"))
    wait_until(lambda: (box.dst / "told").exists() and (box.dst / "told").read_text())
    assert (box.dst / "told").read_text() == "exited with status 3\n"


def test_what_could_not_tell_of_a_failure_still_knows_it_when_it_is_retried(box: Box) -> None:
    socket = box.tmp / "control.sock"
    config = """
told = ShellScheduler(cmd="cat $TMP/mail && echo {error} $$PYINOTIFYD_ERROR >> $DST/told")
fails = ShellScheduler(cmd="exit 3", on_failure=told)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": fails})], state="$TMP/state")
""".replace("$$", "$")
    daemon = box.run(config, "--control", socket)
    write(box.src / "f")
    daemon.wait_log("task failed", count=2)
    daemon.terminate()
    write(box.tmp / "mail")
    box.run(config, "--control", socket)
    Operator(socket).run("retry", "--scheduler", "told")
    wait_until(lambda: (box.dst / "told").exists() and (box.dst / "told").read_text())
    assert (box.dst / "told").read_text() == "exited with status 3 exited with status 3\n"


# A rule, and what the map has for deletions.
RULE = f"""
rule = FileManagerRule(action="copy", src_re="^$SRC/(.*)$", dst_re=r"$DST/\\1")
copy = FileManagerScheduler(rule, delay={LATER})
deleted = ShellScheduler(cmd="echo {{maskname}} > $DST/deleted")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {{"IN_CLOSE_WRITE": copy, "IN_DELETE": deleted}})], state="$TMP/state")
"""

SOURCE_GONE = "its source was gone when the daemon started again"


def crash_in_a_rule(box: Box) -> None:
    """The daemon dies while the rule acts on the file."""
    daemon = box.run(RULE)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE task SET state = 'running'")
    database.close()


def test_a_file_rule_is_run_again(box: Box) -> None:
    crash_in_a_rule(box)
    again = box.run(RULE)
    again.wait_log("1 run again")
    again.wait_log("task finished")
    assert (box.dst / "f").read_text() == "content"
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])


def test_a_file_rule_whose_source_is_gone_has_not_failed(box: Box) -> None:
    crash_in_a_rule(box)
    (box.src / "f").unlink()
    again = box.run(RULE)
    again.wait_log("INFO.*tasks of the earlier daemon: 1 cancelled since their source is gone")
    assert again.count(f"INFO.*scheduled task cancelled: {SOURCE_GONE}, .*path=.*/f,") == 1
    wait_until((box.dst / "deleted").exists)
    ends = "SELECT scheduler, result, attempts, error FROM ended ORDER BY scheduler"
    wait_rows(box, ends, [("copy", "cancelled", 1, SOURCE_GONE), ("deleted", "ok", 1, None)])
    assert again.count("ERROR") == 0
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])


@pytest.mark.parametrize("state", ["waiting", "queued"])
def test_a_file_rule_that_is_kept_as_before_its_run_and_whose_source_is_gone_has_not_failed(
    box: Box, state: str
) -> None:
    """A move that ends just before a crash is kept as it was at the last transaction."""
    told = 'told = ShellScheduler(cmd="touch $DST/told")'
    config = told + RULE.replace(f"delay={LATER}", f"delay={LATER}, retry=Retry(times=5), on_failure=told")
    daemon = box.run(config)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE task SET state = ?", (state,))
    database.close()
    make_due(box)
    (box.src / "f").rename(box.dst / "f")
    again = box.run(config)
    again.wait_log("INFO.*tasks of the earlier daemon: 1 cancelled since their source is gone")
    assert again.count(f"INFO.*scheduled task cancelled: {SOURCE_GONE}, .*path=.*/f,") == 1
    ends = "SELECT scheduler, result, attempts, error FROM ended ORDER BY scheduler"
    wait_rows(box, ends, [("copy", "cancelled", 0, SOURCE_GONE), ("deleted", "ok", 1, None)])
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])
    assert again.count("ERROR") == 0
    assert again.count("start task.*IN_CLOSE_WRITE") == 0
    assert not (box.dst / "told").exists()
    assert (box.dst / "f").read_text() == "content"


@pytest.mark.parametrize("state", ["waiting", "queued"])
def test_a_file_rule_that_cannot_have_run_is_left_to_what_the_map_has_for_a_deletion(box: Box, state: str) -> None:
    """It was not due when the daemon came back."""
    socket = box.tmp / "control.sock"
    daemon = box.run(RULE)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        # Soon enough to be looked at before anything else.
        database.execute("UPDATE task SET state = ?, since = ?, due = ?", (state, time.time(), time.time() + 9))
    database.close()
    (box.src / "f").unlink()
    again = box.run(RULE, "--control", socket)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    wait_until((box.dst / "deleted").exists)
    # The map says nothing of it: it runs, now or when it is due, and misses its source.
    Operator(socket).ask("POST", "/v1/tasks/run", {"scheduler": "copy"})
    wait_rows(box, "SELECT result, attempts FROM ended WHERE scheduler = 'copy'", [("failed", 1)])
    assert again.count("cancelled") == 0


@pytest.mark.parametrize("state", ["running", "waiting", "retrying"])
def test_a_map_hears_once_that_a_path_is_gone_whatever_tasks_it_has(box: Box, state: str) -> None:
    config = (
        RULE.replace(f"delay={LATER}", f"delay={LATER}, retry=Retry(times=5, delay={LATER})")
        .replace("deleted =", f"again = FileManagerScheduler(rule, delay={LATER})\ndeleted =")
        .replace('"IN_CLOSE_WRITE": copy', '"IN_CLOSE_WRITE": [copy, again]')
    )
    daemon = box.run(config)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")] * 2)
    crash(daemon)
    be_in(box, state)
    make_due(box)
    (box.src / "f").unlink()
    again = box.run(config, "-d")
    again.wait_log("task finished, .*IN_DELETE")
    again.terminate()
    assert again.count("received event, .*maskname=IN_DELETE, pathname=.*/src/f,") == 1


@pytest.mark.parametrize("is_retrying", [True, False])
def test_a_file_rule_whose_source_may_be_elsewhere_for_now_is_not_given_up(box: Box, is_retrying: bool) -> None:
    """It failed before, or its root is missing, as that of a disk that is mounted late."""
    config = RULE.replace(f"delay={LATER}", f"delay={LATER}, retry=Retry(times=5, delay={LATER})")
    daemon = box.run(config)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    if is_retrying:
        with sqlite3.connect(box.tmp / "state/state.db") as database:
            database.execute("UPDATE task SET state = 'retrying', attempt = 3")
        database.close()
        (box.src / "f").unlink()
    else:
        box.src.rename(box.tmp / "away")
    make_due(box)
    again = box.run(config)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    again.wait_log("retry|try again|No such file")
    assert again.count("cancelled since") == 0


@pytest.mark.parametrize("due_in", [9, LATER])
def test_a_task_whose_watch_root_is_missing_for_now_goes_on(box: Box, due_in: int) -> None:
    """As one on a disk that is mounted late."""
    socket = box.tmp / "control.sock"
    daemon = box.run(WAITS)
    write(box.src / "f")
    write(box.src / "gone")
    wait_rows(box, "SELECT state FROM task", [("waiting",)] * 2)
    crash(daemon)
    (box.src / "gone").unlink()
    box.src.rename(box.tmp / "away")
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE task SET due = ?", (time.time() + due_in,))
    database.close()
    again = box.run(WAITS, "--control", socket)
    again.wait_log("tasks of the earlier daemon: 2 go on")
    before = {task["path"]: task["id"] for task in Operator(socket).tasks()}
    assert set(before) == {f"{box.src}/f", f"{box.src}/gone"}
    (box.tmp / "away").rename(box.src)
    again.wait_log("INFO - re-schedule task, .*IN_CLOSE_WRITE, path=.*/src/f,")
    assert again.task_ids(box.src / "f") == [before[f"{box.src}/f"]]
    assert again.count("cancelled") == 0
    again.kill()


def test_a_file_rule_that_waits_for_a_source_that_is_there_goes_on(box: Box) -> None:
    daemon = box.run(RULE)
    write(box.src / "f", "content")
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    make_due(box)
    again = box.run(RULE)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    again.wait_log("task finished")
    assert (box.dst / "f").read_text() == "content"


def test_a_file_rule_that_ran_and_no_longer_matches_is_cancelled(box: Box) -> None:
    crash_in_a_rule(box)
    again = box.run(RULE.replace("^$SRC/(.*)$", "^$SRC/(.*).pdf$"))
    again.wait_log("INFO.*tasks of the earlier daemon: 1 cancelled since no rule matches")
    assert again.count("INFO.*scheduled task cancelled: no rule matches its path any more, .*path=.*/f,") == 1
    ends = "SELECT scheduler, result, attempts, error FROM ended"
    wait_rows(box, ends, [("copy", "cancelled", 1, "no rule matches its path any more")])
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])
    assert again.count("kept tasks go on") == 0
    assert (box.src / "f").read_text() == "content"
    assert not (box.dst / "f").exists()


NO_RULE = "no rule matches its path any more"


@pytest.mark.parametrize("state", ["waiting", "retrying"])
@pytest.mark.parametrize("way", ["due", "reload", "id", "filter"])
def test_a_kept_file_rule_that_no_longer_matches_ends_as_cancelled(box: Box, state: str, way: str) -> None:
    """Rules are asked when a task of another configuration is to start."""
    socket = box.tmp / "control.sock"
    config = RULE.replace(f"delay={LATER}", f"delay={LATER}, retry=Retry(times=5, delay={LATER})")
    edited = config.replace("^$SRC/(.*)$", "^$SRC/(.*).pdf$")
    daemon = box.run(config, "--control", socket)
    for name in ("f", "g.pdf"):
        write(box.src / name)
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")] * 2)
    crash(daemon)
    attempts = be_in(box, state)
    if way == "due":
        make_due(box)
    again = box.run(config if way == "reload" else edited, "--control", socket)
    operator = Operator(socket)
    if way == "reload":
        box.write_config(edited)
        again.reload()
    if way in ("reload", "id"):
        (task,) = [one["id"] for one in operator.tasks(f"?path={box.src}/f")]
        assert operator.run("run", task, status=1) == f"pyinotifyd: task {task} is cancelled: {NO_RULE}\n"
    elif way == "filter":
        done = operator.post("/v1/tasks/run", {"path": f"{box.src}/*"})
        assert len(done["done"]) == 1
        assert done["left"] == [{"count": 1, "error": NO_RULE}]
    again.wait_log("INFO.*scheduled task cancelled, .*path=.*/f,")
    ends = f"SELECT scheduler, result, attempts, error FROM ended WHERE path = '{box.src}/f'"
    wait_rows(box, ends, [("copy", "cancelled", attempts, NO_RULE)])
    wait_rows(box, f"SELECT count(*) FROM task WHERE path = '{box.src}/f'", [(0,)])
    if way in ("due", "filter"):
        again.wait_log("task finished, .*path=.*/g.pdf,")
    assert not (box.dst / "f").exists()


GAVE_UP = "a pattern of its rules gave up on its path; make the pattern simpler"


@pytest.mark.parametrize("way", ["due", "id", "filter"])
def test_a_kept_file_rule_whose_pattern_gives_up_ends_with_that_reason(box: Box, way: str) -> None:
    socket = box.tmp / "control.sock"
    path = box.src / ("a" * 200)
    daemon = box.run(RULE)
    write(path)
    wait_rows(box, "SELECT kind, state FROM task", [("rules", "waiting")])
    crash(daemon)
    if way == "due":
        make_due(box)
    again = box.run(RULE.replace('"^$SRC/(.*)$"', r'r"^$SRC/(a*)*(b?)\2[.]x"'), "--control", socket)
    operator = Operator(socket)
    if way == "id":
        (task,) = [one["id"] for one in operator.tasks()]
        assert operator.run("run", task, status=1) == f"pyinotifyd: task {task} is cancelled: {GAVE_UP}\n"
    elif way == "filter":
        assert operator.run("run", "--all", status=1) == f"pyinotifyd: {GAVE_UP}\n"
    again.wait_log("ERROR.*src_re: a pattern gave up on the path, nothing is done")
    wait_rows(box, "SELECT result, attempts, error FROM ended", [("cancelled", 0, GAVE_UP)])
    assert path.exists()


def test_a_failed_file_rule_that_no_longer_matches_stays_failed_and_says_so(box: Box) -> None:
    socket = box.tmp / "control.sock"
    config = RULE.replace(f"delay={LATER}", "delay=0")
    (box.dst / "f").mkdir()
    daemon = box.run(config, "--control", socket)
    write(box.src / "f")
    daemon.wait_log("task failed")
    box.write_config(config.replace("^$SRC/(.*)$", "^$SRC/(.*).pdf$"))
    daemon.reload()
    operator = Operator(socket)
    assert operator.run("retry", "--all", status=1) == f"pyinotifyd: {NO_RULE}\n"
    assert [task["path"] for task in operator.get("/v1/failed")["tasks"]] == [f"{box.src}/f"]


def test_tasks_of_a_scheduler_that_the_config_lost_fail(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])
    crash(daemon)
    socket = box.tmp / "control.sock"
    again = box.run(WAITS.replace("later", "other"), "--control", os.fspath(socket))
    again.wait_log("task failed: the config has no scheduler later, mask=IN_CLOSE_WRITE, path=")
    assert 'pyinotifyd_task_ends_total{scheduler="later",result="failed"} 1' in Operator(socket).run("metrics")
    ends = "SELECT scheduler, error, attempts FROM ended"
    wait_rows(box, ends, [("later", "the config has no scheduler later", 0)])
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])


def test_a_scheduler_of_another_kind_does_not_take_them(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])
    crash(daemon)
    job = f"async def job(event, task_id):\n    pass\nlater = TaskScheduler(job, delay={LATER})\n"
    box.run(job + WAITS.partition("\n")[2].partition("\n")[2])
    wait_rows(box, "SELECT error FROM ended", [("later is another scheduler now",)])


def test_an_edited_scheduler_takes_them_and_says_so_once(box: Box) -> None:
    daemon = box.run(WAITS)
    for name in "ab":
        write(box.src / name)
    wait_rows(box, "SELECT count(*) FROM task", [(2,)])
    crash(daemon)
    again = box.run(WAITS.replace("echo", "printf %s"))
    again.wait_log("tasks of the earlier daemon: 2 go on")
    assert again.count("INFO - scheduler later was edited, its kept tasks go on") == 1


def test_a_reload_keeps_tasks_and_fails_those_without_a_scheduler(box: Box) -> None:
    two = """
stays = ShellScheduler(cmd="true", delay=600)
goes = ShellScheduler(cmd="true", delay=600)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": [stays, goes]})], state="$TMP/state")
"""
    daemon = box.run(two)
    write(box.src / "f")
    wait_rows(box, "SELECT count(*) FROM task", [(2,)])
    box.write_config(two.replace("[stays, goes]", "stays"))
    daemon.reload()
    ends = "SELECT scheduler, error, attempts FROM ended"
    wait_rows(box, ends, [("goes", "the config has no scheduler goes", 0)])
    # What has failed does not go on.
    daemon.wait_log("configuration loaded: .*; 1 task goes on$")
    wait_rows(box, "SELECT scheduler FROM task", [("stays",)])
    crash(daemon)
    box.run(two).wait_log("tasks of the earlier daemon: 1 go on")


@pytest.mark.parametrize("way", ["crash", "stop", "reload"])
def test_where_one_task_is_for_all_paths_by_now_the_latest_goes_on_and_the_others_are_cancelled(
    box: Box, way: str
) -> None:
    daemon = box.run(WAITS)
    for name in "abc":
        write(box.src / name)
        daemon.wait_log(f"schedule task.*{box.src}/{name},")
    # Its event is the latest one now, though it is not the newest task.
    write(box.src / "b", "again")
    daemon.wait_log(f"re-schedule task.*{box.src}/b,")
    wait_rows(box, "SELECT path FROM task ORDER BY due DESC LIMIT 1", [(f"{box.src}/b",)])
    single = WAITS.replace(f"delay={LATER}", f"delay={LATER}, singlejob=True")
    if way == "reload":
        box.write_config(single)
        daemon.reload()
    elif way == "stop":
        daemon.terminate()
    else:
        crash(daemon)
    again = daemon if way == "reload" else box.run(single)
    reason = "a later event took its place"
    cancelled = [(f"{box.src}/{name}", "cancelled", reason, 0) for name in "ac"]
    wait_rows(box, "SELECT path, result, error, attempts FROM ended ORDER BY path", cancelled)
    assert rows(box, "SELECT path, state FROM task") == [(f"{box.src}/b", "waiting")]
    for name in "ac":
        assert again.count(f"scheduled task cancelled: {reason}, .*{box.src}/{name},") == 1, again.tail
    if way != "reload":
        again.wait_log("2 cancelled since a later event took their place, 1 go on")


def test_an_interrupted_command_fails_where_the_one_task_for_all_paths_is_another(box: Box) -> None:
    daemon = box.run(runs(LATER, ", max_jobs=1"))
    write(box.src / "runs")
    wait_rows(box, "SELECT state FROM task", [("running",)])
    write(box.src / "queued")
    wait_rows(box, "SELECT state FROM task ORDER BY state", [("queued",), ("running",)])
    daemon.terminate()
    assert rows(box, "SELECT count(*) FROM task") == [(2,)]
    box.run(runs(LATER, ", singlejob=True"))
    wait_rows(box, "SELECT path, error FROM ended", [(f"{box.src}/runs", "interrupted: the daemon ended")])
    wait_rows(box, "SELECT path, state FROM task", [(f"{box.src}/queued", "running")])


def test_a_reload_cannot_move_the_state(box: Box) -> None:
    daemon = box.run(WAITS)
    box.write_config(WAITS.replace("$TMP/state", "$TMP/elsewhere"))
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file .*: a reload cannot change where the state is")
    assert not (box.tmp / "elsewhere").exists()


@pytest.mark.parametrize("way", ["option", "environment", "never"])
def test_where_the_state_is(box: Box, way: str) -> None:
    config = WAITS.replace('state="$TMP/state"', "state=False, shutdown_timeout=0" if way == "never" else "history=5")
    environment = {"STATE_DIRECTORY": f"{box.tmp}/env:{box.tmp}/second"}
    arguments = ["--state", "given"] if way == "option" else []
    daemon = box.run(config, *arguments, env=environment)
    write(box.src / "f")
    daemon.wait_log("schedule task")
    daemon.terminate()
    made = {name for name in ("given", "env", "second") if (box.tmp / name / "state.db").exists()}
    assert made == {"option": {"given"}, "environment": {"env"}, "never": set()}[way]


def test_the_state_is_readable_by_its_owner_alone(box: Box) -> None:
    box.run(WAITS)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (box.tmp / "state").iterdir()}
    assert (box.tmp / "state").stat().st_mode & 0o777 == 0o700
    assert set(modes) == {"state.db", "state.db-wal", "state.db-shm", "state.lock"}
    assert set(modes.values()) == {0o600}


def test_history_is_bounded_and_failures_stay(box: Box) -> None:
    config = """
once = ShellScheduler(cmd="case {pathname} in */bad) exit 1;; esac")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": once})], state="$TMP/state", history=3)
"""
    daemon = box.run(config)
    for name in ("bad", "a", "b", "c", "d", "e"):
        write(box.src / name)
        daemon.wait_log(f"task (finished|failed).*{box.src}/{name},")
    wait_rows(
        box,
        "SELECT replace(path, rtrim(path, replace(path, '/', '')), ''), result, exit_status FROM ended ORDER BY number",
        [("bad", "failed", 1), ("c", "ok", None), ("d", "ok", None), ("e", "ok", None)],
    )


def test_the_output_of_a_command_is_kept_with_its_end(box: Box) -> None:
    config = """
once = ShellScheduler(cmd="echo said; echo wrong >&2; exit 4", output="log")
slow = ShellScheduler(cmd="echo late; sleep 600", output="log", timeout=1)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": [once, slow]})], state="$TMP/state")
"""
    box.run(config)
    write(box.src / "f")
    wait_rows(
        box,
        "SELECT scheduler, output, error FROM ended ORDER BY scheduler",
        [("once", "said\nwrong\n", "exited with status 4"), ("slow", "late\n", "timeout after 1 s")],
    )


def test_a_restart_of_the_service_in_the_middle_of_an_upload_loses_nothing(box: Box) -> None:
    """With what the unit says, and as systemd restarts it: TERM, the end, the next start."""
    unit = (PROJECT / "crates/pyinotifyd/share/systemd/pyinotifyd.service").read_text()
    assert "StateDirectory=pyinotifyd\n" in unit
    assert "KillMode=mixed\n" in unit
    environment = {"STATE_DIRECTORY": f"{box.tmp}/lib/pyinotifyd"}
    config = """
done = ShellScheduler(cmd="echo {pathname} >> $DST/done", delay=0.3)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": done}, initial="changed")], shutdown_timeout=5)
"""
    daemon = box.run(config, env=environment)
    for number in range(300):
        write(box.src / f"{number}")
        if number % 100 == 50:
            daemon.signal(signal.SIGTERM)
            # Some come while it ends.
            for more in "abc":
                write(box.src / f"{number}{more}")
            daemon.wait_exit()
            write(box.src / f"{number}down")
            daemon = box.start(config, env=environment)

    def missing() -> set[str]:
        done = (box.dst / "done").read_text().splitlines() if (box.dst / "done").exists() else []
        return {os.fspath(path) for path in box.src.iterdir()} - set(done)

    wait_until(lambda: not missing(), lambda: f"all files but {missing()}; {daemon.tail}")


# ---- what an operator was answered


def test_a_change_that_was_answered_survives_a_crash(box: Box) -> None:
    socket = box.tmp / "control.sock"
    config = WAITS.replace('_WRITE": later', '_WRITE": [later, fails]').replace(
        "\npyinotifyd", '\nfails = ShellScheduler(cmd="false")\npyinotifyd', 1
    )

    def changed(*words: str) -> None:
        daemon = box.run(config, "--control", socket)
        Operator(socket).run(*words)
        crash(daemon)

    for verb, paused in 3 * [("pause", [("later",)]), ("resume", [])]:
        changed(verb, "later")
        assert rows(box, "SELECT scheduler FROM paused") == paused
    daemon = box.run(config, "--control", socket)
    for name in "abc":
        write(box.src / name)
    daemon.wait_log("task failed", count=3)
    assert len(Operator(socket).get("/v1/failed")["tasks"]) == 3
    crash(daemon)
    changed("cancel", "--path", f"{box.src}/a", "--scheduler", "later")
    assert rows(box, "SELECT path FROM task WHERE scheduler = 'later' AND path LIKE '%/a'") == []
    changed("forget", "--path", f"{box.src}/a")
    changed("retry", "--path", f"{box.src}/b")
    counts = [
        rows(box, f"SELECT count(*) FROM {table} AND path LIKE '%/{name}'")[0][0]
        for name in "abc"
        for table in ("ended WHERE open", "task WHERE scheduler = 'fails'")
    ]
    assert counts[:2] == [0, 0]
    assert sum(counts[2:4]) == 1, "it waits, or has failed again"
    assert counts[4:] == [1, 0]


def test_a_change_is_answered_while_the_disk_does_not_answer(box: Box, frozen: Callable[[str], None]) -> None:
    socket = box.tmp / "control.sock"
    daemon = box.run(WAITS, "--control", socket)
    write(box.src / "f")
    wait_rows(box, "SELECT count(*) FROM task", [(1,)])
    frozen("--freeze")
    assert Operator(socket).post("/v1/pause") == {"done": ["later"]}
    assert Operator(socket).post("/v1/tasks/cancel", {"all": True})["done"] == daemon.task_ids(box.src / "f")
    frozen("--unfreeze")
    wait_rows(box, "SELECT scheduler FROM paused", [("later",)])
    wait_rows(box, "SELECT count(*) FROM task", [(0,)])


def test_what_has_to_be_read_first_is_refused_while_the_disk_does_not_answer(
    box: Box, frozen: Callable[[str], None]
) -> None:
    operator = Operator(box.tmp / "control.sock")
    daemon = box.run(FAILS, "--control", operator.path)
    write(box.src / "a")
    wait_rows(box, "SELECT count(*) FROM ended", [(1,)])
    frozen("--freeze")
    # There is something to be written before.
    write(box.src / "b")
    daemon.wait_log("task failed", count=2)
    asked: list[tuple[Any, ...]] = [("GET", "/v1/failed"), ("POST", "/v1/failed/retry", {"all": True})]
    with ThreadPoolExecutor() as pool:
        refusals = [pool.submit(operator.refused, 503, *request) for request in asked]
        answered = 0
        while not all(refusal.done() for refusal in refusals):
            operator.get("/v1/status")
            answered += 1
        assert answered > 1, "others have to wait"
        for refusal in refusals:
            assert refusal.result() == "cannot read the state: its disk does not answer"
    frozen("--unfreeze")
    assert operator.get("/v1/failed")["total"] == 2
    assert daemon.count("retry ") == 0


# So many tasks are written in one transaction.
BATCH = 4_096

FAILS = """
fails = ShellScheduler(cmd="false")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": fails})], state="$TMP/state")
"""


def test_a_crash_in_the_middle_of_a_large_retry_leaves_each_task_failed_or_to_come(box: Box) -> None:
    socket = box.tmp / "control.sock"
    daemon = box.run(FAILS)
    write(box.src / "00000")
    daemon.wait_log("task failed")
    daemon.terminate()
    ((columns,),) = rows(box, "SELECT group_concat(name) FROM pragma_table_info('ended') WHERE name <> 'number'")
    copied = columns.replace("id,", "printf('%08x', value) || substr(id, 9),", 1)
    copied = copied.replace(",path", ",printf('%s%05d', substr(path, 1, length(path) - 5), value)")
    many = f"""
        WITH RECURSIVE count(value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM count WHERE value < {BATCH + 900})
        INSERT INTO ended ({columns}) SELECT {copied} FROM ended, count;
        CREATE TRIGGER crash AFTER INSERT ON task WHEN new.rowid > {BATCH} BEGIN SELECT RAISE(ABORT, 'not yet'); END"""
    with contextlib.closing(sqlite3.connect(box.tmp / "state/state.db")) as database:
        database.executescript(many)
    daemon = box.run(FAILS, "--control", socket)
    Operator(socket).run("pause")
    Operator(socket).run("retry", "--all")
    daemon.wait_log("cannot keep tasks in .*not yet")
    crash(daemon)
    to_come, failed = "SELECT count(*) FROM task", "SELECT count(*) FROM ended WHERE open"
    both = f"{failed} AND id IN (SELECT id FROM task)"
    assert [rows(box, sql) for sql in (to_come, failed, both)] == [[(BATCH,)], [(901,)], [(0,)]]
    with contextlib.closing(sqlite3.connect(box.tmp / "state/state.db")) as database:
        database.execute("DROP TRIGGER crash")
    daemon = box.run(FAILS, "--control", socket)
    daemon.wait_log(f"tasks of the earlier daemon: {BATCH} go on")
    assert Operator(socket).scheduler("fails")["failed"] == 901
    Operator(socket).run("retry", "--all")
    assert [rows(box, sql) for sql in (to_come, failed)] == [[(BATCH + 901,)], [(0,)]]


# ---- since when a task waits


@pytest.mark.parametrize(
    ("arguments", "column"),
    [
        ("delay=600, max_delay=700", "waits"),
        ("batch=Batch(quiet=600, max_wait=700)", "waits"),
        ("settle=Settle(min_size=100, give_up=700)", "settles"),
    ],
)
def test_what_bounds_a_wait_counts_on_over_a_restart(box: Box, arguments: str, column: str) -> None:
    config = WAITS.replace(f"delay={LATER}", arguments).replace("{pathname}", "")
    daemon = box.run(config)
    write(box.src / "f")
    wait_rows(box, f"SELECT {column} IS NULL FROM task", [(0,)])
    crash(daemon)
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute(f"UPDATE task SET {column} = {column} - 3600")
    database.close()
    again = box.run(config)
    if column == "waits":
        # Put off by this, it was due long ago.
        write(box.src / "f")
        again.wait_log("task finished")
    else:
        again.wait_log("task failed: did not settle in 700 s")


def test_a_clock_that_was_set_back_lets_no_task_wait_longer_than_before(box: Box) -> None:
    operator = Operator(box.tmp / "control.sock")
    daemon = box.run(WAITS, env=wall_clock(box, 3600))
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])
    assert due(box) > time.time() + 3600
    crash(daemon)
    box.run(WAITS, "--control", operator.path)
    (task,) = operator.tasks()
    assert datetime.fromisoformat(task["due"]).timestamp() < time.time() + LATER


# ---- what can be wrong with a state directory


def refused(box: Box, text: str, **options: Any) -> None:
    daemon = box.call(config=WAITS, **options)
    assert daemon.exit_code == 1
    assert daemon.count("ERROR") == 1, daemon.tail
    assert text in daemon.log


def test_a_second_daemon_is_refused(box: Box) -> None:
    first = box.run(WAITS)
    refused(box, f"is in use by another pyinotifyd (pid {first.pid})")


def test_a_state_that_is_a_file_is_refused(box: Box) -> None:
    write(box.tmp / "state")
    refused(box, f"the state directory '{box.tmp}/state' is not a directory")


def test_a_state_of_somebody_else_is_refused(box: Box, root: None) -> None:
    (box.tmp / "state").mkdir()
    os.chown(box.tmp / "state", 65534, 65534)
    refused(box, "belongs to user 65534, not to user 0; chown it")


def test_a_state_that_others_can_write_is_refused_as_root(box: Box, root: None) -> None:
    (box.tmp / "state").mkdir()
    (box.tmp / "state").chmod(0o777)
    refused(box, "can be written by others; mend it: chmod go-w")


def test_a_state_where_a_plain_user_may_not_write_is_refused(box: Box, plain_user: None) -> None:
    config = WAITS.replace("$TMP/state", "$DST/state")
    box.dst.chmod(0o555)
    daemon = box.call(config=config)
    assert daemon.exit_code == 1
    assert daemon.count(f"cannot use the state directory '{box.dst}/state'.*Permission denied") == 1, daemon.tail
    # One that cannot be written to any more stops nobody.
    box.dst.chmod(0o755)
    box.run(config).terminate()
    (box.dst / "state").chmod(0o500)
    box.run(config).wait_log("ERROR - cannot keep tasks in .*; the daemon goes on without, and tries again")


def test_a_newer_state_is_refused_and_stays_as_it_is(box: Box) -> None:
    box.run(WAITS).terminate()
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    refused(box, "has version 99, this program knows 2; use the newer program, or another directory")
    assert rows(box, "PRAGMA user_version") == [(99,)]


def test_a_damaged_state_is_moved_aside(box: Box) -> None:
    (box.tmp / "state").mkdir(mode=0o700)
    write(box.tmp / "state/state.db", "no database at all, and longer than the header of one" * 40)
    daemon = box.run(WAITS)
    assert daemon.count("ERROR") == 1
    daemon.wait_log("the state is damaged .* it was moved to '.*state.db.damaged-")
    write(box.src / "f")
    wait_rows(box, "SELECT state FROM task", [("waiting",)])


def test_damage_at_random_bytes_stops_no_start(box: Box) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    box.run(WAITS)
    for number in range(40):
        write(box.src / f"{number}")
    wait_rows(box, "SELECT count(*) FROM task", [(40,)])
    box.daemons[-1].terminate()
    database = box.tmp / "state/state.db"
    sound = database.read_bytes()
    for number in range(10):
        damaged = bytearray(sound)
        for _ in range(16):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        for path in database.parent.iterdir():
            path.unlink()
        database.write_bytes(damaged)
        daemon = box.start(WAITS)
        daemon.wait_log("start listening|has version .*, this program knows")
        if daemon.count("start listening"):
            write(box.src / f"new{number}")
            wait_kept(box, box.src / f"new{number}")
            daemon.terminate()


def wait_kept(box: Box, path: Path) -> None:
    """Wait for the task of a path in a database whose damage may still show."""

    def is_kept() -> bool:
        with contextlib.suppress(sqlite3.DatabaseError):
            return rows(box, f"SELECT count(*) FROM task WHERE path = '{path}'") == [(1,)]
        return False

    wait_until(is_kept, lambda: f"the task of {path} is kept; {box.daemons[-1].tail}")


def kept_tasks(box: Box) -> set[str]:
    """The names of files that have tasks in a database that may not be there yet."""
    try:
        return {Path(path).name for (path,) in rows(box, "SELECT path FROM task")}
    except sqlite3.OperationalError:
        return set()


def test_a_state_that_is_removed_while_the_daemon_runs_is_made_anew(box: Box) -> None:
    daemon = box.run(WAITS)
    write(box.src / "a")
    wait_until(lambda: kept_tasks(box) == {"a"})
    shutil.rmtree(box.tmp / "state")
    write(box.src / "b")
    daemon.wait_log("ERROR - the state in '.*' is gone; it is made anew")
    wait_until(lambda: kept_tasks(box) == {"a", "b"})
    # Replaced by something else, it is not used.
    shutil.rmtree(box.tmp / "state")
    (box.tmp / "state").symlink_to(box.dst / "nowhere")
    write(box.src / "c")
    daemon.wait_log("ERROR - cannot keep tasks in .*; the daemon goes on without")
    assert not list(box.dst.iterdir())
    (box.tmp / "state").unlink()
    daemon.wait_log("tasks are kept in '.*' again")
    wait_until(lambda: kept_tasks(box) == {"a", "b", "c"})


def clean_up(state: Path, what: str) -> None:
    """What a script does that takes the files of a database for rubbish."""
    name, suffixes = what.split()[1], what.split()[2:]
    if what.startswith("empty"):
        os.truncate(state / name, 0)
    else:
        for suffix in suffixes:
            (state / f"{name}{suffix}").unlink()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("remove state.db -wal", "somebody removed state.db-wal in '.*'; .* nothing is lost"),
        ("remove state.db -wal -shm", "somebody removed state.db-wal in '.*'; .* nothing is lost"),
        ("empty state.db", r"the state is damaged \(somebody has emptied it\)"),
        ("empty state.db-wal", r"the state is damaged \(somebody has cut its log, state.db-wal\)"),
    ],
    ids=["log", "log and its index", "emptied", "emptied log"],
)
def test_a_database_that_is_cleaned_up_while_the_daemon_runs_costs_no_task(box: Box, what: str, told: str) -> None:
    daemon = box.run(WAITS)
    write(box.src / "a")
    wait_until(lambda: kept_tasks(box) == {"a"})
    clean_up(box.tmp / "state", what)
    write(box.src / "b")
    daemon.wait_log(f"ERROR - {told}")
    wait_until(lambda: kept_tasks(box) == set("ab"))
    write(box.src / "c")
    wait_until(lambda: kept_tasks(box) == set("abc"))
    assert daemon.count(" ERROR ") == 1
    crash(daemon)
    box.run(WAITS).wait_log("tasks of the earlier daemon: 3 go on")


def test_a_log_that_is_gone_is_noticed_by_who_reads(box: Box) -> None:
    daemon = box.run(FAILS.replace('state="$TMP/state"', 'state="$TMP/state", control="$TMP/control.sock"'))
    operator = Operator(box.tmp / "control.sock")
    write(box.src / "f")
    wait_until(lambda: operator.get("/v1/failed")["total"] == 1)
    (box.tmp / "state/state.db-wal").unlink()
    # The first answer may be that it cannot be read. No event comes.
    wait_until(lambda: operator.ask("GET", "/v1/failed")[0] == 503 or daemon.count("removed state.db-wal") == 1)
    wait_until(lambda: operator.ask("GET", "/v1/failed")[0] == 200)
    assert operator.get("/v1/failed")["total"] == 1
    crash(daemon)
    box.run(FAILS)
    wait_rows(box, "SELECT count(*) FROM ended WHERE open = 1", [(1,)])


def test_a_copy_that_is_put_back_while_the_daemon_runs_leaves_its_tasks_alone(box: Box) -> None:
    slow = f'slow = ShellScheduler(cmd="echo $$ > $DST/pid; sleep {LATER}")\n'
    config = slow + WAITS.replace('_WRITE": later', '_WRITE": [later, slow]')
    daemon = box.run(config)
    write(box.src / "a")
    wait_rows(box, "SELECT scheduler, process_group IS NULL FROM task ORDER BY scheduler", [("later", 1), ("slow", 0)])
    copy = sqlite3.connect(box.tmp / "copy")
    with contextlib.closing(sqlite3.connect(box.tmp / "state/state.db")) as database, contextlib.closing(copy):
        database.backup(copy)
    (box.tmp / "copy").rename(box.tmp / "state/state.db")
    write(box.src / "b")
    daemon.wait_log("ERROR - the state in '.*' is gone; it is made anew")
    # What follows on the copy would be in the transaction after the next.
    for name in "cd":
        write(box.src / name)
        wait_rows(box, f"SELECT count(*) FROM task WHERE path = '{box.src}/{name}'", [(2,)])
    sql = "SELECT scheduler, count(*), count(DISTINCT path) FROM task GROUP BY scheduler"
    assert rows(box, sql) == [("later", 4, 4), ("slow", 4, 4)]
    assert daemon.count("earlier daemon") == 0
    assert alive(int((box.dst / "pid").read_text()))


@pytest.mark.parametrize("way", ["link", "link/", "above/state"])
def test_a_link_may_lead_to_the_state_directory(box: Box, way: str) -> None:
    """As with DynamicUser= of systemd."""
    (box.tmp / "state").mkdir(mode=0o700)
    (box.tmp / "link").symlink_to("state")
    (box.tmp / "above").symlink_to(".")
    daemon = box.run(WAITS.replace("$TMP/state", f"$TMP/{way}"))
    write(box.src / "a")
    wait_until(lambda: kept_tasks(box) == {"a"})
    assert daemon.count("cannot keep") == 0


@pytest.mark.parametrize("name", ["state.lock", "state.db"])
def test_links_in_a_state_directory_are_not_followed(box: Box, name: str) -> None:
    (box.tmp / "state").mkdir(mode=0o700)
    write(box.dst / "precious", "not a pid")
    (box.tmp / "state" / name).symlink_to(box.dst / "precious")
    if name == "state.lock":
        refused(box, "cannot use the state directory")
    else:
        box.run(WAITS).wait_log("ERROR - cannot keep tasks in ")
    assert (box.dst / "precious").read_text() == "not a pid"


def test_what_is_unwise_is_warned_of(box: Box) -> None:
    watched = WAITS.replace("$TMP/state", "$SRC/state").replace("Cancel(later)})", "Cancel(later)}, rec=True)")
    daemon = box.run(watched)
    assert daemon.count(f"the state directory '{box.src}/state' lies in '{box.src}', which is watched") == 1, (
        daemon.tail
    )
    unnamed = """
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_OPEN": ShellScheduler(cmd="true")})], state="$TMP/state")
"""
    tested = box.call("-t", config=unnamed)
    assert tested.exit_code == 0
    assert tested.count(r"scheduler-\d+ has no name that lasts") == 1, tested.tail
    without = box.call("-t", config=unnamed.replace(', state="$TMP/state"', ""))
    assert without.count("no name that lasts") == 0


def test_a_state_on_a_filesystem_that_may_not_answer_is_warned_of(box: Box, root: None) -> None:
    need("fusermount3")
    (box.tmp / "mnt").mkdir()
    with contextlib.closing(Filesystem(box.tmp / "mnt")):
        tested = box.call("-t", config=WAITS.replace("$TMP/state", "$TMP/mnt/state"))
    assert tested.exit_code == 0
    assert tested.count(f"WARNING: .*'{box.tmp}/mnt/state' is on fuse, which may not answer") == 1, tested.tail


def test_bad_arguments_are_config_errors(box: Box) -> None:
    cases = {
        "state=True": "state: expected",
        "state=''": "state: expected a path, got an empty string",
        "history=-1": "history: expected a number from 0",
        "history=1.5": "history: expected",
        "history=True": "history: expected a number",
    }
    for argument, text in cases.items():
        daemon = box.call("-t", config=f"pyinotifyd = Pyinotifyd({argument})\n")
        assert daemon.exit_code == 1
        assert text in daemon.log, daemon.tail
    daemon = box.call("-t", config="later = ShellScheduler(cmd='true', persist=1)\npyinotifyd = Pyinotifyd()\n")
    assert daemon.exit_code == 1
    assert "persist" in daemon.log


# ---- disks


@pytest.fixture
def disk(box: Box, root: None) -> Any:
    """A small filesystem of its own for the state."""
    need("mount", "umount")
    place = box.tmp / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield place
    for daemon in box.daemons:
        daemon.kill()
    subprocess.run(["umount", "-l", place], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def test_a_full_disk_stops_nothing_and_is_made_up_for(box: Box, disk: Path) -> None:
    config = WAITS.replace("$TMP/state", "$TMP/disk/state")
    daemon = box.run(config)
    daemon.wait_log("start listening")
    filler = disk / "filler"
    fill(filler)
    for number in range(300):
        write(box.src / f"{number:0200}")
    daemon.wait_log("cannot keep tasks in .*; the daemon goes on without, and tries again")
    daemon.wait_log("schedule task", count=300)
    filler.unlink()
    daemon.wait_log("tasks are kept in '.*' again")
    assert daemon.count("cannot keep tasks") == 1
    state = sqlite3.connect(disk / "state/state.db")
    # What came while the disk was full is in the next transaction.
    wait_until(lambda: state.execute("SELECT count(*) FROM task").fetchone() == (300,))


def full_disk(box: Box, config: str, count: int) -> tuple[Daemon, Path]:
    """A daemon whose disk is full, and that has heard of so many files since; and what fills the disk."""
    daemon = box.run(config)
    daemon.wait_log("start listening")
    filler = box.tmp / "disk/filler"
    fill(filler)
    for number in range(count):
        write(box.src / f"{number:0200}")
    daemon.wait_log("cannot keep tasks in .*; the daemon goes on without, and tries again")
    return daemon, filler


def test_a_task_that_was_tried_has_its_row_though_an_event_came_before_it_was_cancelled(box: Box) -> None:
    daemon = box.run("""
check = ShellScheduler(cmd="false {pathname}", retry=Retry(times=5, delay=600))
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": check, "IN_DELETE": Cancel(check)})],
                        state="$TMP/state")
""")
    write(box.src / "f")
    daemon.wait_log("attempt 1 failed")
    write(box.src / "f")
    daemon.wait_log("re-schedule task")
    (box.src / "f").unlink()
    daemon.wait_log("scheduled task cancelled")
    ended = (f"{box.src}/f", "cancelled", 1, "cancelled by IN_DELETE")
    wait_rows(box, "SELECT path, result, attempts, error FROM ended", [ended])


def test_a_stop_names_what_it_could_not_keep(box: Box, disk: Path) -> None:
    config = WAITS.replace("$TMP/state", "$TMP/disk/state")
    daemon = box.run(config)
    write(box.src / "kept")
    state = sqlite3.connect(disk / "state/state.db")
    wait_until(lambda: state.execute("SELECT count(*) FROM task").fetchone() == (1,))
    state.close()
    daemon.terminate()
    daemon, _ = full_disk(box, config, 1010)
    daemon.wait_log("schedule task", count=1010)
    assert daemon.terminate() == 0
    daemon.wait_log("ERROR - the latest changes of tasks are not kept in '.*': database or disk is full")
    assert daemon.count(r"INFO - keep 1011 waiting task\(s\), unless the state cannot be written") == 1
    named = [line for line in daemon.lines if "WARNING - not done: it could not be kept" in line]
    assert len(named) == 999
    assert all("task_id=" in line for line in named)
    assert daemon.count("WARNING - 11 more task") == 1
    assert daemon.count("not done: .*/kept,") == 0


CHECKS = """
check = ShellScheduler(cmd="test -e $DST/ok")
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": check})],
                        state="$TMP/disk/state", control="$TMP/control.sock")
"""


def failed_paths(operator: Operator) -> list[str]:
    listed = operator.get("/v1/failed")
    assert listed["total"] == len(listed["tasks"])
    return sorted(Path(task["path"]).name for task in listed["tasks"])


def test_what_fails_while_the_disk_is_full_is_listed_run_again_and_forgotten_once(box: Box, disk: Path) -> None:
    operator = Operator(box.tmp / "control.sock")
    daemon = box.run(CHECKS)
    daemon.wait_log("start listening")
    write(box.src / "before")
    daemon.wait_log("task failed")
    wait_until(lambda: failed_paths(operator) == ["before"])
    fill(disk / "filler")
    for number in range(100):
        write(box.src / f"{number:0200}")
        if daemon.count("cannot keep tasks"):
            break
    daemon.wait_log("cannot keep tasks in .*; the daemon goes on without, and tries again")
    many = number + 1
    for name in "abcd":
        write(box.src / name)
    daemon.wait_log("task failed", count=many + 5)
    operator.post("/v1/failed/forget", {"path": f"{box.src}/0*"})
    assert failed_paths(operator) == ["a", "b", "before", "c", "d"]
    assert operator.get("/v1/status")["totals"]["failed"] == 5

    # One fails again, one is forgotten, one that the database has and one that it has not do what they are to do.
    ids = {Path(task["path"]).name: task["id"] for task in operator.get("/v1/failed")["tasks"]}
    operator.run("retry", ids["a"])
    daemon.wait_log("task failed", count=many + 6)
    operator.run("forget", ids["b"])
    (box.dst / "ok").touch()
    operator.run("retry", ids["c"], ids["before"])
    daemon.wait_log("task finished", count=2)
    assert failed_paths(operator) == ["a", "d"]
    assert "there is no failed task" in operator.run("retry", ids["c"], status=1)

    (disk / "filler").unlink()
    daemon.wait_log("tasks are kept in '.*' again")
    assert failed_paths(operator) == ["a", "d"]
    with contextlib.closing(sqlite3.connect(disk / "state/state.db")) as state:
        sql = "SELECT id, result, open FROM ended WHERE length(path) < 200"
        wanted = [(ids[name], "failed", opened) for name, opened in [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("d", 1)]]
        wanted += [(ids["before"], "failed", 0), (ids["before"], "ok", 0), (ids["c"], "ok", 0)]
        wait_until(lambda: sorted(state.execute(sql)) == sorted(wanted), lambda: str(state.execute(sql).fetchall()))
    operator.run("retry", "--all")
    daemon.wait_log("task finished", count=4)
    wait_until(lambda: failed_paths(operator) == [])
    assert operator.get("/v1/status")["totals"]["failed"] == 0


def test_what_fails_where_no_state_can_be_made_is_listed_and_run_again(box: Box) -> None:
    (box.tmp / "disk/state/state.db").mkdir(parents=True)
    (box.tmp / "disk/state").chmod(0o700)
    operator = Operator(box.tmp / "control.sock")
    daemon = box.run(CHECKS)
    daemon.wait_log("ERROR - cannot keep tasks in .*Is a directory")
    write(box.src / "a")
    daemon.wait_log("task failed")
    assert failed_paths(operator) == ["a"]
    (box.dst / "ok").touch()
    operator.run("retry", "--all")
    daemon.wait_log("task finished")


def test_who_makes_room_may_stop_the_daemon_at_once(box: Box, disk: Path) -> None:
    config = WAITS.replace("$TMP/state", "$TMP/disk/state")
    daemon, filler = full_disk(box, config, 300)
    daemon.wait_log("schedule task", count=300)
    # By then the pause before the next try is longer than a stop waits.
    time.sleep(8)
    filler.unlink()
    assert daemon.terminate() == 0
    assert daemon.count("not kept|not done") == 0
    daemon = box.run(config)
    daemon.wait_log("tasks of the earlier daemon: 300 go on")


def test_somebody_who_locks_the_database_delays_the_keeping_alone(box: Box) -> None:
    daemon = box.run(SOON)
    with contextlib.closing(sqlite3.connect(box.tmp / "state/state.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        write(box.src / "f")
        daemon.wait_log("task finished")
        daemon.wait_log("ERROR - cannot keep tasks in .*: database is locked; the daemon goes on without")
        shell.execute("ROLLBACK")
    daemon.wait_log("tasks are kept in '.*' again")
    wait_rows(box, "SELECT result FROM ended", [("ok",)])
    assert daemon.count("cannot keep tasks") == 1


def test_a_state_that_cannot_be_opened_holds_up_no_stop_that_has_nothing_to_keep(box: Box) -> None:
    (box.tmp / "state/state.db").mkdir(parents=True)
    (box.tmp / "state").chmod(0o700)
    daemon = box.run(WAITS)
    daemon.wait_log("ERROR - cannot keep tasks in .*Is a directory")
    assert daemon.terminate() == 0
    assert daemon.count("the latest changes of tasks are not kept") == 0
    # What waits is lost, and that is said.
    daemon = box.run(WAITS)
    write(box.src / "f")
    daemon.wait_log(f"schedule task, delay=.* path={box.src}/f,")
    assert daemon.terminate() == 0
    assert daemon.count("the latest changes of tasks are not kept") == 1


def test_a_read_only_disk_keeps_nobody_from_starting(box: Box, disk: Path) -> None:
    config = SOON.replace("$TMP/state", "$TMP/disk/state")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    daemon = box.run(config)
    daemon.wait_log("ERROR - cannot keep tasks in .*Read-only")
    write(box.src / "f")
    daemon.wait_log("task finished")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    daemon.wait_log("tasks are kept in '.*' again")
    assert daemon.count("cannot keep tasks") == 1


def test_what_could_not_be_read_at_the_start_goes_on_when_it_can_be(box: Box, disk: Path) -> None:
    config = WAITS.replace("$TMP/state", "$TMP/disk/state")
    daemon = box.run(config)
    write(box.src / "f")
    state = sqlite3.connect(disk / "state/state.db")
    wait_until(lambda: state.execute("SELECT count(*) FROM task").fetchone() == (1,))
    state.close()
    (identifier,) = daemon.task_ids(box.src / "f")
    crash(daemon)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    again = box.run(config)
    again.wait_log("ERROR - cannot keep tasks in .*Read-only")
    assert again.count("earlier daemon") == 0
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    again.wait_log("tasks of the earlier daemon: 1 go on")
    again.wait_log("tasks are kept in '.*' again")
    again.signal(signal.SIGUSR1)
    again.wait_log(f"status: .*{identifier}")


@pytest.fixture
def frozen(box: Box, root: None) -> Iterator[Callable[[str], None]]:
    """The state on a filesystem of its own; `frozen("--freeze")` lets writers wait, `frozen("--unfreeze")` lets them
    go on.
    """
    need("mkfs.ext4", "mount", "umount", "fsfreeze")
    place = box.tmp / "state"
    with disk_image(box.tmp / "image", place):

        def freeze(what: str) -> None:
            subprocess.run(["fsfreeze", what, place], check=True)

        yield freeze
        subprocess.run(["fsfreeze", "--unfreeze", place], check=False, capture_output=True)
        for daemon in box.daemons:
            daemon.kill()


FROZEN = """
soon = ShellScheduler(cmd="echo {pathname} >> $DST/soon", delay=0.3)
late = ShellScheduler(cmd="true", delay=600)
move = FileManagerScheduler(FileManagerRule(action="move", src_re="^$SRC/moved/(.*)$", dst_re=r"$DST/\\1"))
pyinotifyd = Pyinotifyd(state="$TMP/state", shutdown_timeout=3, watches=[
    Watch("$SRC", {"IN_CLOSE_WRITE": [soon, late]}), Watch("$SRC/moved", {"IN_CLOSE_WRITE": move})])
"""


def test_a_disk_that_does_not_answer_delays_no_event(box: Box, frozen: Callable[[str], None]) -> None:
    (box.src / "moved").mkdir()
    daemon = box.run(FROZEN)
    write(box.src / "before")
    wait_rows(box, "SELECT count(*) FROM task WHERE scheduler = 'late'", [(1,)])
    frozen("--freeze")
    frozen_at = time.monotonic()
    # For longer than any transaction takes, round after round: each event, its delay, its command, each move.
    for number in itertools.count():
        write(box.src / f"{number}")
        write(box.src / "moved" / f"{number}")
        daemon.wait_log(f"task finished.*{box.src}/{number},")
        daemon.wait_log(f"task finished.*{box.src}/moved/{number},")
        if time.monotonic() - frozen_at > 10:
            break
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("the latest changes of tasks are not kept")
    daemon.wait_log("shutdown complete")
    # The kernel lets no process go that waits for a disk.
    frozen("--unfreeze")
    daemon.wait_exit()
    sql = "SELECT scheduler FROM task WHERE path LIKE '%/before' AND scheduler = 'late'"
    assert rows(box, sql) == [("late",)]


def test_a_disk_that_answers_again_gets_everything(box: Box, frozen: Callable[[str], None]) -> None:
    (box.src / "moved").mkdir()
    daemon = box.run(FROZEN)
    frozen("--freeze")
    for number in range(20):
        write(box.src / f"{number}")
        daemon.wait_log(f"task finished.*{box.src}/{number},")
    frozen("--unfreeze")
    wait_rows(box, "SELECT scheduler, count(*) FROM task", [("late", 20)])
    wait_rows(box, "SELECT scheduler, count(*) FROM ended", [("soon", 20)])
