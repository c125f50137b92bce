"""File rules: which rule, which destination, what is made, what is refused, and what is logged of it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import stat
from collections.abc import Callable

import pytest

from fuse import Filesystem
from vocabulary import REFERENCE, Box, Daemon, mode_of, tree, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")

MOVE = r'FileManagerRule("move", r"^$SRC/(?P<path>.*)\.in$", r"$DST/\g<path>"%s)'
COPY = r'FileManagerRule("copy", r"^$SRC/(?P<path>.*)\.in$", r"$DST/\g<path>"%s)'
DELETE = r'FileManagerRule("delete", r"^$SRC/.*\.in$"%s)'


def files(*rules: str, options: str = "", flags: str = "IN_CLOSE_WRITE IN_MOVED_TO") -> str:
    events = ", ".join(f'"{flag}": sched' for flag in flags.split())
    return (
        f"sched = FileManagerScheduler([{', '.join(rules)}]{options})\n"
        f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{{events}}}, rec=True, auto_add=True)])'
    )


def done(daemon: Daemon, box: Box, name: str) -> list[str]:
    """What was said of the task of this file until it finished: texts of its own id, whether or not they name the
    path.
    """
    daemon.wait_log(f"task (finished|failed: ).*path={re.escape(str(box.src / name))},")
    identifier = daemon.task_ids(box.src / name)[-1]
    texts = [record.text for record in daemon.records if identifier in record.text]
    return [re.sub(r"^task failed: |, (mask|task_id)=.*", "", text, flags=re.S) for text in texts]


def publish(box: Box, name: str, text: str = "content", mode: int | None = None) -> None:
    """Rename a finished file into the watched directory."""
    made = box.tmp / "made"
    write(made, text)
    if mode is not None:
        made.chmod(mode)
    made.rename(box.src / name)


def publish_tree(box: Box, name: str) -> None:
    made = box.tmp / "made-tree"
    (made / "sub" / "deeper").mkdir(parents=True)
    write(made / "a", "A")
    write(made / "sub" / "b", "B")
    (made / "sub" / "link").symlink_to("b")
    made.rename(box.src / name)


# What it publishes, as `t`.
TREE = {"t": "dir", "t/a": "A", "t/sub": "dir", "t/sub/b": "B", "t/sub/deeper": "dir", "t/sub/link": "-> b"}

# ---- which rule


def test_move_copy_and_delete(run: Run, box: Box) -> None:
    daemon = run(
        files(
            r'FileManagerRule("move", r"^$SRC/(.*)\.mv$", r"$DST/\1")',
            r'FileManagerRule("copy", r"^$SRC/(.*)\.cp$", r"$DST/\1")',
            r'FileManagerRule("delete", r"^$SRC/.*\.rm$")',
        )
    )
    for name in ("a.mv", "b.cp", "c.rm", "d.no"):
        publish(box, name, name)
    for name in ("a.mv", "b.cp", "c.rm"):
        daemon.wait_log(f"task finished.*{name},")
    assert tree(box.src) == {"b.cp": "b.cp", "d.no": "d.no"}
    assert tree(box.dst) == {"a": "a.mv", "b": "b.cp"}


def test_the_first_matching_rule_is_used(run: Run, box: Box) -> None:
    daemon = run(
        files(r'FileManagerRule("copy", "^$SRC/a", "$DST/first")', r'FileManagerRule("move", "^$SRC/", "$DST/second")')
    )
    publish(box, "a")
    done(daemon, box, "a")
    assert tree(box.dst) == {"first": "content"}


def test_a_rule_matches_at_the_start_and_need_not_reach_the_end(run: Run, box: Box) -> None:
    daemon = run(files(r'FileManagerRule("move", "^$SRC/", "$DST/")', r'FileManagerRule("delete", "x", "")'))
    publish(box, "x")
    done(daemon, box, "x")
    assert tree(box.dst) == {"x": "content"}


def test_no_rule_no_task_and_a_debug_record(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""), "-d")
    publish(box, "other")
    daemon.wait_log(f"sched - DEBUG - no rule in ruleset matches, mask=IN_MOVED_TO, path={box.src}/other$")
    assert daemon.count("start task") == 0


def test_no_rule_is_silent_without_debug(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    publish(box, "other")
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert daemon.said(box.src / "other") == []


def test_cancel_needs_no_rule(run: Run, box: Box) -> None:
    config = (
        r"sched = FileManagerScheduler([" + MOVE % "" + "], delay=$DELAY)\n"
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": sched, "IN_DELETE": Cancel(sched)})])'
    )
    daemon = run(config)
    write(box.src / "a.in")
    daemon.wait_log("schedule task")
    (box.src / "a.in").unlink()
    daemon.wait_log("scheduled task cancelled")


def test_after_a_delay(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % "", options=", delay=$DELAY"))
    publish(box, "a.in")
    daemon.wait_log("schedule task, delay=")
    assert tree(box.dst) == {}
    done(daemon, box, "a.in")
    assert tree(box.dst) == {"a": "content"}


# ---- which destination


@pytest.mark.parametrize(
    ("pattern", "template", "name", "wanted"),
    [
        (r"^$SRC/(.*)\.in$", r"$DST/\1.out", "a.in", "a.out"),
        (r"^$SRC/(.*)\.in$", r"$DST/\g<1>0", "a.in", "a0"),
        (r"^$SRC/(?P<stem>.*)\.in$", r"$DST/\g<stem>", "a.in", "a"),
        (r"^$SRC/", r"$DST/", "a.in", "a.in"),
        (r"^$SRC/(a)(b)?\.in$", r"$DST/\1\2c", "a.in", "ac"),
        (r"^$SRC/(?P<a>\w)-(?P<b>\w)\.in$", r"$DST/\g<b>-\g<a>", "x-y.in", "y-x"),
        (r"^$SRC/(?=.*\.in$)(.)(.*)$", r"$DST/\2\1", "ab.in", "b.ina"),
        (r"^$SRC/(\w)\1\.in$", r"$DST/twice-\1", "aa.in", "twice-a"),
        (r"(?i)^$SRC/(.*)\.IN$", r"$DST/\1", "a.in", "a"),
        (r"^$SRC/(ä+)\.in$", r"$DST/\1\1", "ä.in", "ää"),
    ],
)
def test_destination_is_pythons_substitution(
    run: Run, box: Box, pattern: str, template: str, name: str, wanted: str
) -> None:
    daemon = run(files(f'FileManagerRule("move", r"{pattern}", r"{template}")'))
    publish(box, name)
    done(daemon, box, name)
    assert tree(box.dst) == {wanted: "content"}


def test_subdirectories_are_kept_by_the_pattern(run: Run, box: Box) -> None:
    (box.src / "x" / "y").mkdir(parents=True)
    daemon = run(files(MOVE % ", auto_create=True"))
    publish(box, "x/y/f.in")
    done(daemon, box, "x/y/f.in")
    assert tree(box.dst) == {"x": "dir", "x/y": "dir", "x/y/f": "content"}


@pytest.mark.parametrize("name", ["a b", "'q'", "ä", "$(x)", "new\nline", "-rf", "[x]"])
def test_any_name_is_moved(run: Run, box: Box, name: str) -> None:
    daemon = run(files(r'FileManagerRule("move", r"(?s)^$SRC/(.*)\.in$", r"$DST/\1")'))
    publish(box, f"{name}.in")
    daemon.wait_log("task finished")
    assert tree(box.dst) == {name: "content"}


@ours_only
def test_a_name_that_is_not_utf8_is_moved_byte_for_byte(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    write(os.fsencode(box.src) + b"/\xff\xe9.in")
    daemon.wait_log("task finished")
    assert os.listdir(os.fsencode(box.dst)) == [b"\xff\xe9"]


def test_an_empty_destination_is_an_error(run: Run, box: Box) -> None:
    daemon = run(files(r'FileManagerRule("move", "^.*?()$", r"\1")'))
    publish(box, "a")
    assert f"unable to move '{box.src}/a', resulting destination path is empty" in done(daemon, box, "a")
    assert tree(box.src) == {"a": "content"}


@ours_only
def test_a_template_with_a_bad_group_is_an_error_at_the_latest_when_it_is_used(box: Box) -> None:
    daemon = box.start(files(r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"$DST/\2")'))
    daemon.wait_log("start listening|ERROR")
    if daemon.log.startswith("ERROR: config file: "):
        assert "invalid group reference" in daemon.lines[0]
        return
    publish(box, "a.in")
    daemon.wait_log("ERROR.*invalid group reference")
    assert daemon.running


@ours_only
def test_a_relative_destination_is_below_the_current_directory(run: Run, box: Box) -> None:
    daemon = run(files(r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"new/\1", auto_create=True)'), cwd=box.dst)
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert tree(box.dst) == {"new": "dir", "new/a": "content"}


# ---- records


def test_records_of_a_move(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    publish(box, "a.in")
    assert done(daemon, box, "a.in") == ["start task", f"move '{box.src}/a.in' to '{box.dst}/a'", "task finished"]


def test_records_of_a_copy(run: Run, box: Box) -> None:
    daemon = run(files(COPY % ""))
    publish(box, "a.in")
    assert done(daemon, box, "a.in") == ["start task", f"copy '{box.src}/a.in' to '{box.dst}/a'", "task finished"]


def test_records_of_a_deletion(run: Run, box: Box) -> None:
    daemon = run(files(DELETE % ""))
    publish(box, "a.in")
    assert done(daemon, box, "a.in") == ["start task", f"delete '{box.src}/a.in'", "task finished"]


def test_records_with_directories_modes_and_owner_at_debug(run: Run, box: Box) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    rule = (
        r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"$DST/new/\1", auto_create=True, filemode=0o640, '
        r'dirmode=0o750, user="%s")' % user
    )
    daemon = run(files(rule), "-d")
    publish(box, "a.in")
    texts = done(daemon, box, "a.in")
    wanted = [
        "start task",
        f"create directory '{box.dst}/new'",
        f"move '{box.src}/a.in' to '{box.dst}/new/a'",
        "chmod 0o640",
        f"chown {user}",
        "task finished",
    ]
    places = [next((number for number, text in enumerate(texts) if text.startswith(want)), -1) for want in wanted[:3]]
    assert -1 not in places, texts
    assert places == sorted(places)
    assert any(text.startswith("chmod 0o640") for text in texts)
    assert any(text.startswith("chmod 0o750") for text in texts)
    assert any(text.startswith(f"chown {user}") for text in texts)
    assert texts[-1] == "task finished"


def test_records_of_a_file_rule_hold_the_task_id(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    daemon.wait_log(
        rf"pyinotifyd/sched - INFO - move '{box.src}/a.in' to '{box.dst}/a', "
        rf"task_id={daemon.task_ids(box.src / 'a.in')[0]}$"
    )


# ---- missing directories, existing destinations


def test_without_auto_create_a_missing_directory_is_an_error(run: Run, box: Box) -> None:
    daemon = run(files(r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"$DST/no/\1")'))
    publish(box, "a.in")
    texts = done(daemon, box, "a.in")
    why = f"unable to move file from '{box.src}/a.in' to '{box.dst}/no/a', directory '{box.dst}/no' does not exist; "
    why += "set auto_create=True, or mounted= if a filesystem has to be mounted there"
    if REFERENCE:
        why = f"[Errno 2] No such file or directory: '{box.src}/a.in' -> '{box.dst}/no/a'"
    assert why in texts
    assert texts[-1] == ("task finished" if REFERENCE else why)
    assert tree(box.src) == {"a.in": "content"}
    assert daemon.count("sched - ERROR - ") >= 1


def test_auto_create_makes_all_parents(run: Run, box: Box) -> None:
    rule = r'FileManagerRule("copy", r"^$SRC/(.*)\.in$", r"$DST/x/y/z/\1", auto_create=True)'
    daemon = run(files(rule), before=["sh", "-c", 'umask 022; exec "$@"', "sh"])
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert tree(box.dst) == {"x": "dir", "x/y": "dir", "x/y/z": "dir", "x/y/z/a": "content"}
    assert mode_of(box.dst / "x" / "y") == 0o755


def test_dirmode_is_for_new_directories_only(run: Run, box: Box) -> None:
    (box.dst / "old").mkdir(mode=0o711)
    rule = (
        r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"$DST/old/n1/n2/\1", auto_create=True, '
        r"dirmode=0o750, filemode=0o640)"
    )
    daemon = run(files(rule))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert mode_of(box.dst / "old") == 0o711
    assert mode_of(box.dst / "old" / "n1") == 0o750
    assert mode_of(box.dst / "old" / "n1" / "n2") == 0o750
    assert mode_of(box.dst / "old" / "n1" / "n2" / "a") == 0o640


@pytest.mark.parametrize("action", ["move", "copy"])
def test_an_existing_destination_is_an_error_without_overwrite(run: Run, box: Box, action: str) -> None:
    write(box.dst / "a", "old")
    daemon = run(files((MOVE if action == "move" else COPY) % ""))
    publish(box, "a.in")
    why = 'path already exists; set overwrite=True or on_conflict="skip", "rename", "newer" or "same"'
    assert f"unable to {action} file from '{box.src}/a.in' to '{box.dst}/a', {why}" in done(daemon, box, "a.in")
    assert tree(box.dst) == {"a": "old"}
    assert tree(box.src) == {"a.in": "content"}


@pytest.mark.parametrize("action", ["move", "copy"])
def test_overwrite_replaces_a_file(run: Run, box: Box, action: str) -> None:
    write(box.dst / "a", "old and much longer than the new one")
    daemon = run(files((MOVE if action == "move" else COPY) % ", overwrite=True"))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert tree(box.dst) == {"a": "content"}


def test_a_move_with_overwrite_replaces_a_link_and_not_its_target(run: Run, box: Box) -> None:
    write(box.tmp / "target", "precious")
    (box.dst / "a").symlink_to(box.tmp / "target")
    daemon = run(files(MOVE % ", overwrite=True"))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    assert tree(box.dst) == {"a": "content"}
    assert (box.tmp / "target").read_text() == "precious"


def test_a_source_that_is_gone_is_an_error(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % "", options=", delay=$DELAY"))
    publish(box, "a.in")
    daemon.wait_log("schedule task")
    (box.src / "a.in").unlink()
    texts = done(daemon, box, "a.in")
    assert any(text.startswith("[Errno 2] No such file or directory: ") for text in texts)


def test_after_an_error_the_next_task_works(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    write(box.dst / "a", "old")
    publish(box, "a.in")
    done(daemon, box, "a.in")
    publish(box, "b.in")
    done(daemon, box, "b.in")
    assert tree(box.dst) == {"a": "old", "b": "content"}


# ---- modes, owners, times


@pytest.mark.parametrize("rule", [MOVE, COPY])
def test_without_modes_the_files_own_mode_and_times_are_kept(run: Run, box: Box, rule: str) -> None:
    daemon = run(files(rule % ""))
    write(box.tmp / "made", "content")
    (box.tmp / "made").chmod(0o751)
    os.utime(box.tmp / "made", ns=(1_000_000_000_123_456_789, 1_100_000_000_123_456_789))
    (box.tmp / "made").rename(box.src / "a.in")
    done(daemon, box, "a.in")
    found = (box.dst / "a").stat()
    assert stat.S_IMODE(found.st_mode) == 0o751
    assert found.st_mtime_ns == 1_100_000_000_123_456_789
    if "copy" not in rule:  # To read a source for a copy is to access it.
        assert found.st_atime_ns == 1_000_000_000_123_456_789


@pytest.mark.parametrize("rule", [MOVE, COPY])
def test_filemode_is_set(run: Run, box: Box, rule: str) -> None:
    daemon = run(files(rule % ", filemode=0o604, dirmode=0o711"))
    publish(box, "a.in", mode=0o600)
    done(daemon, box, "a.in")
    assert mode_of(box.dst / "a") == 0o604


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (', user="nobody"', (65534, 0)),
        (', group="nogroup"', (0, 65534)),
        (', user="nobody", group="nogroup"', (65534, 65534)),
    ],
)
@pytest.mark.parametrize("rule", [MOVE, COPY])
def test_owner_and_group_are_set_one_by_one(
    run: Run, box: Box, root: None, rule: str, options: str, wanted: tuple[int, int]
) -> None:
    daemon = run(files(rule % options))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    found = (box.dst / "a").stat()
    assert (found.st_uid, found.st_gid) == wanted


def test_a_user_that_does_not_exist_is_an_error(box: Box) -> None:
    daemon = box.run(files(MOVE % ', user="no-such-user"'))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    daemon.wait_log("ERROR - (task failed: )?no such user: 'no-such-user'")


def test_a_group_that_does_not_exist_is_an_error(box: Box) -> None:
    daemon = box.run(files(MOVE % ', group="no-such-group"'))
    publish(box, "a.in")
    done(daemon, box, "a.in")
    daemon.wait_log("ERROR - (task failed: )?no such group: 'no-such-group'")


@pytest.mark.parametrize("rule", [MOVE, COPY])
def test_modes_go_down_a_directory(run: Run, box: Box, rule: str) -> None:
    daemon = run(files(rule % ", filemode=0o604, dirmode=0o711", options=", dirs=True"))
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    for name in ("t", "t/sub", "t/sub/deeper"):
        assert mode_of(box.dst / name) == 0o711
    for name in ("t/a", "t/sub/b"):
        assert mode_of(box.dst / name) == 0o604


def test_a_copy_keeps_extended_attributes(run: Run, box: Box) -> None:
    daemon = run(files(COPY % ""))
    write(box.tmp / "made", "content")
    try:
        os.setxattr(box.tmp / "made", "user.colour", b"red")
    except OSError:
        pytest.skip("this filesystem has no extended attributes")
    (box.tmp / "made").rename(box.src / "a.in")
    done(daemon, box, "a.in")
    assert os.getxattr(box.dst / "a", "user.colour") == b"red"


# ---- directories


def test_a_directory_is_moved(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % "", options=", dirs=True"))
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    assert tree(box.dst) == TREE
    assert tree(box.src) == {}


def test_a_directory_is_copied(run: Run, box: Box) -> None:
    daemon = run(files(COPY % "", options=", dirs=True"))
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    copied = tree(box.dst)
    # A link inside belongs to us, so it is followed.
    assert copied == {**TREE, "t/sub/link": "B"}
    assert "t.in/a" in tree(box.src)


@ours_only
@ours_only
def test_what_a_rule_copies_as_a_tree_into_a_watched_directory_is_told(run: Run, box: Box) -> None:
    """Each file once, under its final name, as if somebody had made the tree there."""
    copy = 'FileManagerScheduler([FileManagerRule("copy", "^$SRC/([^/]*)$", r"$DST/\\1")], files=False, dirs=True)'
    seen = 'Watch("$DST", recorder("IN_CREATE", "IN_CLOSE_WRITE"), rec=True, auto_add=True)'
    daemon = run(f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": {copy}}}), {seen}])', record=True)
    publish_tree(box, "tree")
    daemon.wait_log("task finished")
    files = {str(path) for path in (box.dst / "tree").rglob("*") if path.is_file() and not path.is_symlink()}
    assert files
    wait_until(
        lambda: files <= {event.pathname for event in daemon.events if event.maskname == "IN_CLOSE_WRITE"},
        lambda: daemon.tail,
    )
    told = [event.pathname for event in daemon.events if event.maskname == "IN_CLOSE_WRITE"]
    assert sorted(told) == sorted(files)
    assert not any(".pyinotifyd-" in event.pathname for event in daemon.events)


def test_a_directory_is_copied_over_an_existing_one_with_overwrite(run: Run, box: Box) -> None:
    (box.dst / "t" / "sub").mkdir(parents=True)
    write(box.dst / "t" / "a", "old")
    write(box.dst / "t" / "kept", "kept")
    daemon = run(files(COPY % ", overwrite=True", options=", dirs=True"))
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    merged = tree(box.dst)
    assert merged["t/a"] == "A"
    assert merged["t/kept"] == "kept"
    assert merged["t/sub/b"] == "B"


@ours_only
def test_an_empty_directory_is_deleted_without_rec(run: Run, box: Box) -> None:
    daemon = run(files(DELETE % "", options=", dirs=True"))
    (box.tmp / "d").mkdir()
    (box.tmp / "d").rename(box.src / "d.in")
    done(daemon, box, "d.in")
    assert tree(box.src) == {}


def test_a_directory_that_is_not_empty_is_deleted_with_rec_only(run: Run, box: Box) -> None:
    daemon = run(files(DELETE % "", options=", dirs=True"))
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    assert "t.in/sub/b" in tree(box.src)
    assert daemon.count("sched - ERROR - ") >= 1


def test_a_directory_is_deleted_with_rec(run: Run, box: Box) -> None:
    daemon = run(files(DELETE % ", rec=True", options=", dirs=True"))
    write(box.dst / "outside", "precious")
    publish_tree(box, "t.in")
    done(daemon, box, "t.in")
    assert tree(box.src) == {}
    assert tree(box.dst) == {"outside": "precious"}


@ours_only
def test_deleting_a_link_to_a_directory_leaves_its_target(run: Run, box: Box) -> None:
    write(box.dst / "precious", "precious")
    daemon = run(files(DELETE % ", rec=True", options=", dirs=True"))
    (box.tmp / "l").symlink_to(box.dst)
    (box.tmp / "l").rename(box.src / "l.in")
    done(daemon, box, "l.in")
    assert tree(box.src) == {}
    assert tree(box.dst) == {"precious": "precious"}


def test_deleting_a_link_leaves_its_target(run: Run, box: Box) -> None:
    write(box.dst / "precious", "precious")
    daemon = run(files(DELETE % ""))
    (box.tmp / "l").symlink_to(box.dst / "precious")
    (box.tmp / "l").rename(box.src / "l.in")
    done(daemon, box, "l.in")
    assert tree(box.src) == {}
    assert tree(box.dst) == {"precious": "precious"}


# ---- links, fifos, other filesystems


def test_a_link_is_moved_as_a_link(run: Run, box: Box) -> None:
    write(box.tmp / "target", "T")
    (box.tmp / "target").chmod(0o600)
    daemon = run(files(MOVE % ("" if REFERENCE else ", filemode=0o666")))
    (box.tmp / "l").symlink_to(box.tmp / "target")
    (box.tmp / "l").rename(box.src / "l.in")
    done(daemon, box, "l.in")
    assert tree(box.dst) == {"l": f"-> {box.tmp}/target"}
    assert mode_of(box.tmp / "target") == 0o600


def test_a_copy_follows_a_link_of_ones_own(run: Run, box: Box) -> None:
    write(box.tmp / "target", "T")
    daemon = run(files(COPY % ""))
    (box.tmp / "l").symlink_to(box.tmp / "target")
    (box.tmp / "l").rename(box.src / "l.in")
    done(daemon, box, "l.in")
    assert tree(box.dst) == {"l": "T"}
    assert not (box.dst / "l").is_symlink()


def test_a_fifo_is_refused_by_a_copy(run: Run, box: Box) -> None:
    daemon = run(files(COPY % ""))
    os.mkfifo(box.tmp / "p")
    (box.tmp / "p").rename(box.src / "p.in")
    assert any("is a named pipe" in text for text in done(daemon, box, "p.in"))
    assert tree(box.dst) == {}


@ours_only
def test_a_file_is_moved_to_another_filesystem(run: Run, box: Box) -> None:
    other = Box("/dev/shm") if os.stat("/dev/shm").st_dev != os.stat(box.tmp).st_dev else None
    if other is None:
        pytest.skip("/dev/shm is no other filesystem here")
    try:
        daemon = run(files(r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"%s/\1")' % other.dst))
        write(box.tmp / "made", "content" * 10000)
        (box.tmp / "made").chmod(0o751)
        os.utime(box.tmp / "made", ns=(1_000_000_000_123_456_789, 1_100_000_000_123_456_789))
        (box.tmp / "made").rename(box.src / "a.in")
        done(daemon, box, "a.in")
        assert tree(other.dst) == {"a": "content" * 10000}
        assert tree(box.src) == {}
        assert mode_of(other.dst / "a") == 0o751
        assert (other.dst / "a").stat().st_mtime_ns == 1_100_000_000_123_456_789
    finally:
        other.close()


@ours_only
def test_a_directory_is_moved_to_another_filesystem(run: Run, box: Box) -> None:
    other = Box("/dev/shm") if os.stat("/dev/shm").st_dev != os.stat(box.tmp).st_dev else None
    if other is None:
        pytest.skip("/dev/shm is no other filesystem here")
    try:
        daemon = run(files(r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"%s/\1")' % other.dst, options=", dirs=True"))
        publish_tree(box, "t.in")
        done(daemon, box, "t.in")
        assert tree(other.dst) == TREE
        assert tree(box.src) == {}
    finally:
        other.close()


@ours_only
def test_each_try_to_move_what_can_not_be_removed_leaves_no_copy(run: Run, box: Box, plain_user: None) -> None:
    """A file of somebody else in a sticky directory."""
    if os.geteuid() != 0 or os.stat("/dev/shm").st_dev == os.stat(box.tmp).st_dev:
        pytest.skip("needs root, and /dev/shm as another filesystem")
    other = Box("/dev/shm")
    try:
        other.tmp.chmod(0o755)
        other.dst.chmod(0o777)
        os.chown(box.src, 0, 0)
        box.src.chmod(0o1777)
        move = r'FileManagerRule("move", r"^$SRC/(.*)\.in$", r"%s/\1", on_conflict="rename")' % other.dst
        daemon = run(files(move, options=", retry=Retry(times=3, delay=0, factor=1)"))
        publish(box, "a.in")
        texts = done(daemon, box, "a.in")
        why = "can't be removed: [Errno 1] Operation not permitted"
        assert sum(why in text and "nothing was copied" in text for text in texts) == 4
        assert tree(other.dst) == {}
        assert tree(box.src) == {"a.in": "content"}
    finally:
        other.close()


# ---- what happens during and after


def test_nothing_is_left_beside_the_destination(run: Run, box: Box) -> None:
    daemon = run(files(COPY % ""))
    for number in range(20):
        publish(box, f"{number}.in")
    daemon.wait_log("task finished", count=20)
    assert sorted(os.listdir(box.dst)) == sorted(str(number) for number in range(20))


@ours_only
def test_a_watched_destination_shows_the_final_name_only_and_as_an_arrival(run: Run, box: Box) -> None:
    """So that a chain of watched directories works whichever of the usual events its rules wait for."""
    config = (
        r"sched = FileManagerScheduler([" + COPY % "" + "])\n"
        'pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": sched}), Watch("$DST", '
        'recorder("IN_CREATE", "IN_CLOSE_WRITE"))])'
    )
    daemon = run(config, record=True)
    publish(box, "a.in")
    daemon.wait_event("IN_CREATE", box.dst / "a")
    daemon.wait_event("IN_CLOSE_WRITE", box.dst / "a")
    assert {event.pathname for event in daemon.events} == {f"{box.dst}/a"}


@ours_only
def test_a_chain_of_two_rules(run: Run, box: Box) -> None:
    (box.tmp / "third").mkdir()
    config = r"""
one = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*)$", r"$DST/\1")], logname="one")
two = FileManagerScheduler([FileManagerRule("move", r"^$DST/(.*)$", r"$TMP/third/\1")], logname="two")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": one}), Watch("$DST", {"IN_CLOSE_WRITE": two})])
"""
    daemon = run(config)
    write(box.src / "a", "content")
    daemon.wait_log("pyinotifyd/two - INFO - task finished")
    assert tree(box.tmp / "third") == {"a": "content"}
    assert tree(box.dst) == {}


@ours_only
@pytest.mark.parametrize("first", ["copy", "move"])
@pytest.mark.parametrize("no_replace", [True, False], ids=["no-replace", "plain rename only"])
def test_a_chain_over_a_filesystem_of_user_space(run: Run, box: Box, root: None, first: str, no_replace: bool) -> None:
    """A result is told as on any other, and replaces nothing, although there are neither hard links nor, with some of
    them, a rename that replaces nothing.
    """
    for name in ("fuse", "third"):
        (box.tmp / name).mkdir()
    config = rf"""
one = FileManagerScheduler([FileManagerRule("{first}", r"^$SRC/(.*)$", r"$TMP/fuse/\1")], logname="one")
two = FileManagerScheduler([FileManagerRule("move", r"^$TMP/fuse/(go.*)$", r"$TMP/third/\1")], logname="two")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": one}}), Watch("$TMP/fuse", {{"IN_CLOSE_WRITE": two}})])
"""
    try:
        filesystem = Filesystem(box.tmp / "fuse", no_replace=no_replace)
    except OSError as error:
        pytest.skip(f"FUSE is not to be had here: {error}")
    with contextlib.closing(filesystem):
        write(box.tmp / "fuse" / "taken", "old")
        daemon = run(config)
        for name in ("go1", "go2", "taken"):
            write(box.src / name, name)
        daemon.wait_log("pyinotifyd/two - INFO - task finished", count=2)
        daemon.wait_log("pyinotifyd/one - ERROR - task failed: .*taken")
        assert tree(box.tmp / "third") == {"go1": "go1", "go2": "go2"}
        assert tree(box.tmp / "fuse") == {"taken": "old"}
        assert daemon.count("said once") == (0 if no_replace else 1)
        assert daemon.terminate() == 0


def test_a_thousand_files_are_moved(run: Run, box: Box) -> None:
    daemon = run(files(MOVE % ""))
    for number in range(1000):
        publish(box, f"f{number}.in", str(number))
    daemon.wait_log("task finished", count=1000)
    assert tree(box.dst) == {f"f{number}": str(number) for number in range(1000)}
    assert tree(box.src) == {}


@ours_only
def test_a_file_written_while_it_is_copied_is_copied_again(run: Run, box: Box) -> None:
    """After the last close the copy equals the source, however the writes and copies met."""
    daemon = run(files(COPY % ", overwrite=True"))
    write(box.src / "f.in", b"0" * 30_000_000)
    for number in range(1, 6):
        with open(box.src / "f.in", "r+b") as file:
            file.write(str(number).encode() * 1000)
    wait_until(
        lambda: (box.dst / "f").exists() and (box.dst / "f").read_bytes()[:1000] == b"5" * 1000, lambda: daemon.tail
    )
    assert (box.dst / "f").read_bytes() == (box.src / "f.in").read_bytes()


@ours_only
@pytest.mark.parametrize("rule", [MOVE % "", DELETE % ""], ids=["move", "delete"])
def test_what_a_rule_has_taken_away_is_not_missed(run: Run, box: Box, rule: str) -> None:
    """Events of a file that came while the rule took it away ask for nothing more."""
    daemon = run(files(rule), "-d")
    daemon.signal(signal.SIGSTOP)
    write(box.src / "f.in", "first")
    (box.src / "f.in").rename(box.tmp / "kept")
    write(box.src / "f.in", "second")
    daemon.signal(signal.SIGCONT)
    daemon.wait_log(f"nothing changed meanwhile, .*path={box.src}/f.in,")
    assert daemon.count("task failed") == 0
    assert not (box.src / "f.in").exists()
