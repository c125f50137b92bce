"""The words in which tests read the documents and do what these say.

Paths below /srv are replaced by ones of the test's own, programs that are not at hand by scripts that note how they
were called, and delays by shorter ones.
"""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

from vocabulary import Box, Daemon, wait_until

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COOKBOOK = sorted((DOCS / "cookbook").glob("*.py"))

# Fenced blocks whose first line names them are whole configurations.
BLOCK = re.compile(r"^```python\n# ([\w/]+\.py)\n(.*?)^```$", re.M | re.S)
BLOCKS = {match[1]: match[2] for page in sorted(DOCS.glob("*.md")) for match in BLOCK.finditer(page.read_text())}

CONFIGS = {**{path.name: path.read_text() for path in COOKBOOK}, **BLOCKS}

# Waiting for calm is what the configurations are about; a test need not wait for long.
DELAY = re.compile(r"delay=\d[\d.]*")


class Site:
    """A /srv of the test's own, and programs that only note how they were called."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.srv = box.tmp / "srv"
        self.srv.mkdir()
        self.programs = box.tmp / "bin"
        self.programs.mkdir()
        self.calls = box.tmp / "calls"
        self.calls.touch()

    def config(self, name: str, **replaced: str) -> str:
        """The configuration with our own paths, its watched directories made."""
        text = DELAY.sub("delay=0.3", CONFIGS[name]).replace("/srv", str(self.srv))
        for old, new in replaced.items():
            text = re.sub(rf"^{old} = .*$", f"{old} = {new}", text, flags=re.M)
        return text

    def directory(self, name: str) -> Path:
        path = self.srv / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def program(self, name: str, script: str = "") -> None:
        """Put a program before those of the machine."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {self.calls}\n{script}\n')
        path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.programs}:{os.environ['PATH']}"}

    def run(self, name: str, **replaced: str) -> Daemon:
        return self.box.run(self.config(name, **replaced), env=self.environment())

    def wait_call(self, pattern: str) -> None:
        wait_until(
            lambda: re.search(pattern, self.calls.read_text(), re.M),
            lambda: f"{pattern} in {self.calls.read_text()!r}\n{self.box.daemons[-1].tail}",
        )


def has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def me() -> str:
    """The name of the user that runs the tests: another one may not exist, or not be for us to become."""
    return pwd.getpwuid(os.geteuid()).pw_name
