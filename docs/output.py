#!/usr/bin/env python3
"""Goes through the tutorial as a reader does, and writes down what was really printed.

    PROGRAM=target/release/pyinotifyd docs/output.py            write it (as root: the paths are those of a home)
    PROGRAM=target/release/pyinotifyd docs/output.py --check    only say whether something else would be printed

Blocks of Python whose first line is `# config.py` are saved, blocks of `sh` are run in the second terminal. A comment
before a block says more:

    <!-- first -->            started in the first terminal, after what ran there was ended by Ctrl-C
    <!-- prints -->           output of the block of commands before
    <!-- to RE -->            output of the first terminal up to a line that matches, since what was shown last
    <!-- from RE to RE -->    the same, but from a line that matches the first expression on
    <!-- only RE to RE -->    the same, but only the lines that match the first expression
    <!-- sources -->          run in the sources
    <!-- alone -->            run after Ctrl-C in the first terminal
    <!-- explain -->          what the service of the tutorial says to --explain

What looks odd in the output is for the program to mend, not for this script.
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SOURCES = DOCS.parent
PROGRAM = Path(os.environ.get("PROGRAM", SOURCES / "target/release/pyinotifyd")).resolve()
DEADLINE_S = 60
READER = "/home/you"

BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)

# What differs between two runs: times, ids, pids, durations, counts, the width of columns, where a path is cut off.
VARYING = [
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", re.M), "TIME"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\b|^[\da-f]{8}\b", re.M), "ID"),
    (re.compile(r"\bpid \d+"), "PID"),
    (re.compile(r"\b(\d+m )?\d+(\.\d+)? ?(m|ms|s|seconds)\b"), "DURATION"),
    (re.compile(r"\b\d+ read\b"), "COUNT"),
    (re.compile(r"(/home/you|…)\S*/"), "PATH/"),
    (re.compile(r" +"), " "),
]

# Stand for programs that act on the machine: here, a service is a daemon without a service manager.
STANDS_FOR = {
    "sudo": """
case "$*" in "pyinotifyd -t") set -- "$@" -c "$HOME/root/etc/pyinotifyd/config.py" ;; esac
DESTDIR=$HOME/root RUNTIME_DIRECTORY=$HOME/root exec "$@"
""",
    "systemctl": """
case "$*" in
    "enable --now pyinotifyd") config=$HOME/root/etc/pyinotifyd/config.py ;;
    "--user enable --now pyinotifyd") config=$HOME/.config/pyinotifyd/config.py ;;
    "reload pyinotifyd") exec kill -HUP "$(cat "$HOME/service")" ;;
    "--user disable --now pyinotifyd") kill "$(cat "$HOME/service")"; exec rm "$HOME/service" ;;
    *) exit 1 ;;
esac
pyinotifyd -c "$config" > "$HOME/service.log" 2>&1 &
echo $! > "$HOME/service"
until grep -q "start listening" "$HOME/service.log"; do sleep 0.05; done
""",
    "journalctl": 'cat "$HOME/service.log"',
}


def main() -> int:
    if "--check" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as home:
            return check(Path(home))
    if "INSIDE" not in os.environ:
        # The reader's home is only there for us.
        script = f'mount -t tmpfs none /home && mkdir {READER} && exec "$@"'
        command = ["unshare", "-m", "sh", "-ec", script, "sh", sys.executable, os.path.abspath(__file__)]
        return subprocess.run(command, env={**os.environ, "INSIDE": "1"}, check=False).returncode
    for page, text in written(Path(READER)).items():
        page.write_text(text)
    return 0


def check(home: Path) -> int:
    for page, text in written(home).items():
        shown, printed = (sorted(stable(version).splitlines()) for version in (page.read_text(), text))
        if shown != printed:
            difference = "\n".join(difflib.unified_diff(shown, printed, "shown", "printed", lineterm="", n=0))
            print(f"{page.name} shows other than what is printed; run docs/output.py\n{difference}", file=sys.stderr)
            return 1
    return 0


def stable(text: str) -> str:
    for varying, name in VARYING:
        text = varying.sub(name, text)
    return text


def written(home: Path) -> dict[Path, str]:
    """The pages as they are with what is printed now."""
    reader = Reader(home)
    tutorial, troubleshooting = DOCS / "tutorial.md", DOCS / "troubleshooting.md"
    try:
        pages = {tutorial: BLOCK.sub(reader.follow, tutorial.read_text())}
        # The last configuration on the way; every page that explains speaks of the same.
        pages[troubleshooting] = BLOCK.sub(reader.follow, troubleshooting.read_text())
    finally:
        reader.stop()
    return pages


class Reader:
    """Somebody with two terminals who does what a page says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.directory = home / "tutorial"
        self.log = home / "log"
        self.shown = 0
        self.printed = ""
        self.first: subprocess.Popen[bytes] | None = None
        programs = home / "bin"
        programs.mkdir()
        (programs / "pyinotifyd").symlink_to(PROGRAM)
        for name, script in STANDS_FOR.items():
            (programs / name).write_text(f"#!/bin/sh\n{script.strip()}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RUNTIME_DIRECTORY": str(home),
            "LANG": "C.UTF-8",
        }

    def follow(self, block: re.Match[str]) -> str:
        """Do what a block says; return it with what is printed now."""
        note, language, text = block["note"] or "", block["language"], block["text"]
        if language == "python" and text.startswith("# config.py\n"):
            (self.directory / "config.py").write_text(text.partition("\n")[2])
        elif note == "first":
            self.start(text.strip())
        elif language == "sh" and block.string.startswith("# Tutorial"):
            if note == "alone":
                self.stop()
            self.run(text, SOURCES if note == "sources" else self.directory)
        elif note:
            shown = self.shows(note)
            return block[0][: block.start("text") - block.start()] + shown + "```"
        return block[0]

    def shows(self, note: str) -> str:
        """What stands in a block of output."""
        if note == "prints":
            return self.printed
        if note == "explain":
            words = "--explain /srv/pipeline/in/sales.csv IN_CLOSE_WRITE"
            self.run(f"pyinotifyd -c /etc/pyinotifyd/config.py {words}", self.directory)
            return f"$ pyinotifyd {words}\n{self.printed}"
        found = re.fullmatch(r"(?:(?P<how>from|only) (?P<which>.+) )?to (?P<end>.+)", note)
        if found is None:
            sys.exit(f"no block is {note!r}")
        start = self.wait_for(found["which"], self.shown) if found["how"] == "from" else self.shown
        last = self.wait_for(found["end"], start)
        self.shown = last + 1
        lines = self.lines()[start : self.shown]
        if found["how"] == "only":
            lines = [line for line in lines if re.search(found["which"], line)]
        return self.readers("".join(lines))

    def run(self, commands: str, directory: Path) -> None:
        commands = re.sub("/etc/pyinotifyd|/srv/pipeline", rf"{self.home}/root\g<0>", commands)
        (self.home / "root/etc/pyinotifyd").mkdir(parents=True, exist_ok=True)
        where = directory if directory.exists() else self.home
        done = subprocess.run(
            ["sh", "-ec", commands.replace("journalctl -u pyinotifyd -f", "journalctl")],
            cwd=where,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"status {done.returncode} of:\n{commands}\n{done.stdout}\n{self.log.read_text()}")
        self.printed = self.readers(done.stdout)

    def start(self, command: str) -> None:
        """Start a command in the first terminal, and wait until it listens."""
        self.stop()
        self.shown = 0
        with self.log.open("wb") as log:
            self.first = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], cwd=self.directory, env=self.environment, stdout=log, stderr=log
            )
        self.wait_for("start listening", 0)

    def stop(self) -> None:
        """Ctrl-C in the first terminal, and the end of a service."""
        if self.first:
            self.first.send_signal(signal.SIGINT)
            self.first.wait(DEADLINE_S)
            self.first = None
        service = self.home / "service"
        if service.exists():
            os.kill(int(service.read_text()), signal.SIGTERM)
            service.unlink()

    def wait_for(self, expression: str, start: int) -> int:
        """Wait for a line that matches; return its number."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for number, line in enumerate(self.lines()[start:], start):
                if re.search(expression, line) and line.endswith("\n"):
                    return number
            if time.monotonic() > deadline:
                sys.exit(f"no {expression!r} in:\n{self.log.read_text()}")
            time.sleep(0.02)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines(keepends=True)

    def readers(self, text: str) -> str:
        """The text as it is in the reader's home, with the reader's Python and number."""
        text = re.sub(r"^python  [^,]+,", "python  /usr/bin/python3,", text, flags=re.M)
        text = text.replace(f"asked by uid {os.getuid()},", "asked by uid 1000,")
        return text.replace(f"{self.home}/root", "").replace(str(self.home), READER)


if __name__ == "__main__":
    sys.exit(main())
