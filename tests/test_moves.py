"""Renames: of files, of watched directories, out of what is watched and into it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vocabulary import DELAY, DELAY_S, REFERENCE, Box, Daemon, drop, exchange, until_seen, wait_until, write

Run = Callable[..., Daemon]

MOVES = """
pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_FROM", "IN_MOVED_TO", "IN_MOVE_SELF", "IN_CREATE"),
    rec=True, auto_add=True)])
"""


# ---- files


def test_a_move_within_one_directory_tells_its_source(run: Run, box: Box) -> None:
    write(box.src / "a")
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.src / "b")
    assert daemon.wait_event("IN_MOVED_TO", box.src / "b").src_pathname == str(box.src / "a")


def test_a_move_between_two_directories_of_one_watch_tells_its_source(run: Run, box: Box) -> None:
    for name in ("one", "two"):
        (box.src / name).mkdir()
    write(box.src / "one" / "f")
    daemon = run(MOVES, record=True)
    (box.src / "one" / "f").rename(box.src / "two" / "g")
    moved = daemon.wait_event("IN_MOVED_TO", box.src / "two" / "g")
    assert moved.src_pathname == str(box.src / "one" / "f")
    assert moved.cookie == daemon.wait_event("IN_MOVED_FROM", box.src / "one" / "f").cookie


def test_a_move_between_two_paths_of_one_watch_tells_its_source(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch(["$SRC", "$DST"], recorder("IN_MOVED_FROM", "IN_MOVED_TO"))])', record=True
    )
    (box.src / "f").rename(box.dst / "f")
    assert daemon.wait_event("IN_MOVED_TO", box.dst / "f").src_pathname == str(box.src / "f")


def test_a_move_between_two_watches_tells_its_source(run: Run, box: Box) -> None:
    write(box.src / "f")
    config = (
        'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_FROM")), Watch("$DST", recorder("IN_MOVED_TO"))])'
    )
    daemon = run(config, record=True)
    (box.src / "f").rename(box.dst / "f")
    assert daemon.wait_event("IN_MOVED_TO", box.dst / "f").src_pathname == str(box.src / "f")


def test_the_source_is_told_even_if_moved_from_is_not_mapped(run: Run, box: Box) -> None:
    write(box.src / "a")
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_TO"))])', record=True)
    (box.src / "a").rename(box.src / "b")
    assert daemon.wait_event("IN_MOVED_TO", box.src / "b").src_pathname == str(box.src / "a")
    assert daemon.heard(box.src / "a") == []


def test_a_file_moved_in_has_no_source(run: Run, box: Box) -> None:
    daemon = run(MOVES, record=True)
    drop(box.src / "f")
    event = daemon.wait_event("IN_MOVED_TO", box.src / "f")
    assert "src_pathname" not in event.attributes
    assert isinstance(event.cookie, int)


def test_a_file_moved_out_is_moved_from_only(run: Run, box: Box) -> None:
    write(box.src / "f")
    daemon = run(MOVES, record=True)
    (box.src / "f").rename(box.tmp / "f")
    daemon.wait_event("IN_MOVED_FROM", box.src / "f")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert [event.maskname for event in daemon.events] == ["IN_MOVED_FROM", "IN_CREATE"]


def test_every_rename_of_many_is_paired_under_noise(run: Run, box: Box) -> None:
    """Other directories' events stand between the two halves of a rename; each half finds the other all the same."""
    import threading

    for name in ("one", "two", "noise"):
        (box.src / name).mkdir()
    daemon = run(
        'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_TO"), rec=True)])\nsetLoglevel(WARNING, "sched")',
        record=True,
    )
    stop = threading.Event()

    def noise(path: Path) -> None:
        while not stop.is_set():
            write(path)
            path.unlink()

    makers = [threading.Thread(target=noise, args=(box.src / "noise" / name,)) for name in "fg"]
    for maker in makers:
        maker.start()
    for number in range(500):
        write(box.src / "one" / f"f{number}")
        (box.src / "one" / f"f{number}").rename(box.src / "two" / f"f{number}")
    stop.set()
    for maker in makers:
        maker.join()
    wait_until(lambda: len([event for event in daemon.events if "/two/" in event.pathname]) >= 500, lambda: daemon.tail)
    for event in daemon.events:
        assert event.src_pathname == event.pathname.replace("/two/", "/one/")


# ---- watched directories


def test_a_directory_renamed_in_the_tree_is_move_self_with_the_new_path(run: Run, box: Box) -> None:
    (box.src / "a").mkdir()
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.src / "b")
    daemon.wait_event("IN_MOVED_FROM|IN_ISDIR", box.src / "a")
    assert daemon.wait_event("IN_MOVED_TO|IN_ISDIR", box.src / "b").src_pathname == str(box.src / "a")
    assert daemon.wait_event("IN_MOVE_SELF", box.src / "b").path == str(box.src / "b")


def test_all_watches_below_a_renamed_directory_get_the_new_prefix(run: Run, box: Box) -> None:
    (box.src / "a" / "deep" / "deeper").mkdir(parents=True)
    (box.src / "ab").mkdir()
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.src / "x")
    daemon.wait_event("IN_MOVE_SELF", box.src / "x")
    for path in (
        box.src / "x" / "f",
        box.src / "x" / "deep" / "f",
        box.src / "x" / "deep" / "deeper" / "f",
        box.src / "ab" / "f",
    ):
        write(path)
        assert daemon.wait_event("IN_CREATE", path).path == str(path.parent)


def test_a_file_written_right_after_the_rename_has_the_new_path(run: Run, box: Box) -> None:
    (box.src / "a" / "deep").mkdir(parents=True)
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.src / "b")
    write(box.src / "b" / "f")
    write(box.src / "b" / "deep" / "f")
    daemon.wait_event("IN_CREATE", box.src / "b" / "f")
    daemon.wait_event("IN_CREATE", box.src / "b" / "deep" / "f")


def test_a_directory_can_be_renamed_again_and_again(run: Run, box: Box) -> None:
    (box.src / "d0" / "sub").mkdir(parents=True)
    daemon = run(MOVES, record=True)
    for number in range(10):
        (box.src / f"d{number}").rename(box.src / f"d{number + 1}")
        path = box.src / f"d{number + 1}" / "sub" / "f"
        write(path)
        daemon.wait_event("IN_CREATE", path)
        path.unlink()


def test_a_directory_moved_into_another_one_keeps_its_watches(run: Run, box: Box) -> None:
    (box.src / "a" / "sub").mkdir(parents=True)
    (box.src / "b").mkdir()
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.src / "b" / "a")
    write(box.src / "b" / "a" / "sub" / "f")
    daemon.wait_event("IN_CREATE", box.src / "b" / "a" / "sub" / "f")


@pytest.mark.skipif(REFERENCE, reason="the original runs the job for the old path")
def test_a_waiting_task_follows_its_renamed_directory(run: Run, box: Box) -> None:
    daemon = run(
        f"""
command = ShellScheduler("cat {{pathname}} >>$DST/all", delay={4 * float(DELAY)})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": command, "IN_DELETE": Cancel(command)}}, rec=True,
    auto_add=True)])
"""
    )
    (box.src / "new" / "sub").mkdir(parents=True)
    write(box.src / "new" / "f", "of f")
    write(box.src / "new" / "sub" / "g", "of g")
    for name in ("f", "sub/g"):
        daemon.wait_log(f"schedule task.*{box.src}/new/{name},")
    (box.src / "new").rename(box.src / "final")
    for name in ("f", "sub/g"):
        daemon.wait_log(f"task finished.*{box.src}/final/{name},")
        ids = daemon.task_ids(box.src / "new" / name)
        assert daemon.task_ids(box.src / "final" / name) == ids
    assert daemon.count("start task.*/new") == 0
    assert sorted((box.dst / "all").read_text().split("of ")) == ["", "f", "g"]


@pytest.mark.parametrize("after", ["retry=Retry(times=1, delay=0.1, jitter=0)", 'on_busy="rerun"'])
@pytest.mark.skipif(REFERENCE, reason="the original has neither")
def test_what_comes_after_a_run_is_for_the_new_path_of_its_directory(run: Run, box: Box, after: str) -> None:
    """Another directory of the old name comes and goes meanwhile, which is not about that task."""
    daemon = run(
        f"""
command = ShellScheduler("echo begun; until [ -e $TMP/go ]; do sleep 0.05; done; cp {{pathname}} $DST", {after})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": command, "IN_MOVED_FROM": Cancel(command)}}, rec=True,
    auto_add=True)])
""",
        "-d",
    )
    (box.src / "new").mkdir()
    write(box.src / "new" / "f", "old")
    daemon.wait_log(f"start task.*{box.src}/new/f,")
    write(box.src / "new" / "f", "text")
    daemon.wait_log(f"(skip event|remember event).*{box.src}/new/f,")
    (box.src / "new").rename(box.src / "final")
    (box.src / "new").mkdir()
    write(box.src / "new" / "last", "of another")
    daemon.wait_log(f"start task.*{box.src}/new/last,")
    (box.src / "new").rename(box.tmp / "away")
    daemon.wait_log(f"received event.*IN_MOVED_FROM.IN_ISDIR, pathname={box.src}/new,", count=2)
    write(box.tmp / "go")
    daemon.wait_log(f"task follows its directory, renamed from '{box.src}/new' to '{box.src}/final'")
    daemon.wait_log(f"task finished.*{box.src}/final/f,")
    assert (box.dst / "f").read_text() == "text"
    assert daemon.task_ids(box.src / "final" / "f") == daemon.task_ids(box.src / "new" / "f")


def test_no_event_is_skipped_for_a_run_that_began_before_its_directory_was_renamed(run: Run, box: Box) -> None:
    daemon = run(
        """
text = "until [ -e $TMP/go ]; do sleep 0.05; done; echo {maskname} {pathname} >>$DST/all"
made, left = ShellScheduler(text), ShellScheduler(text, dirs=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": made, "IN_MOVED_FROM": left}, rec=True, auto_add=True)])
"""
    )
    (box.src / "a").mkdir()
    write(box.src / "a" / "f", "1")
    daemon.wait_log(f"start task.*{box.src}/a/f,")
    (box.src / "a").rename(box.src / "b")
    daemon.wait_log(f"start task.*IN_MOVED_FROM.*{box.src}/a,")
    (box.src / "b" / "f").unlink()
    write(box.src / "b" / "f", "2")
    (box.src / "b").rename(box.src / "c")
    write(box.tmp / "go")
    daemon.wait_log("task finished.*mask=IN_CREATE, path=.*/f,", count=2)
    daemon.wait_log("task finished.*mask=IN_MOVED_FROM", count=2)
    events = sorted(line.replace(f"{box.src}/", "") for line in (box.dst / "all").read_text().splitlines())
    assert events == ["IN_CREATE a/f", "IN_CREATE c/f", "IN_MOVED_FROM a", "IN_MOVED_FROM b"]
    assert daemon.count("skip event") == 0


@pytest.mark.skipif(REFERENCE, reason="the original runs the rule for the old path")
def test_a_file_rule_acts_though_its_directory_is_renamed_all_the_time(run: Run, box: Box) -> None:
    daemon = run(
        """
rules = FileManagerScheduler(FileManagerRule("move", "^$SRC/[^/]+/(.*)$", r"$DST/\\1"))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": rules}, rec=True, auto_add=True)])
"""
    )
    (box.src / "0").mkdir()
    for number in range(100):
        write(box.src / str(number) / f"f{number}")
        (box.src / str(number)).rename(box.src / str(number + 1))
    wait_until(lambda: len(list(box.dst.iterdir())) == 100, lambda: str(sorted(box.src.rglob("f*"))))
    assert daemon.count("task failed") == 0


@pytest.mark.parametrize("action", ["move", "delete"])
@pytest.mark.skipif(REFERENCE, reason="the original runs the job for the old path")
def test_waiting_tasks_below_what_a_rule_takes_away_are_withdrawn(run: Run, box: Box, action: str) -> None:
    rule = 'FileManagerRule("delete", "^$SRC/job$", rec=True)'
    if action == "move":
        rule = 'FileManagerRule("move", "^$SRC/job$", "$DST/job")'
    daemon = run(
        f"""
rules = FileManagerScheduler({rule}, files=False, dirs=True, delay={DELAY})
command = ShellScheduler("echo {{pathname}} >>$DST/ran", delay={6 * DELAY_S})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": rules, "IN_CLOSE_WRITE": command}}, rec=True, auto_add=True)])
"""
    )
    write(box.src / "other", "of another")
    (box.src / "job").mkdir()
    for name in ("f", "g"):
        write(box.src / "job" / name, "of a job")
        daemon.wait_log(f"schedule task.*{box.src}/job/{name},")
    daemon.wait_log(f"withdraw 2 task.s. of '{box.src}/job', which was moved or removed here")
    daemon.wait_log(f"task finished.*{box.src}/other,")
    for name in ("f", "g"):
        daemon.wait_log(f"scheduled task cancelled.*{box.src}/job/{name},")
    assert daemon.count(f"start task.*{box.src}/job/") == 0
    assert (box.dst / "ran").read_text().splitlines() == [f"{box.src}/other"]


@pytest.mark.parametrize("action", ["move", "delete"])
@pytest.mark.skipif(REFERENCE, reason="the original does the one after the other, and fails")
def test_a_directory_and_the_files_in_it_are_not_acted_on_at_once(run: Run, box: Box, action: str) -> None:
    rule = 'FileManagerRule("delete", "^$SRC/(.*)$", rec=True)'
    if action == "move":
        rule = 'FileManagerRule("move", "^$SRC/(.*)$", r"$DST/\\1", auto_create=True, on_conflict="rename")'
    daemon = run(
        f"""
rules = FileManagerScheduler({rule}, dirs=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": rules, "IN_MOVED_TO": rules}}, rec=True, auto_add=True)])
"""
    )
    files = {f"{tree}/s/f{number}" for tree in range(8) for number in range(30)}
    for tree in map(str, range(8)):
        (box.tmp / tree / "s").mkdir(parents=True)
        for number in range(30):
            write(box.tmp / tree / "s" / f"f{number}", tree)
        (box.tmp / tree).rename(box.src / tree)
    wait_until(lambda: not any(box.src.iterdir()), lambda: daemon.tail)
    if action == "move":
        wait_until(lambda: len([path for path in box.dst.rglob("*") if path.is_file()]) >= len(files))
    daemon.signal(signal.SIGTERM)
    daemon.wait_exit()
    there = {os.fspath(path.relative_to(box.dst)) for path in box.dst.rglob("*") if path.is_file()}
    assert there == (files if action == "move" else set())
    assert daemon.count("task failed") == 0


@pytest.mark.skipif(REFERENCE, reason="the original takes nothing back")
def test_tasks_of_another_directory_in_the_place_of_what_a_rule_takes_away_stay(run: Run, box: Box) -> None:
    daemon = run(
        rf"""
rules = FileManagerScheduler(FileManagerRule("move", r"^$SRC/(\d+)$", r"$DST/\1"), files=False, dirs=True)
command = ShellScheduler("echo {{pathname}} >>$DST/ran", delay={DELAY})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": rules, "IN_CLOSE_WRITE": command}}, rec=True, auto_add=True)])
"""
    )
    files = []
    for number in map(str, range(60)):
        place, next_one = box.src / number, box.tmp / number
        next_one.mkdir()
        write(next_one / "f", "of the next one")
        place.mkdir()
        # The next directory comes before the daemon hears of the worker's end: at once, without a pause.
        wait_until(lambda place=place: any(not place.exists() for _ in range(1_000)))  # type: ignore[misc]
        next_one.rename(place)
        files.append(str(place / "f"))
    for file in files:
        daemon.wait_log(f"task finished.*{file},")
    assert sorted((box.dst / "ran").read_text().splitlines()) == sorted(files)


@pytest.mark.skipif(REFERENCE, reason="the original runs the job for the old path")
def test_a_waiting_task_whose_directory_left_gets_what_moved_from_gives_it(run: Run, box: Box) -> None:
    daemon = run(
        f"""
command = ShellScheduler("cat {{pathname}}", delay={4 * float(DELAY)})
events = {{"IN_CREATE": command, "IN_MOVED_FROM": Cancel(command)}}
pyinotifyd = Pyinotifyd([Watch("$SRC", events, rec=True, auto_add=True)])
"""
    )
    (box.src / "new").mkdir()
    write(box.src / "new" / "f")
    daemon.wait_log(f"schedule task.*{box.src}/new/f,")
    (box.src / "new").rename(box.dst / "new")
    daemon.wait_log(f"scheduled task cancelled.*{box.src}/new/f,")


@pytest.mark.skipif(REFERENCE, reason="the original gets the paths wrong")
def test_two_exchanged_directories_have_each_others_paths(run: Run, box: Box) -> None:
    for name in ("a", "b"):
        (box.src / name / f"in-{name}").mkdir(parents=True)
    daemon = run(MOVES, record=True)
    exchange(box.src / "a", box.src / "b")
    for path in (box.src / "a" / "in-b" / "f", box.src / "b" / "in-a" / "f"):
        write(path)
        daemon.wait_event("IN_CREATE", path)


@pytest.mark.skipif(REFERENCE, reason="the original tells the directory only")
def test_a_directory_moved_in_is_watched_and_told_with_all_below(run: Run, box: Box) -> None:
    (box.tmp / "new" / "sub").mkdir(parents=True)
    write(box.tmp / "new" / "old-file")
    daemon = run(MOVES, record=True)
    (box.tmp / "new").rename(box.src / "new")
    daemon.wait_event("IN_MOVED_TO|IN_ISDIR", box.src / "new")
    until_seen(daemon, box.src / "new")
    until_seen(daemon, box.src / "new" / "sub")
    for path in (box.src / "new" / "old-file", box.src / "new" / "sub"):
        assert [event.mask & 0x100 for event in daemon.events if event.pathname == str(path)] == [0x100]


@pytest.mark.skipif(REFERENCE, reason="the original tells the directory only")
@pytest.mark.parametrize("how", ["a tree", "out of an excluded name", "from another watch"])
def test_files_of_a_tree_from_outside_are_handled_once(run: Run, box: Box, how: str) -> None:
    """faults.md B1: they stayed for ever. Each is handled once, and a rename inside the watch handles none again."""
    config = """
    run = ShellScheduler("echo RAN {pathname}")
    other = ShellScheduler("echo OTHER {pathname}")
    pyinotifyd = Pyinotifyd([
        Watch("$SRC", {"IN_CLOSE_WRITE": run}, rec=True, auto_add=True, exclude_filter=[r".*[.]part$"]),
        Watch("$DST", {"IN_CLOSE_WRITE": other}, rec=True, auto_add=True)])
    """
    staged = {
        "a tree": box.tmp / "stage",
        "out of an excluded name": box.src / "stage.part",
        "from another watch": box.dst / "stage",
    }[how]
    staged.mkdir()
    daemon = run("\n".join(line[4:] for line in config.splitlines()))
    for directory in ("a", "a/b", "c"):
        (staged / directory).mkdir()
        for name in ("one", "two"):
            write(staged / directory / name)
    staged.rename(box.src / "job")
    paths = sorted(str(box.src / "job" / name) for name in ("a/one", "a/two", "a/b/one", "a/b/two", "c/one", "c/two"))
    daemon.wait_out(r"RAN ", count=len(paths))
    (box.src / "job").rename(box.src / "done")
    write(box.src / "done" / "a" / "b" / "last")
    daemon.wait_out(r"RAN .*/done/a/b/last")
    ran = sorted(re.findall(r"^RAN (.*)$", daemon.stdout, re.MULTILINE))
    assert ran == sorted([*paths, str(box.src / "done" / "a" / "b" / "last")])


@pytest.mark.skipif(REFERENCE, reason="the original tells the directory only")
@pytest.mark.parametrize("log", ["INFO", "DEBUG"])
@pytest.mark.parametrize("others", ["nothing", "IN_CREATE", "IN_CLOSE_WRITE"])
def test_a_map_of_moves_handles_the_files_of_a_tree_from_outside_once(
    run: Run, box: Box, log: str, others: str
) -> None:
    """Neither a log of all events nor another event that only cancels is one that makes tasks."""
    cancels = "" if others == "nothing" else f', "{others}": Cancel(other)'
    daemon = run(f"""
run = ShellScheduler("echo RAN {{pathname}}")
other = ShellScheduler("true")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_MOVED_TO": run{cancels}}}, rec=True, auto_add=True)])
setLoglevel("{log}")
""")
    (box.tmp / "job" / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        write(box.tmp / "job" / name)
    (box.tmp / "job").rename(box.src / "job")
    for name in ("one", "deep/two"):
        daemon.wait_out(f"RAN {box.src}/job/{name}")
    # What was told twice was told before this.
    write(box.tmp / "last")
    (box.tmp / "last").rename(box.src / "last")
    daemon.wait_out(r"RAN .*/last")
    ran = sorted(Path(path).name for path in re.findall(r"^RAN (.*)$", daemon.stdout, re.MULTILINE))
    assert ran == ["last", "one", "two"]


@pytest.mark.skipif(REFERENCE, reason="the original tells the directory only")
def test_files_of_a_tree_from_outside_are_for_the_map_that_is_in_force(run: Run, box: Box) -> None:
    """One that was replaced makes no tasks, though what it began still runs."""
    config = """
run = ShellScheduler("echo RAN {pathname}")
slow = ShellScheduler("echo SLOW; until test -e $TMP/end; do sleep 0.05; done")
pyinotifyd = Pyinotifyd([Watch("$SRC", {MAP, "IN_ATTRIB": slow}, rec=True, auto_add=True)], shutdown_timeout=60)
"""
    daemon = run(config.replace("MAP", '"IN_CLOSE_WRITE": run'))
    write(box.src / "f")
    daemon.wait_out(f"RAN {box.src}/f")
    (box.src / "f").chmod(0o600)
    daemon.wait_out("SLOW")
    box.write_config(config.replace("MAP", '"IN_MOVED_TO": run'))
    daemon.reload()
    (box.tmp / "job").mkdir()
    write(box.tmp / "job" / "one")
    (box.tmp / "job").rename(box.src / "job")
    daemon.wait_out(f"RAN {box.src}/job/one")
    (box.tmp / "end").touch()


@pytest.mark.skipif(REFERENCE, reason="the original tells the directory only")
def test_what_takes_directories_alone_does_not_keep_files_from_a_map_of_moves(run: Run, box: Box) -> None:
    daemon = run("""
run = ShellScheduler("echo RAN {pathname}")
made = ShellScheduler("echo MADE {pathname}", files=False, dirs=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_MOVED_TO": run, "IN_CREATE": made}, rec=True, auto_add=True)])
""")
    (box.tmp / "job" / "deep").mkdir(parents=True)
    write(box.tmp / "job" / "deep" / "one")
    (box.tmp / "job").rename(box.src / "job")
    daemon.wait_out(f"MADE {box.src}/job/deep")
    daemon.wait_out(f"RAN {box.src}/job/deep/one")


def test_a_directory_made_and_renamed_at_once_is_watched(run: Run, box: Box) -> None:
    """`mkdir x.tmp; mv x.tmp x` before anybody could look must not end with x unwatched."""
    import signal

    daemon = run(MOVES, record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "x.tmp").mkdir()
    (box.src / "x.tmp").rename(box.src / "x")
    daemon.signal(signal.SIGCONT)
    daemon.wait_event("IN_MOVED_TO|IN_ISDIR", box.src / "x")
    until_seen(daemon, box.src / "x")


def test_files_of_a_directory_made_filled_and_renamed_at_once_arrive_under_the_new_path(run: Run, box: Box) -> None:
    """The usual way to publish a directory: fill it under a temporary name, then rename it."""
    import signal

    daemon = run(MOVES, record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "x.tmp").mkdir()
    write(box.src / "x.tmp" / "f")
    (box.src / "x.tmp").rename(box.src / "x")
    daemon.signal(signal.SIGCONT)
    daemon.wait_event("IN_CREATE", box.src / "x" / "f")


# ---- out of sight


def test_a_directory_moved_out_is_move_self_with_the_suffix(run: Run, box: Box) -> None:
    (box.src / "a").mkdir()
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.tmp / "a")
    daemon.wait_event("IN_MOVED_FROM|IN_ISDIR", box.src / "a")
    daemon.wait_event("IN_MOVE_SELF", f"{box.src}/a-unknown-path")


def test_nothing_inside_a_directory_that_was_moved_out_is_an_event(run: Run, box: Box) -> None:
    (box.src / "a" / "sub").mkdir(parents=True)
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.tmp / "a")
    daemon.wait_event("IN_MOVE_SELF", f"{box.src}/a-unknown-path")
    wait_until(lambda: not daemon.watches_path(box.tmp / "a") and not daemon.watches_path(box.tmp / "a" / "sub"))
    write(box.tmp / "a" / "f")
    write(box.tmp / "a" / "sub" / "f")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert [event.pathname for event in daemon.events if event.maskname == "IN_CREATE"] == [str(box.src / "last")]


def test_a_directory_moved_out_and_back_is_watched_again(run: Run, box: Box) -> None:
    (box.src / "a").mkdir()
    daemon = run(MOVES, record=True)
    (box.src / "a").rename(box.tmp / "a")
    (box.tmp / "a").rename(box.src / "back")
    daemon.wait_event("IN_MOVED_TO|IN_ISDIR", box.src / "back")
    until_seen(daemon, box.src / "back")


def test_the_root_moved_away_is_move_self_with_the_suffix(run: Run, box: Box) -> None:
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVE_SELF"))])', record=True)
    box.src.rename(box.tmp / "away")
    event = daemon.wait_event("IN_MOVE_SELF", f"{box.src}-unknown-path")
    assert event.name == ""
    assert event.mask == 0x800


def test_a_name_is_overwritten_by_a_rename(run: Run, box: Box) -> None:
    """A rename onto an existing name is one move and no deletion."""
    for name in ("a", "b"):
        write(box.src / name)
    config = (
        'pyinotifyd = Pyinotifyd([Watch("$SRC", recorder("IN_MOVED_FROM", "IN_MOVED_TO", "IN_DELETE", "IN_CREATE"))])'
    )
    daemon = run(config, record=True)
    (box.src / "a").rename(box.src / "b")
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")
    assert daemon.heard(box.src / "b") == ["IN_MOVED_TO"]


def test_moves_are_paired_in_the_debug_log(run: Run, box: Box) -> None:
    write(box.src / "a")
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC", {})])', "-d")
    (box.src / "a").rename(box.src / "b")
    record = daemon.wait_log("received event, .*maskname=IN_MOVED_TO,").string
    assert re.search(
        rf"received event, mask=0x80, maskname=IN_MOVED_TO, pathname={box.src}/b, src_pathname={box.src}/a, wd=1$",
        record,
    )
