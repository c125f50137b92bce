#!/usr/bin/env python3
"""Draws the panels of packaging/prometheus/grafana-dashboard.json with real data, as docs/dashboard.svg.

    PROGRAM=target/release/pyinotifyd docs/dashboard.py

Runs the daemon under a load of two minutes, and a Prometheus (Debian: prometheus) that reads its metrics; each panel's
expressions are evaluated there. Grafana draws more beautifully; what is shown is the same.
"""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pictures

DOCS = Path(__file__).resolve().parent
DASHBOARD = DOCS.parent / "packaging/prometheus/grafana-dashboard.json"
PROGRAM = Path(os.environ.get("PROGRAM", DOCS.parent / "target/release/pyinotifyd")).resolve()
LOAD_S = 120
DEADLINE_S = 30
# What stands for Grafana's variables.
VARIABLES = {"$instance": ".*", "$__rate_interval": "15s"}

CONFIG = """
import asyncio

async def check(event, task_id):
    await asyncio.sleep(0.05)

copy = FileManagerScheduler([FileManagerRule("copy", r"^IN/(.*)$", r"OUT/\\1", overwrite=True)])
check = TaskScheduler(check, delay=2)
convert = ShellScheduler("sleep 0.2; case {pathname} in *bad*) exit 3;; esac", max_jobs=2,
    retry=Retry(times=1, delay=3))
pyinotifyd = Pyinotifyd([
    Watch("IN", {"IN_CLOSE_WRITE": [copy, check], "IN_ATTRIB": convert}, exclude_filter=[r".*\\.tmp$"]),
    Watch("MISSING", {"IN_CREATE": copy}, rec=True),
], shutdown_timeout=0, state="STATE", control="SOCKET", metrics="127.0.0.1:METRICS_PORT")
"""
SCRAPE = """
global: {scrape_interval: 1s}
scrape_configs: [{job_name: pyinotifyd, static_configs: [{targets: ["127.0.0.1:METRICS_PORT"]}]}]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Series:
    """One line of a panel: its name, and its values by time."""

    name: str
    points: list[tuple[float, float]]


class Play:
    """A daemon with something to do, and a Prometheus that watches it, below a directory."""

    def __init__(self, place: Path) -> None:
        self.place, self.incoming = place, place / "in"
        for name in ("in", "out", "state", "data"):
            (place / name).mkdir(mode=0o700)
        self.metrics_port, self.port = free_port(), free_port()
        self.config = place / "config.py"
        self.config.write_text(self.filled(CONFIG))
        (place / "prometheus.yml").write_text(self.filled(SCRAPE))
        self.count = 0
        self.began = time.time()

    def filled(self, text: str) -> str:
        names = {
            "IN": self.incoming,
            "OUT": self.place / "out",
            "MISSING": self.place / "missing",
            "STATE": self.place / "state",
            "SOCKET": self.place / "control.sock",
            "METRICS_PORT": self.metrics_port,
        }
        return re.sub("|".join(rf"\b{name}\b" for name in names), lambda found: str(names[found[0]]), text)

    @contextlib.contextmanager
    def running(self, program: Path) -> Iterator[None]:
        prometheus = [
            "prometheus",
            f"--config.file={self.place}/prometheus.yml",
            f"--storage.tsdb.path={self.place}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self.place / "log").open("w"))
            self.daemon = subprocess.Popen([program, "-c", self.config], stdout=log, stderr=log)
            stack.callback(self.end, self.daemon)
            stack.callback(self.end, subprocess.Popen(prometheus, stdout=log, stderr=log))
            until = time.monotonic() + DEADLINE_S
            while not self.answers("up == 1"):
                assert time.monotonic() < until, (self.place / "log").read_text()
                time.sleep(0.1)
            self.began = time.time()
            yield

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def answers(self, expression: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("query", query=expression))
        return False

    def ask(self, what: str, **words: object) -> list[dict[str, Any]]:
        """What Prometheus says. Raises OSError if it does not answer, or does not like the question."""
        query = urllib.parse.urlencode(words)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}?{query}") as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result

    def drop(self) -> None:
        """One more file: some fail, some are excluded."""
        self.count += 1
        kind = "bad" if self.count % 25 == 0 else "good"
        end = ".tmp" if self.count % 7 == 0 else ""
        path = self.incoming / f"{kind}-{self.count % 200}{end}"
        path.write_bytes(b"x" * (self.count % 40) * 1000)
        if self.count % 10 == 0:
            path.chmod(0o600)

    def load(self) -> None:
        """What happens in two minutes: files in waves, reloads, one of them with an error, a host that is killed."""
        end = time.monotonic() + LOAD_S
        reloads = {LOAD_S * 3 // 4: self.config.read_text(), LOAD_S // 2: "nonsense"}
        kill_at = LOAD_S // 3
        while (left := end - time.monotonic()) > 0:
            self.drop()
            time.sleep(0.03 + 0.12 * (1 + math.sin(left / 9)) ** 2 / 4)
            for at in [at for at in reloads if left < at]:
                self.config.write_text(reloads.pop(at))
                self.daemon.send_signal(signal.SIGHUP)
            if left < kill_at:
                kill_at = 0
                os.kill(self.status()["host"]["pid"], signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        argv: list[str | Path] = [PROGRAM, "status", "--json", "--control", self.place / "control.sock"]
        status: dict[str, Any] = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
        return status

    def series(self, panel: dict[str, Any]) -> list[Series]:
        """The data of a panel: up to now, or now alone."""
        found = []
        for target in panel["targets"]:
            expression = filled(target["expr"])
            if panel["type"] == "stat":
                result = self.ask("query", query=expression)
            else:
                result = self.ask("query_range", query=expression, start=self.began, end=time.time(), step=1)
            for one in result:
                values = one.get("values") or [one["value"]]
                points = [(float(at), float(value)) for at, value in values if value != "NaN"]
                found.append(Series(legend(target.get("legendFormat") or "", one["metric"]), points))
        return found


def filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def legend(text: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), text)


def panels() -> list[dict[str, Any]]:
    board: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return board


# ---- how it is drawn

# Width of one of 24 columns and height of one row of the dashboard's grid.
COLUMN, ROW, GAP = 50, 30, 8
LINES_LIGHT = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bc4c00", "#1b7c83", "#bf3989", "#57606a"]
LINES_DARK = ["#58a6ff", "#ff7b72", "#56d364", "#e3b341", "#bc8cff", "#f0883e", "#39c5cf", "#f778ba", "#8b949e"]
SMALL = pictures.SMALL_PX * pictures.CHARACTER
LEGEND_LINE = 16


def classes(colours: list[str]) -> str:
    lines = (f".l{at}{{stroke:{colour}}}.t{at}{{fill:{colour}}}" for at, colour in enumerate(colours))
    return "".join(lines) + f".green{{fill:{colours[2]}}}.red{{fill:{colours[1]}}}"


STYLE = (
    f"text{{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:{pictures.SMALL_PX}px}}"
    ".big{font-size:24px;font-weight:bold}.head{font-weight:bold}"
    ".grid{stroke-width:1;stroke-opacity:.35}.series{fill:none;stroke-width:1.5}\n"
    f"{pictures.style(pictures.LIGHT)}{classes(LINES_LIGHT)}.grid{{stroke:{pictures.LIGHT['faint']}}}\n"
    f"@media (prefers-color-scheme:dark){{{pictures.style(pictures.DARK)}{classes(LINES_DARK)}"
    f".grid{{stroke:{pictures.DARK['faint']}}}}}"
)


def amount(value: float, unit: str) -> str:
    """A value as Grafana writes it."""
    if unit == "dateTimeFromNow":
        minutes = (time.time() - value / 1000) / 60
        return f"{minutes:.0f} min ago"
    if unit == "s":
        for factor, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if value >= factor or (value == 0 and factor == 1):
                return f"{value / factor:.3g} {name}"
        return f"{value:.1g} s"
    suffix = {"ops": " /s", "Bps": "B/s"}.get(unit, "")
    for factor, name in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {name}{suffix.strip()}"
    return f"{value:.3g}{' ' if unit == 'Bps' else ''}{suffix}"


class Drawing:
    """Shapes in a frame that moves from panel to panel."""

    def __init__(self) -> None:
        self.shapes: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        kind = f' class="{kind}"' if kind else ""
        self.shapes.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{kind}>{html.escape(text)}</text>')

    def panel(self, panel: dict[str, Any], found: list[Series], span: tuple[float, float]) -> None:
        at = panel["gridPos"]
        x, y = at["x"] * COLUMN + GAP / 2, at["y"] * ROW + GAP / 2
        width, height = at["w"] * COLUMN - GAP, at["h"] * ROW - GAP
        self.shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="box"/>')
        self.text(x + 10, y + 20, panel["title"], "head")
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "stat":
            self.stat(x + width / 2, y + height / 2 + 20, found, defaults)
        else:
            self.lines((x + 10, y + 34, width - 20, height - 44), found, defaults["unit"], span)

    def stat(self, x: float, y: float, found: list[Series], defaults: dict[str, Any]) -> None:
        assert len(found) == 1
        value = found[0].points[-1][1]
        kind = "big"
        for step in defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is None or value >= step["value"]:
                kind = f"big {step['color']}"
        if defaults.get("decimals") == 0:
            value = round(value)
        options = [mapping["options"] for mapping in defaults.get("mappings", [])]
        named = [option[f"{value:g}"]["text"] for option in options if f"{value:g}" in option]
        self.text(x, y, named[0] if named else amount(value, defaults["unit"]), kind, "middle")

    def lines(
        self, frame: tuple[float, float, float, float], found: list[Series], unit: str, span: tuple[float, float]
    ) -> None:
        x, y, width, height = frame
        height -= 18 + self.legend(x, y + height, width, found)
        x, width = x + 70, width - 70
        top = nice(max((value for one in found for _, value in one.points), default=0) or 1)
        for step in range(3):
            line = y + height - height * step / 2
            self.shapes.append(f'<path d="M{x:g} {line:g}h{width:g}" class="grid"/>')
            self.text(x - 6, line + 4, amount(top * step / 2, unit), "small", "end")
        begin, end = span
        for seconds in range(0, int(end - begin) - 15, 30):
            self.text(x + width * seconds / (end - begin), y + height + 16, clock(seconds), "small", "middle")
        for number, one in enumerate(found):
            place = [(x + width * (at - begin) / (end - begin), y + height * (1 - v / top)) for at, v in one.points]
            way = " ".join(
                f"{'M' if not index or at[0] - place[index - 1][0] > 2 * width / (end - begin) else 'L'}{at[0]:.1f} "
                f"{at[1]:.1f}"
                for index, at in enumerate(place)
            )
            self.shapes.append(f'<path d="{way}" class="series l{number % len(LINES_LIGHT)}"/>')

    def legend(self, x: float, y: float, width: float, found: list[Series]) -> float:
        """Draw the names from the bottom upwards; return how high they stand."""
        rows: list[list[tuple[int, str]]] = [[]]
        used = 0.0
        for number, one in enumerate(found):
            wide = (len(one.name) + 4) * SMALL
            if used + wide > width and rows[-1]:
                rows.append([])
                used = 0
            rows[-1].append((number, one.name))
            used += wide
        for line, row in enumerate(rows):
            at = x
            for number, name in row:
                below = y - LEGEND_LINE * (len(rows) - 1 - line)
                self.text(at, below, "▬", f"t{number % len(LINES_LIGHT)}")
                self.text(at + 2 * SMALL, below, name, "small")
                at += (len(name) + 4) * SMALL
        return LEGEND_LINE * len(rows)


def nice(value: float) -> float:
    """The next round number."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * 0.999)


def clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"


def svg(drawing: Drawing) -> str:
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels())
    width, height = 24 * COLUMN, rows * ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'{head} role="img">',
            "<title>The dashboard, two minutes of a daemon at work</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" class="paper"/>',
            *drawing.shapes,
            "</svg>",
            "",
        ]
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        play = Play(Path(place))
        with play.running(PROGRAM):
            play.load()
            span = (play.began, time.time())
            drawing = Drawing()
            for panel in panels():
                drawing.panel(panel, play.series(panel), span)
    (DOCS / "dashboard.svg").write_text(svg(drawing), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
