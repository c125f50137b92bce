"""What an editor says of a config: the package's types are clean for what the documents show, and catch what loading
catches, at the line where it is wrong.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from test_service import BLOCK, DEFAULT_CONFIG, as_told
from vocabulary import PROJECT, REFERENCE, Box

PACKAGE = PROJECT / "crates/pyinotifyd/python"
PAGES = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)

# A config has these names without an import; an editor, with this line.
IMPORT = "from pyinotifyd import *\n"

# What the reference's examples name without defining it, as whoever reads them would.
ELSEWHERE = {
    "logging": "import logging",
    "scheduler": 'scheduler = ShellScheduler(cmd="true")',
    "mover": 'mover = ShellScheduler(cmd="true")',
    "reporter": 'reporter = ShellScheduler(cmd="true")',
    "publish": 'publish = FileManagerRule(action="delete", src_re="/x")',
    "pyinotifyd": "pyinotifyd = Pyinotifyd()",
    "send_mail": "def send_mail(subject: str, text: str) -> None: ...",
}

# ---- what is right


def shown() -> dict[str, str]:
    """Each config and each piece of one that the documents show, by where it stands."""
    found = {}
    for path in [*(PROJECT / "examples").glob("*.py"), *(PROJECT / "docs/cookbook").glob("*.py")]:
        found[path.relative_to(PROJECT).as_posix()] = path.read_text()
    for page in PAGES:
        text = page.read_text()
        for match in PYTHON_BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 2
            found[f"{page.relative_to(PROJECT)}:{line}"] = completed(match[1])
    for match in BLOCK.finditer(DEFAULT_CONFIG):
        found[f"config.py, {match[1]}"] = f"pyinotifyd = Pyinotifyd()\n{as_told(match[0])}"
    return found


def completed(piece: str) -> str:
    """A piece of a config with what it takes from elsewhere."""
    before = [
        line
        for name, line in ELSEWHERE.items()
        if re.search(rf"\b{name}\b(?! ?=)", piece) and not re.search(rf"^({name} = |import {name}$)", piece, re.M)
    ]
    return "\n".join([*before, piece])


# ---- what is wrong

HEAD = f"""{IMPORT}
async def job(event: Event, task_id: str) -> None: ...
async def batched(events: list[Event], task_id: str) -> None: ...
def plain(event: Event, task_id: str) -> None: ...
shell = ShellScheduler(cmd="true")
"""
TAIL = "\npyinotifyd = Pyinotifyd()\n"
MARK = "  # wrong"

# Each is put into a config and marked there.
WRONG = {
    "an action that there is not": 'FileManagerRule("mvoe", "/a", "/b")',
    "a move to nowhere": 'FileManagerRule("move", "/a")',
    "a copy that prunes its source": 'FileManagerRule("copy", "/a", "/b", prune=True)',
    "a deletion that is verified": 'FileManagerRule("delete", "/a", verify=True)',
    "a deletion with a conflict": 'FileManagerRule("delete", "/a", on_conflict="skip")',
    "a deletion below a mount": 'FileManagerRule("delete", "/a", mounted="/mnt")',
    "a conflict that there is not": 'FileManagerRule("move", "/a", "/b", on_conflict="overwite")',
    "a mode as a text": 'FileManagerRule("move", "/a", "/b", filemode="0o644")',
    "a rule's argument that there is not": 'FileManagerRule("move", "/a", "/b", autocreate=True)',
    "a text as a rule": 'FileManagerScheduler(rules="/a")',
    "rules with a batch": 'FileManagerScheduler(FileManagerRule("delete", "/a"), batch=Batch())',
    "rules with on_busy": 'FileManagerScheduler(FileManagerRule("delete", "/a"), on_busy="rerun")',
    "an event that there is not": 'Watch("/a", {"IN_CLOSE_WRIET": shell})',
    "an event in an event map": 'EventMap(event_map={"IN_CREAT": shell})',
    "an event that is set": 'EventMap().set_scheduler("IN_MOVE", shell)',
    "a function that is no coroutine function": 'Watch("/a", {"IN_CREATE": plain})',
    "a text as a scheduler": 'Watch("/a", {"IN_CREATE": "echo"})',
    "a class as a scheduler": 'Watch("/a", {"IN_CREATE": Cancel})',
    "a number as a path": "Watch(1)",
    "a moment that there is not": 'Watch("/a", initial="change")',
    "a filter of numbers": 'Watch("/a", exclude_filter=[1])',
    "a watch and the path of one": 'Pyinotifyd().add_watch("/a", watch=Watch("/a"))',
    "no watch and no path": 'Pyinotifyd().add_watch(event_map={"IN_CREATE": shell})',
    "a job that is no coroutine function": "TaskScheduler(job=plain)",
    "a job as a command": "ShellScheduler(cmd=job)",
    "a batch with a delay": "TaskScheduler(job=batched, batch=Batch(), delay=1)",
    "a batch with on_busy": 'TaskScheduler(job=batched, batch=Batch(), on_busy="rerun")',
    "a command's batch that settles": 'ShellScheduler("true {pathnames}", batch=Batch(), settle=Settle())',
    "a command's batch as a single job": 'ShellScheduler("true {pathnames}", batch=Batch(), singlejob=True)',
    "two commands": 'ShellScheduler("true", argv=["true"])',
    "no command": "ShellScheduler(delay=1)",
    "arguments as a text": 'ShellScheduler(argv="ls -l")',
    "a command with a job": 'ShellScheduler("true", job)',
    "a limit that there is not": 'ShellScheduler("true", limits={"nofiles": 1})',
    "an input that there is not": 'ShellScheduler("true", stdin="path")',
    "an output that there is not": 'ShellScheduler("true", output="logs")',
    "a delay as a text": 'ShellScheduler("true", delay="5")',
    "a word for a flag": 'ShellScheduler("true", dirs="yes")',
    "what an event does while its task runs": 'ShellScheduler("true", on_busy="wait")',
    "a number as a retry": 'ShellScheduler("true", retry=3)',
    "a retry of an unknown kind": 'Retry(on=["timeuot"])',
    "a batch without its numbers": 'Batch(quiet="2")',
    "a marker that is no path": "Settle(marker=1)",
    "a coroutine function as a cancel": "Cancel(job)",
    "an attribute of another type": 'shell.delay = "5"',
    "a socket that is True": "Pyinotifyd(control=True)",
    "a watch that is a path": 'Pyinotifyd(watches="/a")',
    "two spellings of a level": "enableSyslog(WARNING, lglevel=WARNING)",
    "two spellings of a logger": 'enableSyslog(logname="a", name="b")',
}


@dataclass(frozen=True)
class Wrong:
    text: str
    line: int

    @staticmethod
    def of(line: str) -> Wrong:
        text = HEAD + line + MARK + TAIL
        return Wrong(text, text[: text.index(MARK)].count("\n") + 1)


# ---- the checkers


@dataclass
class Found:
    """What the checkers say: lines and texts by name of a file and checker."""

    mypy: dict[str, dict[int, str]] = field(default_factory=dict)
    pyright: dict[str, dict[int, str]] = field(default_factory=dict)
    #: Why pyright says nothing at all: it needs node, which it may not find here.
    missing: str = ""

    def add(self, checker: dict[str, dict[int, str]], file: str, line: int, text: str) -> None:
        checker.setdefault(Path(file).stem, {})[line] = text


@dataclass(frozen=True)
class Configs:
    """The configs as files of a directory, and what the checkers said of them."""

    stems: dict[str, str]
    found: Found

    def checkers(self) -> Iterator[dict[str, dict[int, str]]]:
        yield self.found.mypy
        if self.found.missing:
            pytest.skip(self.found.missing)
        yield self.found.pyright


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Configs:
    """All configs, checked at once: the start of a checker takes longer than a config."""
    directory = tmp_path_factory.mktemp("types")
    texts = {name: IMPORT + text for name, text in shown().items()}
    texts.update({name: Wrong.of(line).text for name, line in WRONG.items()})
    stems = {name: f"config_{number}" for number, name in enumerate(texts)}
    for name, text in texts.items():
        (directory / f"{stems[name]}.py").write_text(text)
    found = Found()
    ask_mypy(directory, found)
    ask_pyright(directory, found)
    return Configs(stems, found)


def ask_mypy(directory: Path, found: Found) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--output", "json"]
    done = subprocess.run(
        [*command, "--cache-dir", directory / "cache", directory],
        env={"MYPYPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for line in done.stdout.splitlines():
        one = json.loads(line)
        if one["severity"] == "error":
            found.add(found.mypy, one["file"], one["line"], one["message"])


def ask_pyright(directory: Path, found: Found) -> None:
    settings = {"include": ["*.py"], "extraPaths": [str(PACKAGE)], "pythonVersion": "3.9"}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson"], cwd=directory, capture_output=True, text=True, check=False
    )
    if not done.stdout.startswith("{"):
        found.missing = f"pyright cannot run: {done.stdout}{done.stderr}"
        return
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            found.add(found.pyright, one["file"], one["range"]["start"]["line"] + 1, one["message"])


def documented() -> Iterator[ParameterSet]:
    any_text = pytest.mark.xfail(strict=True, reason="to checkers, what a comprehension goes through is any text")
    for name, text in shown().items():
        yield pytest.param(name, marks=any_text if "for event in [" in text else ())


@pytest.mark.parametrize("name", documented())
def test_checkers_have_nothing_to_say_of_what_the_documents_show(configs: Configs, name: str) -> None:
    for found in configs.checkers():
        assert found.get(configs.stems[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_checkers_refuse_what_is_wrong_at_its_line(configs: Configs, name: str) -> None:
    line = Wrong.of(WRONG[name]).line
    for found in configs.checkers():
        assert list(found.get(configs.stems[name], {})) == [line], found.get(configs.stems[name])


@pytest.mark.skipif(REFERENCE, reason="the original accepts most of this")
@pytest.mark.parametrize("name", WRONG)
def test_loading_refuses_what_checkers_refuse(box: Box, name: str) -> None:
    wrong = Wrong.of(WRONG[name])
    tested = box.call("-t", config=wrong.text)
    assert tested.exit_code == 1, tested.log
    assert re.search(rf"config\.py(:|\", line ){wrong.line}\b", tested.log), tested.log
