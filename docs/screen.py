#!/usr/bin/env python3
"""Draws a terminal's screen as an SVG picture: what `tmux capture-pane -p -e` gives on stdin, for the documents.

tmux capture-pane -p -e | docs/screen.py > docs/top.svg
"""

from __future__ import annotations

import html
import re
import sys

# Light on dark, which reads well on light and on dark pages.
BACKGROUND, TEXT = "#1e1e2e", "#d8dee9"
COLOURS = ["#3b4252", "#e06c75", "#8fbf7f", "#e5c07b", "#81a1c1", "#b48ead", "#88c0d0", "#e5e9f0"]
CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 12
PART = re.compile(r"\x1b\[([\d;]*)m|([^\x1b]+)")


class Pen:
    """How text is drawn from here on (ECMA-48, SGR)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.colour = TEXT
        self.background = ""
        self.bold = self.dim = self.reversed = False

    def set(self, codes: str) -> None:
        # Colours of the palette stand for those of their own numbers.
        codes = re.sub(r"\b([34])8;5;(\d+)", lambda found: f"{found[1]}{int(found[2]) % 8}", codes)
        for code in (int(code or 0) for code in codes.split(";")):
            if code == 0:
                self.reset()
            elif code == 1:
                self.bold = True
            elif code == 2:
                self.dim = True
            elif code == 7:
                self.reversed = True
            elif code == 22:
                self.bold = self.dim = False
            elif code == 27:
                self.reversed = False
            elif 30 <= code <= 37:
                self.colour = COLOURS[code - 30]
            elif 90 <= code <= 97:
                self.colour = COLOURS[code - 90]
            elif 40 <= code <= 47:
                self.background = COLOURS[code - 40]
            elif code == 39:
                self.colour = TEXT
            elif code == 49:
                self.background = ""

    def draw(self, text: str, column: int, line: int) -> str:
        """Return the text as elements of SVG."""
        x, y = MARGIN + column * CELL_WIDTH, MARGIN + line * LINE_HEIGHT
        colour, background = (BACKGROUND, self.colour) if self.reversed else (self.colour, self.background)
        style = ' font-weight="bold"' * self.bold + ' opacity="0.65"' * self.dim
        width = len(text) * CELL_WIDTH
        box = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE_HEIGHT}" fill="{background}"/>'
        words = (
            f'<text x="{x:.1f}" y="{y + 13}" fill="{colour}"{style} textLength="{width:.1f}">{html.escape(text)}</text>'
        )
        return (box if background else "") + (words if text.strip() else "")


def picture(screen: str) -> str:
    """Return the SVG of a screen."""
    lines = screen.rstrip("\n").split("\n")
    pen, drawn, columns = Pen(), [], 0
    for number, line in enumerate(lines):
        column = 0
        for codes, text in PART.findall(line):
            if text:
                drawn.append(pen.draw(text, column, number))
                column += len(text)
            else:
                pen.set(codes)
        columns = max(columns, column)
    width, height = round(2 * MARGIN + columns * CELL_WIDTH), 2 * MARGIN + len(lines) * LINE_HEIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"',
            '  xml:space="preserve"',
            '  font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
            f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
            *filter(None, drawn),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(picture(sys.stdin.read()))
