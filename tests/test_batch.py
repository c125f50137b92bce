"""Batches: one run for many paths."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from control import Operator
from vocabulary import DEADLINE_S, REFERENCE, Box, Daemon, alive, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has no batches")

JOB = """
async def job(events, task_id):
    print("RUN", task_id, *(f"{event.maskname}:{event.name}" for event in events), flush=True)
"""


def watching(scheduler: str, above: str = "", cancel: str = "") -> str:
    events = f'{{"IN_CREATE": s, "IN_CLOSE_WRITE": s{cancel}}}'
    return f'{above}\ns = {scheduler}\npyinotifyd = Pyinotifyd([Watch("$SRC", {events})])\n'


def commands(command: str, batch: str = "quiet=0.4", more: str = "", cancel: str = "") -> str:
    """A config whose commands are for the shell."""
    return watching(f'ShellScheduler("""{command}""", batch=Batch({batch}){more})', cancel=cancel)


# Each run writes what it is for, as one line: the first is a name, then come the paths.
LIST = (
    '(for path in {pathnames}; do basename "$path"; done | tr "[:space:]" " "; echo) > $TMP/run; '
    "cat $TMP/run >> $TMP/runs; "
)


def runs(box: Box) -> list[list[str]]:
    """What each run was for, by names."""
    path = box.tmp / "runs"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def told(box: Box) -> list[str]:
    """What all runs together were for."""
    return [name for run in runs(box) for name in run]


def names_of(count: int) -> list[str]:
    return [f"f{number:03}" for number in range(count)]


def burst(box: Box, names: list[str]) -> None:
    for name in names:
        write(box.src / name)


def crash(daemon: Daemon) -> None:
    """SIGKILL, for the daemon alone: what it started lives on."""
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()


def failures(box: Box) -> list[str]:
    """Names of the files of tasks that failed."""
    with contextlib.closing(sqlite3.connect(box.tmp / "state/state.db")) as database:
        rows = database.execute("SELECT path FROM ended WHERE result = 'failed'")
        return sorted(os.path.basename(os.fsdecode(path)) for (path,) in rows)


def wait_kept(box: Box, expected: list[tuple[str, str]]) -> None:
    """Wait until the state has these tasks, by name and state, and of those that run the process."""
    file = f"file:{box.tmp}/state/state.db?mode=ro"

    def found() -> bool:
        with contextlib.closing(sqlite3.connect(file, uri=True, timeout=DEADLINE_S)) as database:
            rows = database.execute("SELECT path, state, process_group IS NULL FROM task ORDER BY path").fetchall()
        return rows == [(f"{box.src}/{name}", state, int(state != "running")) for name, state in expected]

    wait_until(found)


# ---- what a run gets


def test_a_job_gets_all_events_of_a_burst_in_the_order_of_their_paths(run: Run, box: Box) -> None:
    """Each path once, with its latest event; the log has the first of them and how many more there are."""
    daemon = run(watching("TaskScheduler(job, batch=Batch(quiet=0.4))", JOB))
    burst(box, names_of(20))
    daemon.wait_log(rf"INFO - task finished, mask=IN_CLOSE_WRITE, path={box.src}/f000 and 19 more, task_id=")
    (line,) = re.findall("^RUN .*$", daemon.stdout, re.MULTILINE)
    assert line.split()[2:] == [f"IN_CLOSE_WRITE:{name}" for name in names_of(20)]
    assert daemon.count("start task") == 1


def test_events_have_all_that_single_ones_have(run: Run, box: Box) -> None:
    job = """
async def job(events, task_id):
    print("RUN", *(sorted(vars(event)) for event in events), flush=True)
"""
    config = f"""{job}
s = TaskScheduler(job, dirs=True, batch=Batch(quiet=0.4))
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": s, "IN_MOVED_TO": s}})])
"""
    daemon = run(config)
    write(box.src / "a")
    (box.src / "a").rename(box.src / "b")
    (box.src / "d").mkdir()
    plain = ["dir", "mask", "maskname", "name", "path", "pathname", "wd"]
    moved = sorted([*plain, "cookie", "src_pathname"])
    daemon.wait_out(re.escape(f"RUN {plain} {moved} {plain}"))


def test_a_command_gets_all_paths_each_as_one_word(run: Run, box: Box) -> None:
    command = (
        "printf '%s\\\\n' {pathnames} > $TMP/words; "
        "env | grep ^PYINOTIFYD_ > $TMP/variables; "
        "tr '\\\\0' '\\\\n' > $TMP/read"
    )
    daemon = run(commands(command))
    names = ["plain", "a b", "it's", "$(touch PWNED)", "-x", '"', "\\"]
    burst(box, names)
    daemon.wait_log("task finished")
    expected = [f"{box.src}/{name}" for name in names]
    assert (box.tmp / "words").read_text().splitlines() == expected
    assert (box.tmp / "read").read_text().splitlines() == expected
    variables = (box.tmp / "variables").read_text().split("\n")
    added = {variable.partition("=")[0] for variable in variables if variable} - set(os.environ)
    assert {name for name in added if not name.startswith("PYINOTIFYD_TEST_")} == {"PYINOTIFYD_TASK_ID"}
    (record,) = [record for record in daemon.records if record.text.startswith("execute")]
    assert f"{box.src}/plain" in record.text
    assert shlex.quote(f"{box.src}/it's") not in record.text, "the others are counted"


def test_an_element_of_argv_becomes_as_many_as_there_are_paths(run: Run, box: Box) -> None:
    argv = 'argv=["sh", "-c", \'echo $#; printf "%s\\\\n" "$@"\', "sh", "first", "{pathnames}", "last"]'
    daemon = run(watching(f"ShellScheduler({argv}, batch=Batch(quiet=0.4))"))
    burst(box, ["a b", "c"])
    daemon.wait_out("last")
    assert daemon.stdout.splitlines() == ["4", "first", f"{box.src}/a b", f"{box.src}/c", "last"]


@pytest.mark.parametrize("stdin", ["json", "paths", "null", None])
def test_stdin_of_a_batch(run: Run, box: Box, stdin: str | None) -> None:
    more = "" if stdin is None else f', stdin="{stdin}"'
    daemon = run(commands("cat > $TMP/read", more=more))
    burst(box, ["a", "b\udcff"])
    daemon.wait_log("task finished")
    read = (box.tmp / "read").read_bytes()
    if stdin == "json":
        lines = [json.loads(line) for line in read.splitlines()]
        assert [line["name"] for line in lines] == ["a", "b\ufffd"]
        assert [line["maskname"] for line in lines] == ["IN_CLOSE_WRITE"] * 2
    elif stdin == "null":
        assert read == b""
    else:
        assert read == b"".join(bytes(box.src) + b"/" + name + b"\0" for name in (b"a", b"b\xff"))


# ---- when it begins


def test_a_batch_begins_when_it_is_quiet_or_after_max_wait(run: Run, box: Box) -> None:
    daemon = run(commands(LIST, "quiet=3, max_wait=3.5"))
    begun = time.monotonic()
    number = 0
    while not runs(box):
        write(box.src / f"f{number}")
        number += 1
        assert time.monotonic() - begun < DEADLINE_S, daemon.tail
        time.sleep(0.05)
    assert runs(box)[0][:3] == ["f0", "f1", "f2"], "events put it off until max_wait"
    # The first may have had all of them, and what came during it may be two more.
    write(box.src / f"f{number}")
    number += 1
    wait_until(lambda: len(told(box)) >= number)
    assert sorted(told(box)) == sorted(f"f{one}" for one in range(number)), "none is lost, and none is told twice"


def test_with_max_files_a_batch_begins_at_once(run: Run, box: Box) -> None:
    daemon = run(commands(LIST, "quiet=30, max_wait=60, max_files=3").replace('"IN_CREATE": s, ', ""))
    burst(box, names_of(7))
    daemon.wait_log("task finished", count=2)
    assert runs(box) == [names_of(7)[:3], names_of(7)[3:6]]
    daemon.wait_log(rf"gather task for the next batch, which has 1 path\(s\), .*path={box.src}/f006")


def test_events_during_a_run_make_the_next_batch(run: Run, box: Box) -> None:
    daemon = run(commands(LIST + "until test -e $TMP/go; do sleep 0.02; done", "quiet=0.2"))
    burst(box, ["a", "b"])
    wait_until(lambda: len(runs(box)) == 1)
    burst(box, ["b", "c"])
    daemon.wait_log(rf"gather task for the next batch, which has 2 path\(s\), .*path={box.src}/c", count=2)
    time.sleep(0.4)
    assert len(runs(box)) == 1, "one run at a time"
    (box.tmp / "go").touch()
    daemon.wait_log("task finished", count=2)
    assert runs(box) == [["a", "b"], ["b", "c"]]


def test_a_cancel_takes_a_path_out(run: Run, box: Box) -> None:
    daemon = run(commands(LIST, "quiet=0.6", cancel=', "IN_DELETE": Cancel(s)'))
    burst(box, ["a", "b", "c"])
    (box.src / "b").unlink()
    daemon.wait_log(f"scheduled task cancelled, .*path={box.src}/b")
    daemon.wait_log("task finished")
    assert runs(box) == [["a", "c"]]


# ---- more than one command line takes


def long_names(count: int) -> list[str]:
    return [f"{number:03}{'n' * 200}" for number in range(count)]


@pytest.mark.parametrize("kind", ["cmd", "argv"])
def test_what_one_command_line_cannot_take_is_several_runs(run: Run, box: Box, kind: str) -> None:
    """One that fails does not stop the others."""
    count = 1200
    if kind == "cmd":
        config = commands(LIST + "test $(wc -l < $TMP/runs) -ne 1", "quiet=1, max_files=5000")
    else:
        script = '(for path; do echo -n "$(basename $path) "; done; echo) >> $TMP/runs; test $(wc -l < $TMP/runs) -ne 1'
        argv = f'argv=["sh", "-c", {script!r}, "sh", "{{pathnames}}"]'
        # A quarter of the stack is for arguments.
        limits = 'limits={"stack": 1024 * 1024}'
        config = watching(f"ShellScheduler({argv}, {limits}, batch=Batch(quiet=1, max_files=5000))")
    daemon = run(config)
    names = long_names(count)
    burst(box, names)
    daemon.wait_log("ERROR - task failed: exited with status 1, .* and [0-9]+ more, ")
    daemon.wait_log(
        f"INFO - one run cannot take all {count} paths of the batch, there are several, one after the other"
    )
    wait_until(lambda: len(told(box)) == count)
    assert told(box) == names
    assert len(runs(box)) > 1
    daemon.wait_log("task finished", count=len(runs(box)) - 1)
    assert daemon.count("one run cannot take") == 1
    assert daemon.count("cannot start") == 0


def test_without_a_list_in_the_command_one_run_takes_all(run: Run, box: Box) -> None:
    daemon = run(commands("grep -cz '' > $TMP/count", "quiet=1, max_files=5000"))
    burst(box, long_names(1200))
    daemon.wait_log("task finished, .* and 1199 more")
    assert int((box.tmp / "count").read_text()) == 1200


# ---- failures


def test_retry_repeats_what_failed_and_nothing_newer(run: Run, box: Box) -> None:
    fail = "test $(wc -l < $TMP/runs) -ge 2"
    daemon = run(commands(LIST + fail, "quiet=0.2", ", retry=Retry(delay=1, jitter=0)"))
    burst(box, ["a", "b", "c"])
    daemon.wait_log("WARNING - attempt 1 failed: .*; tried again in 1 seconds, .* and 2 more, ")
    write(box.src / "b")
    write(box.src / "d")
    daemon.wait_log("task finished", count=2)
    wait_until(lambda: sorted(map(sorted, runs(box)[1:])) in ([["a", "c"], ["b", "d"]], [["a", "c"], ["b"], ["d"]]))
    assert daemon.count("ERROR") == 0


def test_a_failed_batch_tells_each_path_once(run: Run, box: Box) -> None:
    told = """
async def told(event, task_id):
    print("TOLD", event.name, event.error, event.task_id, flush=True)
"""
    config = watching('ShellScheduler("exit 3", batch=Batch(quiet=0.3), on_failure=[told, told])', told)
    daemon = run(config, "--control", os.fspath(box.tmp / "c.sock"))
    burst(box, ["a", "b", "c"])
    daemon.wait_out("TOLD ", count=3)
    operator = Operator(box.tmp / "c.sock")
    operator.post("/v1/sync", {"idle": True})
    lines = re.findall(r"TOLD (\S+) exited with status 3 (\S+)", daemon.stdout)
    tasks = operator.get("/v1/failed")["tasks"]
    assert sorted(lines) == sorted((Path(task["path"]).name, task["id"]) for task in tasks), "each by its own id"
    assert len(lines) == 3


def test_failures_are_gathered_by_a_receiver_with_a_batch(run: Run, box: Box) -> None:
    """One mail for many failures."""
    above = 'mail = ShellScheduler("cat > $TMP/mail; echo $PYINOTIFYD_ERROR", stdin="json", batch=Batch(quiet=0.5))'
    daemon = run(watching('ShellScheduler("exit 3", on_failure=mail)', above))
    burst(box, ["a", "b"])
    daemon.wait_log("task finished, .* and [0-9]+ more")
    lines = [json.loads(line) for line in (box.tmp / "mail").read_text().splitlines()]
    assert {line["name"] for line in lines} == {"a", "b"}
    assert all((line["error"], line["attempts"]) == ("exited with status 3", 1) for line in lines)


def test_a_run_that_takes_too_long_is_stopped_and_has_failed(run: Run, box: Box) -> None:
    job = """
import asyncio
async def job(events, task_id):
    try:
        await asyncio.sleep(98 if events[0].name == "slow" else 0)
        print("RUN", *(event.name for event in events), flush=True)
    except asyncio.CancelledError:
        print("CANCELLED", *(event.name for event in events), flush=True)
        raise
"""
    daemon = run(watching("TaskScheduler(job, batch=Batch(quiet=0.3), timeout=0.5)", job))
    burst(box, ["slow", "b"])
    daemon.wait_log("ERROR - task failed: timeout after 0.5 s, .* and 1 more, ")
    daemon.wait_out("CANCELLED slow b")
    burst(box, ["b"])
    daemon.wait_out("RUN b")


# ---- reload, shutdown


def test_a_reload_in_the_middle_loses_nothing(run: Run, box: Box) -> None:
    config = commands(LIST + "until test -e $TMP/go; do sleep 0.02; done", "quiet=1")
    daemon = run(config)
    burst(box, ["a", "b"])
    wait_until(lambda: len(runs(box)) == 1)
    burst(box, ["c"])
    daemon.wait_log(f"gather task .*{box.src}/c")
    daemon.reload()
    burst(box, ["d"])
    daemon.wait_log(f"gather task .*{box.src}/d")
    (box.tmp / "go").touch()
    daemon.wait_log("task finished", count=2)
    assert runs(box) == [["a", "b"], ["c", "d"]]


def test_at_a_shutdown_what_is_gathered_still_runs(run: Run, box: Box) -> None:
    daemon = run(commands(LIST, "quiet=1"))
    burst(box, ["a", "b"])
    daemon.wait_log(f"gather task .*{box.src}/b")
    assert daemon.terminate() == 0
    assert runs(box) == [["a", "b"]]
    assert daemon.count("all remaining tasks completed") == 1


def test_at_the_shutdown_timeout_a_run_is_stopped_as_a_whole(run: Run, box: Box) -> None:
    config = commands(LIST + "sleep 97", "quiet=0.2").replace("})])", "})], shutdown_timeout=1)")
    daemon = run(config)
    burst(box, ["a", "b"])
    wait_until(lambda: len(runs(box)) == 1)
    assert daemon.terminate() == 0
    daemon.wait_log(r"shutdown timeout exceeded, cancel 2 remaining task\(s\)")
    daemon.wait_log("ongoing task cancelled, .* and 1 more, ")


# ---- what can't be


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [
        ("TaskScheduler(job, batch=Batch(), delay=1)", "delay: can't be given together with batch"),
        ("TaskScheduler(job, batch=Batch(), singlejob=True)", "singlejob: can't be given together with batch"),
        ("TaskScheduler(job, batch=Batch(), max_delay=3)", "max_delay: can't be given together with batch"),
        ("TaskScheduler(job, batch=Batch(), settle=Settle())", "settle: can't be given together with batch"),
        ('TaskScheduler(job, batch=Batch(), on_busy="rerun")', "on_busy: can't be given together with batch"),
        ('ShellScheduler("true", batch=Batch(), delay=1)', "delay: can't be given together with batch"),
        ("TaskScheduler(job, batch=True)", "batch: expected "),
        ("TaskScheduler(job, batch=Batch(quiet=-1))", "quiet: "),
        ("TaskScheduler(job, batch=Batch(quiet='1'))", "quiet: "),
        ("TaskScheduler(job, batch=Batch(quiet=5, max_wait=4))", "max_wait: expected at least quiet"),
        ("TaskScheduler(job, batch=Batch(max_files=0))", "max_files: expected at least 1, got 0"),
        ("TaskScheduler(job, batch=Batch(max_files=2.5))", "max_files: expected "),
        ("TaskScheduler(job, batch=Batch(max_files=10**9))", "max_files: expected at most 2000000"),
        ("TaskScheduler(job, batch=Batch(max_file=1))", "max_file.*max_files"),
        ('ShellScheduler("echo {pathname}", batch=Batch())', "{pathname} is one of many in a batch: write {pathnames}"),
        ('ShellScheduler("echo {maskname}", batch=Batch())', "{maskname} is one of many in a batch"),
        ('ShellScheduler(argv=["echo", "x{pathname}"], batch=Batch())', "{pathname} is one of many in a batch"),
        ('ShellScheduler(argv=["echo", "-f={pathnames}"], batch=Batch())', "an element of its own"),
        ("ShellScheduler(\"echo '{pathnames}'\", batch=Batch())", "a word of its own, outside of quotes"),
        ('ShellScheduler("echo x{pathnames}", batch=Batch())', "a word of its own, outside of quotes"),
        ('ShellScheduler("echo `ls {pathnames}`", batch=Batch())', "in backticks.*read the paths from stdin"),
        ('FileManagerScheduler(FileManagerRule("delete", "^/a$"), batch=Batch())', "batch"),
    ],
)
def test_what_excludes_a_batch_is_refused(box: Box, scheduler: str, text: str) -> None:
    """With file and line."""
    daemon = box.call("-t", config=watching(scheduler, JOB))
    assert daemon.exit_code == 1
    assert re.search(text if ".*" in text else re.escape(text), daemon.log), daemon.log
    assert f'File "{box.config}", line 5' in daemon.log, daemon.log


def test_what_was_set_later_is_refused_too(box: Box) -> None:
    config = watching("TaskScheduler(job, batch=Batch())\ns.delay = 5", JOB)
    daemon = box.call("-t", config=config)
    assert daemon.exit_code == 1
    assert "delay: can't be given together with batch" in daemon.log


def test_braces_of_a_command_without_a_batch_stay(run: Run, box: Box) -> None:
    daemon = run(watching('ShellScheduler("echo SAID {pathnames}")'))
    write(box.src / "f")
    daemon.wait_out(r"SAID \{pathnames\}")


def test_explain_and_dry_run_know_batches(run: Run, box: Box) -> None:
    config = watching("TaskScheduler(job, batch=Batch(quiet=0.5, max_wait=30, max_files=7))", JOB)
    text = box.call("--explain", box.src / "f", config=config).stdout
    begins = (
        "starts one task for all paths of a batch: when no event came for 0.5 s, 30 s after the first one, or with 7"
    )
    assert begins in text, text
    assert "calls job(events, task_id)" in text, text
    daemon = run(config, "--dry-run")
    burst(box, ["a", "b"])
    daemon.wait_log(f"INFO - would run job job, .*path={box.src}/a and 1 more, ")
    assert "RUN" not in daemon.stdout


def test_a_quiet_time_that_a_shutdown_cuts_is_warned_of(box: Box) -> None:
    config = watching("TaskScheduler(job, batch=Batch(quiet=100, max_wait=100))", JOB)
    daemon = box.call("-t", config=config)
    assert daemon.exit_code == 0
    assert "the quiet time of 100 s is longer than the shutdown_timeout of 30 s" in daemon.log


# ---- many


def make_files(directory: Path, count: int) -> None:
    for number in range(count):
        with open(directory / f"{number:06}", "w"):
            pass


@pytest.mark.parametrize("kind", ["job", "command"])
def test_a_hundred_thousand_paths_are_one_batch(run: Run, box: Box, kind: str) -> None:
    """Neither the daemon's loop nor its memory mind."""
    count = 100_000
    above = """
async def job(events, task_id):
    with open("$TMP/count", "a") as file:
        print(len(events), file=file)
"""
    batch = f"batch=Batch(quiet=3, max_wait=600, max_files={count})"
    scheduler = f"TaskScheduler(job, {batch})"
    if kind == "command":
        scheduler = f"""ShellScheduler("grep -cz '' >> $TMP/count", {batch})"""
    config = f"""{above}
setLoglevel(WARNING, "sched")
s = {scheduler}
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": s}})])
"""
    daemon = run(config)
    before_kib, before_s = daemon.memory_kib(), daemon.cpu_s()
    make_files(box.src, count)

    def counted() -> int:
        path = box.tmp / "count"
        return sum(int(line) for line in path.read_text().split()) if path.exists() else 0

    wait_until(lambda: counted() == count, timeout_s=120)
    assert len((box.tmp / "count").read_text().split()) == 1
    taken_kib, taken_s = daemon.memory_kib() - before_kib, daemon.cpu_s() - before_s
    print(f"{kind}: {taken_s:.2f} s of CPU, {taken_kib / 1024:.1f} MiB")
    assert taken_kib < 200 << 10
    assert daemon.count("ERROR") == 0


# ---- an earlier life of the daemon


def kept(command: str, batch: str, more: str = "") -> str:
    return commands(command, batch, more).replace("})])", '})], state="$TMP/state")')


def test_without_a_batch_after_a_reload_what_was_gathered_is_due_when_its_batch_was(run: Run, box: Box) -> None:
    config = """
many = ShellScheduler(cmd="true", batch=Batch(quiet=600, max_wait=700))
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": many})], control="$TMP/control.sock")
"""
    daemon = run(config)
    operator = Operator(box.tmp / "control.sock")
    write(box.src / "f")
    (before,) = wait_until(operator.tasks, "a task")
    box.write_config(config.replace("batch=Batch(quiet=600, max_wait=700)", "delay=3600"))
    daemon.reload()
    (after,) = operator.tasks()
    assert (after["id"], after["state"]) == (before["id"], "waiting")
    waits = [datetime.fromisoformat(task["due"]) for task in (before, after)]
    assert abs(waits[1] - waits[0]) < timedelta(seconds=1), waits


def test_what_is_gathered_survives_a_crash_as_one_batch(run: Run, box: Box) -> None:
    daemon = run(kept(LIST, "quiet=30"))
    burst(box, ["a", "b", "c"])
    wait_kept(box, [("a", "waiting"), ("b", "waiting"), ("c", "waiting")])
    crash(daemon)
    again = run(kept(LIST, "quiet=1"))
    burst(box, ["d"])
    again.wait_log("task finished, .* and 3 more, ")
    assert runs(box) == [["a", "b", "c", "d"]]


@pytest.mark.parametrize("outlives", [True, False])
def test_with_rerun_an_interrupted_batch_runs_at_once_and_as_one(run: Run, box: Box, outlives: bool) -> None:
    wait = "until test -e $TMP/go; do sleep 0.02; done"
    daemon = run(kept(LIST + wait, "quiet=0.3", ", rerun=True"))
    burst(box, ["a", "b", "c"])
    wait_kept(box, [("a", "running"), ("b", "running"), ("c", "running")])
    crash(daemon)
    if not outlives:
        file = f"file:{box.tmp}/state/state.db?mode=ro"
        with contextlib.closing(sqlite3.connect(file, uri=True, timeout=DEADLINE_S)) as database:
            ((group,),) = database.execute("SELECT DISTINCT process_group FROM task").fetchall()
        os.killpg(group, signal.SIGKILL)
        wait_until(lambda: not alive(group), "the end of the command")
    again = run(kept(LIST + wait, "quiet=600, max_wait=700", ", rerun=True"))
    wait_until(lambda: runs(box) == [["a", "b", "c"]] * 2, lambda: again.tail)
    (box.tmp / "go").touch()
    again.wait_log("task finished, .* and 2 more, ")


@pytest.mark.parametrize("rerun", [True, False])
def test_a_crash_in_the_middle_of_a_run(run: Run, box: Box, rerun: bool) -> None:
    """With rerun all of it runs again, once its command has been ended; without, each path has failed."""
    wait = "until test -e $TMP/go; do sleep 0.02; done"
    daemon = run(kept(LIST + wait, "quiet=0.3", f", rerun={rerun}"))
    burst(box, ["a", "b", "c"])
    wait_until(lambda: len(runs(box)) == 1)
    wait_kept(box, [("a", "running"), ("b", "running"), ("c", "running")])
    crash(daemon)
    again = run(kept(LIST + wait, "quiet=0.3", f", rerun={rerun}"))
    assert again.wait_log("end the command of .* which outlived the earlier daemon")
    if rerun:
        wait_until(lambda: runs(box) == [["a", "b", "c"]] * 2, lambda: again.tail)
        (box.tmp / "go").touch()
        again.wait_log("task finished, .* and 2 more, ")
    else:
        again.wait_log("ERROR - task failed: interrupted: the daemon ended, .* and 2 more, ")
        wait_until(lambda: failures(box) == ["a", "b", "c"], lambda: f"{failures(box)}")
        assert runs(box) == [["a", "b", "c"]]
    assert again.count("which outlived the earlier daemon") == 1
