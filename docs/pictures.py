#!/usr/bin/env python3
"""Draws the pictures of the documents, docs/*.svg; with --check, says whether they are up to date.

A picture is a list of shapes. Their colours are those of the reader's scheme, light or dark. A text that does not fit
into its box is an error: no font is known here, so a character counts as wide as the widest usual one.
"""

from __future__ import annotations

import html
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent

# Colours of classes; text is written with ink and faint.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#59636e",
    "box": "#f0f3f6",
    "good": "#dafbe1",
    "bad": "#ffebe9",
    "busy": "#ddf4ff",
}
DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "faint": "#9aa4af",
    "box": "#21262d",
    "good": "#12381f",
    "bad": "#4b1a1c",
    "busy": "#0c2d50",
}
FONT_PX, SMALL_PX = 14, 12
# A character's width, as a part of the size of the font: DejaVu Sans is among the widest.
CHARACTER = 0.62


def style(colours: dict[str, str]) -> str:
    filled = "".join(f".{name}{{fill:{colours[name]}}}" for name in ("paper", "box", "good", "bad", "busy"))
    edges = f".box,.good,.bad,.busy,.line{{stroke:{colours['faint']}}}"
    return (
        f"{filled}{edges}.head{{fill:{colours['faint']}}}text{{fill:{colours['ink']}}}.small{{fill:{colours['faint']}}}"
    )


STYLE = (
    f"text{{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:{FONT_PX}px}}"
    f".small{{font-size:{SMALL_PX}px}}.line{{fill:none;stroke-width:1.5}}.dashed{{stroke-dasharray:5 4}}\n"
    f"{style(LIGHT)}\n@media (prefers-color-scheme:dark){{{style(DARK)}}}"
)


class Picture:
    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.shapes: list[str] = []

    def text(self, x: float, y: float, text: str, small: bool = False, anchor: str = "middle") -> None:
        wide = len(text) * CHARACTER * (SMALL_PX if small else FONT_PX)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[anchor]
        assert left >= 0 and left + wide <= self.width, f"{self.title}: no room for {text!r}"
        kind = ' class="small"' if small else ""
        self.shapes.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{kind}>{html.escape(text)}</text>')

    def box(self, x: float, y: float, width: float, text: str, kind: str = "box", height: float = 36) -> None:
        assert len(text) * CHARACTER * FONT_PX + 8 <= width, f"{self.title}: {text!r} is wider than its box"
        self.shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>')
        self.text(x + width / 2, y + height / 2 + 5, text)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        way = " ".join(f"{x:g},{y:g}" for x, y in points)
        kind = "line dashed" if dashed else "line"
        self.shapes.append(f'<polyline points="{way}" class="{kind}" marker-end="url(#head)"/>')

    def line(self, *points: tuple[float, float], dashed: bool = False) -> None:
        self.arrow(*points, dashed=dashed)
        self.shapes[-1] = self.shapes[-1].replace(' marker-end="url(#head)"', "")

    def svg(self) -> str:
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" class="head"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}"',
                f'  viewBox="0 0 {self.width} {self.height}" role="img">',
                f"<title>{html.escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                f"<defs>{head}</defs>",
                f'<rect width="{self.width}" height="{self.height}" rx="8" class="paper"/>',
                *self.shapes,
                "</svg>\n",
            ]
        )


def life() -> Picture:
    picture = Picture(860, 350, "The life of a task")
    top, low = 90, 230
    picture.text(40, top + 13, "event")
    picture.arrow((20, top + 20), (110, top + 20))
    picture.box(110, top, 120, "waiting")
    picture.text(170, top + 54, "delay, settle", small=True)
    picture.arrow((140, top), (140, top - 36), (200, top - 36), (200, top))
    picture.text(170, top - 44, "an event: the delay begins anew", small=True)
    picture.arrow((230, top + 20), (330, top + 20))
    picture.text(280, top + 13, "is due", small=True)
    picture.box(330, top, 120, "queued")
    picture.text(390, top - 10, "max_jobs, max_rate, pause", small=True)
    picture.arrow((450, top + 20), (550, top + 20))
    picture.text(500, top + 13, "a place is free", small=True)
    picture.box(550, top, 120, "running", "busy")
    picture.text(610, top - 10, "timeout", small=True)
    picture.arrow((670, top + 20), (730, top + 20))
    picture.box(730, top, 70, "ok", "good")
    picture.arrow((150, top + 60), (150, low))
    picture.text(144, top + 100, "Cancel", small=True, anchor="end")
    picture.arrow((350, top + 36), (190, low))
    picture.text(290, top + 100, "Cancel", small=True)
    picture.box(110, low, 120, "cancelled")
    picture.arrow((580, top + 36), (470, low))
    picture.text(526, top + 76, "fails, tries are left", small=True, anchor="end")
    picture.box(370, low, 120, "retrying")
    picture.text(430, low + 54, "the pauses grow", small=True)
    picture.text(430, low + 72, "a new event: the first attempt again", small=True)
    picture.arrow((400, low), (400, top + 36))
    picture.text(394, low - 20, "pause is over", small=True, anchor="end")
    picture.arrow((640, top + 36), (690, low))
    picture.text(676, top + 76, "fails, no try is left", small=True, anchor="start")
    picture.box(630, low, 120, "failed", "bad")
    picture.text(690, low + 54, "on_failure is told", small=True)
    picture.text(690, low + 72, "pyinotifyd retry: queued again", small=True)
    return picture


def timeline() -> Picture:
    """What the tutorial's `echo one > in/upload; sleep 1; echo two >> in/upload` does, with delay=3."""
    picture = Picture(820, 250, "An upload on a time line, with delay=3")
    second, zero, base = 130, 150, 200
    picture.text(16, 52, "upload", anchor="start")
    picture.text(16, 102, "events", anchor="start")
    picture.text(16, 152, "task", anchor="start")
    picture.box(zero, 30, 60, "one", "busy")
    picture.box(zero + second, 30, 60, "two", "busy")
    picture.text(zero + 5, 101, "IN_CLOSE_WRITE", small=True, anchor="start")
    picture.text(zero + second + 5, 92, "IN_MODIFY: Cancel", small=True, anchor="start")
    picture.text(zero + second + 5, 109, "IN_CLOSE_WRITE: a new task", small=True, anchor="start")
    picture.box(zero, 130, second - 6, "waits", height=34)
    picture.text(zero + second / 2, 180, "cancelled", small=True)
    picture.box(zero + second, 130, 3 * second, "waits three quiet seconds", height=34)
    picture.box(zero + 4 * second, 130, 70, "runs", "good", height=34)
    for x in (zero, zero + second):
        picture.line((x, 66), (x, base), dashed=True)
    picture.line((zero + 4 * second, 164), (zero + 4 * second, base), dashed=True)
    picture.arrow((zero, base), (800, base))
    for number in range(5):
        picture.line((zero + number * second, base), (zero + number * second, base + 6))
        picture.text(zero + number * second, base + 24, f"{number} s", small=True)
    return picture


def pipeline() -> Picture:
    """The last configuration of the tutorial."""
    picture = Picture(840, 150, "The pipeline of the tutorial")
    stages = [
        ("in", "take", "rule: move", "settle=Settle(stable=3)"),
        ("taken", "checks", "job: check()", "max_jobs=4"),
        ("ready", "deliver", "command", "retry=Retry(times=2)"),
    ]
    for number, (directory, scheduler, kind, how) in enumerate(stages):
        x = 16 + 226 * number
        picture.box(x, 50, 66, directory)
        picture.arrow((x + 66, 68), (x + 96, 68))
        picture.box(x + 96, 50, 100, scheduler, "busy")
        picture.text(x + 146, 104, kind, small=True)
        picture.text(x + 146, 122, how, small=True)
        picture.arrow((x + 196, 68), (x + 226, 68))
    picture.box(694, 50, 130, "delivered.txt", "good")
    picture.text(49, 34, "a directory", small=True)
    picture.text(162, 34, "a scheduler", small=True)
    return picture


def restart() -> Picture:
    rows = [
        ("waiting", "waiting: same id, same time", "box"),
        ("queued, retrying", "goes on where it was", "box"),
        ("a rule that ran", "runs again", "busy"),
        ("a command or job that ran", "failed; with rerun=True it runs again", "bad"),
        ("failed", "still listed, until retry or forget", "bad"),
        ("paused scheduler", "still paused", "box"),
        ("files that came meanwhile", 'found, with initial="changed"', "good"),
    ]
    picture = Picture(820, 70 + 46 * len(rows), "What survives a restart, with a state")
    picture.text(145, 34, "before")
    picture.text(350, 34, "stop, crash, power cut", small=True)
    picture.text(615, 34, "after")
    picture.line((350, 44), (350, 50 + 46 * len(rows)), dashed=True)
    for number, (before, after, kind) in enumerate(rows):
        y = 52 + 46 * number
        picture.box(20, y, 250, before)
        picture.arrow((270, y + 18), (420, y + 18))
        picture.box(420, y, 390, after, kind)
    return picture


PICTURES = {"life": life, "timeline": timeline, "pipeline": pipeline, "restart": restart}


def main() -> int:
    stale = 0
    for name, draw in PICTURES.items():
        path, text = DOCS / f"{name}.svg", draw().svg()
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"docs/{name}.svg is not up to date, run docs/pictures.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
