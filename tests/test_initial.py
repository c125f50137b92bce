"""What is there when the daemon starts, and what happened while it was down."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vocabulary import Box, Daemon, need, wait_until, write

CONFIG = """
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", recorder("IN_CREATE", "IN_CLOSE_WRITE"), initial="changed", rec=True,
                                       auto_add=True)], state="$TMP/state")
"""
ALL = CONFIG.replace('"changed"', '"all"')


def checkpoint(box: Box) -> float:
    """The latest one; 0 without."""
    with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=30) as database:
        found = database.execute("SELECT at FROM checkpoint").fetchone()
    return found[0] if found else 0.0


def wait_checkpoint(box: Box, since: float) -> None:
    wait_until(lambda: checkpoint(box) > since, "a checkpoint")


def last_seen(daemon: Daemon, box: Box) -> set[str]:
    """The paths below the source that were told, once the last one to be made, a mark, was."""
    write(box.src / "mark")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "mark")
    names = {os.path.relpath(event.pathname, box.src) for event in daemon.events}
    return names - {"mark"}


def crash(daemon: Daemon) -> None:
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()


def test_all_that_is_there_is_told_with_directories_before_what_is_in_them(box: Box) -> None:
    (box.src / "sub/deep").mkdir(parents=True)
    for path in ("f", "sub/g", "sub/deep/h"):
        write(box.src / path)
    daemon = box.run(ALL, record=True)
    for path in ("f", "sub/g", "sub/deep/h"):
        assert daemon.wait_event("IN_CLOSE_WRITE", box.src / path).synthetic
    told = [
        os.path.relpath(event.pathname, box.src) for event in daemon.events if event.maskname.startswith("IN_CREATE")
    ]
    assert sorted(told) == ["f", "sub", "sub/deep", "sub/deep/h", "sub/g"]
    assert told.index("sub") < told.index("sub/deep") < told.index("sub/deep/h")


def test_commands_for_what_is_there_have_the_environment_of_all_others(box: Box) -> None:
    """They ran with an empty one, since they start before all watches are set up."""
    config = """
import os
os.environ["OF_CONFIG"] = "config"
note = ShellScheduler(cmd='printf "%s\\n" "$OF_DAEMON $OF_CONFIG ${PYINOTIFYD_PATHNAME##*/}" >> $TMP/notes')
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CREATE": note}, initial="all")])
"""
    write(box.src / "before")
    daemon = box.run(config, env={"OF_DAEMON": "daemon"})
    write(box.src / "after")
    notes = box.tmp / "notes"
    wanted = {"daemon config before", "daemon config after"}

    def is_noted() -> bool:
        return notes.exists() and set(notes.read_text().splitlines()) == wanted

    wait_until(is_noted, lambda: daemon.tail)
    # A reload finds what is below a new watch before it takes over, too.
    write(box.dst / "there")
    more = config.replace('"config"', '"changed"').replace('"$SRC"', '"$DST"')
    box.write_config(more)
    daemon.reload()
    wanted.add("daemon changed there")
    wait_until(is_noted, lambda: f"{notes.read_text()}; {daemon.tail}")


def test_a_file_that_somebody_writes_is_told_when_it_is_closed(box: Box) -> None:
    with (box.src / "f").open("w") as file:
        file.write("half")
        file.flush()
        daemon = box.run(ALL, record=True)
        daemon.wait_event("IN_CREATE", box.src / "f")
        assert "f" in last_seen(daemon, box)
        assert daemon.heard(box.src / "f") == ["IN_CREATE"]
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    assert not daemon.events[-1].synthetic


def test_without_rec_only_what_stands_in_the_directory_itself_is_told(box: Box) -> None:
    (box.src / "sub").mkdir()
    write(box.src / "sub/g")
    daemon = box.run(ALL.replace("rec=True", "rec=False"), record=True)
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "sub")
    assert last_seen(daemon, box) == {"sub"}


def test_a_watched_file_is_told_as_well(box: Box) -> None:
    write(box.src / "f")
    daemon = box.run(ALL.replace("$SRC", "$SRC/f"), record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")


def test_a_reload_tells_of_new_watches_only(box: Box) -> None:
    write(box.src / "f")
    write(box.dst / "g")
    daemon = box.run(ALL, record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    both = ALL.replace("[Watch(", '[Watch("$DST", recorder("IN_CLOSE_WRITE"), initial="all"), Watch(')
    box.write_config(both, record=True)
    daemon.reload()
    daemon.wait_event("IN_CLOSE_WRITE", box.dst / "g")
    assert last_seen(daemon, box) == {"f", os.path.relpath(box.dst / "g", box.src)}
    assert daemon.heard(box.src / "f") == ["IN_CREATE", "IN_CLOSE_WRITE"]


def test_the_first_start_has_no_checkpoint_and_tells_everything(box: Box) -> None:
    write(box.src / "f")
    box.run(CONFIG, record=True).wait_event("IN_CLOSE_WRITE", box.src / "f")


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_what_happened_while_the_daemon_was_down_is_told_and_nothing_else(box: Box, end: str) -> None:
    (box.src / "sub").mkdir()
    for path in ("old", "changed", "sub/old"):
        write(box.src / path)
    daemon = box.run(CONFIG, record=True)
    for path in ("old", "changed", "sub/old"):
        daemon.wait_event("IN_CLOSE_WRITE", box.src / path)
    wait_checkpoint(box, time.time() + 2)
    if end == "stop":
        daemon.terminate()
    else:
        crash(daemon)
    write(box.src / "new")
    write(box.src / "changed", "again")
    write(box.src / "sub/new")
    (box.src / "fresh").mkdir()
    write(box.src / "fresh/inside")
    again = box.run(CONFIG, record=True)
    for path in ("new", "changed", "sub/new", "fresh/inside"):
        again.wait_event("IN_CLOSE_WRITE", box.src / path)
    # The directory changed, since something was made in it.
    assert last_seen(again, box) - {"sub"} == {"new", "changed", "sub/new", "fresh", "fresh/inside"}


def told_before(box: Box) -> set[str]:
    """What the database says that need not be told again."""
    with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=30) as database:
        return {os.path.relpath(path, box.src) for (path,) in database.execute("SELECT path FROM told")}


def wait_until_old(*paths: Path) -> None:
    """Until a change of them could not have the same time any more."""
    newest = max(path.lstat().st_ctime for path in paths)
    wait_until(lambda: time.time() > newest + 0.05)


def handled(box: Box, *paths: str) -> Daemon:
    """A daemon that has handled these files."""
    daemon = box.run(CONFIG, record=True)
    for path in paths:
        (box.src / path).parent.mkdir(exist_ok=True)
        write(box.src / path)
        daemon.wait_log(f"task finished.*IN_CLOSE_WRITE.*{box.src}/{path},")
    wait_until_old(*(box.src / path for path in paths))
    return daemon


def test_what_was_handled_just_before_a_stop_is_not_told_again(box: Box) -> None:
    daemon = handled(box, "f", "sub/g")
    daemon.wait_log(f"task finished.*IN_CREATE.*{box.src}/sub,")
    daemon.terminate()
    assert told_before(box) == {"f", "sub", "sub/g"}
    again = box.run(CONFIG, record=True)
    assert last_seen(again, box) == set()


def test_restarts_in_a_row_tell_nothing_again_whatever_it_is(box: Box) -> None:
    """The look of each goes back to before the start of the one before."""
    daemon = handled(box, "f")
    (box.src / "link").symlink_to("f")
    (box.src / "dangling").symlink_to("nothing")
    os.mkfifo(box.src / "pipe")
    for name in ("link", "dangling", "pipe"):
        daemon.wait_log(f"task finished.*IN_CREATE.*{box.src}/{name},")
    wait_until_old(*box.src.iterdir())
    daemon.terminate()
    assert told_before(box) == {"f", "link", "dangling", "pipe"}
    for _ in range(3):
        box.run(CONFIG, record=True).terminate()
    assert last_seen(box.run(CONFIG, record=True), box) == set()


def test_what_changed_after_a_stop_is_told_whenever_it_was_handled(box: Box) -> None:
    names = ("written", "renamed", "replaced", "same")
    handled(box, *names).terminate()
    assert told_before(box) == set(names)
    write(box.src / "written", "again")
    (box.src / "renamed").rename(box.src / "other")
    write(box.tmp / "new")
    (box.tmp / "new").rename(box.src / "replaced")
    again = box.run(CONFIG, record=True)
    assert last_seen(again, box) == {"written", "other", "replaced"}


def test_a_file_that_has_a_writer_at_a_stop_is_not_remembered_as_told(box: Box) -> None:
    daemon = handled(box, "f", "open")
    with (box.src / "open").open("a"):
        daemon.terminate()
        assert told_before(box) == {"f"}


def test_a_task_that_waits_is_not_put_off_by_a_restart(box: Box) -> None:
    waits = """
later = ShellScheduler(cmd="true", delay=600)
pyinotifyd = Pyinotifyd(watches=[Watch("$SRC", {"IN_CLOSE_WRITE": later}, initial="changed")], state="$TMP/state")
"""
    daemon = box.run(waits)
    write(box.src / "f")

    def due() -> list[float]:
        with sqlite3.connect(f"file:{box.tmp}/state/state.db?mode=ro", uri=True, timeout=30) as database:
            return [at for (at,) in database.execute("SELECT due FROM task")]

    (before,) = wait_until(due, "a row of the task")
    wait_until_old(box.src / "f")
    daemon.terminate()
    again = box.run(waits)
    write(box.src / "mark")
    again.wait_log(f"schedule task.*{box.src}/mark,")
    assert again.said(box.src / "f") == []
    again.terminate()
    assert before in due()


def test_a_tree_that_was_moved_in_meanwhile_is_told_whole(box: Box) -> None:
    (box.tmp / "tree/deep").mkdir(parents=True)
    write(box.tmp / "tree/deep/old")
    daemon = box.run(CONFIG, record=True)
    wait_checkpoint(box, time.time() + 2)
    daemon.terminate()
    (box.tmp / "tree").rename(box.src / "tree")
    again = box.run(CONFIG, record=True)
    again.wait_event("IN_CLOSE_WRITE", box.src / "tree/deep/old")


# How each is made; the first has times of whole seconds.
FILESYSTEMS = {
    "ext4 of whole seconds": ("mkfs.ext4", "-q", "-F", "-I", "128"),
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "vfat": ("mkfs.vfat",),
    "tmpfs": (),
}


@pytest.fixture(params=FILESYSTEMS)
def filesystem(request: pytest.FixtureRequest, box: Box, root: None) -> Iterator[str]:
    """The source is a filesystem of that kind."""
    make = FILESYSTEMS[request.param]
    need("mount", "umount", *make[:1])
    image = box.tmp / "image"
    if make:
        with image.open("wb") as file:
            file.truncate(400 << 20)
        subprocess.run([*make, image], check=True, capture_output=True)
    # FAT has no modes; `quiet` lets chmod(2) do nothing.
    options = "loop,quiet" if request.param == "vfat" else "loop"
    kind: list[str | Path] = ["-o", options, image] if make else ["-t", "tmpfs", "none"]
    mounted = subprocess.run(["mount", *kind, box.src], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount {request.param}: {mounted.stderr.strip()}")
    yield request.param
    for daemon in box.daemons:
        daemon.kill()
    subprocess.run(["umount", "-l", box.src], check=True)


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_what_happened_on_each_filesystem_is_told(box: Box, filesystem: str, end: str) -> None:
    (box.src / "outside/tree/deep").mkdir(parents=True)
    (box.src / "in/sub").mkdir(parents=True)
    for path in ("in/changed", "in/from", "in/gone", "in/sub/old", "outside/tree/deep/old"):
        write(box.src / path)
    config = CONFIG.replace("$SRC", "$SRC/in")
    daemon = box.run(config, record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "in/sub/old")
    wait_checkpoint(box, time.time() + 2)
    if end == "stop":
        daemon.terminate()
    else:
        crash(daemon)
    write(box.src / "in/new")
    (box.src / "in/changed").chmod(0o600)
    write(box.src / "in/changed", "again")
    (box.src / "in/from").rename(box.src / "in/sub/renamed")
    (box.src / "in/gone").unlink()
    (box.src / "outside/tree").rename(box.src / "in/tree")
    again = box.run(config, record=True)
    # A rename on FAT leaves no time behind.
    moved = () if filesystem == "vfat" else ("sub/renamed", "tree/deep/old")
    for path in ("new", "changed", *moved):
        again.wait_event("IN_CLOSE_WRITE", box.src / "in" / path)


def test_a_thousand_files_made_while_it_is_killed_are_all_told(box: Box) -> None:
    daemon = box.run(CONFIG, record=True)
    for number in range(1000):
        write(box.src / f"{number}")
        if number == 400:
            crash(daemon)
    again = box.run(CONFIG, record=True)

    def heard() -> set[str]:
        events = [*daemon.events, *again.events]
        return {Path(event.pathname).name for event in events if event.maskname == "IN_CLOSE_WRITE"}

    wait_until(lambda: heard() >= {f"{number}" for number in range(1000)}, "all thousand files")


def test_events_after_the_signal_to_stop_are_for_the_next_daemon(box: Box) -> None:
    slow = CONFIG.replace("recorder(", "waits(").replace(
        "\npyinotifyd",
        "\nimport asyncio\nasync def wait(event, task_id):\n    print('runs', flush=True)\n    await asyncio.sleep(2)\n"
        "def waits(*flags):\n    return {'IN_CLOSE_WRITE': TaskScheduler(wait)}\npyinotifyd",
        1,
    )
    daemon = box.run(slow)
    write(box.src / "first")
    daemon.wait_out("runs")
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("shutdown")
    write(box.src / "late")
    daemon.wait_exit()
    again = box.run(CONFIG, record=True)
    again.wait_event("IN_CLOSE_WRITE", box.src / "late")


def test_a_checkpoint_in_the_future_counts_for_nothing(box: Box) -> None:
    write(box.src / "f")
    daemon = box.run(CONFIG, record=True)
    wait_checkpoint(box, time.time() + 2)
    daemon.terminate()
    with sqlite3.connect(box.tmp / "state/state.db") as database:
        database.execute("UPDATE checkpoint SET at = at + 3600")
    database.close()
    box.run(CONFIG, record=True).wait_event("IN_CLOSE_WRITE", box.src / "f")


def test_an_idle_daemon_writes_one_checkpoint_and_then_none(box: Box) -> None:
    daemon = box.run(CONFIG, record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    made = (box.src / "f").stat().st_mtime
    wait_checkpoint(box, made + 2.9)
    # The thread that wrote it tells the loop.
    time.sleep(1)
    first, switches = checkpoint(box), ledger_switches(daemon)
    time.sleep(4)
    assert checkpoint(box) == first
    assert ledger_switches(daemon) == switches, "it was woken"
    assert first - made < 10


def ledger_switches(daemon: Daemon) -> int:
    """How often the thread that writes went to sleep by itself; other threads have other things to do."""
    (status,) = [text for text in daemon.of_threads("status") if text.startswith("Name:\tledger\n")]
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary"))


def test_changed_needs_a_state(box: Box) -> None:
    for arguments in (["-t"], []):
        daemon = box.call(*arguments, config=CONFIG.replace(', state="$TMP/state"', ""), record=True)
        assert daemon.exit_code == 1
        assert daemon.count('config file: initial="changed" needs a state') == 1, daemon.tail
        assert daemon.count(r'File ".*config.py", line \d+') == 1, daemon.tail
    wrong = box.call("-t", config=CONFIG.replace('"changed"', '"maybe"'), record=True)
    assert wrong.count("initial: expected") == 1, wrong.tail


# What a reload changes of the watch of a directory whose entries are handled.
SEEN_BEFORE = {
    "filter": ("auto_add=True", r'auto_add=True, exclude_filter=[r".*\.tmp$"]'),
    "auto_add": ("auto_add=True", "auto_add=False"),
    "slash": ('Watch("$SRC"', 'Watch("$SRC/"'),
    "another path": ('Watch("$SRC"', 'Watch(["$SRC", "$DST"]'),
    "a pattern": ('Watch("$SRC"', 'Watch("$TMP/s[r]c"'),
    "less of it": ('Watch("$SRC"', 'Watch("$SRC/sub"'),
}


@pytest.mark.parametrize("initial", ["all", "changed"])
@pytest.mark.parametrize("change", SEEN_BEFORE)
def test_a_reload_tells_nothing_that_the_watches_before_saw(box: Box, change: str, initial: str) -> None:
    config = CONFIG.replace('"changed"', f'"{initial}"')
    (box.src / "sub").mkdir()
    daemon = box.run(config, record=True)
    for path in (box.src / "f", box.src / "sub/g"):
        write(path)
        daemon.wait_event("IN_CLOSE_WRITE", path)
    before = [box.src / "f", box.src / "sub", box.src / "sub/g"]
    told = {path: daemon.heard(path) for path in before}
    assert SEEN_BEFORE[change][0] in config
    box.write_config(config.replace(*SEEN_BEFORE[change]), record=True)
    daemon.reload()
    write(box.src / "sub/mark")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "sub/mark")
    assert {path: daemon.heard(path) for path in before} == told


def test_a_reload_with_rec_tells_what_lies_deeper(box: Box) -> None:
    (box.src / "sub/deep").mkdir(parents=True)
    for path in ("f", "sub/g", "sub/deep/h"):
        write(box.src / path)
    flat = ALL.replace("rec=True", "rec=False")
    daemon = box.run(flat, record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "sub")
    box.write_config(ALL, record=True)
    daemon.reload()
    for path in ("sub/g", "sub/deep/h"):
        daemon.wait_event("IN_CLOSE_WRITE", box.src / path)
    assert last_seen(daemon, box) == {"f", "sub", "sub/g", "sub/deep", "sub/deep/h"}
    assert daemon.heard(box.src / "f") == ["IN_CREATE", "IN_CLOSE_WRITE"]
    assert len(daemon.heard(box.src / "sub")) == 1


def test_a_reload_tells_of_a_directory_that_was_excluded(box: Box) -> None:
    (box.src / "sub").mkdir()
    write(box.src / "f")
    write(box.src / "sub/g")
    without = ALL.replace("auto_add=True", 'auto_add=True, exclude_filter=["$SRC/sub"]')
    daemon = box.run(without, record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    box.write_config(ALL, record=True)
    daemon.reload()
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "sub/g")
    assert daemon.heard(box.src / "f") == ["IN_CREATE", "IN_CLOSE_WRITE"]


def test_a_reload_does_not_tell_a_directory_again_with_what_is_above_it(box: Box) -> None:
    (box.src / "sub").mkdir()
    write(box.src / "f")
    write(box.src / "sub/g")
    daemon = box.run(ALL.replace("$SRC", "$SRC/sub"), record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "sub/g")
    box.write_config(ALL, record=True)
    daemon.reload()
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    assert last_seen(daemon, box) == {"f", "sub/g"}
    assert daemon.heard(box.src / "sub/g") == ["IN_CREATE", "IN_CLOSE_WRITE"]


def test_a_file_that_was_watched_by_itself_is_not_told_again_with_its_directory(box: Box) -> None:
    write(box.src / "f")
    write(box.src / "g")
    daemon = box.run(ALL.replace("$SRC", "$SRC/f"), record=True)
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "f")
    told = daemon.heard(box.src / "f")
    box.write_config(ALL, record=True)
    daemon.reload()
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "g")
    assert last_seen(daemon, box) == {"f", "g"}
    assert daemon.heard(box.src / "f") == told
    box.write_config(ALL.replace("$SRC", "$SRC/g"), record=True)
    daemon.reload()
    assert last_seen_of(daemon, box.src / "g") == ["IN_CREATE", "IN_CLOSE_WRITE", "IN_CLOSE_WRITE"]


def last_seen_of(daemon: Daemon, path: Path) -> list[str]:
    """What was told of a watched file, once it was written again."""
    count = len(daemon.heard(path))
    write(path, "again")
    wait_until(lambda: len(daemon.heard(path)) > count, lambda: daemon.tail)
    return daemon.heard(path)
