"""The control socket: what an operator can ask a running daemon, and change in it; by its API and by subcommands."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control import Connection, Operator
from vocabulary import DEADLINE_S, PROJECT, Box, Daemon, alive, drop, wait_until, write

pytestmark = pytest.mark.skipif(bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE")), reason="the original has none")

Run = Callable[..., Daemon]
Steer = Callable[..., tuple[Daemon, Operator]]

# `hold` runs until $TMP/go is there; `fail` fails; `later` waits for an hour; `move` moves.
TASKS = """
import asyncio, os
async def hold(event, task_id):
    while not os.path.exists("$TMP/go"):
        await asyncio.sleep(0.01)
hold = TaskScheduler(hold)
fail = ShellScheduler("echo why; exit 3 # {pathname}", output="log")
later = TaskScheduler(hold.job, delay=3600)
move = FileManagerScheduler([FileManagerRule("move", r"^$SRC/(.*\\.mv)$", r"$DST/\\1")])
pyinotifyd = Pyinotifyd([
    Watch("$SRC", {"IN_CREATE": hold, "IN_ATTRIB": fail, "IN_CLOSE_WRITE": later, "IN_MOVED_TO": move,
                   "IN_DELETE": Cancel(later)}, rec=True, auto_add=True)
], shutdown_timeout=0)
"""


@pytest.fixture
def steer(run: Run, box: Box) -> Steer:
    """A daemon with a control socket in the box, and an operator of it."""

    def start(config: str = TASKS, *arguments: str, **options: Any) -> tuple[Daemon, Operator]:
        socket = box.tmp / "control.sock"
        return run(config, "--control", os.fspath(socket), *arguments, **options), Operator(socket)

    return start


# ---- status, lists


def test_the_status_says_what_the_daemon_does(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    write(box.src / "a")
    operator.wait_scheduler("hold", running=1)
    operator.wait_scheduler("later", waiting=1)
    status = operator.get("/v1/status")
    assert (status["pid"], status["ready"], status["state"]) == (daemon.pid, True, None)
    assert status["version"] == "2.0.0"
    assert [file["path"] for file in status["config"]] == [os.fspath(box.config)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}([+-]\d\d:\d\d|Z)", status["since"])
    path = {"path": os.fspath(box.src)}
    watch = {**path, "paths": [path], "kernel_watches": 1, "backend": "inotify", "state": "watching"}
    assert status["watches"] == [watch]
    kinds = {one["name"]: one["kind"] for one in status["schedulers"]}
    assert kinds == {"hold": "job", "fail": "command", "later": "job", "move": "rule"}
    totals = status["totals"]
    assert (totals["waiting"], totals["running"], totals["queued"], totals["overflows"]) == (1, 1, 0, 0)
    assert status["host"]["pid"] == daemon.host()
    assert status["host"]["restarts"] == 0
    assert os.path.exists(status["host"]["python"])


def test_paths_of_watches_have_all_their_bytes(steer: Steer, box: Box) -> None:
    _, operator = steer(TASKS.replace('Watch("$SRC"', 'Watch(["$SRC", "$TMP/\\udcff"]'))
    [shown] = operator.get("/v1/status")["watches"]
    assert shown["path"] == f"{box.src}, {box.tmp}/\ufffd"
    assert base64.b64decode(shown["path_b64"]) == os.fsencode(f"{box.src}, {box.tmp}/\udcff")
    first, second = shown["paths"]
    assert (first, second["path"]) == ({"path": os.fspath(box.src)}, f"{box.tmp}/\ufffd")
    assert base64.b64decode(second["path_b64"]) == os.fsencode(f"{box.tmp}/\udcff")
    assert base64.b64decode(shown["waiting_for"][0]["path_b64"]) == os.fsencode(f"{box.tmp}/\udcff")
    rescanned = operator.post("/v1/rescan")
    assert rescanned["done"] == [os.fspath(box.src), f"{box.tmp}/\ufffd"]
    paths = [os.fsencode(box.src), os.fsencode(f"{box.tmp}/\udcff")]
    assert [base64.b64decode(coded) for coded in rescanned["done_b64"]] == paths


def test_a_change_to_a_path_that_is_not_utf8_answers_with_its_bytes(box: Box) -> None:
    config, path = os.fsencode(box.tmp) + b"/c\xff.py", os.fsencode(box.src) + b"/f\xff"
    box.write_config(TASKS).rename(os.fsdecode(config))
    daemon = box.start(None, "-c", os.fsdecode(config), "--control", box.tmp / "c.sock").wait_ready()
    operator = Operator(box.tmp / "c.sock")
    write(path)
    coded = base64.b64encode(path).decode()
    for asked, answered in (
        (operator.post("/v1/send", {"path_b64": coded}), path),
        (operator.post("/v1/rescan", {"paths_b64": [coded]}), path),
        (operator.post("/v1/reload"), config),
    ):
        assert asked["done"] == [answered.decode(errors="replace")]
        assert [base64.b64decode(one) for one in asked["done_b64"]] == [answered]
    assert "done_b64" not in operator.post("/v1/rescan")
    assert daemon.terminate() == 0


def test_signal_usr1_and_the_status_show_the_same_numbers(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    for name in ("a", "b"):
        write(box.src / name)
    operator.wait_scheduler("hold", running=2)
    operator.wait_scheduler("later", waiting=2)
    totals = operator.get("/v1/status")["totals"]
    daemon.signal(signal.SIGUSR1)
    said = daemon.wait_log(
        r"status: 1 watch \((\d+) in the kernel\), tasks: 2 waiting, 0 queued, 2 running; so far (\d+) ev"
    )
    assert (int(said[1]), int(said[2])) == (totals["kernel_watches"], totals["events"])


def test_a_watch_whose_path_is_missing_waits_for_it(steer: Steer, box: Box) -> None:
    _, operator = steer('pyinotifyd = Pyinotifyd([Watch("$SRC/gone", recorder("IN_CREATE"))])', record=True)
    watch = operator.get("/v1/status")["watches"][0]
    assert (watch["state"], watch["kernel_watches"]) == ("waiting", 0)
    assert watch["waiting_for"] == [{"path": f"{box.src}/gone"}]
    assert "no path of any watch can be watched" in operator.refused(503, "GET", "/healthz")
    (box.src / "gone").mkdir()
    wait_until(lambda: operator.get("/v1/status")["watches"][0]["state"] == "watching", "a watch")
    assert operator.get("/healthz") == "ok\n"


def test_tasks_are_listed_by_state_scheduler_path_and_number(steer: Steer, box: Box) -> None:
    _, operator = steer()
    for name in ("one", "two", "three"):
        write(box.src / name)
    operator.wait_tasks(6)
    running = operator.tasks("?state=running")
    assert [os.path.basename(task["path"]) for task in running] == ["one", "two", "three"]
    assert {task["scheduler"] for task in running} == {"hold"}
    assert {(task["event"], task["attempt"], task["due"]) for task in running} == {("IN_CREATE", 1, None)}
    waiting = operator.tasks("?scheduler=later")
    assert {task["state"] for task in waiting} == {"waiting"}
    assert all(task["due"] > task["since"] for task in waiting)
    assert len(operator.tasks("?path=*/src/t*")) == 4
    assert len(operator.tasks(f"?path={box.tmp}*&state=waiting")) == 3
    limited = operator.get("/v1/tasks?limit=2")
    assert (len(limited["tasks"]), limited["total"]) == (2, 6)
    assert operator.get("/v1/tasks?scheduler=nobody") == {"tasks": [], "total": 0}
    for wrong in ("state=gone", "limit=x", "colour=red", "state=running&state=queued"):
        operator.refused(400, "GET", f"/v1/tasks?{wrong}")


def test_a_path_that_is_not_utf8_is_shown_and_keeps_its_bytes(steer: Steer, box: Box) -> None:
    _, operator = steer()
    name = os.fsencode(box.src) + b"/bad\xff\n"
    write(name)
    operator.wait_tasks(2)
    task = operator.tasks("?state=running")[0]
    assert task["path"] == f"{box.src}/bad\ufffd\n"
    assert base64.b64decode(task["path_b64"]) == name
    # A request takes the bytes, too.
    sent = operator.post("/v1/send", {"path_b64": task["path_b64"], "event": "IN_CLOSE_WRITE"})
    assert sent["schedulers"] == ["later"]
    text = operator.run("tasks")
    assert r"bad\udcff\x0a" in text, text


@pytest.mark.parametrize("state", [False, True])
def test_a_filter_takes_the_bytes_of_a_path(steer: Steer, box: Box, state: bool) -> None:
    _, operator = steer(TASKS, *(["--state", os.fspath(box.tmp / "state")] if state else []))
    for name in (b"/\xff", b"/\xfe"):
        path = os.fsencode(box.src) + name
        write(path)
        os.chmod(path, 0o600)
    operator.wait_scheduler("fail", failed=2)
    glob = os.fsencode(box.src) + b"/\xff*"
    coded = base64.b64encode(glob).decode()
    query = urllib.parse.urlencode({"path": "of no use beside its bytes", "path_b64": coded})

    def names(listed: dict[str, Any]) -> list[bytes]:
        return [base64.b64decode(task["path_b64"]) for task in listed["tasks"]]

    wanted = glob.removesuffix(b"*")
    assert names(operator.get(f"/v1/tasks?scheduler=later&{query}")) == [wanted]
    assert names(operator.get(f"/v1/failed?{query}")) == [wanted]
    # The command line takes the bytes as they are.
    given = os.fsdecode(glob)
    assert names(operator.json("tasks", "--scheduler", "later", "--path", given)) == [wanted]
    assert names(operator.json("failed", "--path", given)) == [wanted]
    assert len(operator.json("cancel", "--path", given)["done"]) == 2
    assert len(operator.json("forget", "--path", given)["done"]) == 1
    assert operator.get("/v1/failed")["total"] == 1
    lines = stream(operator, f"/v1/events?{query}")
    next(lines)
    for name in (b"/\xfe", b"/\xff"):
        write(os.fsencode(box.src) + name + b"2")
    assert base64.b64decode(json.loads(next(lines))["path_b64"]) == wanted + b"2"


# ---- changes


def test_a_waiting_task_is_run_now(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    write(box.tmp / "go")
    write(box.src / "a")
    [task] = operator.wait_tasks(1, "?scheduler=later")
    assert operator.post(f"/v1/tasks/{task['id'][:6]}/run") == {"done": [task["id"]]}
    operator.wait_scheduler("later", done=1, waiting=0)
    daemon.wait_log(rf"control - INFO - run task {task['id']}, asked by uid {os.geteuid()}, pid {os.getpid()}$")


def test_tasks_are_cancelled_by_id_filter_or_all(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    for name in ("one", "two", "three"):
        write(box.src / name)
    operator.wait_tasks(6)
    [one] = operator.tasks("?state=running&path=*/one")
    assert operator.post(f"/v1/tasks/{one['id']}/cancel") == {"done": [one["id"]]}
    operator.wait_scheduler("hold", running=2)
    assert len(operator.post("/v1/tasks/cancel", {"path": "*/src/t*", "scheduler": "later"})["done"]) == 2
    assert "no task matches" in operator.refused(404, "POST", "/v1/tasks/cancel", {"path": "/nowhere/*"})
    assert len(operator.post("/v1/tasks/cancel", {"all": True})["done"]) == 3
    operator.wait_tasks(0)
    assert operator.post("/v1/tasks/cancel", {"all": True}) == {"done": []}
    daemon.wait_log("ongoing task cancelled", count=3)
    for body in (None, {}, {"al": True}, {"all": True, "path": "*"}):
        operator.refused(400, "POST", "/v1/tasks/cancel", body)


def test_who_cancels_one_task_of_a_run_cancels_all_and_is_told_so(steer: Steer, box: Box) -> None:
    _, operator = steer("""
batch = ShellScheduler("sleep 1000", batch=Batch(quiet=0.01))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": batch})])
""")
    for how in ("id", "path", "words"):
        operator.post("/v1/schedulers/batch/pause")
        for name in ("a", "b", "c"):
            write(box.src / name)
        operator.wait_tasks(3, "?state=queued")
        # One that waits is cancelled alone.
        [alone] = operator.tasks(f"?path={box.src}/c")
        assert operator.post(f"/v1/tasks/{alone['id']}/cancel") == {"done": [alone["id"]]}
        ids = {task["id"] for task in operator.tasks()}
        [first] = operator.tasks(f"?path={box.src}/a")
        operator.post("/v1/schedulers/batch/resume")
        assert {task["id"] for task in operator.wait_tasks(2, "?state=running")} == ids
        if how == "id":
            done = operator.post(f"/v1/tasks/{first['id']}/cancel")["done"]
        elif how == "path":
            done = operator.post("/v1/tasks/cancel", {"path": f"{box.src}/b"})["done"]
        else:
            lines = operator.run("cancel", *ids).splitlines()
            assert all(line.endswith(" cancelled") for line in lines)
            done = [line.split()[0] for line in lines]
        assert sorted(done) == sorted(ids), how
        operator.wait_tasks(0)


def test_a_command_that_is_cancelled_is_ended_with_its_group(steer: Steer, box: Box) -> None:
    config = """
slow = ShellScheduler("sh -c 'trap : TERM; echo $$ >$TMP/pid; sleep 1000 & wait; wait' # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": slow})])
"""
    _, operator = steer(config)
    write(box.src / "a")
    wait_until(lambda: (box.tmp / "pid").exists() and (box.tmp / "pid").read_text(), "the command")
    pid = int((box.tmp / "pid").read_text())
    operator.post("/v1/tasks/cancel", {"scheduler": "slow"})
    wait_until(lambda: not alive(pid), "its end, by SIGKILL")
    operator.wait_tasks(0)


def test_a_command_that_is_cancelled_runs_until_all_of_its_group_has_ended(steer: Steer, box: Box) -> None:
    """The shell goes at once; what it started tidies up first, or never goes."""
    program = "trap 'echo tidied >>$TMP/log; exit' TERM; echo $$ >$TMP/pid; while :; do sleep 0.05; done"
    stubborn = "trap '' TERM; echo $$ >$TMP/pid; while :; do sleep 0.05; done"
    write(box.tmp / "program", box.text(f"case $1 in */deaf) {stubborn};; *) {program};; esac\n"))
    config = """
slow = ShellScheduler("sh $TMP/program {pathname} & wait", max_jobs=1)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": slow})])
"""
    daemon, operator = steer(config)
    for name in ("tidy", "deaf", "last"):
        (box.tmp / "pid").unlink(missing_ok=True)
        write(box.src / name)
        wait_until(lambda: (box.tmp / "pid").exists() and (box.tmp / "pid").read_text(), "the command")
        pid = int((box.tmp / "pid").read_text())
        operator.post("/v1/tasks/cancel", {"path": f"*/{name}"})
        daemon.wait_log(f"ongoing task cancelled, .*path={box.src}/{name},")
        assert not alive(pid), name
    assert (box.tmp / "log").read_text() == "tidied\ntidied\n"


def test_ids_are_taken_by_their_beginning_unless_it_is_short_ambiguous_or_unknown(steer: Steer, box: Box) -> None:
    _, operator = steer()
    for number in range(70):
        write(box.src / str(number))
    tasks = operator.wait_tasks(140)
    ids = [task["id"] for task in tasks]
    assert "4 characters" in operator.refused(400, "POST", f"/v1/tasks/{ids[0][:3]}/cancel")
    operator.refused(404, "POST", "/v1/tasks/00000000-0000-4000-8000-000000000000/cancel")
    operator.refused(400, "POST", "/v1/tasks/wxyz/cancel")
    # Of 65,536 beginnings of 4 characters two of some tasks are alike sooner or later.
    firsts = [one[:4] for one in ids]
    for beginning in {first for first in firsts if firsts.count(first) > 1}:
        operator.refused(400, "POST", f"/v1/tasks/{beginning}/cancel")


def test_a_paused_scheduler_starts_nothing_until_it_is_resumed(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    write(box.tmp / "go")
    assert operator.post("/v1/schedulers/hold/pause") == {"done": ["hold"]}
    daemon.wait_log(r"INFO - pause hold, asked by uid \d+, pid \d+$")
    write(box.src / "a")
    operator.wait_scheduler("hold", queued=1, running=0, paused=True)
    assert operator.scheduler("later")["paused"] is False
    # It survives a reload.
    operator.post("/v1/reload")
    operator.wait_scheduler("hold", queued=1, paused=True)
    # A pause that goes on is no news.
    assert daemon.count("stays paused") == 0
    assert operator.post("/v1/schedulers/hold/resume") == {"done": ["hold"]}
    operator.wait_scheduler("hold", queued=0, done=1, paused=False)
    everybody = ["hold", "fail", "later", "move"]
    assert sorted(operator.post("/v1/pause", {"all": True})["done"]) == sorted(everybody)
    assert all(one["paused"] for one in operator.get("/v1/status")["schedulers"])
    operator.post("/v1/resume")
    assert not any(one["paused"] for one in operator.get("/v1/status")["schedulers"])
    operator.refused(404, "POST", "/v1/schedulers/nobody/pause")


def test_what_a_new_watch_tells_at_once_waits_for_a_paused_scheduler(steer: Steer, box: Box) -> None:
    """Neither a reload nor a restart lets a task through before the pause stands."""
    config = """
once = ShellScheduler("echo ran >> $TMP/ran # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": once}), MORE], state="$TMP/state")
"""
    daemon, operator = steer(config.replace("MORE", ""))
    for number in range(20):
        write(box.dst / str(number))
    operator.post("/v1/schedulers/once/pause")
    more = config.replace("MORE", 'Watch("$DST", {"IN_CREATE": once}, initial="all")')
    box.write_config(more)
    operator.post("/v1/reload")
    operator.wait_scheduler("once", queued=20)
    daemon.terminate()
    for number in range(20):
        write(box.dst / f"more{number}")
    _, operator = steer(more)
    operator.wait_scheduler("once", queued=40, paused=True)
    assert not (box.tmp / "ran").exists()
    operator.post("/v1/resume")
    operator.wait_scheduler("once", done=40)


def test_what_a_paused_scheduler_is_to_run_is_said_to_be_queued(steer: Steer, box: Box) -> None:
    _, operator = steer()
    write(box.tmp / "go")
    operator.post("/v1/schedulers/later/pause")
    for name in ("one", "two"):
        write(box.src / name)
    one, two = (operator.wait_tasks(1, f"?scheduler=later&path=*/{name}")[0]["id"] for name in ("one", "two"))
    assert operator.post(f"/v1/tasks/{one}/run") == {"done": [one], "queued": [one]}
    assert operator.run("run", one[:8]) == f"{one} queued\n"
    assert operator.json("run", "--scheduler", "later", "--path", "*/two") == {"done": [two], "queued": [two]}
    assert {(task["state"], task["reason"]) for task in operator.tasks("?scheduler=later")} == {
        ("queued", "its scheduler is paused")
    }
    operator.post("/v1/resume")
    operator.wait_scheduler("later", done=2)
    os.chmod(box.src / "one", 0o600)
    operator.wait_scheduler("fail", failed=1)
    operator.post("/v1/schedulers/fail/pause")
    assert re.fullmatch(r"\S+ queued\n", operator.run("retry", "--all"))


@pytest.mark.parametrize("state", ["", ', state="$TMP/state"'])
def test_what_is_run_again_and_has_to_wait_for_a_place_is_said_to_be_queued(steer: Steer, box: Box, state: str) -> None:
    config = """
one = ShellScheduler("while [ -e $TMP/hold ]; do sleep 0.01; done; exit 3 # {pathname}", max_jobs=1)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": one})], shutdown_timeout=0%s)
"""
    _, operator = steer(config % state)
    for name in ("a", "b", "c"):
        write(box.src / name)
    operator.wait_scheduler("one", failed=3)
    write(box.tmp / "hold")
    write(box.src / "d")
    operator.wait_scheduler("one", running=1)
    first = operator.get("/v1/failed")["tasks"][0]["id"]
    assert operator.post(f"/v1/failed/{first}/retry") == {"done": [first], "queued": [first]}
    assert re.fullmatch(r"(\S+ queued\n){2}", operator.run("retry", "--scheduler", "one"))
    (box.tmp / "hold").unlink()
    operator.wait_scheduler("one", failed=4)
    write(box.tmp / "hold")
    # There is a place for one of them.
    assert re.fullmatch(r"\S+ runs again\n(\S+ queued\n){3}", operator.run("retry", "--all"))
    (box.tmp / "hold").unlink()


def test_failed_tasks_are_listed_run_again_and_forgotten(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    path = box.src / "a"
    drop(path)
    os.chmod(path, 0o600)
    operator.wait_scheduler("fail", failed=1)
    failed = operator.get("/v1/failed")
    assert failed["total"] == 1
    [task] = failed["tasks"]
    assert (task["scheduler"], task["path"], task["result"]) == ("fail", os.fspath(path), "failed")
    assert (task["error"], task["exit_status"], task["attempts"]) == ("exited with status 3", 3, 1)
    assert task["output"] == "why\n"
    assert task["ended"] >= task["started"]
    assert operator.get("/v1/failed?scheduler=later")["total"] == 0
    assert operator.get("/v1/failed?since=1h&path=*/a")["total"] == 1
    assert operator.post(f"/v1/failed/{task['id']}/retry") == {"done": [task["id"]]}
    operator.wait_scheduler("fail", failed=1)
    [again] = operator.get("/v1/failed")["tasks"]
    assert again["id"] == task["id"]
    assert operator.post("/v1/failed/forget", {"scheduler": "fail"}) == {"done": [task["id"]]}
    assert operator.get("/v1/failed")["tasks"] == []
    operator.refused(404, "POST", f"/v1/failed/{task['id']}/retry")
    operator.refused(404, "POST", "/v1/failed/retry", {"path": "*"})
    assert operator.post("/v1/failed/retry", {"all": True}) == {"done": []}
    daemon.wait_log("INFO - forget task " + task["id"])


@pytest.mark.parametrize("state", [False, True])
def test_the_status_counts_what_stands_as_failed_and_the_metrics_all_that_ever_failed(
    steer: Steer, box: Box, state: bool
) -> None:
    config = """
once = ShellScheduler("test -e $TMP/mended # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": once})])
"""
    arguments = ["--state", os.fspath(box.tmp / "state")] if state else []
    daemon, operator = steer(config, *arguments)

    def count() -> tuple[int, int, int, float]:
        listed, status = operator.get("/v1/failed")["total"], operator.get("/v1/status")
        ends = operator.metrics()['pyinotifyd_task_ends_total{scheduler="once",result="failed"}']
        return status["schedulers"][0]["failed"], status["totals"]["failed"], listed, ends

    for name in ("a", "b", "c"):
        write(box.src / name)
    operator.wait_scheduler("once", failed=3)
    assert count() == (3, 3, 3, 3)
    [of_a] = operator.get("/v1/failed?path=*/a")["tasks"]
    operator.post(f"/v1/failed/{of_a['id']}/forget")
    assert count() == (2, 2, 2, 3)
    [of_b] = operator.get("/v1/failed?path=*/b")["tasks"]
    operator.post(f"/v1/failed/{of_b['id']}/retry")
    daemon.wait_log("task failed", count=4)
    assert count() == (2, 2, 2, 4)
    if state:
        # Those of an earlier daemon count, too.
        daemon.terminate()
        daemon, operator = steer(config, *arguments)
        assert count() == (2, 2, 2, 0)
    write(box.tmp / "mended")
    operator.post("/v1/failed/retry", {"all": True})
    operator.wait_scheduler("once", done=2)
    assert count()[:3] == (0, 0, 0)


@pytest.mark.parametrize("state", [False, True])
def test_a_task_that_is_tried_again_says_why(steer: Steer, box: Box, state: bool) -> None:
    config = """
once = ShellScheduler("exit 7 # {pathname}", retry=Retry(times=3, delay=3600, max_delay=3600))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": once})])
"""
    arguments = ["--state", os.fspath(box.tmp / "state")] if state else []
    daemon, operator = steer(config, *arguments)
    write(box.src / "a")
    [task] = operator.wait_tasks(1, "?state=retrying")
    assert (task["attempt"], task["reason"]) == (2, "exited with status 7")
    assert "exited with status 7" in operator.run("tasks")
    assert operator.json("tasks")["tasks"][0]["reason"] == "exited with status 7"
    if state:
        daemon.terminate()
        daemon, operator = steer(config, *arguments)
        [again] = operator.wait_tasks(1, "?state=retrying")
        assert [again[key] for key in ("id", "attempt", "reason")] == [task["id"], 2, "exited with status 7"]
    operator.post(f"/v1/tasks/{task['id']}/run")
    daemon.wait_log("attempt 2 failed")
    [task] = operator.wait_tasks(1, "?state=retrying")
    assert (task["attempt"], task["reason"]) == (3, "exited with status 7")


def test_an_event_is_sent_and_says_whom_it_reached(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    path = box.src / "sub"
    path.mkdir()
    drop(path / "x.mv")
    operator.post("/v1/sync")
    assert operator.post("/v1/send", {"path": os.fspath(path / "x.mv"), "event": "IN_MOVED_TO"})["schedulers"] == [
        "move"
    ]
    wait_until(lambda: (box.dst / "sub" / "x.mv").exists() or operator.scheduler("move")["failed"], "the move")
    drop(path / "y")
    assert operator.post("/v1/send", {"path": os.fspath(path / "y")})["schedulers"] == ["later"]
    assert len(operator.tasks("?path=*/y&scheduler=later")) == 1
    daemon.wait_log(rf"INFO - send IN_CLOSE_WRITE for '{path}/y' to later, asked by uid \d+")
    # Nobody wants it, nobody watches it, nothing is there, no such event.
    operator.refused(409, "POST", "/v1/send", {"path": os.fspath(path / "y"), "event": "IN_OPEN"})
    operator.refused(404, "POST", "/v1/send", {"path": "/"})
    operator.refused(404, "POST", "/v1/send", {"path": os.fspath(box.src / "nothing")})
    operator.refused(400, "POST", "/v1/send", {"path": os.fspath(path / "y"), "event": "IN_CLOSE"})
    operator.refused(400, "POST", "/v1/send", {"path": "relative"})


def test_a_rescan_tells_everything_below_as_arrivals(steer: Steer, box: Box) -> None:
    (box.src / "sub").mkdir()
    for name in ("a", "sub/b"):
        write(box.src / name)
    _, operator = steer()
    assert operator.post("/v1/rescan") == {"done": [os.fspath(box.src)]}
    operator.post("/v1/sync")
    assert {task["path"] for task in operator.tasks("?scheduler=later")} == {f"{box.src}/a", f"{box.src}/sub/b"}
    operator.post("/v1/tasks/cancel", {"all": True})
    operator.wait_tasks(0)
    assert operator.post("/v1/rescan", {"paths": [f"{box.src}/sub"]}) == {"done": [f"{box.src}/sub"]}
    operator.post("/v1/sync")
    assert {task["path"] for task in operator.tasks("?scheduler=later")} == {f"{box.src}/sub/b"}
    operator.refused(404, "POST", "/v1/rescan", {"paths": ["/nowhere"]})
    assert "name paths" in operator.refused(400, "POST", "/v1/rescan", {"paths": []})


def test_a_rescan_of_a_path_that_no_watch_sees_does_nothing_for_the_others(steer: Steer, box: Box) -> None:
    write(box.src / "a")
    daemon, operator = steer()
    for unseen in ("/nowhere", f"{box.src}/nothing"):
        paths = [os.fspath(box.src), unseen]
        assert operator.refused(404, "POST", "/v1/rescan", {"paths": paths}) == (
            f"no watch sees '{unseen}'; nothing was done"
        )
    operator.post("/v1/sync")
    operator.wait_tasks(0)
    assert daemon.count("rescan") == 0


def test_a_sync_returns_when_all_that_was_done_before_has_its_tasks(steer: Steer, box: Box) -> None:
    _, operator = steer()
    for batch in range(20):
        for number in range(50):
            write(box.src / f"{batch}-{number}")
        operator.post("/v1/sync")
        assert operator.get("/v1/tasks?scheduler=hold&path=*-*&limit=0")["total"] == 50 * (batch + 1)
        # A new tree, too.
        deep = box.src / f"tree{batch}" / "a" / "b"
        deep.mkdir(parents=True)
        write(deep / "f")
        operator.post("/v1/sync")
        assert len(operator.tasks(f"?scheduler=hold&path=*tree{batch}/a/b/f")) == 1
        operator.post("/v1/tasks/cancel", {"path": "*tree*"})


def test_a_sync_can_wait_until_nothing_is_left_to_do_or_give_up(steer: Steer, box: Box) -> None:
    _, operator = steer()
    write(box.src / "a")
    operator.wait_scheduler("hold", running=1)
    said = operator.refused(503, "POST", "/v1/sync", {"idle": True, "timeout": 0.1})
    assert said == "not idle within 0.1 s: 1 tasks wait, 0 are queued, 1 run"
    operator.post("/v1/tasks/cancel", {"scheduler": "later"})
    done = threading.Event()

    def wait() -> None:
        operator.post("/v1/sync", {"idle": True})
        done.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not done.wait(0.1)
    write(box.tmp / "go")
    waiting.join(DEADLINE_S)
    assert done.is_set()


def test_a_reload_says_what_changed_or_what_is_wrong(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    answer = operator.post("/v1/reload")
    assert answer == {
        "done": [os.fspath(box.config)],
        "changed": "1 watch(es), 4 scheduler(s); no watch and no scheduler changed",
        "warnings": warnings(box),
    }
    box.write_config(TASKS.replace("exit 3", "exit 4").replace("later", "some_time"))
    changed = operator.post("/v1/reload")["changed"]
    assert changed.startswith("1 watch(es), 4 scheduler(s); ")
    assert changed.endswith("scheduler some_time added, scheduler later removed, scheduler fail changed")
    box.write_config(TASKS)
    operator.post("/v1/reload")
    for changed, config in [
        ("scheduler later changed", TASKS.replace("delay=3600", "delay=3600, retry=Retry(2)")),
        ("scheduler later changed", TASKS.replace("delay=3600", "delay=3600, retry=Retry(2, delay=9)")),
        ("setting shutdown_timeout changed", TASKS.replace("timeout=0", "timeout=1")),
        ("watch '$SRC' changed", TASKS.replace("Cancel(later)", "Cancel(hold)")),
        ("no watch and no scheduler changed", "\n" + TASKS),
    ]:
        box.write_config("\n" + config)
        said = operator.post("/v1/reload")["changed"]
        assert changed.replace("$SRC", os.fspath(box.src)) in said, (changed, said)
        box.write_config(TASKS)
        operator.post("/v1/reload")
    box.write_config(TASKS + "\nnonsense")
    said = operator.refused(409, "POST", "/v1/reload")
    line = len((TASKS + "\nnonsense").splitlines())
    assert f"{box.config}:{line}" in said, said
    assert "nonsense" in said
    assert operator.scheduler("later")["kind"] == "job"
    daemon.wait_log(r"INFO - reload config file, asked by uid \d+", count=14)
    metrics = operator.metrics()
    assert metrics['pyinotifyd_config_reloads_total{result="ok"}'] == 13
    assert metrics['pyinotifyd_config_reloads_total{result="failed"}'] == 1


def test_a_reload_names_no_setting_that_the_command_line_decides(steer: Steer, box: Box) -> None:
    _, operator = steer(TASKS, "--state", os.fspath(box.tmp / "state"))
    others = TASKS.replace("timeout=0", 'timeout=0, state="$TMP/other", control="$TMP/other.sock"')
    for config, changed in (
        (others, "no watch and no scheduler changed"),
        (TASKS, "no watch and no scheduler changed"),
        (others.replace("timeout=0", "timeout=1"), "setting shutdown_timeout changed"),
    ):
        box.write_config(config)
        assert operator.post("/v1/reload")["changed"] == f"1 watch(es), 4 scheduler(s); {changed}"
    assert operator.get("/v1/status")["state"]["path"] == f"{box.tmp}/state"


@pytest.mark.parametrize("state", [False, True])
def test_a_reload_says_what_a_scheduler_that_is_gone_leaves_undone(steer: Steer, box: Box, state: bool) -> None:
    config = """
NAME = ShellScheduler("true # {pathname}", delay=3600)
kind = ShellScheduler("true # {pathname}", delay=3600)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": NAME, "IN_ATTRIB": kind})])
"""
    arguments = ["--state", os.fspath(box.tmp / "state")] if state else []
    daemon, operator = steer(config.replace("NAME", "old"), *arguments)
    operator.post("/v1/schedulers/old/pause")
    for name in ("a", "b"):
        write(box.src / name)
    os.chmod(box.src / "a", 0o600)
    operator.wait_tasks(3)
    box.write_config(config.replace("NAME", "new"))
    said = operator.post("/v1/reload")["changed"]
    fate = "fail" if state else "are not done"
    lost = f"the config has no scheduler old: 2 task(s) that waited {fate}, its pause stays with that name"
    assert said.endswith(f", scheduler new added, scheduler old removed; {lost}"), said
    daemon.wait_log(f"INFO - what the reload changed: .*; {re.escape(lost)}$")
    daemon.wait_log("the config has no scheduler old, mask" if state else "not done: its scheduler is paused", count=2)
    if state:
        # Prometheus sees them, whenever it looks.
        failed = 'pyinotifyd_task_ends_total{scheduler="old",result="failed"} 2'
        assert failed in operator.run("metrics").splitlines()
        write(box.src / "c")
        operator.wait_scheduler("new", waiting=1)
        assert failed in operator.run("metrics").splitlines()
    # Of another kind it has the pause, and not the tasks.
    operator.post("/v1/schedulers/kind/pause")
    job = "async def work(event, task_id):\n    pass\nkind = TaskScheduler(work)\n"
    box.write_config(re.sub("kind = .*\n", job, config.replace("NAME", "new")))
    said = operator.post("/v1/reload")["changed"]
    assert said.endswith(f"; kind is another scheduler now: 1 task(s) that waited {fate}"), said
    assert operator.scheduler("kind")["paused"]


@pytest.mark.parametrize(("timeout", "count"), [(30, 1), (0, 2)])
def test_a_reload_says_that_no_retry_outlives_a_scheduler_and_nothing_without_time(
    steer: Steer, box: Box, timeout: int, count: int
) -> None:
    config = f"""
NAME = ShellScheduler("false # {{pathname}}", delay=0.1, retry=Retry(times=1, delay=600))
late = ShellScheduler("true # {{pathname}}", delay=3600, name="NAME-late")
events = {{"IN_CREATE": NAME, "IN_ATTRIB": late}}
pyinotifyd = Pyinotifyd([Watch("$SRC", events)], shutdown_timeout={timeout}, state=False)
"""
    _, operator = steer(config.replace("NAME", "old"))
    write(box.src / "a")
    os.chmod(box.src / "a", 0o600)
    wait_until(lambda: [task["state"] for task in operator.tasks()].count("retrying") == 1, "a retry")
    operator.wait_tasks(2)
    box.write_config(config.replace("NAME", "new"))
    said = operator.post("/v1/reload")["changed"]
    assert said.count("1 task(s) that waited are not done") == count, said


def test_the_status_says_what_a_reload_refused_until_one_works(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    assert "refused" not in operator.get("/v1/status")
    assert operator.metrics()["pyinotifyd_config_last_reload_successful"] == 1
    box.write_config(TASKS + "\nnonsense\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("unable to reload config file")
    status = operator.get("/v1/status")
    refused, line = status["refused"], len((TASKS + "\nnonsense").splitlines())
    assert refused["files"] == [{"path": os.fspath(box.config)}]
    assert f"{box.config}:{line}: " in refused["error"]
    assert "nonsense" in refused["error"]
    assert refused["refused"] >= status["config"][0]["loaded"]
    assert status["ready"]
    shown = operator.run("status")
    assert re.search(rf"the reload \S+ ago was refused: {box.config}:{line}: .*nonsense", shown), shown
    assert operator.metrics()["pyinotifyd_config_last_reload_successful"] == 0
    # A refusal of a whole configuration names no single file.
    box.write_config(TASKS.replace("shutdown_timeout=0", 'state="$TMP/other"'))
    operator.refused(409, "POST", "/v1/reload")
    assert "state" in operator.get("/v1/status")["refused"]["error"]
    assert f"was refused, {box.config}: a reload cannot change" in operator.run("status")
    # Python itself says the file's name, too.
    box.write_config("x = (\n")
    operator.refused(409, "POST", "/v1/reload")
    [shown] = [line for line in operator.run("status").splitlines() if "was refused" in line]
    assert shown.count(box.config.name) == 1, shown
    box.write_config(TASKS)
    operator.post("/v1/reload")
    assert "refused" not in operator.get("/v1/status")
    assert "refused" not in operator.run("status")
    assert operator.metrics()["pyinotifyd_config_last_reload_successful"] == 1


def test_watches_of_one_path_are_told_apart_by_a_reload(steer: Steer, box: Box) -> None:
    _, operator = steer()
    twice = TASKS + 'pyinotifyd.add_watch("$SRC", {"IN_OPEN": fail})\n'
    for changed, config in [
        (f"watch '{box.src}' added", twice),
        ("no watch and no scheduler changed", twice),
        (f"watch '{box.src}' changed", twice.replace("IN_OPEN", "IN_ACCESS")),
        (f"watch '{box.src}' removed", TASKS),
    ]:
        box.write_config(config)
        said = operator.post("/v1/reload")["changed"]
        assert said.endswith(f"4 scheduler(s); {changed}"), (changed, said)


def warnings(box: Box) -> list[str]:
    """What a config test warns of."""
    tested = box.call("-t", "-c", box.config)
    assert tested.exit_code == 0, tested.log
    found = [line.removeprefix("WARNING: ") for line in tested.lines if line.startswith("WARNING: ")]
    assert found
    return found


def test_a_reload_says_what_a_config_test_warns_of(steer: Steer, box: Box) -> None:
    _, operator = steer()
    unwise = 'Cancel(later), "IN_OPEN": ShellScheduler("true", user="no-such-user")'
    box.write_config(TASKS.replace("Cancel(later)", unwise))
    said = operator.json("reload")["warnings"]
    assert said == warnings(box)
    assert any("no such user: 'no-such-user'" in warning for warning in said)
    text = operator.run("reload").splitlines()
    assert text[1:] == [f"warning: {warning}" for warning in said]


def test_what_needs_a_state_says_so(steer: Steer, box: Box) -> None:
    _, operator = steer()
    assert "state" in operator.refused(409, "GET", "/v1/history")
    operator.run("history", status=1)


@pytest.mark.parametrize("state", ["", ', state="$TMP/state"'])
def test_a_retry_of_all_that_can_run_none_says_why(steer: Steer, box: Box, state: str) -> None:
    config = """
NAME = ShellScheduler("exit 3 # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": NAME})]%s)
"""
    daemon, operator = steer(config.replace("NAME", "old") % state)
    write(box.src / "a")
    operator.wait_scheduler("old", failed=1)
    wait_until(lambda: operator.get("/v1/failed")["total"] == 1)
    box.write_config(config.replace("NAME", "new") % state)
    daemon.reload()
    for words in (("--all",), ("--scheduler", "old")):
        assert "the config has no scheduler old" in operator.run("retry", *words, status=1)
    assert operator.get("/v1/failed")["total"] == 1


@pytest.mark.parametrize("state", ["", ', state="$TMP/state"'])
def test_what_failed_of_a_scheduler_that_is_gone_is_counted_and_stays(steer: Steer, box: Box, state: str) -> None:
    config = """
NAME = ShellScheduler("exit 3 # {pathname}")
here = ShellScheduler("exit 3 # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": [NAME, here]})]%s)
"""
    daemon, operator = steer(config.replace("NAME", "gone") % state)
    write(box.src / "a")
    for name in ("gone", "here"):
        operator.wait_scheduler(name, failed=1)
    assert "not in the configuration" not in operator.run("status")
    box.write_config(config.replace("NAME", "new") % state)
    operator.post("/v1/reload")
    wait_until(lambda: "failed, of schedulers not in the configuration: 1\n" in operator.run("status"))
    [task] = operator.get("/v1/failed?scheduler=here")["tasks"]
    why = "the config has no scheduler gone"
    assert operator.post("/v1/failed/retry", {"all": True}) == {
        "done": [task["id"]],
        "left": [{"count": 1, "error": why}],
    }
    daemon.wait_log("task failed", count=3)
    assert operator.run("retry", "--all") == f"{task['id']} runs again\n1 left: {why}\n"


def test_a_task_that_is_named_twice_is_run_again_once(steer: Steer, box: Box) -> None:
    _, operator = steer("""
one = ShellScheduler("while [ -e $TMP/hold ]; do sleep 0.01; done; exit 3 # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": one})], shutdown_timeout=0)
""")
    write(box.src / "a")
    operator.wait_scheduler("one", failed=1)
    [task] = operator.get("/v1/failed")["tasks"]
    names = (task["id"][:8], task["id"], task["id"][:4])
    write(box.tmp / "hold")
    assert operator.run("retry", *names) == f"{task['id']} runs again\n"
    assert operator.run("cancel", *names) == f"{task['id']} cancelled\n"


def test_with_a_state_what_ended_is_listed_run_again_and_forgotten(steer: Steer, box: Box) -> None:
    write(box.tmp / "go")
    state = os.fspath(box.tmp / "state")
    daemon, operator = steer(TASKS, "--state", state)
    path = box.src / "a"
    write(path)
    os.chmod(path, 0o600)
    operator.wait_scheduler("later", waiting=1)
    operator.post("/v1/tasks/cancel", {"scheduler": "later"})
    operator.wait_scheduler("fail", failed=1)
    # What ended just before is there.
    [failed] = operator.get("/v1/failed")["tasks"]
    assert (failed["error"], failed["exit_status"], failed["output"]) == ("exited with status 3", 3, "why\n")
    operator.wait_scheduler("hold", done=1)
    history = operator.get("/v1/history")
    ends = {(task["scheduler"], task["result"]) for task in history["tasks"]}
    assert ends == {("fail", "failed"), ("hold", "ok"), ("later", "cancelled")}
    assert operator.get("/v1/history?state=ok&since=1h&limit=1")["total"] == 1
    assert operator.get("/v1/history?scheduler=move")["tasks"] == []
    assert operator.get("/v1/failed?path=*/b")["total"] == 0
    assert operator.get("/v1/status")["state"]["path"] == state
    assert operator.json("history", "--state", "failed", "--since", "10m")["total"] == 1
    assert "exited with status 3" in operator.run("failed")
    # Another life of the daemon knows them, and who is paused.
    operator.post("/v1/schedulers/hold/pause")
    daemon.terminate()
    daemon, operator = steer(TASKS, "--state", state)
    assert operator.scheduler("hold")["paused"]
    assert operator.get("/v1/failed")["tasks"] == [failed]
    assert operator.post(f"/v1/failed/{failed['id'][:8]}/retry") == {"done": [failed["id"]]}
    operator.wait_scheduler("fail", failed=1)
    [again] = operator.get("/v1/failed")["tasks"]
    assert (again["id"], again["attempts"]) == (failed["id"], 1)
    assert operator.post("/v1/failed/forget", {"path": f"{box.src}/*"}) == {"done": [failed["id"]]}
    assert operator.get("/v1/failed") == {"tasks": [], "total": 0}
    assert operator.post("/v1/failed/retry", {"all": True}) == {"done": []}
    operator.refused(404, "POST", f"/v1/failed/{failed['id']}/retry")
    operator.refused(404, "POST", "/v1/failed/forget", {"scheduler": "fail"})
    metrics = operator.metrics()
    assert metrics["pyinotifyd_state_degraded"] == 0
    assert operator.get("/v1/status")["state"]["degraded"] is None
    assert metrics["pyinotifyd_state_commit_seconds_count"] > 0


def test_what_a_rule_did_is_undone_unless_that_would_lose_something(steer: Steer, box: Box) -> None:
    daemon, operator = steer(TASKS, "--state", os.fspath(box.tmp / "state"))
    write(box.tmp / "go")
    for name in ("a.mv", "b.mv"):
        drop(box.src / name)
    operator.wait_scheduler("move", done=2)
    tasks = operator.get("/v1/history?scheduler=move")["tasks"]
    ids = {os.path.basename(task["path"]): task["id"] for task in tasks}
    operator.post("/v1/schedulers/move/pause")
    assert operator.run("undo", ids["a.mv"][:8]) == f"{ids['a.mv']} undone\n"
    assert (box.src / "a.mv").exists()
    assert not (box.dst / "a.mv").exists()
    daemon.wait_log(f"INFO - undo task {ids['a.mv']}, asked by uid")
    # The history says so, and the next undo of it.
    marks = {task["id"]: "undone" in task for task in operator.get("/v1/history?scheduler=move")["tasks"]}
    assert marks == {ids["a.mv"]: True, ids["b.mv"]: False}
    assert [line.split()[3:5] for line in operator.run("history", "--path", "*/a.mv").splitlines()[1:]] == [
        ["ok,", "undone"]
    ]
    why = f"cannot undo task {ids['a.mv']}: it was undone already"
    assert operator.refused(409, "POST", f"/v1/history/{ids['a.mv']}/undo") == why
    assert operator.run("undo", ids["a.mv"], status=1) == f"pyinotifyd: {why}\n"
    write(box.src / "b.mv")
    assert "cannot undo" in operator.run("undo", ids["b.mv"], status=1)
    assert (box.dst / "b.mv").exists()
    operator.run("undo", "00000000", status=1)
    operator.run("undo", "abc", status=2)


@pytest.mark.parametrize(
    ("change", "why"),
    [("replace", "is something else by now"), ("append", "was changed meanwhile"), ("remove", "is not there any more")],
)
def test_an_undo_leaves_alone_what_somebody_put_where_a_copy_was(steer: Steer, box: Box, change: str, why: str) -> None:
    _, operator = steer(
        """
rule = FileManagerRule("copy", r"$SRC/(.*)", r"$DST/\\1", on_conflict="overwrite", trash="$TMP/trash")
copies = FileManagerScheduler(rule)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": copies})], history=10)
""",
        "--state",
        os.fspath(box.tmp / "state"),
    )
    (box.dst / "f").write_text("old")
    write(box.src / "f", "copied")
    operator.wait_scheduler("copies", done=1)
    (task,) = operator.get("/v1/history")["tasks"]
    if change == "replace":
        (box.dst / "new").write_text("precious")
        (box.dst / "new").rename(box.dst / "f")
    elif change == "append":
        with (box.dst / "f").open("a") as file:
            file.write(" and edited")
    else:
        (box.dst / "f").unlink()
    there = {path.name: path.read_bytes() for path in box.dst.iterdir()}
    refused = operator.refused(409, "POST", f"/v1/history/{task['id']}/undo")
    assert refused == f"cannot undo task {task['id']}: '{box.dst}/f' {why}"
    assert {path.name: path.read_bytes() for path in box.dst.iterdir()} == there
    (kept,) = [path for path in (box.tmp / "trash").rglob("*") if path.is_file()]
    assert kept.read_text() == "old"


def test_an_undo_names_the_later_task_that_removed_its_directory(steer: Steer, box: Box) -> None:
    _, operator = steer(
        """
move = FileManagerScheduler([
    FileManagerRule("move", r"^$SRC/plain/(.*)$", r"$DST/\\1"),
    FileManagerRule("move", r"^$SRC/.*/(.*)$", r"$DST/\\1", prune=True),
])
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_ATTRIB": move}, rec=True, auto_add=True)])
""",
        "--state",
        os.fspath(box.tmp / "state"),
    )

    def move(path: Path) -> str:
        """Let the rule act on a file; return the task's id."""
        operator.post("/v1/sync", {})
        operator.post("/v1/send", {"path": os.fspath(path), "event": "IN_ATTRIB"})

        def ended() -> list[dict[str, Any]]:
            tasks: list[dict[str, Any]] = operator.get(f"/v1/history?path=*/{path.name}")["tasks"]
            return tasks

        task: str = wait_until(ended, "the end of a task")[0]["id"]
        return task

    directory = box.src / "[a]*"
    directory.mkdir()
    write(directory / "one")
    write(directory / "two")
    ids = {name: move(directory / name) for name in ("one", "two")}
    assert sorted(os.listdir(box.dst)) == ["one", "two"]
    assert not directory.exists()
    operator.post("/v1/schedulers/move/pause")
    gone = f"cannot undo task {ids['one']}: directory '{directory}' does not exist; "
    later = f"the undo of the later task {ids['two']} brings it back: undo that one first"
    assert operator.run("undo", ids["one"], status=1) == f"pyinotifyd: {gone}{later}\n"
    operator.run("undo", ids["two"])
    operator.run("undo", ids["one"])
    assert sorted(os.listdir(directory)) == ["one", "two"]
    # Of one that nobody pruned there is nobody to name.
    (box.src / "plain").mkdir()
    write(box.src / "plain/three")
    operator.post("/v1/schedulers/move/resume")
    ids["three"] = move(box.src / "plain/three")
    (box.src / "plain").rmdir()
    why = operator.refused(409, "POST", f"/v1/history/{ids['three']}/undo")
    assert why.endswith(f"directory '{box.src}/plain' does not exist; make or mount it, then undo again")


@pytest.mark.parametrize("retry", ["", ", retry=Retry(times=1, delay=0.5)"])
@pytest.mark.parametrize("state", [True, False])
def test_a_rule_that_was_done_when_its_time_was_over_is_known_to_be(
    steer: Steer, box: Box, retry: str, state: bool
) -> None:
    """The last of it, the modes of many files, is not left half done."""
    if not (retry or state):
        return
    rule = 'FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1", filemode=0o640)'
    daemon, operator = steer(
        f"""
move = FileManagerScheduler([{rule}], dirs=True, timeout=0.03{retry})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": move}})])
""",
        *(("--state", os.fspath(box.tmp / "state")) if state else ()),
    )
    made = box.tmp / "tree"
    made.mkdir()
    count = 20_000
    for number in range(count):
        os.close(os.open(made / str(number), os.O_CREAT, 0o600))
    made.rename(box.src / "tree")
    if retry:
        daemon.wait_log("attempt 1 failed: timeout after 0.03 s; tried again")
        daemon.wait_log("INFO - task finished")
    else:
        daemon.wait_log("task failed: timeout after 0.03 s")
        daemon.wait_log("INFO - move '")
    operator.post("/v1/sync", {"idle": True})
    modes = {entry.stat().st_mode & 0o777 for entry in os.scandir(box.dst / "tree")}
    assert (len(os.listdir(box.dst / "tree")), modes) == (count, {0o640})
    if state:
        [task] = wait_until(lambda: operator.get("/v1/history?path=*/tree")["tasks"], "the end of the task")
        assert task["result"] == ("ok" if retry else "failed")
        if not retry:
            operator.run("retry", task["id"])
            daemon.wait_log("INFO - task finished")
            assert not operator.get("/v1/failed")["tasks"]
        operator.post("/v1/schedulers/move/pause")
        operator.run("undo", task["id"])
        assert (len(os.listdir(box.src / "tree")), os.listdir(box.dst)) == (count, [])


# ---- streams


def stream(operator: Operator, target: str, **headers: str) -> Iterator[bytes]:
    connection = Connection(operator.path)
    connection.request("GET", target, headers=headers)
    response = connection.getresponse()
    assert response.status == 200
    yield response.headers["Content-Type"].encode()
    while line := response.readline():
        yield line


def test_events_and_tasks_are_told_as_they_come(steer: Steer, box: Box) -> None:
    _, operator = steer()
    lines = stream(operator, f"/v1/events?tasks=true&path={box.src}/a*")
    assert next(lines) == b"application/x-ndjson"
    write(box.src / "b")
    write(box.src / "a")
    first, second, third = (json.loads(next(lines)) for _ in range(3))
    assert (first["event"], first["path"], first["dir"], first["synthetic"]) == (
        "IN_CREATE",
        f"{box.src}/a",
        False,
        False,
    )
    assert (second["what"], second["scheduler"], second["path"]) == ("started", "hold", f"{box.src}/a")
    assert third["event"] == "IN_CLOSE_WRITE"
    events = stream(operator, "/v1/events", Accept="text/event-stream")
    assert next(events) == b"text/event-stream"
    write(box.src / "c")
    assert next(events).startswith(b"data: {")


# ---- subcommands


def test_the_stream_tells_of_tasks_that_settle_or_are_held_back(steer: Steer, box: Box) -> None:
    _, operator = steer("""
settles = ShellScheduler("true # {pathname}", settle=Settle(marker="{dirname}/done", check=0.01))
held = ShellScheduler("while [ -e $TMP/hold ]; do sleep 0.01; done # {pathname}", max_jobs=1)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": settles}), Watch("$DST", {"IN_CREATE": held})],
                        shutdown_timeout=0)
""")
    connection = Connection(operator.path)
    connection.request("GET", "/v1/events?tasks=true")
    stream = connection.getresponse()

    def fates(of: str, last: str) -> list[tuple[str, str | None]]:
        """What becomes of the task of that path, up to there."""
        told: list[tuple[str, str | None]] = []
        while not told or told[-1][0] != last:
            line = json.loads(stream.readline())
            if "task" in line and line["path"].endswith(of):
                told.append((line["what"], line.get("reason")))
        return told

    write(box.src / "a")
    [settling] = fates("/src/a", "settling")
    assert settling == ("settling", operator.wait_tasks(1)[0]["reason"])
    write(box.src / "done")
    # However often it was looked at, one line says so.
    assert fates("/src/a", "finished") == [("started", None), ("finished", None)]
    write(box.tmp / "hold")
    write(box.dst / "running")
    fates("/dst/running", "started")
    write(box.dst / "held")
    assert fates("/dst/held", "queued")[-1] == ("queued", None)
    (box.tmp / "hold").unlink()
    fates("/dst/held", "finished")
    operator.post("/v1/schedulers/held/pause")
    write(box.dst / "paused")
    assert fates("/dst/paused", "queued")[-1] == ("queued", "its scheduler is paused")
    operator.post("/v1/schedulers/held/resume")
    assert fates("/dst/paused", "finished") == [("started", None), ("finished", None)]
    connection.close()


def test_a_run_that_finds_nothing_changed_is_no_end_anywhere(box: Box, run: Run) -> None:
    daemon = run("""
move = FileManagerScheduler(FileManagerRule(action="move", src_re="^$SRC/(.*)$", dst_re=r"$DST/\\1"))
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": move})], state="$TMP/state",
                        control="$TMP/control.sock")
""")
    operator = Operator(box.tmp / "control.sock")
    lines = stream(operator, "/v1/events?tasks=true")
    next(lines)
    daemon.signal(signal.SIGSTOP)
    write(box.src / "f", "first")
    (box.src / "f").rename(box.tmp / "kept")
    write(box.src / "f", "second")
    daemon.signal(signal.SIGCONT)
    daemon.wait_log("nothing changed meanwhile")
    assert [one["result"] for one in operator.get("/v1/history")["tasks"]] == ["ok"]
    assert operator.scheduler("move")["done"] == 1
    metrics = operator.metrics()
    assert metrics['pyinotifyd_task_ends_total{scheduler="move",result="ok"}'] == 1
    assert metrics['pyinotifyd_task_attempts_total{scheduler="move"}'] == 1
    assert metrics['pyinotifyd_task_duration_seconds_count{scheduler="move"}'] == 1
    assert metrics['pyinotifyd_task_delay_seconds_count{scheduler="move"}'] == 1
    told = (json.loads(line) for line in lines)
    what = [
        line["what"]
        for line in itertools.takewhile(lambda line: line.get("what") != "unchanged", told)
        if "what" in line
    ]
    assert (what.count("started"), what.count("finished")) == (2, 1)


def test_the_stream_tells_of_a_batch_as_of_the_one_task_that_has_its_run(steer: Steer, box: Box) -> None:
    _, operator = steer("""
batch = ShellScheduler("true", batch=Batch(quiet=0.01))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": batch})])
""")
    lines = stream(operator, "/v1/events?tasks=true")
    assert next(lines) == b"application/x-ndjson"
    operator.post("/v1/schedulers/batch/pause")
    for name in ("a", "b"):
        write(box.src / name)
    operator.wait_scheduler("batch", queued=2)
    operator.post("/v1/schedulers/batch/resume")
    told = (line for line in map(json.loads, lines) if "task" in line)
    first, second = next(told), next(told)
    # No other id is told, which nothing would ever say the end of.
    assert (first["what"], second["what"]) == ("started", "finished")
    assert first["task"] == second["task"]


def test_a_stream_tells_what_becomes_of_the_last_tasks_and_ends_with_the_daemon(steer: Steer, box: Box) -> None:
    daemon, operator = steer("""
works = ShellScheduler("while ! [ -e $TMP/go ]; do sleep 0.01; done # {pathname}")
deaf = ShellScheduler("trap '' TERM; while :; do sleep 0.01; done # {pathname}")
later = ShellScheduler("true # {pathname}", delay=3600)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": works, "IN_CLOSE_WRITE": [deaf, later]})], shutdown_timeout=3600)
""")
    # Has no reader that reads.
    idle = Connection(operator.path)
    idle.request("GET", "/v1/events?tasks=true")
    lines = stream(operator, "/v1/events?tasks=true")
    assert next(lines) == b"application/x-ndjson"
    told = ((line["scheduler"], line["what"]) for line in map(json.loads, lines) if "task" in line)
    write(box.src / "a")
    assert {next(told) for _ in range(3)} == {("works", "started"), ("deaf", "started"), ("later", "scheduled")}
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("got signal SIGTERM, shutdown")
    write(box.tmp / "go")
    assert next(told) == ("works", "finished")
    for _ in range(2):
        daemon.signal(signal.SIGINT)
        daemon.wait_log("got signal SIGINT")
    # The last line is followed by a proper end, or this would be an error.
    assert sorted(told) == [("deaf", "cancelled"), ("later", "cancelled")]
    assert daemon.wait_exit() == 0
    idle.close()


def test_a_stream_tells_the_end_of_each_task_that_is_not_done_or_how_many_it_left_out(steer: Steer, box: Box) -> None:
    count = 3_000
    daemon, operator = steer("""
later = ShellScheduler("true # {pathname}", delay=3600)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": later})], shutdown_timeout=0)
""")
    for number in range(count):
        (box.src / f"{number:04}").touch()
    operator.wait_scheduler("later", waiting=count)
    lines = stream(operator, "/v1/events?tasks=true")
    assert next(lines) == b"application/x-ndjson"
    daemon.signal(signal.SIGTERM)
    told = [json.loads(line) for line in lines]
    cancelled = [line["path"] for line in told if line.get("what") == "cancelled"]
    dropped = [line["dropped"] for line in told if "dropped" in line]
    assert len(cancelled) == len(set(cancelled))
    assert len(cancelled) + sum(dropped) == count
    assert len(cancelled) + len(dropped) == len(told)
    assert daemon.wait_exit() == 0
    assert daemon.count("not done: shutdown timeout exceeded") == 999
    assert daemon.count(f"daemon - WARNING - {count - 999} more task\\(s\\) were not done") == 1


def test_the_head_of_the_stream_is_that_of_its_get_and_ends(steer: Steer, box: Box) -> None:
    _, operator = steer()
    for media_type in ("application/x-ndjson", "text/event-stream"):
        heads = []
        for method in ("GET", "HEAD", "HEAD"):
            connection = Connection(operator.path)
            connection.request(method, "/v1/events?tasks=true", headers={"Accept": media_type})
            response = connection.getresponse()
            # How a body is cut into pieces is said of a body alone.
            unsaid = ("date", "transfer-encoding")
            fields = {name.lower(): value for name, value in response.getheaders() if name.lower() not in unsaid}
            heads.append((response.status, fields))
            if method == "HEAD":
                assert response.read() == b""
                # The connection is free for the next request.
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b"ok\n"
            connection.close()
        assert heads[0] == heads[1] == heads[2]
        assert heads[0][1]["content-type"] == media_type


def test_subcommands_do_what_the_api_does(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    write(box.src / "a")
    operator.wait_tasks(2)
    [hold] = operator.json("tasks", "--state", "running")["tasks"]
    [later] = operator.json("tasks", "--scheduler", "later", "--path", "*/a", "--limit", "5")["tasks"]
    assert f"pid {daemon.pid}" in operator.run("status")
    assert operator.json("status")["pid"] == daemon.pid
    assert hold["id"][:8] in operator.run("tasks")
    assert operator.json("cancel", hold["id"]) == {"done": [hold["id"]]}
    assert operator.run("cancel", later["id"][:8]) == f"{later['id']} cancelled\n"
    assert operator.run("cancel", "--all") == "nothing to do\n"
    assert operator.json("pause", "hold", "fail") == {"done": ["hold", "fail"]}
    assert "resumed" in operator.run("resume")
    os.chmod(box.src / "a", 0o600)
    operator.wait_scheduler("fail", failed=1)
    assert "exited with status 3" in operator.run("failed")
    [failed] = operator.json("failed", "--since", "1h")["tasks"]
    assert operator.json("retry", "--scheduler", "fail") == {"done": [failed["id"]]}
    operator.wait_scheduler("fail", failed=1)
    assert operator.run("forget", failed["id"]) == f"{failed['id']} forgotten\n"
    assert operator.run("send", box.src / "a") == "reached later\n"
    assert operator.json("send", box.src / "a", "IN_CREATE")["schedulers"] == ["hold"]
    for spelling in ("IN_WRITE_CLOSE", "write_close", "close_write"):
        assert operator.json("send", box.src / "a", spelling)["schedulers"] == ["later"]
    assert operator.json("rescan", box.src) == {"done": [os.fspath(box.src)]}
    assert operator.json("rescan") == {"done": [os.fspath(box.src)]}
    assert operator.run("sync") == ""
    changed, *_ = operator.run("reload").splitlines()
    assert changed == "1 watch(es), 4 scheduler(s); no watch and no scheduler changed"
    assert operator.run("metrics").startswith("# HELP pyinotifyd_")
    ready = [one for one in operator.json("metrics")["metrics"] if one["name"] == "pyinotifyd_ready"]
    assert ready == [{"name": "pyinotifyd_ready", "labels": {}, "value": 1.0}]
    operator.run("cancel", "--scheduler", "later")


def test_a_slash_behind_the_path_of_a_send_wants_a_directory(steer: Steer, box: Box) -> None:
    _, operator = steer()
    path = box.src / "a"
    write(path)
    operator.wait_scheduler("later", waiting=1)
    said = operator.run("send", f"{path}/", status=1)
    assert said == f"pyinotifyd: '{path}' is no directory: leave out the slash behind it\n"
    assert operator.run("send", path) == "reached later\n"
    (box.src / "dir").mkdir()
    # The slash is right there, though no scheduler wants directories.
    assert "reaches no scheduler" in operator.run("send", f"{box.src}/dir/", "IN_CREATE", status=1)


def test_a_list_that_goes_into_a_pipe_has_whole_paths(steer: Steer, box: Box) -> None:
    _, operator = steer()
    path = box.src / ("n" * 200)
    write(path)
    operator.wait_scheduler("later", waiting=1)
    assert os.fspath(path) in operator.run("tasks")


def test_exit_codes_tell_refused_from_mistyped_and_from_nobody_there(steer: Steer, box: Box) -> None:
    daemon, operator = steer()
    write(box.src / "a")
    operator.wait_tasks(2)
    nobody = "00000000-0000-4000-8000-000000000000"
    for words, status in [
        (("cancel", nobody), 1),
        (("retry", nobody), 1),
        (("pause", "nobody"), 1),
        (("cancel", "--path", "/nowhere/*"), 1),
        (("sync", "--idle", "--timeout", "0.05"), 1),
        (("send", "/nowhere"), 1),
        (("send", os.fspath(box.src / "a"), "IN_OPEN"), 1),
        (("cancel", "abc"), 2),
        (("cancel", "wxyz"), 2),
        (("send", os.fspath(box.src / "a"), "IN_NOTHING"), 2),
        (("cancel",), 2),
        (("cancel", "--all", nobody), 2),
        (("tasks", "--state", "gone"), 2),
        (("sync", "--timeout", "x"), 2),
        (("sync", "--timeout", "nan"), 2),
        (("sync", "--timeout", "inf"), 2),
        (("sync", "--timeout", "-1"), 2),
    ]:
        said = operator.run(*words, status=status)
        assert said.strip(), words
    for words in (
        ("tasks", "--scheduler", "nobody"),
        ("failed",),
        ("cancel", "--scheduler", "hold"),
        ("retry", "--all"),
    ):
        operator.run(*words)
    daemon.terminate()
    said = operator.run("status", status=3)
    assert said.count("\n") == 1
    assert "no daemon answers" in said
    # What makes no sense to anybody is a mistake wherever it is typed.
    for words in [("cancel", "abc"), ("undo", "abc"), ("retry", "wxyz"), ("sync", "--timeout", "nan")]:
        operator.run(*words, status=2)


def test_the_socket_is_found_by_option_variable_and_default_places(box: Box, run: Run) -> None:
    places = {"XDG_RUNTIME_DIR": os.fspath(box.tmp / "x"), "RUNTIME_DIRECTORY": os.fspath(box.tmp / "run")}
    daemon = run(TASKS, env=places)
    socket = box.tmp / "run" / "control.sock"
    wait_until(socket.exists, "the socket")

    def status(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        argv: list[str | Path] = [box.program, "status", *words, "--json"]
        clean = {key: value for key, value in os.environ.items() if key not in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")}
        return subprocess.run(argv, capture_output=True, text=True, env={**clean, **env}, check=False)

    for found in (
        status("--control", os.fspath(socket)),
        status(PYINOTIFYD_CONTROL=os.fspath(socket)),
        status(**places),
    ):
        assert json.loads(found.stdout)["pid"] == daemon.pid
    # What was named is not looked for elsewhere.
    missing = status("--control", os.fspath(box.tmp / "none"), **places)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "no daemon answers" in missing.stderr


def test_a_daemon_that_many_want_to_ask_is_waited_for(box: Box) -> None:
    """Where the listener's queue is full, connecting takes a while."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(os.fspath(box.tmp / "c.sock"))
        listener.listen(0)
        filler.connect(os.fspath(box.tmp / "c.sock"))
        argv: list[str | Path] = [box.program, "tasks", "--json", "--control", box.tmp / "c.sock"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
            sleeps = f"/proc/{client.pid}/stat"
            wait_until(lambda: Path(sleeps).read_text().rpartition(")")[2].split()[0] in "SZ", "a client that waits")
            assert client.poll() is None
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{"tasks":[],"total":0}')
                assert client.stdout
                assert client.stdout.read() == '{"tasks":[],"total":0}\n'
        assert client.returncode == 0


def test_a_closed_reader_is_no_fault(steer: Steer, box: Box) -> None:
    _, operator = steer()
    argv: list[str | Path] = [box.program, "events", "--control", operator.path]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as events:
        assert events.stdout
        reader, written = events.stdout, 0

        def told() -> bool:
            nonlocal written
            written += 1
            write(box.src / f"a{written}")
            return bool(select.select([reader], [], [], 0.05)[0])

        wait_until(told, "an event")
        events.stdout.close()

        def ended() -> bool:
            nonlocal written
            written += 1
            write(box.src / f"a{written}")
            return events.poll() is not None

        wait_until(ended, "its end")
        assert events.returncode == 0
        assert events.stderr
        assert events.stderr.read() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_what_cannot_be_written_is_an_error(steer: Steer, box: Box) -> None:
    _, operator = steer(TASKS, "--state", os.fspath(box.tmp / "state"))
    asked = [["status"], ["tasks", "--json"], ["history"], ["failed"], ["metrics"], ["metrics", "--json"], ["reload"]]
    lines = [[*words, "--control", os.fspath(operator.path)] for words in asked]
    config = ["-c", os.fspath(box.config)]
    printed = [["-l"], ["--help"], ["status", "--help"], ["--version"], ["--completions", "bash"]]
    for words in [*lines, ["doctor", *config], [*config, "--explain", os.fspath(box.src / "f")], *printed]:
        with open("/dev/full", "wb") as full:
            done = subprocess.run([box.program, *words], stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 1, words
        assert re.search(rb"^(pyinotifyd|ERROR): cannot write to stdout: No space left on device$", done.stderr, re.M)


# ---- places


def test_a_place_that_was_asked_for_and_cannot_be_had_is_an_error(box: Box, steer: Steer) -> None:
    daemon, operator = steer()
    second = box.call("--control", operator.path, config=TASKS)
    assert second.exit_code == 1
    assert f"the control socket '{operator.path}' is in use by another daemon" in second.log
    write(box.tmp / "file")
    other = box.call("--control", box.tmp / "file", config=TASKS)
    assert other.exit_code == 1
    assert "is no socket" in other.log
    assert (box.tmp / "file").read_text() == "x"
    below = box.call("--control", box.tmp / "file/deeper/c.sock", config=TASKS)
    assert below.exit_code == 1
    assert f"ERROR - '{box.tmp}/file' is there and is no directory; remove it, or name another place" in below.log
    assert daemon.running


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_goes_with_it(box: Box, steer: Steer) -> None:
    daemon, operator = steer()
    daemon.signal(signal.SIGKILL)
    daemon.process.wait()
    assert operator.path.exists()
    again, operator = steer()
    assert operator.get("/v1/status")["pid"] == again.pid
    assert again.terminate() == 0
    assert not operator.path.exists()


def test_a_reload_takes_another_place_or_is_refused(box: Box, run: Run) -> None:
    config = TASKS.replace("shutdown_timeout=0)", 'shutdown_timeout=0, control="$TMP/NAME.sock")')
    daemon = run(config.replace("NAME", "one"))
    one, two = Operator(box.tmp / "one.sock"), Operator(box.tmp / "two.sock")
    box.write_config(config.replace("NAME", "two"))
    assert daemon.count("listen") >= 0
    one.ask("POST", "/v1/reload")
    wait_until(lambda: two.path.exists() and not one.path.exists(), "the new place")
    assert two.get("/v1/status")["pid"] == daemon.pid
    (box.tmp / "three.sock").mkdir()
    box.write_config(config.replace("NAME", "three"))
    assert "is no socket" in two.refused(409, "POST", "/v1/reload")
    assert two.get("/v1/status")["pid"] == daemon.pid
    box.write_config(config.replace('"$TMP/NAME.sock"', "False"))
    # The one that takes it away is answered.
    assert two.run("reload").startswith("1 watch(es), 4 scheduler(s);")
    wait_until(lambda: not two.path.exists(), "no place")


def test_a_reload_makes_a_socket_anew_that_somebody_removed(box: Box, run: Run) -> None:
    config = TASKS.replace("shutdown_timeout=0)", 'shutdown_timeout=0, control="$TMP/run/c.sock")')
    daemon, operator = run(config), Operator(box.tmp / "run/c.sock")
    daemon.reload()
    assert daemon.count("control socket") == 0
    operator.path.unlink()
    daemon.reload()
    assert operator.get("/v1/status")["pid"] == daemon.pid
    shutil.rmtree(operator.path.parent)
    daemon.reload()
    assert operator.get("/v1/status")["pid"] == daemon.pid
    assert daemon.count(f"INFO - the control socket '{operator.path}' was gone; it is made anew") == 2
    # Where it cannot be had, the reload is made all the same.
    operator.path.unlink()
    write(operator.path)
    daemon.reload()
    assert daemon.count("ERROR - the control socket is gone: '.*' is there and is no socket") == 1
    shutil.rmtree(operator.path.parent)
    write(operator.path.parent)
    daemon.reload()
    assert daemon.count("ERROR - the control socket is gone: '.*/run' is there and is no directory") == 1
    operator.path.parent.unlink()
    daemon.reload()
    assert operator.run("reload").startswith("1 watch(es), 4 scheduler(s);")
    assert daemon.terminate() == 0
    assert not operator.path.exists()


def test_without_a_socket_there_is_no_thread(box: Box, run: Run) -> None:
    daemon = run(TASKS.replace("shutdown_timeout=0)", "shutdown_timeout=0, control=False)"), "-d")

    assert "control\n" not in daemon.of_threads("comm")
    box.write_config(TASKS.replace("shutdown_timeout=0)", 'shutdown_timeout=0, control="$TMP/c.sock")'))
    daemon.reload()
    wait_until(lambda: "control\n" in daemon.of_threads("comm"), "the server's thread")


def test_each_path_of_the_description_for_programs_is_there(steer: Steer, box: Box) -> None:
    _, operator = steer()
    described = json.loads((PROJECT / "docs/openapi.json").read_text())["paths"]
    for path, methods in described.items():
        target = path.replace("{id}", "00000000").replace("{name}", "hold")
        [method] = methods
        other = "POST" if method == "get" else "GET"
        assert operator.ask(other, target)[0] == 405, path
