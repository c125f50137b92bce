"""Draws the results as one SVG picture: for each figure, how many times its baseline each contestant is.

The scale is logarithmic; the row's baseline (a bare C program, `cp` or `python3 -c pass`) stands at 1; left is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

from measure.report import number
from measure.row import Figure, Kind, Results

LEFT, RIGHT, TOP, LINE = 380, 40, 70, 22
PLOT_WIDTH = 620
WIDTH = LEFT + PLOT_WIDTH + RIGHT
# A ratio outside is drawn at the edge.
DECADES = (-1, 3)
COLOURS = {Kind.OURS: "#d1495b", Kind.LIMIT: "#30638e", Kind.OTHER: "#8d99ae", Kind.ORIGINAL: "#edae49"}
LEGEND = {
    Kind.OURS: "ours",
    Kind.LIMIT: "bare C or asyncio (= 1)",
    Kind.OTHER: "inotifywait, cp, python3 -c pass",
    Kind.ORIGINAL: "the original",
}
FONT = 'font-family="system-ui, sans-serif"'


@dataclass
class Line:
    """One figure with the ratio of each contestant to the baseline."""

    label: str
    points: list[tuple[Kind, str, float]]


def _line(results: Results, figure: Figure) -> Line | None:
    bottom = results.median(results.row.baseline, figure.key)
    if not bottom:
        return None
    points = []
    for name in results.samples:
        value = results.median(name, figure.key)
        if value:
            ratio = bottom / value if figure.higher_is_better else value / bottom
            points.append((results.kinds[name], f"{name}: {number(value)} {figure.unit}", ratio))
    has_ours = any(kind is Kind.OURS for kind, _, _ in points)
    return Line(f"{results.row.name}: {figure.title}", points) if has_ours or len(points) > 1 else None


def _x(ratio: float) -> float:
    low, high = DECADES
    place = (math.log10(max(ratio, 1e-9)) - low) / (high - low)
    return LEFT + PLOT_WIDTH * min(max(place, 0.0), 1.0)


def _grid(height: int) -> list[str]:
    parts = []
    for decade in range(DECADES[0], DECADES[1] + 1):
        x = _x(10.0**decade)
        width = 2 if decade == 0 else 1
        parts.append(
            f'<line x1="{x}" y1="{TOP - 10}" x2="{x}" y2="{height - 20}" stroke="#ccc" stroke-width="{width}"/>'
        )
        parts.append(f'<text x="{x}" y="{TOP - 16}" font-size="11" text-anchor="middle">{10.0**decade:g}x</text>')
    return parts


def _legend() -> list[str]:
    parts, x = [], 16
    for kind, label in LEGEND.items():
        parts.append(f'<circle cx="{x}" cy="22" r="5" fill="{COLOURS[kind]}"/>')
        parts.append(f'<text x="{x + 10}" y="26" font-size="12">{escape(label)}</text>')
        x += 40 + 7 * len(label)
    parts.append(f'<text x="{WIDTH - RIGHT}" y="26" font-size="12" text-anchor="end">left is better</text>')
    return parts


def _draw(line: Line, y: float) -> list[str]:
    parts = [f'<text x="{LEFT - 12}" y="{y + 4}" font-size="12" text-anchor="end">{escape(line.label)}</text>']
    parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + PLOT_WIDTH}" y2="{y}" stroke="#eee"/>')
    # Ours last, so that it is on top.
    for kind, title, ratio in sorted(line.points, key=lambda point: point[0] is Kind.OURS):
        parts.append(
            f'<circle cx="{_x(ratio):.1f}" cy="{y}" r="5" fill="{COLOURS[kind]}" fill-opacity="0.9">'
            f"<title>{escape(title)} ({number(ratio)}x)</title></circle>"
        )
    return parts


def draw(file: Path, all_results: list[Results]) -> None:
    """Writes the picture; nothing if there is nothing to compare."""
    lines = [line for results in all_results for figure in results.row.figures if (line := _line(results, figure))]
    if not lines:
        return
    height = TOP + LINE * len(lines) + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" {FONT}>']
    parts.append(f'<rect width="{WIDTH}" height="{height}" fill="white"/>')
    parts += _legend() + _grid(height)
    for index, line in enumerate(lines):
        parts += _draw(line, TOP + LINE * index + LINE / 2)
    parts.append("</svg>")
    file.write_text("\n".join(parts) + "\n")
