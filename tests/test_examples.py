"""Configs as users write them: one of each kind of task, with the names of the documentation, on real directories.

Each is loaded as it stands (only the paths are the test's own) and its main job is watched being done.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from vocabulary import DELAY, REFERENCE, Box, Daemon, tree, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original refuses its own documented spelling")


def test_custom_job_with_all_arguments(run: Run, box: Box) -> None:
    config = """
import asyncio
import logging

async def example(event, task_id):
    await asyncio.sleep(0.1)
    logging.info(f"{task_id}: seen {event}")

example_sched = TaskScheduler(
    job=example,
    files=True,
    dirs=False,
    delay=0,
    logname="sched",
    global_vars=globals(),
    singlejob=False)

pyinotifyd = Pyinotifyd(
    watches=[],
    shutdown_timeout=30,
    logname="daemon")
pyinotifyd.add_watch(
    path="$SRC",
    event_map={"IN_CREATE": example_sched})
"""
    daemon = run(config)
    write(box.src / "f")
    identifier = daemon.wait_log(r"start task.*task_id=([0-9a-f-]{36})").group(1)
    text = re.escape(
        f"<Event dir=False mask=0x100 maskname=IN_CREATE name=f path={box.src} pathname={box.src}/f wd=1 >"
    )
    daemon.wait_log(f"pyinotifyd/root - INFO - {identifier}: seen {text}$")


def test_shell_task_with_all_placeholders(run: Run, box: Box) -> None:
    (box.tmp / "task.sh").write_text('#!/bin/sh\necho "got: $1|$2|$3|$#"\n')
    (box.tmp / "task.sh").chmod(0o755)
    config = """
shell_sched = ShellScheduler(
    cmd="$TMP/task.sh {maskname} {pathname} {src_pathname}")
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
    path="$SRC",
    event_map={"IN_MOVED_FROM": None, "IN_MOVED_TO": shell_sched, "IN_CREATE": shell_sched})
"""
    daemon = run(config)
    write(box.src / "a")
    daemon.wait_out(re.escape(f"got: IN_CREATE|{box.src}/a||3"))
    (box.src / "a").rename(box.src / "b")
    daemon.wait_out(re.escape(f"got: IN_MOVED_TO|{box.src}/b|{box.src}/a|3"))


@ours_only
def test_file_rules_with_all_arguments_and_strings_that_are_not_raw(run: Run, box: Box) -> None:
    """`\\g` in a plain string is no Python escape and stays as it is; `.` before the suffix need not be escaped."""
    config = """
move_rule = FileManagerRule(
    action="move",
    src_re="^$SRC/(?P<path>.*).to_move$",
    dst_re="$DST/\\g<path>",
    auto_create=False,
    rec=False,
    filemode=None,
    dirmode=None,
    user=None,
    group=None,
    override=False)

delete_rule = FileManagerRule(
    action="delete",
    src_re="^$SRC/(?P<path>.*).to_delete$",
    rec=False)

file_sched = FileManagerScheduler(
    rules=[move_rule, delete_rule])

pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(path="$SRC", event_map={"IN_CLOSE_WRITE": file_sched})
"""
    daemon = run(config)
    write(box.src / "a.to_move", "A")
    write(box.src / "b.to_delete", "B")
    write(box.src / "c.to_stay", "C")
    daemon.wait_log("task finished", count=2)
    assert tree(box.dst) == {"a": "A"}
    assert tree(box.src) == {"c.to_stay": "C"}


def test_event_map_of_all_fifteen_events_with_cancel(run: Run, box: Box) -> None:
    config = f"""
task_sched = TaskScheduler(job=record, delay={DELAY})
event_map = {{
    "IN_ACCESS": None,
    "IN_ATTRIB": None,
    "IN_CLOSE_NOWRITE": None,
    "IN_CLOSE_WRITE": task_sched,
    "IN_CREATE": task_sched,
    "IN_DELETE": Cancel(task_sched),
    "IN_DELETE_SELF": Cancel(task_sched),
    "IN_IGNORED": None,
    "IN_MODIFY": Cancel(task_sched),
    "IN_MOVE_SELF": None,
    "IN_MOVED_FROM": Cancel(task_sched),
    "IN_MOVED_TO": task_sched,
    "IN_OPEN": None,
    "IN_Q_OVERFLOW": None,
    "IN_UNMOUNT": Cancel(task_sched)}}
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(path="$SRC", event_map=event_map)
"""
    daemon = run(config, record=True)
    write(box.src / "finished")
    with open(box.src / "unfinished", "w") as file:
        file.write("x")
        file.flush()
        daemon.wait_event("IN_CLOSE_WRITE", box.src / "finished")
        # It was created before the other one was closed, and modified: nothing waits for it.
        assert daemon.heard(box.src / "unfinished") == []
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "unfinished")
    assert daemon.heard(box.src / "finished") == ["IN_CLOSE_WRITE"]


@ours_only
def test_event_map_with_a_default_scheduler_without_import(run: Run, box: Box) -> None:
    config = """
import logging

async def every(event, task_id):
    logging.info(f"{task_id}: {event}")

every_sched = TaskScheduler(
    job=every,
    files=True,
    dirs=True)

event_map = EventMap(
    default_sched=every_sched)

pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
\tpath="$SRC",
\tevent_map=event_map,
\trec=True,
\tauto_add=True)
"""
    daemon = run(config)
    (box.src / "d").mkdir()
    daemon.wait_log(r"maskname=IN_CREATE\|IN_ISDIR name=d path=\S+ pathname=\S+/src/d wd=1 >")
    wait_until(lambda: (box.src / "d" / "f").write_text("x") and daemon.count("name=f path="), lambda: daemon.tail)
    # What comes while the task of the same path runs is skipped, so it may take more than one.
    number = 0

    def deleted() -> bool:
        nonlocal number
        number += 1
        (box.tmp / f"e{number}").touch()
        (box.tmp / f"e{number}").rename(box.src / "d" / f"e{number}")
        daemon.wait_log(f"task finished, mask=IN_MOVED_TO, path={box.src}/d/e{number},")
        (box.src / "d" / f"e{number}").unlink()
        daemon.wait_log(f"(task finished|skip event due to ongoing task), mask=IN_DELETE, path={box.src}/d/e{number},")
        return daemon.count("task finished, mask=IN_DELETE, ") > 0

    wait_until(deleted, lambda: daemon.tail)


@ours_only
def test_shell_command_on_write_close_in_all_subdirectories(run: Run, box: Box) -> None:
    config = """
shell_sched = ShellScheduler(
    cmd="echo got {pathname}",
    files=True,
    dirs=False)

event_map = {
    "IN_WRITE_CLOSE": shell_sched}

pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
\tpath="$SRC",
\tevent_map=event_map,
\trec=True,
\tauto_add=True)
"""
    (box.src / "old").mkdir()
    daemon = run(config)
    (box.src / "new").mkdir()
    for path in (box.src / "old" / "f", box.src / "new" / "f"):
        write(path)
        daemon.wait_out(f"^got {path}$")


def test_move_copy_delete_after_a_delay(run: Run, box: Box) -> None:
    config = (
        r"""
move_rule = FileManagerRule(
    action="move",
    src_re="^$SRC/(?P<path>.*)\.to_move$",
    dst_re="$DST/\g<path>",
    auto_create=True,
    filemode=0o644,
    dirmode=0o755)

copy_rule = FileManagerRule(
    action="copy",
    src_re="^$SRC/(?P<path>.*)\.to_copy$",
    dst_re="$DST/\g<path>",
    auto_create=True,
    filemode=0o644,
    dirmode=0o755)

delete_rule = FileManagerRule(
    action="delete",
    src_re="^$SRC/(?P<path>.*)\.to_delete$",
    rec=False)

file_sched = FileManagerScheduler(
    rules=[move_rule, copy_rule, delete_rule],
    delay=$DELAY,
    files=True,
    dirs=False)

event_map = {
    "IN_CLOSE_WRITE": file_sched,
    "IN_CREATE": file_sched,
    "IN_DELETE": Cancel(file_sched),
    "IN_DELETE_SELF": Cancel(file_sched),
    "IN_MODIFY": Cancel(file_sched),
    "IN_MOVED_FROM": Cancel(file_sched),
    "IN_MOVED_TO": file_sched,
    "IN_UNMOUNT": Cancel(file_sched)}

pyinotifyd = Pyinotifyd(shutdown_timeout=35)
pyinotifyd.add_watch(
"""
        '\tpath="$SRC",\n\tevent_map=event_map,\n\trec=True,\n\tauto_add=True)\n'
    )
    daemon = run(config)
    (box.src / "sub").mkdir()
    wait_until(lambda: daemon.watches_path(box.src / "sub"))
    for name in ("sub/a.to_move", "sub/b.to_copy", "c.to_delete", "d.other", "e.to_move"):
        write(box.src / name, name)
    (box.src / "e.to_move").unlink()
    daemon.wait_log("task finished", count=3)
    assert tree(box.dst) == {"sub": "dir", "sub/a": "sub/a.to_move", "sub/b": "sub/b.to_copy"}
    assert tree(box.src) == {"d.other": "d.other", "sub": "dir", "sub/b.to_copy": "sub/b.to_copy"}
    assert daemon.count("scheduled task cancelled") >= 1
    assert daemon.count("ERROR") == 0


def test_a_watch_added_in_both_ways_with_a_filter(run: Run, box: Box) -> None:
    config = """
event_map = recorder("IN_CREATE")
pyinotifyd = Pyinotifyd()
pyinotifyd.add_watch(
    path="$SRC",
    event_map=event_map,
    rec=True,
    auto_add=False,
    exclude_filter=["^$SRC/subpath$"])
w = Watch(
    path="$DST",
    event_map=event_map,
    rec=False,
    auto_add=False,
    exclude_filter=["^$DST/subpath$"])
pyinotifyd.add_watch(watch=w)
"""
    daemon = run(config, record=True)
    for directory in (box.src, box.dst):
        write(directory / "subpath")
        write(directory / "other")
        daemon.wait_event("IN_CREATE", directory / "other")
        assert daemon.heard(directory / "subpath") == []


@ours_only
def test_levels_and_syslog_as_documented(run: Run, box: Box) -> None:
    import socket

    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(box.tmp / "log"))
    server.settimeout(30)
    try:
        config = """
setLoglevel(INFO)
setLoglevel(INFO, logname="daemon")
enableSyslog(loglevel=INFO, address="$TMP/log")
pyinotifyd = Pyinotifyd([Watch("$SRC", {})])
"""
        run(config)
        assert b"start listening" in server.recv(65536)
    finally:
        server.close()


@ours_only
def test_the_quickstart_does_its_job(box: Box) -> None:
    """The example of the README: it makes its own directories, and says what to try."""
    from pathlib import Path

    example = Path(__file__).parent.parent / "examples" / "quickstart.py"
    if not example.exists():
        pytest.skip("examples/quickstart.py is not there")
    daemon = box.call("-t", "-c", example, env={"TMPDIR": str(box.tmp), "HOME": str(box.tmp)}, cwd=box.dst)
    assert daemon.exit_code == 0, daemon.tail


@ours_only
def test_all_examples_load(box: Box) -> None:
    from pathlib import Path

    examples = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
    if not examples:
        pytest.skip("there are no examples")
    for example in examples:
        daemon = box.call("-t", "-c", example, env={"TMPDIR": str(box.tmp), "HOME": str(box.tmp)}, cwd=box.dst)
        assert daemon.exit_code == 0, f"{example}: {daemon.tail}"
        assert os.path.exists(box.dst)
