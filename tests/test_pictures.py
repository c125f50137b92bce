"""The pictures of the documents: they are up to date, can be drawn, can be read in both schemes, and show what is."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from control import Operator
from pages import DOCS
from vocabulary import REFERENCE, Box, need, wait_until, write

PICTURES = ["life", "pipeline", "restart", "timeline"]
DARK = re.compile(r"@media \(prefers-color-scheme:dark\)\{(.*)\}</style>")
COLOUR = re.compile(r"([.\w]+)\{fill:#([\da-f]{6})\}")
# WCAG 2.1, 1.4.3.
CONTRAST_MIN = 4.5


def picture(name: str) -> str:
    return (DOCS / f"{name}.svg").read_text()


def words(name: str) -> list[str]:
    elements = ElementTree.fromstring(picture(name)).iter("{http://www.w3.org/2000/svg}text")
    return [element.text or "" for element in elements]


def test_they_are_up_to_date() -> None:
    command: list[str | Path] = [sys.executable, DOCS / "pictures.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", PICTURES)
def test_text_stands_out_in_light_and_dark(name: str) -> None:
    text = picture(name)
    dark = DARK.search(text)
    assert dark is not None
    for scheme in (text[: dark.start()], dark[1]):
        colours = dict(COLOUR.findall(scheme))
        assert contrast(colours[".small"], colours[".paper"]) >= CONTRAST_MIN
        for kind in (".paper", ".box", ".good", ".bad", ".busy"):
            assert contrast(colours["text"], colours[kind]) >= CONTRAST_MIN, kind


def drawn(svg: str, path: Path) -> bytes:
    """The pixels of a picture."""
    path.write_text(svg)
    done = subprocess.run(["rsvg-convert", path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    chunks = re.findall(rb"IDAT(.*?).{4}(?=.{4}I(?:DAT|END))", done.stdout, re.S)
    return zlib.decompress(b"".join(chunks))


@pytest.mark.parametrize("name", PICTURES)
def test_they_are_drawn_in_light_and_dark(box: Box, name: str) -> None:
    need("rsvg-convert")
    light = picture(name)
    dark = DARK.sub(r"\1</style>", light)
    seen = {drawn(svg, box.tmp / "picture.svg") for svg in (light, dark)}
    assert len(seen) == 2
    for pixels in seen:
        assert len(set(pixels)) > 8, "nothing is drawn"


def test_the_pipeline_is_that_of_the_tutorial() -> None:
    tutorial = (DOCS / "tutorial.md").read_text()
    config = re.findall(r"^```python\n# config\.py\n(.*?)^```$", tutorial, re.M | re.S)[-1]
    shown = words("pipeline")
    watched = re.findall(r'add_watch\(path=f"\{HERE\}/(\w+)"', config)
    schedulers = re.findall(r"^(\w+) = \w+Scheduler\(", config, re.M)
    assert [word for word in shown if word in watched] == watched
    assert [word for word in shown if word in schedulers] == schedulers
    for word in ("delivered.txt", "settle=Settle(stable=3)", "max_jobs=4"):
        assert word in shown
        assert word in config


def test_the_life_of_a_task_has_the_states_that_there_are() -> None:
    described = (DOCS / "state.md").read_text()
    for state in ("waiting", "queued", "running", "retrying", "ok", "failed", "cancelled"):
        assert state in words("life")
        assert f"`{state}`" in described


def test_the_time_line_is_what_the_tutorial_prints() -> None:
    tutorial = (DOCS / "tutorial.md").read_text()
    part = tutorial[tutorial.index("## 4.") : tutorial.index("## 5.")]
    said = re.findall(r"(schedule task, delay=3|scheduled task cancelled|start task), mask=(\w+)", part)
    closes = ("schedule task, delay=3", "IN_CLOSE_WRITE")
    assert said == [closes, ("scheduled task cancelled", "IN_MODIFY"), closes, ("start task", "IN_CLOSE_WRITE")]
    shown = " ".join(words("timeline"))
    assert re.search("one two IN_CLOSE_WRITE IN_MODIFY: Cancel IN_CLOSE_WRITE.* waits cancelled waits .* runs", shown)


RESTART = """
wait = ShellScheduler("true", delay=3600)
held = ShellScheduler("true")
flaky = ShellScheduler("exit 1", retry=Retry(delay=3600, max_delay=3600))
runs = ShellScheduler("sleep 1000")
again = ShellScheduler("sleep 1000", rerun=True)
fails = ShellScheduler("exit 1")
pyinotifyd = Pyinotifyd(state="$TMP/state", control="$TMP/control.sock", shutdown_timeout=0)
pyinotifyd.add_watch("$SRC", {"IN_CLOSE_WRITE": [wait, held, flaky, runs, again, fails]})
pyinotifyd.add_watch("$DST", {"IN_CLOSE_WRITE": wait}, initial="changed")
"""


@pytest.mark.skipif(REFERENCE, reason="the original keeps nothing")
def test_a_restart_does_what_the_picture_shows(box: Box) -> None:
    operator = Operator(box.tmp / "control.sock")

    def states() -> dict[str, tuple[str, str]]:
        path = f"path={box.src}/file"
        tasks = {task["scheduler"]: (task["state"], task["id"]) for task in operator.tasks(f"?{path}")}
        failed = operator.get(f"/v1/failed?{path}")["tasks"]
        return tasks | {task["scheduler"]: ("failed", task["id"]) for task in failed}

    def reached(**wanted: str) -> dict[str, tuple[str, str]]:
        wait_until(lambda: {name: state for name, (state, _) in states().items()} == wanted, lambda: str(states()))
        return states()

    daemon = box.run(RESTART)
    operator.run("pause", "held")
    write(box.src / "file")
    same = {"wait": "waiting", "held": "queued", "flaky": "retrying", "again": "running", "fails": "failed"}
    before = reached(**same, runs="running")
    daemon.terminate()
    write(box.dst / "meanwhile")
    box.run(RESTART)
    after = reached(**same, runs="failed")
    assert {name: task for name, (_, task) in before.items()} == {name: task for name, (_, task) in after.items()}
    assert operator.scheduler("held")["paused"]
    wait_until(lambda: operator.tasks(f"?path={box.dst}/meanwhile"), "what came meanwhile")
    shown = words("restart")[3:]
    rows = dict(zip(shown[::2], shown[1::2]))
    assert rows["waiting"] == "waiting: same id, same time"
    assert rows["queued, retrying"] == "goes on where it was"
    assert rows["a command or job that ran"] == "failed; with rerun=True it runs again"
    assert rows["failed"] == "still listed, until retry or forget"
    assert rows["paused scheduler"] == "still paused"
    assert rows["files that came meanwhile"] == 'found, with initial="changed"'
