"""Tasks: when they are made, delayed, scheduled anew, cancelled, skipped and run."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from vocabulary import DELAY, DELAY_S, HELD, REFERENCE, Box, Daemon, write

Run = Callable[..., Daemon]


def watching(event_map: str, scheduler: str = "", more: str = "") -> str:
    return f'{scheduler}\npyinotifyd = Pyinotifyd([Watch("$SRC", {event_map}{more})])'


def one_scheduler(options: str, job: str = "record") -> str:
    """create schedules, delete cancels; attrib shows that all before is through."""
    return watching(
        '{"IN_CREATE": sched, "IN_MODIFY": sched, "IN_DELETE": Cancel(sched), '
        '"IN_ATTRIB": TaskScheduler(record, logname="mark")}',
        f"sched = TaskScheduler(job={job}{options})",
    )


def mark(daemon: Daemon, box: Box) -> None:
    """All events so far are dealt with when this returns."""
    path = box.src / ".mark"
    path.touch()
    before = daemon.count("pyinotifyd/mark - INFO - task finished")
    path.chmod(0o600)
    daemon.wait_log("pyinotifyd/mark - INFO - task finished", count=before + 1)


# ---- a task


def test_without_delay_a_task_starts_at_once(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(""), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    assert daemon.said(box.src / "f") == ["start task", "task finished"]


def test_with_a_delay_a_task_is_scheduled_started_and_finished_under_one_id(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    assert daemon.said(box.src / "f") == [f"schedule task, delay={DELAY}", "start task", "task finished"]
    assert len(daemon.task_ids(box.src / "f")) == 1


def test_the_delay_is_waited_for(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    begun = time.monotonic()
    write(box.src / "f", "")
    daemon.wait_log(f"start task.*{box.src}/f,")
    assert time.monotonic() - begun >= DELAY_S * 0.95


def test_an_event_for_a_waiting_task_schedules_it_anew_under_the_same_id(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"schedule task.*{box.src}/f,")
    write(box.src / "f", "more")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    said = daemon.said(box.src / "f")
    assert said[0] == f"schedule task, delay={DELAY}"
    assert set(said[1:-2]) == {f"re-schedule task, delay={DELAY}"}
    assert said[-2:] == ["start task", "task finished"]
    assert len(daemon.task_ids(box.src / "f")) == 1


def test_scheduling_anew_waits_the_whole_delay_again(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "")
    for _ in range(3):
        time.sleep(DELAY_S / 2)
        with open(box.src / "f", "a") as file:
            file.write("x")
    last = time.monotonic()
    daemon.wait_log(f"start task.*{box.src}/f,")
    assert time.monotonic() - last >= DELAY_S * 0.9
    assert daemon.count("start task.*/f,") == 1


def test_the_job_gets_the_latest_event(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "x")
    event = daemon.wait_event("IN_MODIFY", box.src / "f")
    assert event.mask == 0x2
    assert daemon.heard(box.src / "f") == ["IN_MODIFY"]


def test_an_event_for_a_running_task_is_skipped_with_a_warning(run: Run, box: Box) -> None:
    daemon = run(HELD + one_scheduler("", "held"), record=True)
    write(box.src / "f", "")
    daemon.wait_out("BEGUN")
    with open(box.src / "f", "a") as file:
        file.write("x")
    daemon.wait_log(
        rf"sched - WARNING - skip event due to ongoing task, mask=IN_MODIFY, path={box.src}/f, task_id=[0-9a-f-]{{36}}$"
    )
    write(box.tmp / "go")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    mark(daemon, box)
    assert len([line for line in daemon.out.lines if line.startswith("BEGUN") and "mark" not in line]) == 1


def test_after_a_task_finished_the_next_event_makes_a_new_one(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(""), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    with open(box.src / "f", "a") as file:
        file.write("x")
    daemon.wait_log(f"task finished.*{box.src}/f,", count=2)
    assert len(daemon.task_ids(box.src / "f")) == 2


def test_events_of_one_batch_run_the_first_and_skip_the_rest(run: Run, box: Box) -> None:
    """Without a delay, create and close of one file that were read together run once, for the create."""
    import signal

    daemon = run(
        watching('{"IN_CREATE": sched, "IN_CLOSE_WRITE": sched}', "sched = TaskScheduler(record)"), record=True
    )
    daemon.signal(signal.SIGSTOP)
    write(box.src / "f")
    daemon.signal(signal.SIGCONT)
    daemon.wait_log(f"skip event due to ongoing task, mask=IN_CLOSE_WRITE, path={box.src}/f")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    assert daemon.heard(box.src / "f") == ["IN_CREATE"]


@pytest.mark.skipif(REFERENCE, reason="the original takes whole seconds only")
def test_a_delay_may_be_a_fraction(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(", delay=0.25"), record=True)
    write(box.src / "f", "")
    daemon.wait_log("schedule task, delay=0.25, ")
    daemon.wait_log(f"task finished.*{box.src}/f,")


# ---- Cancel


def test_cancel_of_a_waiting_task(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"schedule task.*{box.src}/f,")
    (box.src / "f").unlink()
    daemon.wait_log(
        rf"sched - INFO - scheduled task cancelled, mask=IN_DELETE, path={box.src}/f, task_id=[0-9a-f-]{{36}}$"
    )
    # Another task with the same delay, made later, ends later.
    write(box.src / "later", "")
    daemon.wait_log(f"task finished.*{box.src}/later,")
    assert "start task" not in daemon.said(box.src / "f")


def test_after_cancel_the_next_event_makes_a_new_id(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"schedule task.*{box.src}/f,")
    (box.src / "f").unlink()
    daemon.wait_log("scheduled task cancelled")
    write(box.src / "f", "")
    daemon.wait_log(f"task finished.*{box.src}/f,")
    assert len(daemon.task_ids(box.src / "f")) == 2


def test_cancel_of_a_running_task_is_skipped(run: Run, box: Box) -> None:
    daemon = run(HELD + one_scheduler("", "held"), record=True)
    write(box.src / "f", "")
    daemon.wait_out("BEGUN")
    (box.src / "f").unlink()
    daemon.wait_log("sched - WARNING - skip event due to ongoing task, mask=IN_DELETE")
    write(box.tmp / "go")
    daemon.wait_out("ENDED")
    daemon.wait_log("task finished.*/f,")


def test_cancel_without_a_task_is_silent(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(one_scheduler(f", delay={DELAY}"), record=True)
    (box.src / "f").unlink()
    mark(daemon, box)
    assert daemon.said(box.src / "f") == []


def test_cancel_does_not_look_at_files_and_dirs(run: Run, box: Box) -> None:
    """A directory's event cancels the task of the same path in a scheduler for files only."""
    config = watching(
        '{"IN_CREATE": sched, "IN_DELETE": Cancel(sched), "IN_MOVED_TO": Cancel(sched)}',
        f"sched = TaskScheduler(record, delay={DELAY}, files=True, dirs=False)",
    )
    daemon = run(config, record=True)
    write(box.src / "f", "")
    daemon.wait_log(f"schedule task.*{box.src}/f,")
    (box.tmp / "d").mkdir()
    (box.src / "f").rename(box.tmp / "away")
    (box.tmp / "d").rename(box.src / "f")
    daemon.wait_log(rf"scheduled task cancelled, mask=IN_MOVED_TO\|IN_ISDIR, path={box.src}/f,")


def test_cancel_touches_its_own_scheduler_only(run: Run, box: Box) -> None:
    config = watching(
        '{"IN_CREATE": [one, two], "IN_DELETE": Cancel(one)}',
        f'one = TaskScheduler(record, delay={DELAY}, logname="one")\n'
        f'two = TaskScheduler(record, delay={DELAY}, logname="two")',
    )
    daemon = run(config, record=True)
    write(box.src / "f", "")
    (box.src / "f").unlink()
    daemon.wait_log("pyinotifyd/one .*scheduled task cancelled")
    daemon.wait_log("pyinotifyd/two .*task finished")
    assert daemon.count("pyinotifyd/one .*start task") == 0


# ---- files and dirs


@pytest.mark.parametrize(
    ("files", "dirs", "wanted"),
    [(True, False, ["f"]), (False, True, ["d"]), (True, True, ["d", "f"]), (False, False, [])],
)
def test_files_and_dirs_choose(run: Run, box: Box, files: bool, dirs: bool, wanted: list[str]) -> None:
    config = watching(
        '{"IN_CREATE": [sched, every]}',
        f"sched = TaskScheduler(record, files={files}, dirs={dirs})\n"
        f'every = TaskScheduler(record, files=True, dirs=True, logname="every")',
    )
    daemon = run(config, record=True)
    (box.src / "d").mkdir()
    write(box.src / "f")
    write(box.src / "last")
    daemon.wait_log("pyinotifyd/every .*task finished.*/last,")
    if files:
        daemon.wait_log("pyinotifyd/sched .*task finished.*/last,")
    started = [
        record.fields["path"] for record in daemon.records if record.logger == "sched" and record.said == "start task"
    ]
    assert sorted(path.rpartition("/")[2] for path in started if not path.endswith("last")) == wanted


def test_by_default_files_only(run: Run, box: Box) -> None:
    daemon = run(watching('{"IN_CREATE": TaskScheduler(record)}'), record=True)
    (box.src / "d").mkdir()
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    assert daemon.heard(box.src / "d") == []


# ---- several tasks, several schedulers


def test_tasks_of_different_paths_are_independent_and_run_in_parallel(run: Run, box: Box) -> None:
    daemon = run(HELD + one_scheduler("", "held"), record=True)
    for number in range(20):
        write(box.src / f"f{number}", "")
    daemon.wait_out("BEGUN", count=20)
    write(box.tmp / "go")
    daemon.wait_log("task finished", count=20)


def test_schedulers_of_a_list_start_in_order(run: Run, box: Box) -> None:
    names = ["b", "a", "c"]
    schedulers = "\n".join(f'{name} = TaskScheduler(record, logname="{name}")' for name in names)
    daemon = run(watching('{"IN_CREATE": [b, a, c]}', schedulers), record=True)
    write(box.src / "f")
    daemon.wait_log("task finished", count=3)
    assert [record.logger for record in daemon.records if record.said == "start task"] == names


def test_schedulers_of_a_list_run_in_parallel(run: Run, box: Box) -> None:
    config = HELD + watching(
        '{"IN_CREATE": [one, two]}',
        'one = TaskScheduler(held, logname="one")\ntwo = TaskScheduler(record, logname="two")',
    )
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_out("BEGUN")
    daemon.wait_log("pyinotifyd/two .*task finished")
    assert daemon.count("pyinotifyd/one .*task finished") == 0


def test_the_same_scheduler_twice_in_a_list_is_skipped_the_second_time(run: Run, box: Box) -> None:
    daemon = run(watching('{"IN_CREATE": [sched, sched]}', "sched = TaskScheduler(record)"), record=True)
    write(box.src / "f")
    daemon.wait_log("task finished.*/f,")
    assert daemon.count("skip event due to ongoing task.*/f,") == 1
    assert daemon.heard(box.src / "f") == ["IN_CREATE"]


def test_an_empty_list_does_nothing(run: Run, box: Box) -> None:
    daemon = run(watching('{"IN_CREATE": [], "IN_CLOSE_WRITE": TaskScheduler(record)}'), record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    assert daemon.heard(box.src / "f") == ["IN_CLOSE_WRITE"]


def test_a_scheduler_shared_by_two_watches_shares_its_tasks(run: Run, box: Box) -> None:
    config = f"""
sched = TaskScheduler(record, delay={DELAY})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": sched}}), Watch("$SRC", {{"IN_DELETE": Cancel(sched)}})])
"""
    daemon = run(config, record=True)
    write(box.src / "f", "")
    daemon.wait_log("schedule task")
    (box.src / "f").unlink()
    daemon.wait_log("scheduled task cancelled, mask=IN_DELETE")


def test_two_schedulers_have_tasks_of_their_own(run: Run, box: Box) -> None:
    config = watching(
        '{"IN_CREATE": [one, two]}',
        f'one = TaskScheduler(record, delay={DELAY}, logname="one")\ntwo = TaskScheduler(record, logname="two")',
    )
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_log("task finished", count=2)
    assert len(daemon.task_ids(box.src / "f")) == 2


def test_a_bare_coroutine_has_a_scheduler_for_each_flag(run: Run, box: Box) -> None:
    """So that create and close of one file both run: two schedulers, not one that skips."""
    daemon = run(watching('{"IN_CREATE": record, "IN_CLOSE_WRITE": record}'), record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    assert daemon.count("skip event") == 0
    assert daemon.count("pyinotifyd/sched - INFO - start task") == 2


def test_default_sched_is_used_for_all_events_and_event_map_overrides(run: Run, box: Box) -> None:
    config = """
from pyinotifyd import EventMap
sched = TaskScheduler(record, logname="default")
other = TaskScheduler(record, logname="other")
pyinotifyd = Pyinotifyd([Watch("$SRC", EventMap(default_sched=sched, event_map={"IN_DELETE": other,
    "IN_MODIFY": None}))])
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/default .*task finished, mask=IN_CREATE, path=.*/f,")
    (box.src / "f").unlink()
    daemon.wait_log("pyinotifyd/other .*task finished, mask=IN_DELETE, path=.*/f,")
    assert daemon.count("mask=IN_MODIFY") == 0
    assert daemon.count("pyinotifyd/default .*mask=IN_DELETE,") == 0


def test_default_sched_of_a_watch(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", default_sched=TaskScheduler(record))])', record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")


# ---- singlejob


def test_singlejob_schedules_one_task_anew_for_any_path(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(f", delay={DELAY}, singlejob=True"), record=True)
    write(box.src / "a", "")
    daemon.wait_log(f"schedule task.*{box.src}/a,")
    write(box.src / "b", "")
    daemon.wait_log(f"re-schedule task.*{box.src}/b,")
    daemon.wait_log(f"task finished.*{box.src}/b,")
    assert daemon.heard(box.src / "a") == []
    assert daemon.heard(box.src / "b") == ["IN_CREATE"]
    assert daemon.task_ids(box.src / "a") == daemon.task_ids(box.src / "b")


def test_singlejob_is_cancelled_by_any_path(run: Run, box: Box) -> None:
    write(box.src / "other")
    daemon = run(one_scheduler(f", delay={DELAY}, singlejob=True"), record=True)
    write(box.src / "a", "")
    daemon.wait_log(f"schedule task.*{box.src}/a,")
    (box.src / "other").unlink()
    daemon.wait_log("scheduled task cancelled")


def test_singlejob_skips_other_paths_while_it_runs(run: Run, box: Box) -> None:
    daemon = run(HELD + one_scheduler(", singlejob=True", "held"), record=True)
    write(box.src / "a", "")
    daemon.wait_out("BEGUN")
    write(box.src / "b", "")
    daemon.wait_log(f"skip event due to ongoing task, mask=IN_CREATE, path={box.src}/b,")
    write(box.tmp / "go")
    daemon.wait_log("task finished")
    assert len([line for line in daemon.out.lines if line.startswith("BEGUN") and "mark" not in line]) == 1


# ---- jobs


def test_a_job_that_raises_leaves_an_error_with_its_text_and_traceback(run: Run, box: Box) -> None:
    config = "async def bad(event, task_id):\n    raise ValueError('the reason')\n" + watching(
        '{"IN_CREATE": TaskScheduler(bad)}'
    )
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log("ERROR - .*")
    daemon.wait_log("ValueError: the reason")
    daemon.wait_log("Traceback")
    daemon.wait_log("in bad")
    assert daemon.count("task finished") == 0


def test_after_a_job_raised_the_next_event_works(run: Run, box: Box) -> None:
    config = "async def bad(event, task_id):\n    raise ValueError('again')\n" + watching(
        '{"IN_CREATE": TaskScheduler(bad)}'
    )
    daemon = run(config)
    for _ in range(2):
        raised = daemon.count("ValueError: again")
        write(box.src / "f", "")
        daemon.wait_log("ValueError: again", count=raised + 1)
        (box.src / "f").unlink()
    assert daemon.count("start task") == 2
    assert daemon.terminate() == 0


def test_cancelled_error_out_of_a_job_is_a_warning(run: Run, box: Box) -> None:
    config = "import asyncio\nasync def bad(event, task_id):\n    raise asyncio.CancelledError\n" + watching(
        '{"IN_CREATE": TaskScheduler(bad)}'
    )
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_log(f"sched - WARNING - ongoing task cancelled, mask=IN_CREATE, path={box.src}/f, task_id=")


def test_a_job_sees_its_module(run: Run, box: Box) -> None:
    config = """
import os
SEEN = "a global"
def describe(event): return SEEN + " " + os.path.basename(event.pathname)
async def job(event, task_id):
    print("JOB", describe(event), flush=True)
""" + watching('{"IN_CREATE": TaskScheduler(job=job, global_vars=globals())}')
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_out("JOB a global f")


@pytest.mark.parametrize("global_vars", ["", ", global_vars={}", ", global_vars=globals()"])
def test_global_vars_changes_nothing(run: Run, box: Box, global_vars: str) -> None:
    config = "X = 'here'\nasync def job(event, task_id):\n    print('JOB', X, flush=True)\n"
    daemon = run(config + watching(f'{{"IN_CREATE": TaskScheduler(job{global_vars})}}'))
    write(box.src / "f")
    daemon.wait_out("JOB here")


def test_a_bound_method_is_a_job(run: Run, box: Box) -> None:
    config = """
class Thing:
    count = 0
    async def job(self, event, task_id):
        self.count += 1
        print("JOB", self.count, flush=True)
""" + watching('{"IN_CREATE": TaskScheduler(Thing().job)}')
    daemon = run(config)
    write(box.src / "a")
    daemon.wait_out("JOB 1")
    write(box.src / "b")
    daemon.wait_out("JOB 2")


def test_a_nested_coroutine_is_a_job(run: Run, box: Box) -> None:
    config = """
def make(word):
    async def job(event, task_id):
        print("JOB", word, flush=True)
    return job
""" + watching('{"IN_CREATE": TaskScheduler(make("inner"))}')
    daemon = run(config)
    write(box.src / "f")
    daemon.wait_out("JOB inner")


def test_jobs_may_use_asyncio_in_full(run: Run, box: Box) -> None:
    config = """
import asyncio
async def job(event, task_id):
    process = await asyncio.create_subprocess_exec("cat", event.pathname, stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    doubled = await asyncio.to_thread(lambda: text.decode() * 2)
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.01)
    except asyncio.TimeoutError:
        print("JOB", doubled, process.returncode, await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0,
            2)), flush=True)
""" + watching('{"IN_CLOSE_WRITE": TaskScheduler(job)}')
    daemon = run(config)
    write(box.src / "f", "ab")
    daemon.wait_out(r"JOB abab 0 \[1, 2\]")


def test_the_scheduler_logs_under_its_logname(run: Run, box: Box) -> None:
    daemon = run(one_scheduler(', logname="uploads"'), record=True)
    write(box.src / "f", "")
    daemon.wait_log("pyinotifyd/uploads - INFO - task finished")


def test_a_created_file_that_is_left_alone_runs_once_after_the_delay(run: Run, box: Box) -> None:
    """create and close schedule, modify, delete and move away cancel, a move in schedules under the new name."""
    config = watching(
        """{"IN_CREATE": sched, "IN_CLOSE_WRITE": sched, "IN_MODIFY": Cancel(sched), "IN_DELETE": Cancel(sched),
            "IN_MOVED_FROM": Cancel(sched), "IN_MOVED_TO": sched}""",
        f"sched = TaskScheduler(record, delay={DELAY})",
    )
    daemon = run(config, record=True)
    write(box.src / "left-alone")
    write(box.src / "deleted")
    (box.src / "deleted").unlink()
    write(box.src / "moved")
    (box.src / "moved").rename(box.src / "new-name")
    daemon.wait_log("task finished.*/new-name,")
    daemon.wait_log("task finished.*/left-alone,")
    write(box.src / "end", "")
    daemon.wait_log("task finished.*/end,")
    assert daemon.heard(box.src / "left-alone") == ["IN_CLOSE_WRITE"]
    assert daemon.heard(box.src / "new-name") == ["IN_MOVED_TO"]
    assert daemon.heard(box.src / "deleted") == []
    assert daemon.heard(box.src / "moved") == []


def test_two_thousand_tasks_each_run_once(run: Run, box: Box) -> None:
    daemon = run('setLoglevel(WARNING, "sched")\n' + watching('{"IN_CREATE": TaskScheduler(record)}'), record=True)
    for number in range(2000):
        (box.src / f"f{number}").touch()
    daemon.wait_out("EVENT", count=2000)
    (box.src / "last").touch()
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert len(daemon.events) == 2001
