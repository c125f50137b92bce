"""Which events a job gets, and what it sees of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import EVENT_NAMES, Box, Daemon, drop, wait_until, write

Run = Callable[..., Daemon]

# All events of files and directories in $SRC, one scheduler a flag.
ALL = """
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder(%s), rec=%s, auto_add=%s)])
"""


def everything(rec: bool = False, auto_add: bool = False) -> str:
    return ALL % (", ".join(f'"{name}"' for name in EVENT_NAMES), rec, auto_add)


def only(*flags: str, rec: bool = False, auto_add: bool = False) -> str:
    return ALL % (", ".join(f'"{name}"' for name in flags), rec, auto_add)


# ---- each event under its name


def test_create_of_a_file_is_in_create(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / "f")
    assert daemon.wait_event("IN_CREATE", box.src / "f").mask == 0x100


def test_create_of_a_directory_has_isdir_in_its_maskname(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    (box.src / "d").mkdir()
    event = daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "d")
    assert event.mask == 0x40000100
    assert event.dir is True


def test_opening_and_closing_for_write(run: Run, box: Box) -> None:
    daemon = run(only("IN_OPEN", "IN_CLOSE_WRITE"), record=True)
    write(box.src / "f")
    assert daemon.wait_event("IN_OPEN", box.src / "f").mask == 0x20
    assert daemon.wait_event("IN_CLOSE_WRITE", box.src / "f").mask == 0x8


def test_reading_is_access_and_close_nowrite(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(only("IN_ACCESS", "IN_CLOSE_NOWRITE"), record=True)
    (box.src / "f").read_bytes()
    assert daemon.wait_event("IN_ACCESS", box.src / "f").mask == 0x1
    assert daemon.wait_event("IN_CLOSE_NOWRITE", box.src / "f").mask == 0x10


def test_writing_is_modify(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(only("IN_MODIFY"), record=True)
    with open(box.src / "f", "a") as file:
        file.write("more")
    assert daemon.wait_event("IN_MODIFY", box.src / "f").mask == 0x2


def test_chmod_is_attrib(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(only("IN_ATTRIB"), record=True)
    (box.src / "f").chmod(0o600)
    assert daemon.wait_event("IN_ATTRIB", box.src / "f").mask == 0x4


def test_unlink_is_delete(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(only("IN_DELETE"), record=True)
    (box.src / "f").unlink()
    assert daemon.wait_event("IN_DELETE", box.src / "f").mask == 0x200


def test_rename_is_moved_from_and_moved_to(run: Run, box: Box) -> None:
    write(box.src / "a")
    daemon = run(only("IN_MOVED_FROM", "IN_MOVED_TO"), record=True)
    (box.src / "a").rename(box.src / "b")
    assert daemon.wait_event("IN_MOVED_FROM", box.src / "a").mask == 0x40
    assert daemon.wait_event("IN_MOVED_TO", box.src / "b").mask == 0x80


def test_chmod_of_the_watched_directory_itself_is_attrib_without_name(run: Run, box: Box) -> None:
    daemon = run(only("IN_ATTRIB"), record=True)
    box.src.chmod(0o711)
    event = daemon.wait_event("IN_ATTRIB|IN_ISDIR", box.src)
    assert event.name == ""
    assert event.path == str(box.src)


def test_removal_of_a_watched_directory_is_delete_self_then_ignored(run: Run, box: Box) -> None:
    (box.src / "d").mkdir()
    daemon = run(everything(rec=True), "-d", record=True)
    (box.src / "d").rmdir()
    daemon.wait_received("IN_DELETE|IN_ISDIR", box.src / "d")
    names = [event.maskname for event in daemon.received if event.pathname == str(box.src / "d")]
    names = [name for name in names if name in ("IN_DELETE_SELF", "IN_IGNORED", "IN_DELETE|IN_ISDIR")]
    assert names == ["IN_DELETE_SELF", "IN_IGNORED", "IN_DELETE|IN_ISDIR"]
    daemon.wait_event("IN_DELETE_SELF", box.src / "d")
    daemon.wait_event("IN_IGNORED", box.src / "d")
    daemon.wait_event("IN_DELETE|IN_ISDIR", box.src / "d")


def test_removal_of_the_root_is_delete_self_then_ignored(run: Run, box: Box) -> None:
    daemon = run(only("IN_DELETE_SELF", "IN_IGNORED"), record=True)
    box.src.rmdir()
    deleted = daemon.wait_event("IN_DELETE_SELF", box.src)
    ignored = daemon.wait_event("IN_IGNORED", box.src)
    assert deleted.mask == 0x400
    assert ignored.mask == 0x8000
    assert daemon.running


def test_dir_is_true_of_delete_self_of_a_directory_and_false_of_ignored(run: Run, box: Box) -> None:
    daemon = run(only("IN_DELETE_SELF", "IN_IGNORED"), record=True)
    box.src.rmdir()
    assert daemon.wait_event("IN_DELETE_SELF", box.src).dir is True
    assert daemon.wait_event("IN_IGNORED", box.src).dir is False


def test_move_of_a_watched_directory_is_move_self(run: Run, box: Box) -> None:
    (box.src / "d").mkdir()
    daemon = run(only("IN_MOVE_SELF", "IN_MOVED_TO", rec=True), record=True)
    (box.src / "d").rename(box.src / "e")
    event = daemon.wait_event("IN_MOVE_SELF", box.src / "e")
    assert event.mask == 0x800
    assert event.dir is True


def test_unlink_of_a_watched_file_is_attrib_delete_self_ignored(run: Run, box: Box) -> None:
    write(box.src / "f")
    config = 'pyinotifyd = Pyinotifyd([Watch("$SRC/f", recorder("IN_ATTRIB", "IN_DELETE_SELF", "IN_IGNORED"))])'
    daemon = run(config, record=True)
    (box.src / "f").unlink()
    daemon.wait_event("IN_ATTRIB", box.src / "f")
    assert daemon.wait_event("IN_DELETE_SELF", box.src / "f").dir is False
    daemon.wait_event("IN_IGNORED", box.src / "f")


def test_unmount_is_delivered_with_isdir_and_then_ignored(run: Run, box: Box, root: None) -> None:
    assert os.system(f"mount -t tmpfs none {box.src}") == 0
    try:
        daemon = run(only("IN_UNMOUNT", "IN_IGNORED"), record=True)
    finally:
        # It must not be busy: a watched mount is never held.
        assert os.system(f"umount {box.src}") == 0
    assert daemon.wait_event("IN_UNMOUNT|IN_ISDIR", box.src).mask == 0x40002000
    daemon.wait_event("IN_IGNORED", box.src)


def test_a_directory_event_is_dispatched_by_the_name_without_isdir(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE", "IN_DELETE"), record=True)
    (box.src / "d").mkdir()
    (box.src / "d").rmdir()
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "d")
    daemon.wait_event("IN_DELETE|IN_ISDIR", box.src / "d")


def test_an_event_that_is_not_mapped_runs_nothing(run: Run, box: Box) -> None:
    daemon = run(only("IN_DELETE"), record=True)
    write(box.src / "f")
    (box.src / "f").unlink()
    daemon.wait_event("IN_DELETE", box.src / "f")
    assert daemon.heard(box.src / "f") == ["IN_DELETE"]


def test_an_event_mapped_to_none_runs_nothing(run: Run, box: Box) -> None:
    daemon = run(
        'm = recorder("IN_DELETE"); m["IN_CREATE"] = None\npyinotifyd = Pyinotifyd([Watch("$SRC", m)])',
        record=True,
    )
    write(box.src / "f")
    (box.src / "f").unlink()
    daemon.wait_event("IN_DELETE", box.src / "f")
    assert daemon.heard(box.src / "f") == ["IN_DELETE"]


# ---- what an event holds


def test_attributes_of_a_plain_event(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / "f")
    event = daemon.wait_event("IN_CREATE", box.src / "f")
    wanted = {
        "mask": 0x100,
        "maskname": "IN_CREATE",
        "path": str(box.src),
        "name": "f",
        "pathname": str(box.src / "f"),
        "dir": False,
        "wd": 1,
    }
    assert {key: value for key, value in event.attributes.items() if key not in ("task_id", "text", "repr")} == wanted


def test_attributes_that_do_not_apply_are_absent(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / "f")
    event = daemon.wait_event("IN_CREATE", box.src / "f")
    for absent in ("cookie", "src_pathname", "synthetic"):
        assert absent not in event.attributes


def test_text_of_a_plain_event(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / "f")
    event = daemon.wait_event("IN_CREATE", box.src / "f")
    assert (
        event.text
        == f"<Event dir=False mask=0x100 maskname=IN_CREATE name=f path={box.src} pathname={box.src}/f wd=1 >"
    )
    assert event.repr == event.text


def test_text_of_a_self_event_shows_the_empty_name_in_quotes(run: Run, box: Box) -> None:
    daemon = run(only("IN_ATTRIB"), record=True)
    box.src.chmod(0o711)
    event = daemon.wait_event("IN_ATTRIB|IN_ISDIR", box.src)
    text = (
        f"<Event dir=True mask=0x40000004 maskname=IN_ATTRIB|IN_ISDIR name='' path={box.src} pathname={box.src} wd=1 >"
    )
    assert event.text == text


def test_text_of_a_move_has_cookie_first_and_source_before_wd(run: Run, box: Box) -> None:
    write(box.src / "a")
    daemon = run(only("IN_MOVED_FROM", "IN_MOVED_TO"), record=True)
    (box.src / "a").rename(box.src / "b")
    moved = daemon.wait_event("IN_MOVED_TO", box.src / "b")
    assert re.fullmatch(
        rf"<Event cookie=\d+ dir=False mask=0x80 maskname=IN_MOVED_TO name=b path={box.src} "
        rf"pathname={box.src}/b src_pathname={box.src}/a wd=1 >",
        moved.text,
    )
    origin = daemon.wait_event("IN_MOVED_FROM", box.src / "a")
    assert re.fullmatch(
        rf"<Event cookie=\d+ dir=False mask=0x40 maskname=IN_MOVED_FROM name=a path={box.src} "
        rf"pathname={box.src}/a wd=1 >",
        origin.text,
    )
    assert origin.cookie == moved.cookie


def test_path_is_relative_where_the_watch_is_and_pathname_is_absolute(box: Box) -> None:
    daemon = box.run('pyinotifyd = Pyinotifyd([Watch("src", recorder("IN_CREATE"))])', record=True, cwd=box.tmp)
    write(box.src / "f")
    event = daemon.wait_event("IN_CREATE", box.src / "f")
    assert event.path == "src"
    assert event.name == "f"


def test_wd_numbers_count_up_from_one(run: Run, box: Box) -> None:
    for name in ("a", "b"):
        (box.src / name).mkdir()
    daemon = run(only("IN_CREATE", rec=True), record=True)
    for directory in (box.src, box.src / "a", box.src / "b"):
        write(directory / "f")
    root = daemon.wait_event("IN_CREATE", box.src / "f")
    below = [daemon.wait_event("IN_CREATE", box.src / name / "f").wd for name in ("a", "b")]
    assert root.wd == 1
    assert sorted(below) == [2, 3]


def test_each_run_has_a_task_id_of_its_own(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    for name in ("a", "b"):
        write(box.src / name)
    ids = [daemon.wait_event("IN_CREATE", box.src / name).task_id for name in ("a", "b")]
    assert len(set(ids)) == 2
    for identifier in ids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", identifier)


@pytest.mark.parametrize("kind", ["symlink", "symlink to a directory", "fifo", "hard link"])
def test_what_is_no_directory_is_a_file(run: Run, box: Box, kind: str) -> None:
    write(box.tmp / "target")
    daemon = run(only("IN_CREATE", auto_add=True), record=True)
    made = box.src / "made"
    if kind == "symlink":
        made.symlink_to(box.tmp / "target")
    elif kind == "symlink to a directory":
        made.symlink_to(box.dst)
    elif kind == "fifo":
        os.mkfifo(made)
    else:
        os.link(box.tmp / "target", made)
    event = daemon.wait_event("IN_CREATE", made)
    assert event.dir is False
    assert event.mask == 0x100


def test_a_link_to_a_directory_is_not_followed(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE", rec=True, auto_add=True), record=True)
    (box.src / "link").symlink_to(box.dst)
    daemon.wait_event("IN_CREATE", box.src / "link")
    write(box.dst / "f")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert not [event for event in daemon.events if event.pathname.endswith("/f")]


def test_chmod_of_a_watched_subdirectory_arrives_from_both_watches(run: Run, box: Box) -> None:
    (box.src / "d").mkdir()
    daemon = run(everything(rec=True), "-d", record=True)
    (box.src / "d").chmod(0o711)
    daemon.wait_received("IN_ATTRIB|IN_ISDIR", box.src / "d", count=2)


# ---- names


@pytest.mark.parametrize("name", ["a b", "ä€", "'", '"', "$(x)", "-rf", "a,b=c", "{pathname}", "%s", "x" * 255])
def test_a_job_gets_any_name_as_it_is(run: Run, box: Box, name: str) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / name)
    assert daemon.wait_event("IN_CREATE", box.src / name).name == name


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31m", "\x7f"])
def test_a_job_gets_a_name_with_control_characters_as_it_is(run: Run, box: Box, name: str) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    write(box.src / name)
    assert daemon.wait_event("IN_CREATE", box.src / name).name == name


def test_a_name_that_is_not_utf8_is_what_fsdecode_gives(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    name = b"caf\xe9-\xff\xfe"
    write(os.fsencode(box.src) + b"/" + name)
    event = daemon.wait_event("IN_CREATE", os.fsdecode(os.fsencode(box.src) + b"/" + name))
    assert event.name == os.fsdecode(name)
    assert event.path == str(box.src)


def test_a_name_that_is_not_utf8_hides_no_other(run: Run, box: Box) -> None:
    daemon = run(only("IN_CREATE"), record=True)
    paths = []
    for number in range(50):
        paths.append(box.src / f"file{number}")
        write(paths[-1])
        write(os.fsencode(box.src) + b"/bad\xff%d" % number)
    for path in paths:
        daemon.wait_event("IN_CREATE", path)
    wait_until(lambda: len(daemon.events) >= 100)


def test_a_directory_whose_name_is_not_utf8_is_watched(run: Run, box: Box) -> None:
    directory = os.fsencode(box.src) + b"/d\xff"
    os.mkdir(directory)
    daemon = run(only("IN_CREATE", rec=True, auto_add=True), record=True)
    write(directory + b"/f")
    os.mkdir(directory + b"/e\xfe")
    daemon.wait_event("IN_CREATE", os.fsdecode(directory + b"/f"))
    daemon.wait_event("IN_CREATE|IN_ISDIR", os.fsdecode(directory + b"/e\xfe"))
    write(directory + b"/e\xfe/g")
    daemon.wait_event("IN_CREATE", os.fsdecode(directory + b"/e\xfe/g"))


# ---- several watches


def test_two_watches_on_one_directory_both_deliver(run: Run, box: Box) -> None:
    config = """
one = TaskScheduler(job=record, logname="one")
two = TaskScheduler(job=record, logname="two")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": one}), Watch("$SRC", {"IN_CREATE": two})])
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_log("pyinotifyd/one - INFO - task finished")
    daemon.wait_log("pyinotifyd/two - INFO - task finished")
    daemon.wait_event("IN_CREATE", box.src / "f", count=2)


def test_two_watches_on_one_directory_each_have_their_own_map(run: Run, box: Box) -> None:
    config = """
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE")), Watch("$SRC", recorder("IN_CLOSE_WRITE"))])
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    write(box.src / "last")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "last")
    assert sorted(daemon.heard(box.src / "f")) == ["IN_CLOSE_WRITE", "IN_CREATE"]


def test_nested_roots_each_deliver_once(run: Run, box: Box) -> None:
    (box.src / "in").mkdir()
    config = """
outer = TaskScheduler(job=record, logname="outer")
inner = TaskScheduler(job=record, logname="inner")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": outer}, rec=True), Watch("$SRC/in", {"IN_CREATE": inner})])
"""
    daemon = run(config, record=True)
    for name in ("f", "last"):
        write(box.src / "in" / name)
        for logger in ("outer", "inner"):
            daemon.wait_log(f"pyinotifyd/{logger} - INFO - task finished.*in/{name},")
    for logger in ("outer", "inner"):
        assert daemon.count(f"pyinotifyd/{logger} - INFO - start task.*in/f,") == 1


def test_a_symlinked_root_and_its_target_deliver_under_their_own_names(run: Run, box: Box) -> None:
    (box.tmp / "link").symlink_to(box.src)
    config = """
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_CREATE")), Watch("$TMP/link", recorder("IN_CREATE"))])
"""
    daemon = run(config, record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    daemon.wait_event("IN_CREATE", box.tmp / "link" / "f")


# ---- the queue


def test_overflow_is_said_and_delivered_to_the_map(run: Run, box: Box) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"fs.inotify.max_queued_events = {limit} is too many to overflow in a test")
    daemon = overflow(run, box, only("IN_Q_OVERFLOW"), limit)
    event = wait_until(
        lambda: next((event for event in daemon.events if event.maskname == "IN_Q_OVERFLOW"), None), lambda: daemon.tail
    )
    assert event.mask == 0x4000
    assert event.dir is False
    assert not event.pathname
    assert "cookie" not in event.attributes
    assert "src_pathname" not in event.attributes
    daemon.wait_log("WARNING.*(?i:overflow)")


def test_events_after_an_overflow_flow_as_usual(run: Run, box: Box) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"fs.inotify.max_queued_events = {limit} is too many to overflow in a test")
    daemon = overflow(run, box, only("IN_Q_OVERFLOW", "IN_MOVED_TO"), limit)
    wait_until(lambda: any(event.maskname == "IN_Q_OVERFLOW" for event in daemon.events), lambda: daemon.tail)
    drop(box.src / "later")
    daemon.wait_event("IN_MOVED_TO", box.src / "later")


def overflow(run: Run, box: Box, config: str, limit: int) -> Daemon:
    """A daemon whose queue overflowed while it was stopped."""
    import signal

    # Attribute changes of two files in turn are not merged, are cheap, and leave no new entries behind.
    write(box.src / "a")
    write(box.src / "b")
    config = 'setLoglevel(ERROR, "sched")' + config.replace('recorder("', 'recorder("IN_ATTRIB", "')
    daemon = run(config, record=True)
    daemon.signal(signal.SIGSTOP)
    for _ in range(limit // 2 + 100):
        os.chmod(box.src / "a", 0o600)
        os.chmod(box.src / "b", 0o600)
    daemon.signal(signal.SIGCONT)
    return daemon
