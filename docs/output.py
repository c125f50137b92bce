#!/usr/bin/env python3
"""Runs what the documents show and writes down what was really printed; as root, in a mount namespace of its own.

    PROGRAM=target/release/pyinotifyd docs/output.py            write it
    PROGRAM=target/release/pyinotifyd docs/output.py --check    only say whether something else would be printed

A line <!-- output NAME --> stands before each block that is written. Only the two lines of the shutdown are left out;
what looks odd in the output is for the program to mend, not for this script.
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PROGRAM = Path(os.environ.get("PROGRAM", DOCS.parent / "target/release/pyinotifyd")).resolve()
CONFIG = Path("/etc/pyinotifyd/config.py")
INBOX = Path("/srv/in")
DEADLINE_S = 30

# What differs between two runs. Tasks run beside each other, so that their lines may change places.
VARYING = re.compile(r"^[\d-]{10} [\d:,]{12}|\b[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\b", re.M)

# The machine's root directory as it is, but for an empty /srv and an /etc without our configuration.
NAMESPACE = """
mount -t tmpfs none /mnt
mkdir -p /mnt/up/pyinotifyd /mnt/work /mnt/root/etc /mnt/root/srv/in
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /mnt/root/etc
rm -f /mnt/root/etc/pyinotifyd/config.py
for entry in /*; do
    case $entry in
        /etc | /mnt | /srv) ;;
        *) if test -L "$entry"; then cp -P "$entry" /mnt/root; elif test -d "$entry"; then
               mkdir "/mnt/root$entry"; mount --rbind "$entry" "/mnt/root$entry"
           fi ;;
    esac
done
exec chroot /mnt/root "$@"
"""


def main() -> int:
    if "INSIDE" not in os.environ:
        here = os.path.abspath(__file__)
        command = ["unshare", "-m", "sh", "-ec", NAMESPACE, "sh", sys.executable, here, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, "INSIDE": "1"}, check=False).returncode
    tutorial, act = DOCS / "tutorial.md", put if "--check" not in sys.argv else check
    for number, play in {"1": create_and_delete, "3": rename, "4": write_twice, "5": checksums}.items():
        act(tutorial, number, daemon_output(number, play))
    act(DOCS / "troubleshooting.md", "explain", explanation())
    return 0


def block(number: str) -> str:
    found = re.search(
        rf"^```python\n# tutorial/{number}\.py\n(.*?)^```$", (DOCS / "tutorial.md").read_text(), re.M | re.S
    )
    assert found is not None, f"the tutorial has no block {number}"
    return found[1]


def marked(page: Path, name: str) -> tuple[str, str, str]:
    """What stands before, in and behind the block of an output."""
    found = re.fullmatch(rf"(.*<!-- output {name} -->\n```\n)(.*?)(^```$.*)", page.read_text(), re.M | re.S)
    assert found is not None, f"{page} has no place for output {name}"
    return found[1], found[2], found[3]


def put(page: Path, name: str, output: str) -> None:
    before, _, behind = marked(page, name)
    page.write_text(before + output + behind)


def check(page: Path, name: str, output: str) -> None:
    shown, printed = (sorted(VARYING.sub("*", text).splitlines()) for text in (marked(page, name)[1], output))
    if shown != printed:
        difference = "\n".join(difflib.unified_diff(shown, printed, "shown", "printed", lineterm="", n=0))
        sys.exit(f"{page.name}: output {name} is not what is printed; run docs/output.py\n{difference}")


def daemon_output(number: str, act: Callable[[Callable[[str], None]], None]) -> str:
    CONFIG.write_text(block(number))
    log = Path("/srv/log")
    with log.open("wb") as file:
        daemon = subprocess.Popen([PROGRAM], stdout=file, stderr=subprocess.STDOUT)

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in log.read_text():
            assert time.monotonic() < deadline, f"no {text!r} in:\n{log.read_text()}"
            time.sleep(0.02)

    try:
        wait_for("start listening")
        act(wait_for)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(DEADLINE_S)
    lines = log.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if "got signal" not in line and "shutdown complete" not in line)


def create_and_delete(wait_for: Callable[[str], None]) -> None:
    subprocess.run("echo hello > /srv/in/a", shell=True, check=True)
    wait_for("task finished")
    (INBOX / "a").unlink()
    wait_for("task finished, mask=IN_DELETE")


def rename(wait_for: Callable[[str], None]) -> None:
    subprocess.run(
        "echo report > /srv/in/report.tmp; mv /srv/in/report.tmp /srv/in/report.done", shell=True, check=True
    )
    wait_for("task finished")


def write_twice(wait_for: Callable[[str], None]) -> None:
    subprocess.run("echo one > /srv/in/f; sleep 2; echo two >> /srv/in/f", shell=True, check=True)
    wait_for("task finished")


def checksums(wait_for: Callable[[str], None]) -> None:
    script = (
        "echo hello > good; sha256sum good > good.sha256; echo hullo > bad; sed s/good/bad/ good.sha256 > bad.sha256"
    )
    subprocess.run(script, shell=True, check=True, cwd=INBOX)
    wait_for("is good")
    wait_for("task failed: ValueError")
    wait_for("task finished")


def explanation() -> str:
    CONFIG.write_text(block("3"))
    words = ["--explain", "/srv/in/report.done", "IN_CLOSE_WRITE"]
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=True)
    return f"$ pyinotifyd {' '.join(words)}\n{done.stdout}"


if __name__ == "__main__":
    sys.exit(main())
