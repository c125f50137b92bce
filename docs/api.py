#!/usr/bin/env python3
"""Asks a real daemon what docs/api.md asks, and writes down what it answered.

    PROGRAM=target/release/pyinotifyd docs/api.py            write it
    PROGRAM=target/release/pyinotifyd docs/api.py --check    only say whether something else would be answered

Each block of shell commands is run, with the paths below a directory of its own, and its output put into the block
behind it. A command with --no-buffer goes on while the next block runs.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "api.md"
PROGRAM = Path(os.environ.get("PROGRAM", DOCS.parent / "target/release/pyinotifyd")).resolve()
DEADLINE_S = 30

BLOCK = re.compile(r"^```(python|sh|json|text)\n(.*?)^```$", re.M | re.S)
PLACES = re.compile(r"(?<![\w/.])/(srv|run|etc|var)/")
CONTROL = "/run/pyinotifyd/control.sock"

# A longer line of a stream is laid out as an answer is.
LINE_MAX = 120

# What differs between two runs, or two machines.
VARYING = [
    (re.compile(r"\b[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\b"), "ID"),
    (re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"'), "TIME"),
    (re.compile(r'("(?:pid|duration|events)": )[\d.e-]+'), r"\1N"),
    (re.compile(r'("checkpoint": )(?:null|TIME)'), r"\1TIME"),
    (re.compile(r"^(pyinotifyd_\w*_seconds\S*) [\d.e-]+$", re.M), r"\1 N"),
]
# Where Python is says nothing to a reader.
PYTHON = re.compile(r'("python": )"[^"]*"')


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    played = Play(page).page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(played, encoding="utf-8")
        return 0
    shown, answered = (normalised(text).splitlines() for text in (page, played))
    if shown == answered:
        return 0
    print("api.md is not what the daemon says, run docs/api.py", file=sys.stderr)
    print("\n".join(difflib.unified_diff(shown, answered, "shown", "answered", lineterm="", n=2)), file=sys.stderr)
    return 1


def normalised(text: str) -> str:
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


class Play:
    """The page, played from its first block to its last one."""

    def __init__(self, page: str) -> None:
        self.text = page
        #: The id of the first task of the latest list.
        self.id = ""
        self.output = ""
        self.stream: Stream | None = None

    def page(self) -> str:
        with tempfile.TemporaryDirectory(prefix="pyinotifyd-api-") as directory:
            self.root = directory
            config = next(match[2] for match in BLOCK.finditer(self.text) if match[1] == "python")
            with daemon(Path(directory), self.placed(config)):
                return BLOCK.sub(self.block, self.text)

    def placed(self, text: str) -> str:
        return PLACES.sub(rf"{self.root}/\1/", text)

    def block(self, match: re.Match[str]) -> str:
        kind, content = match[1], match[2]
        if kind == "sh":
            self.run(self.placed(content))
        elif kind in ("json", "text"):
            content = self.output.replace(self.root, "")
        return f"```{kind}\n{content}```"

    def run(self, commands: str) -> None:
        if "--no-buffer" in commands:
            self.stream = Stream(commands, Path(self.root))
            return
        environment = {**os.environ, "ID": self.id}
        done = subprocess.run(["sh", "-ec", commands], env=environment, capture_output=True, check=True)
        self.output = self.indented(done.stdout.decode())
        if self.stream is not None:
            self.output, self.stream = self.stream.end(), None

    def indented(self, text: str) -> str:
        """Each object in the text, indented; the text as it is from where it is none."""
        shown, rest = "", text
        with contextlib.suppress(json.JSONDecodeError):
            while rest.startswith("{"):
                value, end = json.JSONDecoder().raw_decode(rest)
                self.id = next((task["id"] for task in value.get("tasks", [])), self.id)
                # Before it is laid out: a long path would take another line.
                value = json.loads(PYTHON.sub(r'\1"/usr/bin/python3"', json.dumps(value)))
                shown += laid_out(value) + "\n"
                rest = rest[end:]
        # What --write-out prints stands behind the answer.
        shown = shown.removesuffix("\n") + rest if rest.startswith(" ") else shown + rest
        return shown.removesuffix("\n") + "\n"


def laid_out(value: object, indent: str = "") -> str:
    """An object as a reader likes it: in one line where that is short."""
    short = json.dumps(value, ensure_ascii=False)
    if len(indent + short) <= 100 or not isinstance(value, (dict, list)):
        return short
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key)}: {laid_out(one, deeper)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + laid_out(one, deeper) for one in value) + f"\n{indent}]"


class Stream:
    """A command that goes on until it has printed what is expected of it."""

    def __init__(self, command: str, root: Path) -> None:
        # A file that moves in is an event, and the beginning of a task.
        self.count = 2 if "tasks=true" in command else 1
        self.root, self.out, head = root, root / "stream", root / "head"
        head.unlink(missing_ok=True)
        command = command.replace("curl", f"exec curl --dump-header {head}", 1)
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(["sh", "-c", command], stdout=out, stderr=subprocess.DEVNULL)
        wait_until(lambda: head.exists() and head.read_bytes().endswith(b"\r\n\r\n"), "the head of the stream")

    def end(self) -> str:
        def lines() -> list[str]:
            return [line for line in self.out.read_text().replace(str(self.root), "").splitlines() if line]

        wait_until(lambda: len(lines()) >= self.count, "the lines of the stream")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)
        return "".join(f"{line if len(line) <= LINE_MAX else laid_out(json.loads(line))}\n" for line in lines())


@contextlib.contextmanager
def daemon(root: Path, config: str) -> Iterator[None]:
    for place in ("etc/pyinotifyd", "run/pyinotifyd", "srv/in", "srv/scans", "srv/notes"):
        (root / place).mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    path, control = root / "etc/pyinotifyd/config.py", root / CONTROL[1:]
    path.write_text(config)
    words = [PROGRAM, "-c", path, "--control", control, "--state", root / "var/lib/pyinotifyd"]
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        healthy = ["curl", "--silent", "--fail", "--unix-socket", control, "http://localhost/healthz"]
        wait_until(
            lambda: subprocess.run(healthy, stdout=subprocess.DEVNULL, check=False).returncode == 0,
            lambda: (root / "log").read_text(),
        )
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {DEADLINE_S} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main() if shutil.which("curl") else "curl is not here")
