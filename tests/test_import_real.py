"""`pyinotifyd import` beside the programs that it replaces: one configuration, run by incrond or direvent themselves
and by the daemon with what is imported from it. The same is done to the files of both; both call the same commands.

Where they differ, the test's name says why, and both sides are judged.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, need, wait_until, write

pytestmark = [
    pytest.mark.skipif(REFERENCE, reason="the original imports nothing"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: incrond runs as nobody else"),
]

# A call of a command: its directory, its arguments, then its variables that count.
Call = tuple[str, ...]
Action = Callable[["Side"], object]

VARIABLES = {
    "incrontab": ["HOME", "LOGNAME", "PATH", "USER", "USERNAME"],
    "direvent": [f"DIREVENT_{name}" for name in ("FILE", "GENEV_NAME", "GENEV_CODE", "SYSEV_NAME", "SYSEV_CODE")],
}

# Writes how it was called into a file of its own, each part ended by NUL. A code of no event is empty or 0.
NOTE = """\
#!/bin/sh
new=$(mktemp "$CALLS/.XXXXXXXX")
{
    printf '%s\\0' "$(pwd -P)" "$@"
    for name in $VARIABLES; do
        eval "value=\\${$name-unset}"
        case $name-$value in *_CODE-) value=0 ;; esac
        printf '%s=%s\\0' "$name" "$value"
    done
} > "$new"
mv "$new" "$CALLS/call-${new##*.}"
"""


class Side:
    """A directory of its own for one of the two, the commands that were called there, and who calls them."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.src = root / "src"
        self.out = root / "out"
        self.calls = root / "calls"
        for directory in (root, self.src, self.out, self.calls):
            directory.mkdir()
            directory.chmod(0o755)
        self.calls.chmod(0o777)
        self.note = root / "note"
        self.note.write_text(self.text(NOTE.replace("$VARIABLES", " ".join(VARIABLES[kind]))))
        self.note.chmod(0o755)
        self.daemon: Daemon | None = None

    def text(self, text: str) -> str:
        """A text with its places filled in."""
        for name, path in (
            ("$SRC", self.src),
            ("$OUT", self.out),
            ("$NOTE", self.root / "note"),
            ("$CALLS", self.calls),
        ):
            text = text.replace(name, str(path))
        return text

    def called(self) -> Counter[Call]:
        """All calls so far, with one name for the directories of both sides; without variables that are not set."""
        texts = [os.fsdecode(path.read_bytes()) for path in self.calls.glob("call-*")]
        calls = [text.replace(str(self.root), "ROOT").split("\0")[:-1] for text in texts]
        return Counter(tuple(part for part in call if not part.endswith("=unset")) for call in calls)

    def is_idle(self) -> bool:
        assert self.daemon
        return not self.daemon.started()

    def wait_watched(self, path: str) -> None:
        daemon = self.daemon
        assert daemon
        wait_until(lambda: daemon.watches_path(self.src / path), f"a watch of {path}; {daemon.tail}")


class Pair:
    """The real program and the daemon, side by side."""

    def __init__(self, box: Box, kind: str) -> None:
        self.box = box
        self.kind = kind
        box.tmp.chmod(0o755)
        self.real = Side(box.tmp / "real", kind)
        self.ours = Side(box.tmp / "ours", kind)
        self.marks = 0

    def do(self, action: Action) -> None:
        for side in (self.real, self.ours):
            action(side)

    def make(self, *paths: str) -> None:
        """Directories, by a slash at the end, and files below src, before anybody watches."""
        for side in (self.real, self.ours):
            for path in paths:
                place = side.src / path
                (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
                if not path.endswith("/"):
                    write(place)

    def write(self, *paths: str) -> None:
        """Files below src, one write each."""
        for side in (self.real, self.ours):
            for path in paths:
                file = os.open(side.src / path, os.O_WRONLY | os.O_CREAT)
                os.write(file, b"x")
                os.close(file)

    def start(self, text: str, user: str | None = None, exit_code: int = 0) -> list[str]:
        """Both, with this configuration, until they watch src; returns what the import says of it."""
        source = self.ours.root / "in"
        source.write_text(self.ours.text(text))
        done = self.box.call("import", self.kind, source, *(["--user", user] if user else []))
        assert done.exit_code == exit_code, done.log
        if self.kind == "incrontab":
            self.start_incrond(self.real.text(text), user)
        else:
            self.start_real("direvent", "-f", "-l", "debug", self.configured("direvent.conf", self.real.text(text)))
        self.ours.daemon = self.box.run(done.stdout, cwd=Path("/"))
        self.watched("")
        return [line.partition(f"{source}:")[2].partition(": ")[2] for line in done.lines]

    def start_incrond(self, table: str, user: str | None) -> None:
        places = {name: self.real.root / name for name in ("system_table_dir", "user_table_dir", "lockfile_dir")}
        for place in places.values():
            place.mkdir()
        (places["user_table_dir" if user else "system_table_dir"] / (user or "table")).write_text(table)
        places["allowed_users"] = self.configured("allowed", f"{user}\n")
        settings = "".join(f"{name} = {path}\n" for name, path in places.items())
        self.start_real("incrond", "-n", "-f", self.configured("incron.conf", f"{settings}lockfile_name = lock\n"))

    def configured(self, name: str, text: str) -> Path:
        path = self.real.root / name
        path.write_text(text)
        return path

    def start_real(self, program: str, *arguments: str | Path) -> None:
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found
        self.real.daemon = Daemon([found, *arguments], os.environ, Path("/"))
        self.box.daemons.append(self.real.daemon)

    def watched(self, *paths: str) -> None:
        """Wait until both watch these directories below src."""
        for side in (self.real, self.ours):
            for path in paths:
                side.wait_watched(path)

    def difference(self) -> str:
        real, ours = self.real.called(), self.ours.called()
        lines = [f"real only: {call} x{count}" for call, count in sorted((real - ours).items())]
        lines += [f"ours only: {call} x{count}" for call, count in sorted((ours - real).items())]
        return "\n".join([*lines, *(side.daemon.tail for side in (self.real, self.ours) if side.daemon)])

    def settled(self) -> None:
        """A file more in src, and wait until both have run all commands up to its own."""

        def is_done(side: Side) -> bool:
            marked = any(mark in part for call in side.called() for part in call)
            return marked and side.is_idle()

        self.marks += 1
        mark = f"mark-{self.marks}"
        self.write(mark)
        wait_until(lambda: is_done(self.real) and is_done(self.ours), self.difference)

    def agree(self) -> list[Call]:
        """Wait until both have called the same, with nothing left to come; returns that, without the marks."""
        self.settled()
        wait_until(lambda: self.real.called() == self.ours.called(), self.difference)
        return unmarked(self.ours.called())

    def differ(self) -> tuple[list[Call], list[Call]]:
        """What only one of them has called, in the order of the calls' texts."""
        self.settled()
        real, ours = self.real.called(), self.ours.called()
        return unmarked(real - ours), unmarked(ours - real)


def unmarked(calls: Counter[Call]) -> list[Call]:
    return sorted(call for call in calls.elements() if not any("mark-" in part for part in call))


def arguments(calls: Iterable[Call]) -> list[tuple[str, ...]]:
    """Calls without their directories and variables."""
    return [tuple(part for part in call[1:] if "=" not in part) for call in calls]


@pytest.fixture
def incron(box: Box) -> Pair:
    need("incrond", "bash")
    return Pair(box, "incrontab")


@pytest.fixture
def direvent(box: Box) -> Pair:
    need("direvent")
    return Pair(box, "direvent")


# Names that both programs hand on as they are, unless a shell reads them.
NAMES = ["plain", ".hidden", "a b", "p%s%d", "back\\slash", "ü", "{pathname}", "-rf", "a  b ", "100%"]
# Names that a shell takes for something else.
SHELL_NAMES = ["$HOME", "$(id)", "`id`", "x;id", "it's", 'q"x', "new\nline", "*", "a&b", "(x)", "<x>", "#", "~"]


def work(pair: Pair) -> None:
    """What people do to files: in a directory that is there, in a subdirectory, out of them and back."""
    pair.write("a")
    pair.agree()
    pair.write("a", ".dot", "sub/c")
    pair.agree()
    for source, target in [("src/a", "src/b"), ("src/b", "out/b"), ("out/b", "src/back"), ("src/back", "src/sub/in")]:

        def move(side: Side, source: str = source, target: str = target) -> None:
            (side.root / source).rename(side.root / target)

        pair.do(move)
        pair.agree()
    pair.do(lambda side: (side.src / "sub/in").chmod(0o600))
    pair.agree()
    pair.do(lambda side: (side.src / "sub/in").unlink())
    pair.agree()


# ---- incron


def test_incrond_and_the_imported_table_call_the_same_commands(incron: Pair) -> None:
    incron.make("sub/deep/", ".hidden/")
    said = incron.start("$SRC IN_CREATE,IN_CLOSE_WRITE,IN_ATTRIB,IN_MOVE,IN_DELETE $NOTE $@ $# $% $& '$%' $@/$#\n")
    assert said == []
    incron.watched("sub", "sub/deep")
    work(incron)
    incron.write(".hidden/unseen", "sub/deep/d")
    calls = arguments(incron.agree())
    assert ("ROOT/src", "b", "IN_MOVED_TO", "128", "IN_MOVED_TO", "ROOT/src/b") in calls
    assert ("ROOT/src/sub/deep", "d", "IN_CLOSE_WRITE", "8", "IN_CLOSE_WRITE", "ROOT/src/sub/deep/d") in calls
    assert not any("unseen" in call for call in calls)


def test_incrond_and_the_imported_table_watch_new_directories(incron: Pair) -> None:
    incron.start("$SRC IN_CREATE,IN_DELETE $NOTE $@ $# $% $&\n")
    incron.do(lambda side: (side.src / "new").mkdir())
    incron.watched("new", "")
    incron.write("new/f")
    incron.do(lambda side: (side.src / "new/f").unlink())
    calls = arguments(incron.agree())
    assert ("ROOT/src", "new", "IN_CREATE,IN_ISDIR", "1073742080") in calls
    assert ("ROOT/src/new", "f", "IN_DELETE", "512") in calls


def test_incrond_misses_what_happens_while_it_looks_for_directories(incron: Pair) -> None:
    """It watches nothing for a second, and forgets what it has not read yet."""
    incron.start("$SRC IN_CREATE $NOTE $#\n")
    incron.do(lambda side: (side.src / "new").mkdir())
    names: list[str] = []

    def has_looked() -> bool:
        names.append(f"during-{len(names)}")
        incron.write(names[-1])
        real = incron.real.daemon
        return real is not None and real.watches_path(incron.real.src / "new")

    wait_until(has_looked, incron.difference)
    _, ours = incron.differ()
    assert ours
    assert set(arguments(ours)) <= {(name,) for name in names}
    assert {("new",), *((name,) for name in names)} == set(arguments(unmarked(incron.ours.called())))


def test_incrond_and_the_imported_table_of_a_user_run_as_the_user(incron: Pair) -> None:
    incron.make("sub/")
    incron.do(lambda side: side.src.chmod(0o755))
    incron.start("$SRC IN_CREATE $NOTE $@/$# | cat && $NOTE $$(id -un) $${BASH_VERSION:0:0}.\n", user="nobody")
    incron.watched("sub")
    incron.write("f", "sub/a b")
    calls = incron.agree()
    assert ("nobody", ".") in arguments(calls)
    assert "USERNAME=nobody" in calls[0]
    assert "PATH=/usr/local/bin:/usr/bin:/bin:/usr/X11R6/bin" in calls[0]


def test_names_reach_the_commands_of_incrond_and_of_the_imported_table_alike(incron: Pair) -> None:
    incron.start("$SRC IN_CREATE $NOTE $@/$# $#\n$SRC/none IN_CREATE true\n")
    incron.write(*NAMES)
    incron.agree()


def test_incrond_executes_what_stands_in_a_name(incron: Pair) -> None:
    incron.start("$SRC IN_CREATE $NOTE $#\n")
    incron.write(*SHELL_NAMES)
    real, ours = incron.differ()
    assert sorted(arguments(ours)) == sorted((name,) for name in SHELL_NAMES)
    assert any(argument.startswith("uid=0") for call in real for argument in call)


def test_incrond_puts_backslashes_into_names_in_quotes(incron: Pair) -> None:
    said = incron.start('$SRC IN_CREATE $NOTE "$#"\n')
    assert said == [
        "in quotes incron puts a backslash before each blank of a path; here the command gets the path as it is"
    ]
    incron.write("a b")
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([("a\\ b",)], [("a b",)])


@pytest.mark.parametrize(
    "command",
    [
        "$NOTE $# && $NOTE 'a  b' \"c $%\" | cat > /dev/null; $NOTE done",
        "$NOTE $y{a,b} $z ${x} $",
        "source /dev/null; $NOTE \"$$(echo -e 'a\\nb')\" $#",
        "x=(1 $#); [[ $$x == 1 ]] && $NOTE $${x[1]}",
        "echo -e 'a\\tb' | xargs $NOTE $$0",
    ],
)
def test_both_give_a_command_to_the_same_shell(incron: Pair, command: str) -> None:
    incron.make("in/")
    incron.start(f"$SRC IN_CREATE,recursive=false $NOTE $#\n$SRC/in IN_CREATE {command}\n")
    incron.watched("in")
    incron.write("in/f")
    wait_until(lambda: len(unmarked(incron.real.called())) >= 1, incron.difference)
    assert incron.agree()


def test_both_leave_a_directory_to_the_line_that_comes_first(incron: Pair) -> None:
    incron.make("in/special/deep/", "in/other/", "flat/")
    said = incron.start(
        "$SRC/in/special IN_CREATE $NOTE special $#\n$SRC IN_CREATE $NOTE all $#\n$SRC/in/special IN_CREATE x\n"
    )
    assert [text.partition(",")[0] for text in said] == ["incron ignores it"]
    incron.watched("in", "in/special", "in/special/deep", "in/other", "flat")
    incron.write("a", "in/b", "in/special/c", "in/special/deep/d", "in/other/e", "flat/f")
    calls = arguments(incron.agree())
    assert ("special", "d") in calls
    assert ("all", "d") not in calls


def test_a_line_for_all_before_one_for_a_part_is_warned_of(incron: Pair) -> None:
    incron.make("part/deep/")
    said = incron.start("$SRC IN_CREATE $NOTE all $#\n$SRC/part IN_CREATE $NOTE part $#\n")
    assert len(said) == 1
    assert said[0].startswith("incron runs only the command of line 2 for what is in that line's directory")
    incron.watched("part", "part/deep")
    incron.write("a", "part/b", "part/deep/c")
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([], [("all", "b"), ("part", "c")])


@pytest.mark.parametrize(
    ("line", "seen", "unseen"),
    [
        ("$SRC/in/file IN_CLOSE_WRITE", ["in/file"], ["in/f"]),
        ("$SRC/in/file IN_ATTRIB,IN_CLOSE_WRITE", ["in/file"], ["in/f"]),
        ("$SRC/in IN_CREATE,recursive=false", ["in/f"], ["in/sub/f"]),
        ("$SRC/in IN_CREATE,dotdirs=true", ["in/f", "in/.dot/f", "in/.dot/sub/f"], []),
        ("$SRC/in IN_CREATE", ["in/f", "in/sub/f"], ["in/.dot/f", "in/.dot/sub/f"]),
        ("$SRC/in/.dot IN_CREATE", ["in/.dot/f"], ["in/.dot/sub/f"]),
        ("$SRC/in 256", ["in/f"], []),
        ("$SRC/in IN_ONLYDIR,IN_CREATE,loopable=true", ["in/f"], []),
        ("$SRC/in/link IN_CREATE", ["in/link/f"], ["in/link/sub/f"]),
    ],
)
def test_both_watch_what_a_line_says(incron: Pair, line: str, seen: list[str], unseen: list[str]) -> None:
    incron.make("in/file", "in/sub/", "in/.dot/sub/", "target/sub/")
    incron.do(lambda side: (side.src / "in/link").symlink_to(side.src / "target"))
    incron.start(f"$SRC IN_CREATE,recursive=false $NOTE $#\n{line} $NOTE $@ $# $%\n")
    incron.watched(*{os.path.dirname(path) or path for path in seen if not path.endswith("file")})
    incron.write(*seen, *unseen)
    calls = incron.agree()
    assert len(calls) == len(seen), calls


def test_both_say_what_happens_to_what_they_watch(incron: Pair) -> None:
    """incrond also runs for IN_IGNORED, with which the kernel ends a watch."""
    incron.make("in/")
    incron.do(lambda side: (side.out / "moved").mkdir())
    incron.start(
        "$SRC IN_CREATE,recursive=false $NOTE $#\n"
        "$SRC/in IN_DELETE_SELF,IN_CREATE $NOTE $@ x$# $% $&\n$OUT/moved IN_MOVE_SELF $NOTE $@ $#\n"
    )
    incron.watched("in", "../out/moved")
    incron.do(lambda side: (side.src / "in").rmdir())
    incron.do(lambda side: (side.out / "moved").rename(side.root / "moved"))
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([("ROOT/src/in", "x", "IN_IGNORED", "32768")], [])
    calls = arguments(unmarked(incron.ours.called()))
    assert ("ROOT/src/in", "x", "IN_DELETE_SELF", "1024") in calls
    assert ("ROOT/out/moved",) in calls


def test_incrond_tells_the_attributes_of_a_directory_without_a_name(incron: Pair) -> None:
    incron.make("in/")
    incron.start("$SRC IN_ATTRIB,IN_CREATE $NOTE $@ $#\n")
    incron.watched("in")
    incron.do(lambda side: (side.src / "in").chmod(0o700))
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([("ROOT/src/in",)], [("ROOT/src", "in")])


def test_incrond_runs_twice_for_a_file_that_a_star_finds(incron: Pair) -> None:
    incron.make("d/f")
    said = incron.start("$SRC IN_CREATE,recursive=false $NOTE $#\n$SRC/* IN_CLOSE_WRITE $NOTE $@ $#\n")
    assert any(text.startswith("what the * matches is taken for directories") for text in said)
    incron.watched("d")
    incron.write("d/f", "d/g")
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([("ROOT/src/d/f",)], [])


def test_incrond_cannot_watch_a_path_with_a_blank(incron: Pair) -> None:
    incron.make("a b/")
    incron.start("$SRC IN_CREATE,recursive=false $NOTE $#\n$SRC/a\\ b IN_CREATE $NOTE $@ $#\n")
    incron.write("a b/f")
    real, ours = incron.differ()
    assert (arguments(real), arguments(ours)) == ([], [("ROOT/src/a b", "f")])


# ---- direvent


def watcher(path: str, events: str, command: str, more: str = "") -> str:
    """A watcher of direvent's."""
    return f'watcher {{ path {path}; event ({events}); command "{command}"; {more} }}\n'


def test_direvent_and_the_imported_config_call_the_same_commands(direvent: Pair) -> None:
    direvent.make("sub/deep/", ".hidden/")
    command = "$NOTE $file $genev_name $genev_code $sysev_name ${sysev_code} -x 'a  b' c;d"
    said = direvent.start(watcher("$SRC recursive", "create, write, attrib, delete", command))
    assert len(said) == 1
    assert said[0].startswith("write: runs also when a file that was open for writing is closed")
    direvent.watched("sub", "sub/deep", ".hidden")
    work(direvent)
    direvent.write(".hidden/seen", "sub/deep/d")
    calls = direvent.agree()
    names = ("DIREVENT_FILE=d", "DIREVENT_GENEV_NAME=write", "DIREVENT_GENEV_CODE=2")
    words = ("d", "write", "2", "CLOSE_WRITE", "8", "-x", "a  b", "c;d")
    variables = (*names, "DIREVENT_SYSEV_NAME=CLOSE_WRITE", "DIREVENT_SYSEV_CODE=8")
    assert ("ROOT/src/sub/deep", *words, *variables) in calls
    assert any(call[:3] == ("ROOT/src", "back", "delete") for call in calls)


def test_direvent_and_the_imported_config_tell_the_events_of_the_system_alike(direvent: Pair) -> None:
    direvent.make("sub/")
    events = "CREATE, MODIFY, CLOSE_WRITE, ATTRIB, DELETE, MOVED_FROM, MOVED_TO, OPEN, CLOSE_NOWRITE, ACCESS"
    assert direvent.start(watcher("$SRC", events, "$NOTE $sysev_name")) == []
    direvent.write("f")
    direvent.do(lambda side: (side.src / "f").read_text())
    # A listing reads twice, and the kernel merges two events that are alike only while nobody has read the first.
    direvent.do(lambda side: os.close(os.open(side.src / "sub", os.O_RDONLY)))
    calls = direvent.agree()
    assert ("ACCESS", "DIREVENT_FILE=f") in {call[1:3] for call in calls}
    assert ("CLOSE_NOWRITE", "DIREVENT_FILE=sub") in {call[1:3] for call in calls}


def test_direvent_and_the_imported_config_watch_as_deep(direvent: Pair) -> None:
    direvent.make("one/two/three/")
    direvent.start(watcher("$SRC recursive 2", "delete", "$NOTE"))
    direvent.watched("one", "one/two")
    for path in ("one/two/three/f", "f", "one/f", "one/two/f"):
        direvent.write(path)
        direvent.do(lambda side, path=path: (side.src / path).unlink())  # type: ignore[misc]

    def is_alike() -> bool:
        real, ours = direvent.real.called(), direvent.ours.called()
        return real == ours and real.total() == 3

    wait_until(is_alike, direvent.difference)


def test_names_reach_the_commands_of_direvent_and_of_the_imported_config_alike(direvent: Pair) -> None:
    direvent.start(watcher("$SRC", "create", "$NOTE x"))
    direvent.write(*NAMES, *SHELL_NAMES)
    calls = direvent.agree()
    assert {call[2] for call in calls} == {f"DIREVENT_FILE={name}" for name in (*NAMES, *SHELL_NAMES)}


def test_direvent_splits_names_with_blanks_and_quotes_in_its_commands(direvent: Pair) -> None:
    direvent.start(watcher("$SRC", "create", "$NOTE $file"))
    direvent.write("a b", "it's", "back\\slash", "$(id)", "plain")
    real, ours = direvent.differ()
    assert arguments(real) == [("a", "b"), ("backslash",)]
    assert arguments(ours) == [("a b",), ("back\\slash",), ("it's",)]


def test_patterns_choose_the_same_files(direvent: Pair) -> None:
    direvent.start(
        watcher("$SRC", "create", "$NOTE 1", 'file ("*.csv", "/^mark/", "[ab]?");')
        + watcher("$SRC", "delete", "$NOTE 2", 'file "!*.csv";')
        + watcher("$SRC", "attrib", "$NOTE 3", 'file "/^x.*y$/i";')
    )
    names = ["a.csv", ".csv", "b c.csv", "ax", "c", "abc", "XAy", "x.y.z", "CSV"]
    direvent.write(*names)
    for name in names:
        direvent.do(lambda side, name=name: (side.src / name).chmod(0o600))  # type: ignore[misc]
        direvent.do(lambda side, name=name: (side.src / name).unlink())  # type: ignore[misc]
    calls = direvent.agree()
    assert {call[1] for call in calls} == {"1", "2", "3"}


def test_the_shell_gets_the_same_command(direvent: Pair) -> None:
    command = "$NOTE $file | cat; true && $NOTE 'x' ${genev_name}-$sysev_code > /dev/null; : {x,y}"
    direvent.start(watcher("$SRC", "create", command, "option (shell);"))
    direvent.write("f")
    assert ("f",) in arguments(direvent.agree())


def test_direvent_takes_the_quotes_off_a_command_for_the_shell(direvent: Pair) -> None:
    direvent.start(watcher("$SRC", "create", "$NOTE 'a  b' $file", "option (shell);"))
    direvent.write("f")
    real, ours = direvent.differ()
    assert (arguments(real), arguments(ours)) == ([("a", "b", "f")], [("a  b", "f")])


def test_the_environment_is_changed_alike(direvent: Pair) -> None:
    direvent.start(
        watcher("$SRC", "create", "$NOTE inherited $file", "environ -DIREVENT_SYSEV_CODE;")
        + watcher("$SRC", "delete", "$NOTE cleared", 'environ - "DIREVENT_SYSEV_NAME=of $file" -DIREVENT_GENEV_CODE;')
        + watcher("$SRC", "attrib", "$NOTE bare", "environ --;")
    )
    direvent.write("f")
    direvent.do(lambda side: (side.src / "f").chmod(0o600))
    direvent.do(lambda side: (side.src / "f").unlink())
    calls = direvent.agree()
    assert any("DIREVENT_SYSEV_NAME=of f" in call and call[1] == "cleared" for call in calls)
    assert ("ROOT/src", "bare") in calls


def test_commands_run_as_the_same_user(direvent: Pair) -> None:
    direvent.start(watcher("$SRC", "create", "$NOTE $file", "user nobody; option (stdout, stderr);"))
    direvent.write("f")
    direvent.agree()
    for side in (direvent.real, direvent.ours):
        assert {path.stat().st_uid for path in side.calls.iterdir()} == {65534}


def test_direvent_tells_new_directories_without_an_event_of_the_system(direvent: Pair) -> None:
    direvent.start(watcher("$SRC recursive", "create", "$NOTE $genev_name/$sysev_name"))
    direvent.do(lambda side: (side.src / "new").mkdir())
    direvent.watched("new")
    direvent.write("new/f")
    real, ours = direvent.differ()
    assert (arguments(real), arguments(ours)) == ([("create/",)], [("create/CREATE",)])


def test_direvent_tells_the_attributes_of_the_directory_that_it_watches(direvent: Pair) -> None:
    direvent.start(watcher("$SRC", "attrib, create", "$NOTE $file"))
    direvent.do(lambda side: side.src.chmod(0o700))
    real, ours = direvent.differ()
    assert ([call[:2] for call in real], ours) == ([("ROOT", "src")], [])


def test_direvent_does_not_watch_directories_that_were_moved_in(direvent: Pair) -> None:
    direvent.do(lambda side: (side.out / "tree").mkdir())
    direvent.start(watcher("$SRC recursive", "create", "$NOTE $file"))
    direvent.do(lambda side: (side.out / "tree").rename(side.src / "tree"))
    direvent.ours.wait_watched("tree")
    direvent.write("tree/f")
    real, ours = direvent.differ()
    assert (real, arguments(ours)) == ([], [("f",)])


def test_direvent_watches_subdirectories_for_all_watchers_of_a_path_if_the_last_one_does(direvent: Pair) -> None:
    direvent.make("sub/")
    direvent.start(
        watcher("$SRC", "create", "$NOTE flat $file") + watcher("$SRC recursive", "create", "$NOTE deep $file")
    )
    direvent.watched("sub")
    direvent.write("f", "sub/g")
    real, ours = direvent.differ()
    assert (arguments(real), ours) == ([("flat", "g")], [])


def test_direvent_looks_below_a_link_and_the_import_warns_of_that(direvent: Pair) -> None:
    direvent.make("tree/sub/")
    direvent.do(lambda side: (side.src / "link").symlink_to(side.src / "tree"))
    said = direvent.start(watcher("$SRC/link recursive", "create", "$NOTE $file") + watcher("$SRC", "create", "$NOTE"))
    assert len(said) == 1
    assert said[0].startswith("path $SRC/link is a link".replace("$SRC", str(direvent.ours.src)))
    direvent.watched("tree", "")
    direvent.real.wait_watched("tree/sub")
    direvent.write("tree/f", "tree/sub/g")
    real, ours = direvent.differ()
    assert (arguments(real), ours) == ([("g",)], [])
