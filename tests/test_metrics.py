"""Metrics: their formats, whether they add up with what was done, and what ships with them for Prometheus."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from control import Operator
from vocabulary import PROJECT, Box, Daemon, need, wait_until, write

pytestmark = pytest.mark.skipif(bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE")), reason="the original has none")

Run = Callable[..., Daemon]

SHIPPED = PROJECT / "packaging/prometheus"
PAGE = PROJECT / "docs/api.md"

CONFIG = """
copy = FileManagerScheduler([FileManagerRule("copy", r"^$SRC/(.*\\.txt)$", r"$DST/\\1")])
fail = ShellScheduler("exit 1 # {pathname}")
later = ShellScheduler("true # {pathname}", delay=3600)
pyinotifyd = Pyinotifyd([
    Watch("$SRC", {"IN_CLOSE_WRITE": copy, "IN_ATTRIB": fail, "IN_CREATE": later}, exclude_filter=[r".*\\.tmp$"])
], shutdown_timeout=0)
"""

# The names of the specification.
NAMES = [
    "build_info",
    "start_time_seconds",
    "ready",
    "events_total",
    "synthetic_events_total",
    "overflows_total",
    "excluded_total",
    "watches",
    "watch_roots",
    "tasks",
    "task_ends_total",
    "task_attempts_total",
    "task_duration_seconds",
    "task_delay_seconds",
    "files_bytes_total",
    "event_lag_seconds",
    "config_reloads_total",
    "config_last_reload_success_timestamp_seconds",
    "host_restarts_total",
    "log_lines_dropped_total",
    "state_degraded",
    "state_commit_seconds",
]


@pytest.fixture
def operator(run: Run, box: Box) -> Operator:
    """A daemon that has copied three files, and failed at one."""
    run(CONFIG, "--control", box.tmp / "c.sock", "--state", box.tmp / "state")
    operator = Operator(box.tmp / "c.sock")
    for name in ("a.txt", "b.txt", "c.txt"):
        write(box.src / name, "12345")
    write(box.src / "d.tmp")
    os.chmod(box.src / "a.txt", 0o600)
    operator.wait_scheduler("copy", done=3)
    operator.wait_scheduler("fail", failed=1)
    return operator


def test_metrics_add_up_with_what_was_done(operator: Operator) -> None:
    metrics = operator.metrics()

    def value(name: str) -> float:
        return metrics[f"pyinotifyd_{name}"]

    assert value('events_total{event="IN_CLOSE_WRITE"}') == 4
    assert value('events_total{event="IN_ATTRIB"}') == 1
    assert value("excluded_total") == 2
    assert value('task_ends_total{scheduler="copy",result="ok"}') == 3
    assert value('task_ends_total{scheduler="fail",result="failed"}') == 1
    assert value('task_attempts_total{scheduler="copy"}') == 3
    assert value('task_duration_seconds_count{scheduler="copy"}') == 3
    assert value('task_delay_seconds_count{scheduler="copy"}') == 3
    assert value('files_bytes_total{scheduler="copy",action="copy"}') == 15
    assert value('tasks{scheduler="later",state="waiting"}') == 3
    assert value('watches{backend="inotify"}') == 1
    assert value('watch_roots{state="watching"}') == 1
    assert (value("ready"), value("state_degraded"), value("overflows_total")) == (1, 0, 0)
    totals = operator.get("/v1/status")["totals"]
    assert (
        sum(count for name, count in metrics.items() if 'state="waiting"' in name and "tasks" in name)
        == totals["waiting"]
    )
    ends = [
        count for name, count in metrics.items() if name.startswith("pyinotifyd_task_ends_total") and '"ok"' in name
    ]
    assert sum(ends) == totals["done"]


def test_the_text_format_is_what_promtool_wants(operator: Operator) -> None:
    need("promtool")
    text = operator.get("/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_all_names_of_the_specification_are_there(operator: Operator) -> None:
    families = set(re.findall(r"^# TYPE pyinotifyd_(\w+) ", operator.get("/metrics"), re.M))
    assert set(NAMES) <= families


def test_the_page_has_each_metric_with_its_labels(operator: Operator) -> None:
    text = operator.get("/metrics")
    [table] = re.findall(r"^\| metric, .*\n\|---.*\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    rows = re.findall(r"^\| `(\w+)(?:\{(.*)\})?` \| (.*) \|$", table, re.M)
    assert {name: said for name, _, said in rows} == dict(re.findall(r"^# HELP pyinotifyd_(\w+) (.*)$", text, re.M))
    for name, labels, _ in rows:
        samples = re.findall(rf"^pyinotifyd_{name}(?:_count)?(?: |\{{(.*)\}} )", text, re.M)
        found = {label for sample in samples for label in re.findall(r'(\w+)="', sample)}
        assert set(labels.split(", ") if labels else []) == found, name


def test_openmetrics_are_served_where_they_are_asked_for(operator: Operator) -> None:
    text = operator.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    lines = text.splitlines()
    assert lines[-1] == "# EOF"
    assert "# TYPE pyinotifyd_events counter" in lines
    assert "# TYPE pyinotifyd_build info" in lines
    counters = set(re.findall(r"^# TYPE (\w+) counter$", text, re.M))
    samples = {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")}
    assert all(f"{counter}_total" in samples or counter == "pyinotifyd_files_bytes" for counter in counters)


def test_an_address_serves_metrics_and_health_and_nothing_else(run: Run, box: Box) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = CONFIG.replace("shutdown_timeout=0", f'shutdown_timeout=0, metrics="127.0.0.1:{port}"')
    run(config, "--control", box.tmp / "c.sock")

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    wait_until(lambda: get("/healthz") == (200, "ok\n"), "a healthy daemon")
    assert get("/metrics")[1].startswith("# HELP pyinotifyd_build_info")
    # A proxy or a monitor that asks for the head alone gets it.
    for path, media_type in (("/healthz", "text/plain; charset=utf-8"), ("/metrics", "text/plain; version=0.0.4")):
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", method="HEAD")) as head:
            assert (head.status, head.read()) == (200, b"")
            assert head.headers["Content-Type"].startswith(media_type)
    for path in ("/v1/status", "/v1/tasks", "/v1/failed", "/v1/pause", "/"):
        assert get(path)[0] == 404


def used_names(text: str) -> set[str]:
    return set(re.findall(r"pyinotifyd_[a-z_]+", text))


@pytest.mark.parametrize("file", ["alerts.yml", "grafana-dashboard.json"])
def test_what_ships_asks_for_metrics_that_there_are(operator: Operator, file: str) -> None:
    text = operator.get("/metrics")
    there = {name.partition("{")[0].partition(" ")[0] for name in text.splitlines() if not name.startswith("#")}
    there |= set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    used = used_names((SHIPPED / file).read_text())
    assert used
    assert used <= there


def test_alerts_are_valid_and_fire_when_they_should() -> None:
    need("promtool")
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=SHIPPED, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"- alert: (\w+)", (SHIPPED / "alerts.yml").read_text()))
    tested = re.findall(r"alertname: (\w+)", (SHIPPED / "alerts_test.yml").read_text())
    assert alerts == set(tested)
    assert all(tested.count(alert) == 2 for alert in alerts)


def test_each_panel_of_the_dashboard_shows_something(box: Box) -> None:
    """What docs/dashboard.py draws, as soon as there is something in each panel."""
    need("prometheus")
    sys.path.insert(0, os.fspath(PROJECT / "docs"))
    import dashboard

    play = dashboard.Play(box.tmp)
    with play.running(box.program):

        def empty() -> list[str]:
            play.drop()
            found = {panel["title"]: play.series(panel) for panel in dashboard.panels()}
            return [title for title, series in found.items() if not any(one.points for one in series)]

        wait_until(lambda: not empty(), lambda: f"data in {empty()}")
        for panel in dashboard.panels():
            if panel["type"] == "stat":
                assert len(play.series(panel)) == 1, panel["title"]


def test_the_dashboard_is_a_whole_one() -> None:
    board = json.loads(Path(SHIPPED / "grafana-dashboard.json").read_text())
    assert board["uid"] == "pyinotifyd"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["targets"], panel["title"]
        assert all(target["expr"] for target in panel["targets"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)\}?", json.dumps(panels))) <= names | {"__rate_interval"}
