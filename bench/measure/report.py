"""Shows results: a table on the terminal, a table in Markdown, JSON."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from measure.row import Figure, Kind, Results, Target

RESULTS_START, RESULTS_END = "<!-- results -->", "<!-- end of results -->"


def number(value: float) -> str:
    """Three digits that count."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if size else "0"


def _ratio(results: Results, figure: Figure, contestant: str) -> str:
    base = results.row.baseline
    value, other = results.median(contestant, figure.key), results.median(base, figure.key)
    if base == contestant or value is None or not other:
        return ""
    return f"{number(value / other)}x {base}"


def target_text(target: Target, figure: Figure) -> str:
    """A target in words."""
    sign = "≥" if figure.higher_is_better else "≤"
    who = "" if target.of == "ours" else f"{target.of}: "
    if target.against is None:
        return f"{who}{sign} {number(target.bound)} {figure.unit}"
    if target.bound < 0.1:
        return f"{who}{sign} 1/{1 / target.bound:.0f} of {target.against}"
    return f"{who}{sign} {target.bound:g}x {target.against}"


def verdict_text(met: bool | None) -> str:
    """A verdict in a word."""
    return {True: "met", False: "MISSED", None: "not known"}[met]


def _figure_lines(results: Results, figure: Figure) -> list[str]:
    lines = [f"  {figure.title} [{figure.unit}]"]
    for contestant in results.samples:
        values = results.values(contestant, figure.key)
        if not values:
            continue
        spread = f"[{number(min(values))} .. {number(max(values))}] n={len(values)}"
        median = number(statistics.median(values))
        lines.append(f"    {contestant:<18}{median:>10}  {spread:<30}{_ratio(results, figure, contestant)}".rstrip())
    for target in results.row.targets:
        if target.figure == figure.key:
            lines.append(f"    target {target_text(target, figure)}: {verdict_text(results.verdict(target))}")
    return lines if len(lines) > 1 else []


def text(results: Results) -> str:
    """One row for the terminal."""
    lines = [f"{results.row.name}: {results.row.title}"]
    for figure in results.row.figures:
        lines += _figure_lines(results, figure)
    lines += [f"  ! {problem}" for problem in results.problems]
    return "\n".join(lines) + "\n"


def _cell(results: Results, contestant: str, figure: str) -> str:
    values = results.values(contestant, figure)
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} <small>({number(min(values))}–{number(max(values))})</small>"


def _names(results: Results, kind: Kind, figure: str) -> list[str]:
    who = results.kinds
    return [name for name in results.samples if who[name] is kind and results.values(name, figure)]


def _cells(results: Results, kind: Kind, figure: str) -> str:
    names = _names(results, kind, figure)
    plain = kind.value
    cells = [
        _cell(results, name, figure) if name == plain else f"{name}: {_cell(results, name, figure)}" for name in names
    ]
    return "<br>".join(cells) or "–"


def markdown(all_results: list[Results]) -> str:
    """All rows as one Markdown table: medians, in brackets the smallest and the largest."""
    lines = [
        "| what | figure | ours | limit | others | original | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for results in all_results:
        title = f"**{results.row.name}**: {results.row.title}"
        for figure in results.row.figures:
            targets = [target for target in results.row.targets if target.figure == figure.key]
            cells = [
                title,
                f"{figure.title}, {figure.unit}",
                *(_cells(results, kind, figure.key) for kind in (Kind.OURS, Kind.LIMIT, Kind.OTHER, Kind.ORIGINAL)),
                "<br>".join(target_text(target, figure) for target in targets),
                "<br>".join(verdict_text(results.verdict(target)) for target in targets),
            ]
            lines.append("| " + " | ".join(cells) + " |")
            title = ""
    return "\n".join(lines) + "\n"


def problems(all_results: list[Results], missing: list[str]) -> list[str]:
    """What could not be measured, and why."""
    return missing + [f"{results.row.name}: {problem}" for results in all_results for problem in results.problems]


def _row_json(results: Results) -> dict[str, Any]:
    figures = {
        figure.key: {
            "title": figure.title,
            "unit": figure.unit,
            "contestants": {
                name: {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": values}
                for name in results.samples
                if (values := results.values(name, figure.key))
            },
        }
        for figure in results.row.figures
    }
    return {"title": results.row.title, "figures": figures, "problems": results.problems}


def write_json(file: Path, facts: dict[str, str], all_results: list[Results], missing: list[str]) -> None:
    """Everything, every sample included."""
    content = {
        "machine": facts,
        "missing": missing,
        "rows": {results.row.name: _row_json(results) for results in all_results},
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def publish(page: Path, markdown: str) -> None:
    """Puts the results between the two marks in a page that says the rest.

    Raises ValueError if the marks are not there.
    """
    before, start, rest = page.read_text().partition(RESULTS_START)
    _, end, after = rest.partition(RESULTS_END)
    if not end:
        raise ValueError(f"{page}: no {RESULTS_START} … {RESULTS_END}")
    page.write_text(f"{before}{start}\n\n{markdown}\n{end}{after}")


def markdown_page(facts: dict[str, str], all_results: list[Results], missing: list[str]) -> str:
    """Table, what could not be measured, machine."""
    parts = [markdown(all_results)]
    if found := problems(all_results, missing):
        parts.append("Not measured, or failed:\n\n" + "".join(f"- {problem}\n" for problem in found))
    parts.append("| | |\n|---|---|\n" + "".join(f"| {key} | {value} |\n" for key, value in facts.items()))
    return "\n".join(parts)
