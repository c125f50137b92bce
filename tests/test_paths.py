"""What is watched: rec, auto_add, globs, lists of paths; and roots that are missing, or come and go."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable

import pytest

from vocabulary import REFERENCE, Box, Daemon, until_seen, wait_until, write

Run = Callable[..., Daemon]


def watching(path: str = "$SRC", *flags: str, rec: bool = False, auto_add: bool = False) -> str:
    names = ", ".join(f'"{name}"' for name in (flags or ("IN_CREATE",)))
    given = path if path.startswith("[") else f'"{path}"'
    return f"pyinotifyd = Pyinotifyd([Watch({given}, recorder({names}), rec={rec}, auto_add={auto_add})])"


def last_word(daemon: Daemon, box: Box) -> None:
    """Everything that happened before is through when this file is seen."""
    write(box.src / "last")
    daemon.wait_event("IN_CREATE", box.src / "last")


# ---- rec and auto_add


def test_without_rec_subdirectories_are_not_watched(run: Run, box: Box) -> None:
    (box.src / "sub").mkdir()
    daemon = run(watching(), record=True)
    write(box.src / "sub" / "f")
    last_word(daemon, box)
    assert daemon.heard(box.src / "sub" / "f") == []


def test_rec_watches_all_subdirectories_hidden_ones_too(run: Run, box: Box) -> None:
    paths = [box.src / "a" / "b" / "c", box.src / ".hidden" / "d"]
    for path in paths:
        path.mkdir(parents=True)
    daemon = run(watching(rec=True), record=True)
    for path in [*paths, box.src / "a", box.src / ".hidden"]:
        write(path / "f")
        daemon.wait_event("IN_CREATE", path / "f")


def test_rec_does_not_follow_links(run: Run, box: Box) -> None:
    (box.src / "link").symlink_to(box.dst)
    daemon = run(watching(rec=True), record=True)
    write(box.dst / "f")
    last_word(daemon, box)
    assert len(daemon.events) == 1


def test_rec_without_auto_add_does_not_watch_new_directories(run: Run, box: Box) -> None:
    daemon = run(watching(rec=True), record=True)
    (box.src / "new").mkdir()
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "new")
    write(box.src / "new" / "f")
    last_word(daemon, box)
    assert daemon.heard(box.src / "new" / "f") == []


def test_auto_add_without_rec_watches_new_directories_but_not_old_ones(run: Run, box: Box) -> None:
    (box.src / "old").mkdir()
    daemon = run(watching(auto_add=True), record=True)
    (box.src / "new" / "deep").mkdir(parents=True)
    write(box.src / "new" / "deep" / "f")
    write(box.src / "old" / "f")
    daemon.wait_event("IN_CREATE", box.src / "new" / "deep" / "f")
    last_word(daemon, box)
    assert daemon.heard(box.src / "old" / "f") == []


def test_a_file_in_a_new_directory_is_never_lost(run: Run, box: Box) -> None:
    """However fast it is made after its directories: here before the daemon can look at all."""
    daemon = run(watching(auto_add=True), record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "a" / "b" / "c").mkdir(parents=True)
    for path in (box.src / "a" / "f", box.src / "a" / "b" / "f", box.src / "a" / "b" / "c" / "f"):
        write(path)
    daemon.signal(signal.SIGCONT)
    for path in (box.src / "a" / "f", box.src / "a" / "b" / "f", box.src / "a" / "b" / "c" / "f"):
        daemon.wait_event("IN_CREATE", path)
    for path in (box.src / "a" / "b", box.src / "a" / "b" / "c"):
        daemon.wait_event("IN_CREATE|IN_ISDIR", path)


def test_a_file_finished_before_its_directory_was_watched_gets_close_write(run: Run, box: Box) -> None:
    daemon = run(watching("$SRC", "IN_CLOSE_WRITE", auto_add=True), record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "new").mkdir()
    write(box.src / "new" / "f")
    daemon.signal(signal.SIGCONT)
    event = daemon.wait_event("IN_CLOSE_WRITE", box.src / "new" / "f")
    assert event.synthetic is True


def test_a_file_still_being_written_gets_close_write_when_its_writer_closes(run: Run, box: Box) -> None:
    daemon = run(watching("$SRC", "IN_CLOSE_WRITE", "IN_CREATE", auto_add=True), record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "new").mkdir()
    with open(box.src / "new" / "f", "w") as file:
        daemon.signal(signal.SIGCONT)
        daemon.wait_event("IN_CREATE", box.src / "new" / "f")
        last_word(daemon, box)
        assert "IN_CLOSE_WRITE" not in daemon.heard(box.src / "new" / "f")
        file.write("done")
    event = daemon.wait_event("IN_CLOSE_WRITE", box.src / "new" / "f")
    assert "synthetic" not in event.attributes


def test_a_file_finished_before_its_directory_was_watched_reaches_a_map_of_moved_to_only(run: Run, box: Box) -> None:
    daemon = run(watching("$SRC", "IN_MOVED_TO", auto_add=True), record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "new").mkdir()
    write(box.src / "new" / "f")
    daemon.signal(signal.SIGCONT)
    assert daemon.wait_event("IN_MOVED_TO", box.src / "new" / "f").synthetic is True


def test_a_created_entry_is_reported_once_even_if_it_was_found_as_well(run: Run, box: Box) -> None:
    daemon = run(watching(auto_add=True), record=True)
    for number in range(100):
        (box.src / f"d{number}").mkdir()
        write(box.src / f"d{number}" / "f")
    for number in range(100):
        daemon.wait_event("IN_CREATE", box.src / f"d{number}" / "f")
    last_word(daemon, box)
    for number in range(100):
        assert daemon.heard(box.src / f"d{number}" / "f") == ["IN_CREATE"]
        assert daemon.heard(box.src / f"d{number}") == ["IN_CREATE|IN_ISDIR"]


def test_a_link_inside_a_new_directory_is_not_followed(run: Run, box: Box) -> None:
    write(box.dst / "old")
    daemon = run(watching(auto_add=True), record=True)
    daemon.signal(signal.SIGSTOP)
    (box.src / "new").mkdir()
    (box.src / "new" / "link").symlink_to(box.dst)
    daemon.signal(signal.SIGCONT)
    daemon.wait_event("IN_CREATE|IN_ISDIR", box.src / "new")
    write(box.dst / "f")
    last_word(daemon, box)
    assert not [event for event in daemon.events if event.pathname.endswith(("/f", "/old"))]


def test_a_directory_gone_before_it_can_be_watched_does_no_harm(run: Run, box: Box) -> None:
    daemon = run(watching(auto_add=True), record=True)
    for _ in range(50):
        (box.src / "short").mkdir()
        (box.src / "short").rmdir()
    last_word(daemon, box)
    assert daemon.terminate() == 0


def test_a_directory_made_again_under_the_same_name_is_watched(run: Run, box: Box) -> None:
    daemon = run(watching(auto_add=True), record=True)
    for number in range(5):
        (box.src / "d").mkdir()
        write(box.src / "d" / f"f{number}")
        daemon.wait_event("IN_CREATE", box.src / "d" / f"f{number}")
        (box.src / "d" / f"f{number}").unlink()
        (box.src / "d").rmdir()


def test_an_unreadable_subdirectory_is_said_and_the_rest_is_watched(box: Box, plain_user: None) -> None:
    for name in ("shut", "open"):
        (box.src / name).mkdir()
    (box.src / "shut").chmod(0)
    daemon = box.run(watching(rec=True), record=True)
    write(box.src / "open" / "f")
    daemon.wait_event("IN_CREATE", box.src / "open" / "f")
    daemon.wait_log(rf"(WARNING|ERROR).*{box.src}/shut.*(?i:permission denied)")


def test_of_the_daemons_own_listings_no_more_is_seen_than_one_a_subdirectory(run: Run, box: Box) -> None:
    """A map of all events is told of them; a root's own listing comes before it is watched, or is left out."""
    (box.src / "old").mkdir()
    daemon = run(
        'setLoglevel(DEBUG, "eventmap")\n' + watching("$SRC", "IN_CREATE", "IN_OPEN", rec=True, auto_add=True),
        record=True,
    )
    (box.src / "new").mkdir()
    until_seen(daemon, box.src / "new")
    opened = [event.pathname for event in daemon.received if event.maskname == "IN_OPEN|IN_ISDIR"]
    assert opened.count(str(box.src)) == 0
    for name in ("old", "new"):
        # It may come from the directory's own watch and from its parent's.
        assert opened.count(str(box.src / name)) <= 2


# ---- how paths are written


def test_a_list_of_paths_is_watched(run: Run, box: Box) -> None:
    daemon = run(watching('["$SRC", "$DST"]'), record=True)
    for directory in (box.src, box.dst):
        write(directory / "f")
        daemon.wait_event("IN_CREATE", directory / "f")


@pytest.mark.parametrize("pattern", ["$TMP/in?", "$TMP/in*", "$TMP/in[12]"])
def test_a_path_is_a_glob(run: Run, box: Box, pattern: str) -> None:
    for name in ("in1", "in2"):
        (box.tmp / name).mkdir()
    daemon = run(watching(pattern), record=True)
    for name in ("in1", "in2"):
        write(box.tmp / name / "f")
        daemon.wait_event("IN_CREATE", box.tmp / name / "f")


def test_a_glob_in_the_middle_of_a_path(run: Run, box: Box) -> None:
    for name in ("u1", "u2"):
        (box.src / name / "in").mkdir(parents=True)
    daemon = run(watching("$SRC/*/in"), record=True)
    for name in ("u1", "u2"):
        write(box.src / name / "in" / "f")
        daemon.wait_event("IN_CREATE", box.src / name / "in" / "f")


def test_wildcards_do_not_match_names_with_a_dot_first(run: Run, box: Box) -> None:
    for name in ("seen", ".hidden"):
        (box.src / name).mkdir()
    daemon = run(watching("$SRC/*"), record=True)
    write(box.src / ".hidden" / "f")
    write(box.src / "seen" / "f")
    daemon.wait_event("IN_CREATE", box.src / "seen" / "f")
    assert len(daemon.events) == 1


def test_a_glob_matches_files_too(run: Run, box: Box) -> None:
    write(box.src / "f.conf")
    daemon = run(watching("$SRC/*.conf", "IN_MODIFY"), record=True)
    write(box.src / "f.conf", "new")
    daemon.wait_event("IN_MODIFY", box.src / "f.conf")


def test_a_name_with_a_bracket_is_matched_by_an_escaped_glob(run: Run, box: Box) -> None:
    (box.tmp / "in[1]").mkdir()
    daemon = run(watching("$TMP/in[[]1]"), record=True)
    write(box.tmp / "in[1]" / "f")
    daemon.wait_event("IN_CREATE", box.tmp / "in[1]" / "f")


@pytest.mark.parametrize("written", ["$SRC/", "$TMP//src", "$TMP/./src", "$TMP/dst/../src"])
def test_a_path_is_normalised(run: Run, box: Box, written: str) -> None:
    daemon = run(watching(written), record=True)
    write(box.src / "f")
    assert daemon.wait_event("IN_CREATE", box.src / "f").pathname == str(box.src / "f")


def test_one_directory_twice_in_a_list_is_one_watch(run: Run, box: Box) -> None:
    daemon = run(watching('["$SRC", "$SRC/"]'), record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.src / "f")
    last_word(daemon, box)
    assert daemon.heard(box.src / "f") == ["IN_CREATE"]


def test_variables_are_not_expanded(run: Run, box: Box) -> None:
    """Nor is a tilde, which is refused: see test_bad_input.py."""
    (box.tmp / "$HOME").mkdir()
    daemon = run(watching('["$HOME"]'), record=True, cwd=box.tmp)
    write(box.tmp / "$HOME" / "f")
    wait_until(lambda: {event.path for event in daemon.events} == {"$HOME"}, lambda: daemon.tail)


def test_a_symlink_to_a_directory_as_root_is_watched_under_the_links_name(run: Run, box: Box) -> None:
    (box.tmp / "link").symlink_to(box.src)
    daemon = run(watching("$TMP/link"), record=True)
    write(box.src / "f")
    daemon.wait_event("IN_CREATE", box.tmp / "link" / "f")


# ---- roots that come and go


def test_a_missing_path_does_not_stop_the_rest(run: Run, box: Box) -> None:
    daemon = run(watching('["$TMP/missing", "$SRC"]'), record=True)
    last_word(daemon, box)


def test_a_dangling_link_as_path_does_not_stop_the_rest(run: Run, box: Box) -> None:
    (box.tmp / "dangling").symlink_to(box.tmp / "nowhere")
    daemon = run(watching('["$TMP/dangling", "$SRC"]'), record=True)
    last_word(daemon, box)


def test_a_missing_root_is_said_once_and_watched_when_it_comes(run: Run, box: Box) -> None:
    daemon = run(watching("$TMP/a/b/c", rec=True, auto_add=True), record=True)
    daemon.wait_log(rf"(WARNING|INFO|ERROR).*{box.tmp}/a/b/c")
    path = box.tmp / "a" / "b" / "c"
    path.mkdir(parents=True)
    write(path / "first")
    # Whether the file came before the watch or after it: it is an arrival or an event.
    daemon.wait_event("IN_CREATE", path / "first")
    write(path / "second")
    daemon.wait_event("IN_CREATE", path / "second")


def test_a_root_made_again_is_watched_and_its_files_arrive(run: Run, box: Box) -> None:
    import shutil

    daemon = run(watching("$SRC", rec=True, auto_add=True), record=True)
    for number in range(3):
        shutil.rmtree(box.src)
        box.src.mkdir()
        write(box.src / f"f{number}")
        daemon.wait_event("IN_CREATE", box.src / f"f{number}")


def test_a_root_replaced_by_rename_is_watched(run: Run, box: Box) -> None:
    daemon = run(watching("$SRC", rec=True, auto_add=True), record=True)
    (box.tmp / "new").mkdir()
    write(box.tmp / "new" / "inside")
    box.src.rename(box.tmp / "old")
    (box.tmp / "new").rename(box.src)
    daemon.wait_event("IN_CREATE", box.src / "inside")
    write(box.tmp / "old" / "stray")
    last_word(daemon, box)
    assert not [event for event in daemon.events if event.pathname.endswith("stray")]


def test_a_root_whose_parent_is_renamed_is_lost_and_found_again(run: Run, box: Box) -> None:
    (box.tmp / "p" / "root").mkdir(parents=True)
    daemon = run(watching("$TMP/p/root"), record=True)
    (box.tmp / "p").rename(box.tmp / "q")

    # From now on no event may have the old path.
    def gone() -> bool:
        write(box.tmp / "q" / "root" / "probe")
        (box.tmp / "q" / "root" / "probe").unlink()
        before = len(daemon.events)
        write(box.tmp / "q" / "root" / "probe2")
        (box.tmp / "q" / "root" / "probe2").unlink()
        return len(daemon.watches()) > 0 and len(daemon.events) == before

    wait_until(gone)
    (box.tmp / "p" / "root").mkdir(parents=True)
    write(box.tmp / "p" / "root" / "f")
    daemon.wait_event("IN_CREATE", box.tmp / "p" / "root" / "f")


def test_a_root_removed_while_somebody_holds_it_open_is_watched_when_made_again(run: Run, box: Box) -> None:
    daemon = run(watching(), record=True)
    held = os.open(box.src, os.O_RDONLY | os.O_DIRECTORY)
    try:
        box.src.rmdir()
        box.src.mkdir()
        write(box.src / "f")
        daemon.wait_event("IN_CREATE", box.src / "f")
    finally:
        os.close(held)


def test_a_root_unmounted_and_mounted_again_is_watched(run: Run, box: Box, root: None) -> None:
    assert os.system(f"mount -t tmpfs none {box.src}") == 0
    try:
        daemon = run(watching("$SRC", "IN_CREATE", "IN_UNMOUNT"), record=True)
        assert os.system(f"umount {box.src}") == 0
        daemon.wait_event("IN_UNMOUNT|IN_ISDIR", box.src)
        assert os.system(f"mount -t tmpfs none {box.src}") == 0

        def seen() -> bool:
            write(box.src / f"f{len(list(box.src.iterdir()))}")
            return any(event.maskname == "IN_CREATE" and os.path.exists(event.pathname) for event in daemon.events)

        wait_until(seen, lambda: daemon.tail)
    finally:
        os.system(f"umount {box.src}")


def test_a_mount_over_a_root_is_watched(run: Run, box: Box, root: None) -> None:
    daemon = run(watching(), record=True)
    assert os.system(f"mount -t tmpfs none {box.src}") == 0
    try:

        def seen() -> bool:
            write(box.src / f"on-top{len(list(box.src.iterdir()))}")
            return any("on-top" in event.pathname for event in daemon.events)

        wait_until(seen, lambda: daemon.tail)
    finally:
        assert os.system(f"umount {box.src}") == 0


def test_a_watched_file_is_followed_through_an_atomic_save(run: Run, box: Box) -> None:
    write(box.src / "f", "old")
    daemon = run(watching("$SRC/f", "IN_MODIFY", "IN_CLOSE_WRITE"), record=True)
    for number in range(3):
        write(box.src / "f.new", f"new {number}")
        (box.src / "f.new").rename(box.src / "f")

        def seen() -> bool:
            before = len(daemon.heard(box.src / "f"))
            with open(box.src / "f", "a") as file:
                file.write("more")
            return before > 0

        wait_until(seen, lambda: daemon.tail)
    write(box.src / "f", "last")
    assert daemon.running


def test_a_root_that_stays_away_costs_no_cpu_and_one_line(run: Run, box: Box) -> None:
    daemon = run(watching('["$TMP/missing", "$SRC"]'), record=True)
    for number in range(200):
        write(box.tmp / f"other{number}")
    last_word(daemon, box)
    assert daemon.count(re.escape(f"{box.tmp}/missing")) <= 2
    assert daemon.cpu_s() < 1.0


@pytest.mark.skipif(REFERENCE, reason="the original expands a pattern once")
def test_what_comes_to_match_a_pattern_is_watched(run: Run, box: Box) -> None:
    """faults.md B5: neither a directory made later nor a reload brought it."""
    (box.src / "a" / "in").mkdir(parents=True)
    daemon = run('pyinotifyd = Pyinotifyd([Watch("$SRC/*/in", recorder("IN_CLOSE_WRITE", "IN_CREATE"))])', record=True)
    write(box.src / "a" / "in" / "f")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "a" / "in" / "f")
    (box.src / "b" / "in").mkdir(parents=True)
    write(box.src / "b" / "in" / "first")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "b" / "in" / "first")
    daemon.reload()
    write(box.src / "b" / "in" / "second")
    daemon.wait_event("IN_CLOSE_WRITE", box.src / "b" / "in" / "second")
    shutil.rmtree(box.src / "b")
    daemon.wait_log("b/in' is gone, not watching it any more")
    assert daemon.terminate() == 0
