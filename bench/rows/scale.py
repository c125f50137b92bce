"""Scale: a million directories, a million waiting tasks, a thousand rules, a hundred schedulers, 100,000 files at once.

These rows need root (the limits of inotify are raised and put back), memory and minutes: `--scale`.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from measure.bench import Bench, percentile, wait_until
from measure.process import Program
from measure.row import LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs, files, intake, jobs, shell
from rows.latency import GAP_US, latencies_us

# A tree of WIDTH directories with INNER in each.
MILLION = (1000, 1000)
CURVE = {"1k": (10, 99), "10k": (100, 99), "100k": (1000, 99), "1m": MILLION}
WATCHES_MAX = 1_200_000
ROOTS = {"1k": 1000, "8k": 8000, "64k": 64_000}
SMALL = 50_000
CHURN_DIRECTORIES = 10_000
DROPPED = 100_000
RULES = 1000
SCHEDULERS = 100


def _count(shape: tuple[int, int]) -> int:
    """Directories of a tree, its root among them."""
    width, inner = shape
    return width * (inner + 1) + 1


@contextlib.contextmanager
def _tree(bench: Bench, root: Path, shape: tuple[int, int]) -> Iterator[Path]:
    """`root`/top is the root of a tree; `root` itself is what is watched."""
    top = root / "watched" / "top"
    top.mkdir(parents=True)
    bench.tool("tree", top, *shape)
    with bench.sysctl("max_user_watches", WATCHES_MAX):
        yield top


def _watching(bench: Bench, who: Contestant, top: Path, root: Path) -> Program:
    """Watches the tree; files whose name begins with p are moved to `root`/out, wherever they are."""
    if who.kind is Kind.LIMIT:
        return bench.limit("reader", top.parent, pipe_log=True)
    ready, out = root / "ready", root / "out"
    ready.mkdir()
    out.mkdir()
    rule = configs.rule("move", f"^{top.parent}/.*/(p[0-9]+)$", rf"{out}/\1")
    watch = configs.watch(top.parent, '{"IN_CLOSE_WRITE": sched}', rec=True, auto_add=True)
    config = configs.daemon([configs.rules("sched", rule)], [watch], ready)
    return bench.daemon(who, config, ready, pipe_log=True)


class Tree(Row):
    """The life of a large tree."""

    name = "scale-tree"
    title = "a tree of 1,000,000 directories"
    figures = (
        Figure("ready", "start to ready", "s"),
        Figure("watch", "memory per watch, the whole program shared out", "B"),
        Figure("latency", "file closed to file moved by a rule, median", "µs"),
        Figure("rename", "root renamed to first file moved under its new path", "ms"),
        Figure("churn", "CPU per directory made and removed", "µs"),
        Figure("teardown", "CPU per directory, tree removed", "µs"),
        Figure("left", "memory after the tree is gone", "MB"),
    )
    targets = (Target("watch", 64), Target("ready", 1.15, "limit"))

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            top = stack.enter_context(_tree(bench, root, MILLION))
            program = stack.enter_context(_watching(bench, who, top, root))
            sample = {"ready": program.ready_s}
            program.settle()
            if program.tree.watches() < _count(MILLION):
                raise Failed(f"{program.tree.watches()} watches, not {_count(MILLION)}")
            sample["watch"] = program.tree.pss_bytes() / _count(MILLION)
            if who.kind is Kind.OURS:
                sample |= self._live(bench, program, top, root)
            return sample

    @staticmethod
    def _live(bench: Bench, program: Program, top: Path, root: Path) -> Sample:
        out = root / "out"
        printed = bench.tool("probe", "file", top / "d500" / "e500", out, 300, GAP_US)
        sample = {"latency": percentile(latencies_us(printed), 0.5)}
        renamed = top.with_name("renamed")
        start = time.monotonic()
        os.rename(top, renamed)
        bench.tool("probe", "file", renamed / "d500" / "e500", out, 1, 0)
        sample["rename"] = (time.monotonic() - start) * 1e3
        program.settle()
        before = program.tree.cpu_us()
        _churn(renamed / "d1")
        program.settle()
        sample["churn"] = (program.tree.cpu_us() - before) / CHURN_DIRECTORIES
        before = program.tree.cpu_us()
        subprocess.run(["rm", "-rf", str(renamed)], check=True)
        program.settle()
        sample["teardown"] = (program.tree.cpu_us() - before) / _count(MILLION)
        sample["left"] = program.tree.pss_bytes() / 1e6
        return sample


def _churn(parent: Path) -> None:
    for index in range(CHURN_DIRECTORIES):
        path = parent / f"churn{index}"
        path.mkdir()
        path.rmdir()


class Curve(Row):
    """What one directory costs as the tree grows."""

    name = "scale-curve"
    title = "set-up of trees of 1,000 to 1,000,000 directories"
    figures = tuple(
        figure
        for key, shape in CURVE.items()
        for figure in (
            Figure(f"cpu_{key}", f"CPU per directory, {_count(shape):,} directories", "µs"),
            Figure(f"watch_{key}", f"memory per watch, {_count(shape):,} directories", "B"),
        )
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        empty = self._cost(bench, who, (0, 0))
        sample = {}
        for key, shape in CURVE.items():
            cpu_us, pss = self._cost(bench, who, shape)
            sample[f"cpu_{key}"] = (cpu_us - empty[0]) / _count(shape)
            sample[f"watch_{key}"] = (pss - empty[1]) / _count(shape)
        return sample

    def _cost(self, bench: Bench, who: Contestant, shape: tuple[int, int]) -> tuple[float, float]:
        """CPU time in µs and bytes. Small trees several times: there the start of the program is most of it."""
        costs = [self._cost_once(bench, who, shape) for _ in range(5 if _count(shape) < SMALL else 1)]
        return statistics.median(cpu_us for cpu_us, _ in costs), statistics.median(pss for _, pss in costs)

    @staticmethod
    def _cost_once(bench: Bench, who: Contestant, shape: tuple[int, int]) -> tuple[float, float]:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            top = stack.enter_context(_tree(bench, root, shape))
            program = stack.enter_context(_watching(bench, who, top, root))
            program.settle()
            if program.tree.watches() < _count(shape):
                raise Failed(f"{program.tree.watches()} watches, not {_count(shape)}")
            return program.tree.cpu_us(), program.tree.pss_bytes()


class ManyRoots(Row):
    """Paths that are watched one by one: the matches of a pattern, or a watch each."""

    name = "scale-roots"
    title = "set-up of 1,000 to 64,000 watched paths"
    figures = tuple(
        Figure(f"{kind}_{key}", f"CPU per path, {count:,} {what}", "µs")
        for kind, what in (("matches", "matches of a pattern"), ("watches", "watches"))
        for key, count in ROOTS.items()
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return {
            f"{kind}_{key}": (self._cpu_us(bench, who, kind, count) - self._cpu_us(bench, who, kind, 0)) / count
            for kind in ("matches", "watches")
            for key, count in ROOTS.items()
        }

    @staticmethod
    def _cpu_us(bench: Bench, who: Contestant, kind: str, count: int) -> float:
        with bench.scratch() as root, bench.sysctl("max_user_watches", WATCHES_MAX):
            top, ready = root / "top", root / "ready"
            top.mkdir()
            ready.mkdir()
            bench.tool("tree", top, count, 0)
            paths = sorted(top.iterdir()) if kind == "watches" else [top / "*"]
            watches = [configs.watch(path, '{"IN_CLOSE_WRITE": sched}') for path in paths]
            parts = [configs.rules("sched", configs.rule("delete", f"^{top}/end$"))]
            with bench.daemon(who, configs.daemon(parts, watches, ready), ready, pipe_log=True) as program:
                program.settle()
                if program.tree.watches() < count:
                    raise Failed(f"{program.tree.watches()} watches, not {count}")
                return program.tree.cpu_us()


class MillionTasks(Row):
    """Waiting tasks."""

    name = "scale-waiting"
    title = "1,000,000 waiting tasks"
    figures = jobs.Waiting.figures
    targets = jobs.Waiting.targets

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return jobs.waiting_tasks(bench, who, 1_000_000)


class Routing(Row):
    """A storm that no rule matches, past very many rules or schedulers."""

    figures = (Figure("cpu", "CPU per event", "µs"),)
    # The original tries one rule after the other: some milliseconds an event.
    FILES: ClassVar[dict[Kind, int]] = {Kind.OURS: 50_000, Kind.ORIGINAL: 500}

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, ORIGINAL]

    def parts(self, source: Path) -> tuple[list[str], str]:
        """The configuration's schedulers, and the expression that stands in the event map."""
        raise NotImplementedError

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        count = self.FILES[who.kind]
        with bench.scratch() as root, bench.sysctl("max_queued_events", intake.QUEUE_MAX):
            source, ready = root / "in", root / "ready"
            source.mkdir()
            ready.mkdir()
            parts, scheduler = self.parts(source)
            watch = configs.watch(source, configs.event_map(configs.ALL_EVENTS, scheduler))
            with bench.daemon(who, configs.daemon(parts, [watch], ready), ready) as program:
                program.settle()
                before = program.tree.cpu_us()
                bench.tool("storm", source, count, 0, 0)
                end = source / "end"
                end.write_text("")
                wait_until(lambda: not end.exists(), "the rule after the storm", program)
                program.settle()
                cpu_us = program.tree.cpu_us() - before
        return {"cpu": cpu_us / (count * intake.EVENTS_A_FILE)}


class ManyRules(Routing):
    """One scheduler."""

    name = "scale-rules"
    title = "1,000 rules in one scheduler, only the last one ever matches"

    def parts(self, source: Path) -> tuple[list[str], str]:
        rules = [
            configs.rule("move", rf"^{source}/kind{index}-(.*)\.dat$", r"/nowhere/\1") for index in range(RULES - 1)
        ]
        return [configs.rules("sched", *rules, configs.rule("delete", f"^{source}/end$"))], "sched"


class ManySchedulers(Routing):
    """One event for all."""

    name = "scale-schedulers"
    title = "100 schedulers on one event, only the last one ever matches"

    def parts(self, source: Path) -> tuple[list[str], str]:
        parts = [
            configs.rules(f"sched{index}", configs.rule("move", rf"^{source}/kind{index}-(.*)$", r"/nowhere/\1"))
            for index in range(SCHEDULERS - 1)
        ]
        parts.append(configs.rules("last", configs.rule("delete", f"^{source}/end$")))
        names = ", ".join([*(f"sched{index}" for index in range(SCHEDULERS - 1)), "last"])
        return parts, f"[{names}]"


class DropFiles(Row):
    """100,000 files at once through a file rule."""

    figures = files.Small.figures
    action: ClassVar[str]

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return files.drop_files(bench, who, self.action, DROPPED, burst=DROPPED)


class DropMove(DropFiles):
    """Moved."""

    name = "scale-drop-move"
    title = "100,000 files dropped at once, moved by a rule"
    action = "move"


class DropCopy(DropFiles):
    """Copied."""

    name = "scale-drop-copy"
    title = "100,000 files dropped at once, copied by a rule"
    action = "copy"


class DropShell(Row):
    """100,000 files at once through a command each."""

    name = "scale-drop-shell"
    title = "100,000 files dropped at once, a shell command each"
    figures = shell.Shell.figures

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return shell.run_commands(bench, who, bench.size(DROPPED, DROPPED // 10))


class DropJob(Row):
    """100,000 files at once through a Python job each."""

    name = "scale-drop-job"
    title = "100,000 files dropped at once, a custom job each"
    figures = jobs.Sustained.figures

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return jobs.sustained(bench, who, DROPPED, burst=DROPPED)


ROWS: list[Row] = [
    Tree(),
    Curve(),
    ManyRoots(),
    MillionTasks(),
    ManyRules(),
    ManySchedulers(),
    DropMove(),
    DropCopy(),
    DropShell(),
    DropJob(),
]
