"""What file rules are told about destinations that exist, copies that matter, and directories that are left empty."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original has no such arguments")


def config(arguments: str, action: str = "move") -> str:
    return f"""
rules = FileManagerRule("{action}", r"^$SRC/(.*)$", r"$DST/\\1", {arguments})
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": FileManagerScheduler(rules)}}, rec=True, auto_add=True)])
"""


@pytest.mark.parametrize(
    ("conflict", "old", "new", "source"),
    [
        ("fail", {"a.x": "old"}, {"a.x": "old"}, True),
        ("overwrite", {"a.x": "old"}, {"a.x": "new"}, False),
        ("skip", {"a.x": "old"}, {"a.x": "old"}, True),
        ("rename", {"a.x": "old"}, {"a.x": "old", "a.1.x": "new"}, False),
        ("rename", {"a.x": "old", "a.1.x": "older"}, {"a.x": "old", "a.1.x": "older", "a.2.x": "new"}, False),
        ("newer", {"a.x": "old"}, {"a.x": "new"}, False),
        ("same", {"a.x": "old"}, {"a.x": "old"}, True),
        ("same", {"a.x": "new"}, {"a.x": "new"}, False),
    ],
)
def test_on_conflict(run: Run, box: Box, conflict: str, old: dict[str, str], new: dict[str, str], source: bool) -> None:
    for name, content in old.items():
        write(box.dst / name, content)
        os.utime(box.dst / name, (1000, 1000))
    daemon = run(config(f'on_conflict="{conflict}"'))
    write(box.src / "a.x", "new")
    fails = source and conflict != "skip"
    daemon.wait_log("task failed" if fails else "task finished")
    assert {path.name: path.read_text() for path in box.dst.iterdir()} == new
    assert (box.src / "a.x").exists() == source


def test_an_older_source_replaces_nothing(run: Run, box: Box) -> None:
    write(box.dst / "a", "old")
    daemon = run(config('on_conflict="newer"'))
    os.utime(box.dst / "a", (4_000_000_000, 4_000_000_000))
    write(box.src / "a", "new")
    daemon.wait_log("task finished")
    assert (box.dst / "a").read_text() == "old"


@pytest.mark.parametrize("action", ["copy", "move"])
def test_a_verified_copy_is_a_copy(run: Run, box: Box, action: str) -> None:
    daemon = run(config("verify=True, durable=True", action))
    write(box.src / "a", "content" * 100_000)
    daemon.wait_log("task finished")
    assert (box.dst / "a").read_text() == "content" * 100_000


def test_what_is_overwritten_is_in_the_trash(run: Run, box: Box) -> None:
    write(box.dst / "a", "old")
    daemon = run(config('overwrite=True, trash="$TMP/trash"'))
    write(box.src / "a", "new")
    daemon.wait_log("task finished")
    assert (box.dst / "a").read_text() == "new"
    kept = [path for path in (box.tmp / "trash").rglob("a") if path.is_file()]
    assert [path.read_text() for path in kept] == ["old"]
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}\.\d{{3}}{box.dst}/a", str(kept[0].relative_to(box.tmp / "trash")))


def test_what_is_deleted_is_in_the_trash(run: Run, box: Box) -> None:
    daemon = run(
        """
rules = FileManagerRule("delete", r"^$SRC/.*$", trash="$TMP/trash")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CLOSE_WRITE": FileManagerScheduler(rules)})])
"""
    )
    write(box.src / "a", "content")
    daemon.wait_log("task finished")
    assert not (box.src / "a").exists()
    assert [path.read_text() for path in (box.tmp / "trash").rglob("a") if path.is_file()] == ["content"]


def test_nothing_lands_below_a_directory_where_nothing_is_mounted(run: Run, box: Box) -> None:
    daemon = run(config('mounted="$DST", auto_create=True'))
    write(box.src / "a", "content")
    daemon.wait_log(f"task failed.*{box.dst} is not mounted")
    assert os.listdir(box.dst) == []
    assert (box.src / "a").read_text() == "content"


def test_what_is_mounted_is_a_destination(root: None, box: Box) -> None:
    """In a mount namespace of the daemon's own."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {box.dst}; exec "$@"', "sh"]
    daemon = box.run(config('mounted="$DST"'), before=mount)
    write(box.src / "a", "content")
    daemon.wait_log("task finished")
    assert not (box.src / "a").exists()


def test_directories_that_are_empty_then_are_removed(run: Run, box: Box) -> None:
    (box.src / "x/y/z").mkdir(parents=True)
    write(box.src / "x/stays", "content")
    daemon = run(config("prune=True, auto_create=True"))
    write(box.src / "x/y/z/a", "content")
    daemon.wait_log("task finished")
    assert (box.dst / "x/y/z/a").read_text() == "content"
    wait_until(lambda: not (box.src / "x/y").exists())
    assert (box.src / "x/stays").exists()


def test_directories_that_are_the_root_of_a_watch_stay(run: Run, box: Box) -> None:
    """Also where the watch has wildcards, and where its own rule removes nothing."""
    (box.src / "x/y/z").mkdir(parents=True)
    other = ', Watch("$SRC/x/[xy]", {"IN_ATTRIB": ShellScheduler("true")})])'
    daemon = run(config("prune=True, auto_create=True").replace("])", other))
    write(box.src / "x/y/z/a", "content")
    daemon.wait_log("task finished")
    wait_until(lambda: not (box.src / "x/y/z").exists())
    write(box.src / "x/y/b", "content")
    wait_until(lambda: (box.dst / "x/y/b").exists())
    assert (box.src / "x/y").exists()


# ---- rules that act on what rules made


FED = "ERROR - task failed: rules feed themselves"


def test_a_rule_that_feeds_itself_ends(run: Run, box: Box) -> None:
    rule = r'FileManagerRule("copy", r"^$SRC/(f\.?(.*))$", r"$SRC/f.\2x")'
    daemon = run(f'pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CLOSE_WRITE": FileManagerScheduler({rule})}})])\n')
    write(box.src / "f")
    daemon.wait_log(FED)
    assert sorted(path.name for path in box.src.iterdir()) == ["f", *("f." + "x" * times for times in range(1, 9))]


@pytest.mark.parametrize("way", ["$SRC", "$TMP/link"])
def test_rules_that_feed_each_other_end(run: Run, box: Box, way: str) -> None:
    """By whatever name they call the place."""
    (box.tmp / "link").symlink_to(box.src)
    daemon = run(f"""
there = FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1", generations=4)
back = FileManagerRule("move", r"^$DST/(.*)$", r"{way}/\\1", generations=4)
mover = FileManagerScheduler([there, back])
pyinotifyd = Pyinotifyd([Watch(path, {{"IN_MOVED_TO": mover, "IN_CLOSE_WRITE": mover}}) for path in ("$SRC", "$DST")])
""")
    for name in ("f", "g"):
        write(box.src / name)
    daemon.wait_log(FED, count=2)
    assert daemon.count("task finished") == 2 * 4
    assert sorted(path.name for path in box.src.iterdir()) == ["f", "g"]
    # What somebody else changes is new.
    write(box.src / "f", "changed")
    daemon.wait_log(FED, count=3)
    assert daemon.count("task finished") == 3 * 4


def test_a_directory_goes_round_as_often_as_the_rule_allows(run: Run, box: Box) -> None:
    daemon = run("""
rules = [
    FileManagerRule("move", r"^$SRC/(.*)$", r"$DST/\\1", generations=3),
    FileManagerRule("move", r"^$DST/(.*)$", r"$SRC/\\1", generations=3),
]
mover = FileManagerScheduler(rules, files=False, dirs=True)
pyinotifyd = Pyinotifyd([Watch(path, {"IN_MOVED_TO": mover}) for path in ("$SRC", "$DST")])
""")
    (box.tmp / "tree").mkdir()
    write(box.tmp / "tree/f")
    (box.tmp / "tree").rename(box.src / "tree")
    daemon.wait_log(FED)
    assert daemon.count("task finished") == 3
    assert (box.dst / "tree/f").is_file()


@pytest.mark.parametrize("flag", ["IN_OPEN", "IN_ACCESS", "IN_CLOSE_NOWRITE", "all"])
@pytest.mark.parametrize("conflict", ["fail", "overwrite", "same"])
def test_what_a_rule_reads_does_not_start_it_again(run: Run, box: Box, flag: str, conflict: str) -> None:
    """A rule opens its source, as whoever read the file did."""
    (box.tmp / "ends").mkdir()
    events = "default_sched=copier" if flag == "all" else f'{{"{flag}": copier}}'
    write(box.src / "f")
    daemon = run(f"""
copier = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/(f)$", r"$DST/\\1", on_conflict="{conflict}"))
cleaner = FileManagerScheduler(FileManagerRule("delete", r"^$TMP/ends/.*$"))
watches = [Watch("$SRC", {events}), Watch("$TMP/ends", {{"IN_CLOSE_WRITE": cleaner}})]
pyinotifyd = Pyinotifyd(watches)
""")
    # All events of the reader are there before the rule runs: a slow reader would start it once for each of them.
    daemon.signal(signal.SIGSTOP)
    (box.src / "f").read_text()
    daemon.signal(signal.SIGCONT)
    daemon.wait_log(f"task (finished|failed).*path={box.src}/f,")
    for number in range(10):
        write(box.tmp / f"ends/{number}")
        daemon.wait_log(f"task finished.*path={box.tmp}/ends/{number},")
    assert daemon.count(f"start task.*path={box.src}/f,") == 1


def deepest(box: Box, name: str) -> int:
    """How often a name stands in the path of a directory."""
    return max(directory.count(f"/{name}") for directory, _, _ in os.walk(box.src))


def test_directories_that_a_rule_makes_are_its_results(run: Run, box: Box) -> None:
    """A tree that arrives, copied into a directory of the watched tree: each copy is copied again."""
    daemon = run(r"""
copy = FileManagerScheduler(FileManagerRule("copy", r"^$SRC/(.*)$", r"$SRC/copies/\1", auto_create=True), dirs=True)
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": copy, "IN_MOVED_TO": copy}, rec=True, auto_add=True)])
""")
    (box.tmp / "tree/a").mkdir(parents=True)
    write(box.tmp / "tree/a/f")
    (box.tmp / "tree").rename(box.src / "tree")
    daemon.wait_log(FED)
    ends = "task (finished|failed)|nothing changed meanwhile"
    wait_until(lambda: daemon.count("start task") == daemon.count(ends), lambda: daemon.tail)
    assert deepest(box, "copies") == 8


def test_what_a_rule_puts_into_its_trash_is_its_result(run: Run, box: Box) -> None:
    daemon = run("""
delete = FileManagerScheduler(FileManagerRule("delete", r"^$SRC/.*$", trash="$SRC/trash", generations=3))
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": delete, "IN_MOVED_TO": delete}, rec=True, auto_add=True)])
""")
    # Written elsewhere: what its writer does to it in the trash would be somebody else's change.
    write(box.tmp / "f")
    (box.tmp / "f").rename(box.src / "f")
    daemon.wait_log(FED)
    assert daemon.count("into the trash") == 3
    assert deepest(box, "trash") == 3


def test_a_person_may_bring_a_file_back_as_often_as_they_like(run: Run, box: Box) -> None:
    daemon = run(config("generations=2").replace("IN_CLOSE_WRITE", "IN_MOVED_TO"))
    write(box.tmp / "f")
    (box.tmp / "f").rename(box.src / "f")
    for times in range(1, 6):
        daemon.wait_log("task finished", count=times)
        (box.dst / "f").rename(box.src / "f")
    daemon.wait_log("task finished", count=6)
    assert daemon.count(FED) == 0


def feeding(roots: list[str], *ways: tuple[str, str]) -> str:
    """A config with rules that move each `f` on, from one directory to another, with an `x` more each time."""
    rules = ", ".join(rf'FileManagerRule("move", r"^{one}/(f[^/]*)$", r"{other}/\1x")' for one, other in ways)
    return f"""
mover = FileManagerScheduler([{rules}])
events = {{"IN_MOVED_TO": mover, "IN_CLOSE_WRITE": mover}}
pyinotifyd = Pyinotifyd([Watch(path, events, rec=True, auto_add=True) for path in {roots}])
"""


def feed(daemon: Daemon, directory: Path) -> int:
    """How many actions follow on a new file until the rules end, which all allow the same number."""
    rounds, before = daemon.count("task failed") + 1, daemon.count("task finished")
    write(directory / f"f{rounds}")
    daemon.wait_log("task failed", count=rounds)
    assert daemon.count(FED) == rounds, daemon.tail
    # The end of the last move may be told after that.
    ended = "task (finished|failed)|nothing changed meanwhile"
    wait_until(lambda: daemon.count("start task") == daemon.count(ended), lambda: daemon.tail)
    return daemon.count("task finished") - before


def wait_watched(daemon: Daemon, directory: Path) -> None:
    wait_until(lambda: daemon.watches_path(directory), lambda: f"a watch of {directory}; {daemon.tail}")


Mount = Callable[..., None]


@pytest.fixture
def mount(root: None, box: Box) -> Iterator[Mount]:
    """`mount(directory, *arguments)`: mounts something there, for this test."""
    directories: list[Path] = []

    def mount_at(directory: Path, *arguments: str | Path) -> None:
        if subprocess.run(["mount", *arguments, directory], check=False).returncode != 0:
            pytest.skip("cannot mount")
        directories.append(directory)

    yield mount_at
    for directory in reversed(directories):
        subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.parametrize("shown", ["other", "tmpfs/other"])
@pytest.mark.parametrize("way", ["to itself", "to what it shows", "there and back"])
@pytest.mark.parametrize("is_late", [False, True])
def test_rules_end_where_something_is_mounted_below_a_watch(
    box: Box, mount: Mount, shown: str, way: str, is_late: bool
) -> None:
    """A directory of the same filesystem, or of another one."""
    inner, other = box.src / "mnt", box.tmp / shown
    ways = {
        "to itself": [("$SRC/mnt", "$SRC/mnt")],
        "to what it shows": [("$SRC/mnt", f"$TMP/{shown}")],
        "there and back": [("$SRC", "$SRC/mnt"), ("$SRC/mnt", "$SRC")],
    }[way]

    def bind() -> None:
        other.parent.mkdir(exist_ok=True)
        if other.parent != box.tmp:
            mount(other.parent, "-t", "tmpfs", "none")
        other.mkdir()
        inner.mkdir()
        mount(inner, "--bind", other)

    if not is_late:
        bind()
    daemon = box.run(feeding(["$SRC"], *ways))
    start = box.src if way == "there and back" else inner
    if is_late:
        bind()
        wait_watched(daemon, inner)
        # What the rules make before the daemon has heard of the mount is known by another place.
        assert feed(daemon, start) >= 8
    assert feed(daemon, start) == 8


def lead_to(link: Path, directory: Path) -> None:
    """The link leads there from now on, without a moment in which there is none."""
    new = link.with_name("new")
    new.symlink_to(directory)
    new.rename(link)


@pytest.mark.parametrize("root", ["$TMP/link", "$TMP/link/in", "$TMP/li[n]k", "$TMP/li[n]k/in"])
@pytest.mark.parametrize("other", ["itself", "another watch"])
def test_rules_end_where_a_watch_leads_through_a_link(run: Run, box: Box, root: str, other: str) -> None:
    """One that comes late, and leads elsewhere later."""
    link, inner = box.tmp / "link", "/in" if root.endswith("/in") else ""
    names = ("one", "two", "three")
    for name in names:
        (box.tmp / name / "in").mkdir(parents=True)
    way = f"$TMP/link{inner}"
    ways = [(way, way)] if other == "itself" else [("$SRC", way), (way, "$SRC")]
    daemon = run(feeding([root, "$SRC"], *ways))
    for name in names:
        lead_to(link, box.tmp / name)
        there = Path(f"{box.tmp}/{name}{inner}")
        wait_watched(daemon, there)
        assert feed(daemon, there if other == "itself" else box.src) == 8


def test_rules_end_where_the_result_has_another_name_than_the_watch(run: Run, box: Box) -> None:
    """Each rule names the place to which a link of a watch leads."""
    links = box.tmp / "links"
    links.mkdir()
    for name in ("one", "two"):
        (box.tmp / name).mkdir()
    ways = [("$TMP/links/one", "$TMP/two"), ("$TMP/links/two", "$TMP/one")]
    daemon = run(feeding(["$TMP/links/*"], *ways))
    for name in ("one", "two"):
        (links / name).symlink_to(box.tmp / name)
    wait_watched(daemon, box.tmp / "one")
    wait_watched(daemon, box.tmp / "two")
    assert feed(daemon, box.tmp / "one") == 8


def test_rules_end_where_watches_are_of_files(run: Run, box: Box) -> None:
    one, two = box.src / "one", box.dst / "two"
    daemon = run(f"""
rules = [FileManagerRule("move", r"^{one}$", r"{two}"), FileManagerRule("move", r"^{two}$", r"{one}")]
mover = FileManagerScheduler(rules)
pyinotifyd = Pyinotifyd([Watch(path, {{"IN_CLOSE_WRITE": mover}}) for path in ("{one}", "{two}")])
""")
    write(box.tmp / "new")
    (box.tmp / "new").rename(one)
    daemon.wait_log(FED)
    wait_until(lambda: daemon.count("task finished") >= 8, lambda: daemon.tail)
    assert daemon.count("task finished") == 8


# ---- what lies in the trash


def test_what_lies_in_the_trash_for_long_enough_is_removed(run: Run, box: Box) -> None:
    trash = box.tmp / "trash"
    for name in ("20200101-000000.000", "20200101-000000.000-1", "29990101-000000.000", "notes"):
        (trash / name / "srv").mkdir(parents=True)
    daemon = run(config('overwrite=True, trash="$TMP/trash", trash_keep=3600'))
    daemon.wait_log(f"removed 2 old entries of the trash '{trash}'")
    assert sorted(path.name for path in trash.iterdir()) == ["29990101-000000.000", "notes"]


def test_a_trash_of_which_a_rule_wants_everything_kept_is_left_alone(run: Run, box: Box) -> None:
    trash, other = box.tmp / "trash", box.tmp / "other"
    for directory in (trash, other):
        (directory / "20200101-000000.000").mkdir(parents=True)
    rule = 'FileManagerRule("delete", r".*", trash="%s", %s)'
    rules = [rule % (trash, "trash_keep=60"), rule % (trash, "overwrite=False"), rule % (other, "trash_keep=60")]
    daemon = run(f"""
move = FileManagerScheduler([{", ".join(rules)}])
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": move}})])
""")
    daemon.wait_log(f"removed 1 old entry of the trash '{other}'")
    assert list(trash.iterdir())
