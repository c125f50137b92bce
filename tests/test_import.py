"""`pyinotifyd import`: the config files that it writes load, and do what the other program's configuration says."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest

from vocabulary import REFERENCE, Box, Daemon, need, wait_until, write

pytestmark = pytest.mark.skipif(REFERENCE, reason="the original imports nothing")

# Names that other programs stumble over.
HOSTILE = [
    "a b",
    "it's",
    '"q"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED",
    "back\\slash",
    "{pathname}",
    "-rf",
    "ü",
]


class Imported:
    """Programs that note how they were called, and config files made for a box."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.calls = box.tmp / "calls"
        self.calls.mkdir()
        self.programs = box.tmp / "bin"
        self.programs.mkdir()

    def program(self, name: str, script: str = "") -> Path:
        """A program that writes its directory, its arguments and direvent's variables, one a line, in a new file."""
        path = self.programs / name
        path.write_text(
            f"""#!/bin/sh
note=$(mktemp {self.calls}/.XXXXXXXX)
printf '%s\\n' "$(pwd)" "$0" "$@" > "$note"
for name in FILE GENEV_NAME GENEV_CODE SYSEV_NAME SYSEV_CODE; do
    eval "printf '%s\\n' \\"\\$DIREVENT_$name\\"" >> "$note.env"
done
mv "$note.env" "{self.calls}/env-${{note##*.}}"
mv "$note" "{self.calls}/call-${{note##*.}}"
{script}
"""
        )
        path.chmod(0o755)
        return path

    def config(self, *arguments: str | os.PathLike[str], exit_code: int = 0) -> str:
        done = self.box.call("import", *arguments)
        assert done.exit_code == exit_code, done.log
        return done.stdout

    def run(self, kind: str, text: str, *arguments: str, exit_code: int = 0) -> Daemon:
        """The daemon with what was imported from a file with this text."""
        source = self.box.tmp / "in.path"
        source.write_text(text)
        config = self.config(kind, source, *arguments, exit_code=exit_code)
        tested = self.box.call("-t", config=config)
        assert tested.exit_code == 0, tested.log
        return self.box.run(config, env={"PATH": f"{self.programs}:{os.environ['PATH']}"})

    def called(self) -> list[list[str]]:
        """Each call: its arguments, behind those the directory that it was in."""
        lines = [path.read_text().splitlines() for path in sorted(self.calls.glob("call-*"))]
        return [[*arguments, f"in {directory}"] for directory, _, *arguments in lines]

    def wait_called(self, *arguments: str) -> None:
        def found() -> bool:
            return any(call[: len(arguments)] == list(arguments) for call in self.called())

        wait_until(found, lambda: f"{arguments} in {self.called()}\n{self.box.daemons[-1].tail}")


@pytest.fixture
def imported(box: Box) -> Imported:
    return Imported(box)


# ---- incron


def test_a_table_of_incron_runs_its_commands(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    (box.src / "sub").mkdir()
    (box.src / ".hidden").mkdir()
    daemon = imported.run("incrontab", f"# a\n\n{box.src} IN_CLOSE_WRITE,IN_MOVED_TO {note} $@/$# '$@' \"$#\" $% $&\n")
    write(box.src / "sub/f")
    (box.src / "new").mkdir()
    write(box.src / "new/g")
    write(box.src / ".hidden/h")
    write(box.src / ".dotfile")
    (box.src / "sub/f").rename(box.src / "sub/m")
    for directory, name, mask, number in [
        ("sub", "f", "IN_CLOSE_WRITE", "8"),
        ("new", "g", "IN_CLOSE_WRITE", "8"),
        ("", ".dotfile", "IN_CLOSE_WRITE", "8"),
        ("sub", "m", "IN_MOVED_TO", "128"),
    ]:
        place = box.src / directory
        imported.wait_called(str(place / name), str(place), name, mask, number)
    (box.src / "new").rename(box.src / "moved")
    imported.wait_called(str(box.src / "moved"), str(box.src), "moved", "IN_MOVED_TO,IN_ISDIR", "1073741952")
    assert not any(".hidden" in argument for call in imported.called() for argument in call), daemon.tail


@pytest.mark.parametrize("user", [None, "me"])
def test_names_are_what_they_are_in_any_quotes(box: Box, imported: Imported, user: str | None) -> None:
    need("bash")
    note = imported.program("note")
    arguments = ["--user", pwd.getpwuid(os.geteuid()).pw_name] if user else []
    lines = f'a=$@ && {note} "$$a" $# \'$#\' "<$#>" $@/$#'
    imported.run("incrontab", f"{box.src} IN_CLOSE_WRITE {lines}\n", *arguments)
    for name in HOSTILE:
        write(box.src / name)
    for name in HOSTILE:
        imported.wait_called(str(box.src), name, name, f"<{name}>", f"{box.src}/{name}")
    assert not list(box.tmp.rglob("PWNED"))


def test_without_recursion_subdirectories_are_not_watched(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    (box.src / "sub").mkdir()
    imported.run("incrontab", f"{box.src} IN_CREATE,recursive=false {note} $#\n")
    write(box.src / "sub/f")
    (box.src / "new").mkdir()
    write(box.src / "new/g")
    write(box.src / "end")
    imported.wait_called("end")
    imported.wait_called("new")
    assert len(imported.called()) == 2


def test_a_file_is_watched_as_a_file(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    write(box.src / "a file")
    imported.run("incrontab", f"{box.src}/a\\ file IN_CLOSE_WRITE {note} $@ '$#'\n")
    write(box.src / "other")
    write(box.src / "a file")
    imported.wait_called(str(box.src / "a file"), "")
    assert len(imported.called()) == 1


def test_events_of_one_file_have_a_task_each(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    imported.run("incrontab", f"{box.src} IN_ALL_EVENTS {note} $% $#\n")
    write(box.src / "f")
    (box.src / "f").unlink()
    for mask in ["IN_CREATE", "IN_OPEN", "IN_MODIFY", "IN_CLOSE_WRITE", "IN_DELETE"]:
        imported.wait_called(mask, "f")


def test_a_directory_of_tables_is_imported_as_a_whole(box: Box, imported: Imported) -> None:
    tables = box.tmp / "incron.d"
    tables.mkdir()
    for name in ["b", "a", ".hidden", "old~"]:
        (tables / name).write_text(f"{box.src} IN_OPEN x $#\n")
    (tables / "sub").mkdir()
    config = imported.config("incrontab", tables)
    found = [line for line in config.splitlines() if line.startswith(f"# {tables}/")]
    assert found == [f"# {tables}/a:1", f"# {tables}/b:1"]


def test_hostile_paths_become_exact_literals(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    raw = os.fsencode(box.src) + b"/\xff\"\\'{pathname}[*]?\x01#\xe2\x80\xae"
    os.mkdir(raw)
    table = box.tmp / "table"
    escaped = raw.replace(b"\\", b"\\\\").replace(b"*", b"")
    os.rename(raw, raw.replace(b"*", b""))
    table.write_bytes(escaped + f" IN_CLOSE_WRITE {note} $#\n".encode())
    daemon = box.run(imported.config("incrontab", table))
    write(raw.replace(b"*", b"") + b"/f")
    imported.wait_called("f")
    assert "task failed" not in daemon.log


# ---- direvent


def test_a_watcher_of_direvent_runs_its_command(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    (box.src / "one/two/three").mkdir(parents=True)
    (box.tmp / "more.conf").write_text(
        f'watcher {{ path {box.dst}; event MODIFY; command "{note} dst $sysev_name"; }}\n'
    )
    daemon = imported.run(
        "direvent",
        f"""# comment
#include <more.conf>
environ {{ set "GREETING=good day"; }}
watcher {{
    path {box.src} recursive 2; // two levels
    event (create, delete);
    file ("*.cfg", "!/^.*[a-z]$/"); /* and digits */
    command <<EOT
{note} "$genev_name" $file 'it''s' "$GREETING" a;b
EOT;
    option (stdout, stderr);
}}
""",
        "-I",
        str(box.tmp),
    )
    for place in ["one", "one/two", "one/two/three"]:
        for name in ["a b.cfg", "x1", "no"]:
            write(box.src / place / name)
    (box.src / "x2").mkdir()
    write(box.dst / "f")
    (box.src / "one/x1").unlink()
    rest = ["its", "good day", "a;b"]
    for place, event, name in [
        ("one", "create", "a b.cfg"),
        ("one/two", "create", "x1"),
        ("one", "delete", "x1"),
        ("", "create", "x2"),
    ]:
        imported.wait_called(event, name, *rest, f"in {box.src / place}")
    imported.wait_called("dst", "MODIFY", f"in {box.dst}")
    assert not any(call[-1].endswith("three") or call[1] == "no" for call in imported.called()), daemon.tail


def test_commands_of_direvent_find_the_event_in_their_environment(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    imported.run("direvent", f"watcher {{ path {box.src}; event (create, CREATE, ATTRIB); command {note}; }}")
    write(box.src / "a b")
    (box.src / "a b").chmod(0o600)

    def found() -> set[str]:
        return {path.read_text() for path in imported.calls.glob("env-*")}

    wanted = {"a b\ncreate\n1\nCREATE\n256\n", "a b\nattrib\n4\nATTRIB\n4\n"}
    wait_until(lambda: found() == wanted, lambda: f"{found()}\n{box.daemons[-1].tail}")


def test_names_are_what_they_are_in_commands_of_direvent(box: Box, imported: Imported) -> None:
    note = imported.program("note")
    names = [name for name in HOSTILE if name != "-rf"]
    command = f"true && {note} $file '$file' \\\"<$file>\\\" | cat"
    imported.run("direvent", f'watcher {{ path {box.src}; event create; command "{command}"; option shell; }}')
    for name in names:
        write(box.src / name)
    for name in names:
        imported.wait_called(name, name, f"<{name}>", f"in {box.src}")
    assert not list(box.tmp.rglob("PWNED"))


def test_variables_get_more_of_what_is_there_as_direvent_does_it(box: Box, imported: Imported) -> None:
    made = box.tmp / "env"
    note = imported.program("note", f'env printenv PATH OLD NEW NONE > "{made}.new"; mv "{made}.new" "{made}"')
    environ = 'environ (OLD=b, "PATH+=:/opt", "OLD=+/pre:", "NEW+=:/new", "NONE=+/none:")'
    imported.run("direvent", f"watcher {{ path {box.src}; event create; command {note}; {environ}; }}")
    write(box.src / "f")
    wait_until(made.exists, lambda: box.daemons[-1].tail)
    path, *others = made.read_text().splitlines()
    assert path == f"{imported.programs}:{os.environ['PATH']}:/opt"
    assert others == ["/pre:b", "/new", "/none"]


def test_a_cleared_environment_has_what_is_kept(box: Box, imported: Imported) -> None:
    note = imported.program("note", 'env > "$1"')
    variables = 'environ { clear; keep PATH; set "A=$file!"; }'
    command = f"{note} {box.tmp}/env"
    imported.run("direvent", f'watcher {{ path {box.src}; event create; command "{command}"; {variables} }}')
    write(box.src / "f")
    environment = box.tmp / "env"
    wait_until(lambda: environment.exists() and "A=f!\n" in environment.read_text(), lambda: box.daemons[-1].tail)
    names = {line.partition("=")[0] for line in environment.read_text().splitlines()}
    assert "PATH" in names
    assert not names & {"HOME", "PYINOTIFYD_PATHNAME", "DIREVENT_FILE"}


# ---- systemd.path


def test_a_changed_path_starts_the_unit(box: Box, imported: Imported) -> None:
    imported.program("systemctl")
    drop_in = box.tmp / "in.path.d"
    drop_in.mkdir()
    (drop_in / "unit.conf").write_text("[Path]\nUnit=other.service\n")
    write(box.src / "file")
    imported.run("systemd-path", f"[Path]\nPathChanged={box.src}/file\nPathChanged={box.dst}\n")
    replaced = box.src / "new"
    write(replaced)
    replaced.rename(box.src / "file")
    imported.wait_called("start", "--wait", "--", "other.service")
    # systemd starts no unit that runs already: what changes meanwhile is skipped.
    box.daemons[-1].wait_log("task finished")
    calls = len(imported.called())
    write(box.dst / "f")
    wait_until(lambda: len(imported.called()) > calls, lambda: box.daemons[-1].tail)


def test_a_unit_is_started_while_the_path_is_there(box: Box, imported: Imported) -> None:
    # The first run leaves it there.
    script = f'mv {box.tmp}/first {box.tmp}/went || rm -rf "{box.src}/it\'s here" {box.dst}/*'
    imported.program("systemctl", script)
    write(box.src / "it's here")
    write(box.tmp / "first")
    write(box.dst / ".hidden")
    unit = f"[Path]\nPathExists={box.src}/it's here\nDirectoryNotEmpty={box.dst}\nUnit=a.service\n"
    daemon = imported.run("systemd-path", unit)
    wait_until(lambda: len(imported.called()) == 2 and not (box.src / "it's here").exists(), lambda: daemon.tail)
    assert all(call[:4] == ["start", "--wait", "--", "a.service"] for call in imported.called())
    write(box.dst / "f")
    wait_until(lambda: len(imported.called()) == 3 and not (box.dst / "f").exists(), lambda: daemon.tail)


def test_a_glob_of_existing_paths_starts_the_unit(box: Box, imported: Imported) -> None:
    imported.program("systemctl", f'rm -r "{box.src}"/*.csv')
    daemon = imported.run("systemd-path", f"[Path]\nPathExistsGlob={box.src}/*.csv\n")
    write(box.src / "a.txt")
    write(box.src / "a b.csv")
    wait_until(lambda: not (box.src / "a b.csv").exists(), lambda: daemon.tail)
    imported.wait_called("start", "--wait", "--", "in.service")
    assert len(imported.called()) == 1


def test_a_stop_does_not_wait_for_a_unit_that_goes_on(box: Box, imported: Imported) -> None:
    # systemctl waits as long as the unit runs.
    imported.program("systemctl", "exec sleep 1000")
    write(box.src / "on")
    daemon = imported.run("systemd-path", f"[Path]\nPathExists={box.src}/on\nPathChanged={box.dst}\n")
    imported.wait_called("start", "--wait", "--", "in.service")
    start = time.monotonic()
    daemon.terminate()
    assert time.monotonic() - start < 10, daemon.tail


def test_what_systemd_ignores_is_ignored(box: Box, imported: Imported) -> None:
    imported.program("systemctl")
    drop_in = box.tmp / "in.path.d"
    drop_in.mkdir()
    (drop_in / "unit.conf").write_text("[Path]\nUnit=\nUnit=other.service\nPathChanged=/srv/../srv\n")
    source = box.tmp / "in.path"
    source.write_text(f"\ufeff[Path]\nPathChanged={box.src}\nUnit=x.unit\nUnit=first.service\n")
    done = box.call("import", "systemd-path", source)
    places = [line.split(": ")[:2] for line in done.lines]
    expected = [(source, 3), (drop_in / "unit.conf", 2), (drop_in / "unit.conf", 3), (drop_in / "unit.conf", 4)]
    assert places == [["WARNING", f"{path}:{line}"] for path, line in expected], done.log
    assert done.exit_code == 0
    assert done.stdout.count("first.service") == 1
    assert done.stdout.count("watches.append(") == 1


def test_directories_are_made(box: Box, imported: Imported) -> None:
    imported.program("systemctl")
    made = box.tmp / "new/deep"
    unit = f"[Path]\nPathModified={made}\nMakeDirectory=yes\nDirectoryMode=0750\n"
    imported.run("systemd-path", unit)
    assert made.stat().st_mode & 0o777 == 0o750
    write(made / "f")
    imported.wait_called("start", "--wait", "--", "in.service")


# ---- the command


def test_what_is_different_or_left_out_is_said_with_file_and_line(box: Box, imported: Imported) -> None:
    table = box.tmp / "table"
    table.write_text(f"# a\n{box.src} IN_OPEN,IN_ONESHOT x $#\nrelative IN_OPEN x\n")
    done = box.call("import", "incrontab", table)
    assert done.exit_code == 1
    assert [line.partition(": ")[0] for line in done.lines] == ["WARNING", "ERROR"]
    assert f"WARNING: {table}:2: IN_ONESHOT: incron runs the command for one event" in done.lines[0]
    assert "pyinotifyd pause table-2-IN_OPEN`" in done.lines[0]
    assert done.lines[1] == f"ERROR: {table}:3: its path is not absolute: write it from / on"
    for line in done.lines:
        level, _, text = line.split(": ", 2)
        assert f"\n# {level}: {text}\n" in done.stdout
    tested = box.call("-t", config=done.stdout)
    assert tested.lines == ["INFO: config file ok"]
    assert "scheduler 'table-2-IN_OPEN'" in box.call("--explain", box.src / "f", "IN_OPEN", config=done.stdout).stdout


def test_a_file_that_is_there_is_kept_unless_it_is_forced(box: Box) -> None:
    table, config = box.tmp / "table", box.tmp / "new.py"
    table.write_text(f"{box.src} IN_OPEN x $#\n")
    done = box.call("import", "incrontab", table, "-o", config)
    assert (done.exit_code, done.log, done.stdout) == (0, "", "")
    written = config.read_text()
    assert "watches.append(Watch(" in written
    config.write_text("mine")
    done = box.call("import", "incrontab", table, "-o", config)
    assert done.exit_code == 1
    assert done.log == f"ERROR: '{config}' is there already: write --force to replace it"
    assert config.read_text() == "mine"
    done = box.call("import", "incrontab", table, "-o", config, "--force")
    assert done.exit_code == 0
    assert config.read_text() == written


@pytest.mark.parametrize("kind", ["incrontab", "direvent", "systemd-path"])
def test_what_cannot_be_read_is_said(box: Box, kind: str) -> None:
    gone = box.tmp / "gone.path"
    done = box.call("import", kind, gone)
    assert done.exit_code == 1
    assert done.log.startswith(f"ERROR: cannot read '{gone}': ")
    assert done.stdout == ""


def test_a_unit_that_is_nowhere_has_a_remedy(box: Box) -> None:
    done = box.call("import", "systemd-path", "no-such-unit")
    assert done.exit_code == 1
    assert "there is no such unit in /etc/systemd/system, " in done.log
    assert "such as ./no-such-unit.path or, for one of a user, ~/.config/systemd/user/no-such-unit.path" in done.log
    done = box.call("import", "systemd-path", box.tmp / "gone.path")
    assert "no such file; a unit of the system is found by its name alone" in done.log
    write(box.tmp / "plain")
    done = box.call("import", "systemd-path", box.tmp / "plain")
    assert done.log.strip() == f"ERROR: {box.tmp}/plain: 'plain' is no path unit: its name does not end in .path"


@pytest.mark.parametrize("kind", ["incrontab", "direvent"])
def test_a_file_that_says_nothing_is_warned_of(box: Box, kind: str) -> None:
    empty = box.tmp / "empty"
    empty.write_text("# nothing\n")
    done = box.call("import", kind, empty)
    warning = f"WARNING: {empty}: there is nothing in it to watch, so that the config watches nothing"
    assert (done.exit_code, done.log.strip()) == (0, warning)
    assert box.call("-t", config=done.stdout).exit_code == 0


def test_a_byte_order_mark_is_skipped(box: Box) -> None:
    files = {
        "incrontab": f"{box.src} IN_OPEN x $#\n",
        "direvent": f"watcher {{ path {box.src}; event create; command x; }}\n",
    }
    for kind, text in files.items():
        source = box.tmp / kind
        source.write_text(f"\ufeff{text}")
        done = box.call("import", kind, source)
        assert done.exit_code == 0
        assert done.log.startswith(f"WARNING: {source}:1: a byte order mark"), done.log
        assert f'path="{box.src}"' in done.stdout


COMMANDS = [
    ("incrontab", '{src} IN_OPEN ssh host "touch /in/$#"\n', "WARNING"),
    ("incrontab", "{src} IN_OPEN sqlite3 db \"delete from f where name = '$#'\"\n", "WARNING"),
    ("incrontab", "{src} IN_OPEN echo a\0b\n", "ERROR"),
    ("direvent", 'watcher {{ path {src}; event create; command "ssh host rm $file"; option shell; }}', "WARNING"),
    ("direvent", 'watcher {{ path {src}; event create; command "/bin/sh -c \\"echo $file\\""; }}', "ERROR"),
    ("direvent", 'watcher {{ path {src}; event create; command "perl -e \\"print qq($file)\\""; }}', "ERROR"),
]


@pytest.mark.parametrize(("kind", "text", "level"), COMMANDS)
def test_what_a_test_of_the_config_says_of_a_command_is_said_before(box: Box, kind: str, text: str, level: str) -> None:
    other = {"incrontab": f"{box.dst} IN_OPEN x $#\n", "direvent": f"watcher {{ path {box.dst}; command x; }}"}[kind]
    source = box.tmp / "source"
    source.write_text(f"{text.format(src=box.src)}{other}\n")
    done = box.call("import", kind, source)
    assert any(line.startswith(f"{level}: {source}:1: command: ") for line in done.lines), done.log
    assert done.exit_code == (1 if level == "ERROR" else 0)
    tested = box.call("-t", config=done.stdout)
    assert tested.exit_code == 0, tested.log
    assert ("WARNING" in tested.log) == (level == "WARNING"), tested.log
    assert f'path="{box.dst}"' in done.stdout
    assert (f'path="{box.src}"' in done.stdout) == (level == "WARNING")


def test_a_wrong_command_line_is_status_2(box: Box) -> None:
    for arguments in (["cron", "x"], ["incrontab"], ["direvent", "x", "--user", "ann"]):
        done = box.call("import", *arguments)
        assert done.exit_code == 2
        assert "Usage: pyinotifyd import" in done.log


def test_a_user_that_is_not_there_is_warned_of(box: Box) -> None:
    table = box.tmp / "table"
    table.write_text(f"{box.src} IN_OPEN x $#\n")
    done = box.call("import", "incrontab", table, "--user", "no-such-user")
    warning = f"WARNING: {table}: no such user: 'no-such-user'; each task fails as long as there is none"
    assert (done.exit_code, done.log.strip()) == (0, warning)
    assert "# WARNING: no such user: 'no-such-user'" in done.stdout


def test_no_python_is_started(box: Box) -> None:
    table = box.tmp / "table"
    table.write_text(f"{box.src} IN_OPEN x $#\n")
    done = box.call("import", "incrontab", table, env={"PATH": "/none", "PYINOTIFYD_PYTHON": "/none"})
    assert (done.exit_code, done.log) == (0, "")
