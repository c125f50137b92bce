"""What a state costs: tasks that are kept, and tasks that come back."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import statistics
from pathlib import Path

from measure.bench import READY, Bench, wait_until
from measure.process import Program
from measure.row import OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs
from rows.intake import QUEUE_MAX
from rows.jobs import Reschedule

OURS_STATE = Contestant("ours, state", Kind.OURS)
# Files that are moved in at once, far below the queue's length.
GUST = 10_000


def _kept(state: Path) -> int:
    """How many tasks the database has."""
    with contextlib.closing(sqlite3.connect(f"file:{state}/state.db?mode=ro", uri=True, timeout=60)) as database:
        count: int = database.execute("SELECT count(*) FROM task").fetchone()[0]
    return count


class StateStorm(Reschedule):
    """The storm of events for tasks that already wait, without and with a state."""

    name = "state-storm"
    title = "re-schedule storm, log at ERROR (without and with a state)"
    level = "ERROR"
    baseline = OURS.name
    # A storm, and no row of short gusts: what has changed is written ten times a second, however often it has.
    BURST = 200_000
    targets = (Target("cpu", 1.3, OURS.name, of=OURS_STATE.name),)

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, OURS_STATE]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        with bench.scratch(bench.disk_dir) as disk, bench.sysctl("max_queued_events", QUEUE_MAX):
            self._state = disk / "state"
            return super().measure(bench, who)

    def _start(self, bench: Bench, who: Contestant, source: Path, ready: Path) -> Program:
        parts = [f'sched = ShellScheduler(cmd="true", delay={self.DELAY_S})']
        watch = configs.watch(source, '{"IN_MODIFY": sched}')
        state = self._state if who is OURS_STATE else None
        config = configs.daemon(parts, [watch], ready, level=self.level, state=state)
        return bench.daemon(who, config, ready)


class StateRestart(Row):
    """Many waiting tasks are kept, and are there again after a restart."""

    name = "state-restart"
    title = "200,000 waiting tasks over a restart (without tasks, and with)"
    TASKS = (200_000, 30_000)
    baseline = OURS.name
    figures = (
        Figure("keep", "CPU per task: seen, scheduled and kept", "µs"),
        Figure("ready", "start to ready after the restart", "ms"),
        Figure("cpu", "CPU until then", "ms"),
        Figure("task", "memory per task after the restart", "B"),
    )
    targets = (Target("ready", 1000, of=OURS_STATE.name),)

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, OURS_STATE]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        tasks = bench.size(*self.TASKS) if who is OURS_STATE else 0
        with bench.scratch() as root, bench.scratch(bench.disk_dir) as disk:
            source, ready, made, state = root / "in", root / "ready", root / "made", disk / "state"
            for path in (source, ready, made):
                path.mkdir()
            parts = ['sched = ShellScheduler(cmd="true", delay=36000)']
            watch = configs.watch(source, '{"IN_MOVED_TO": sched}')
            config = configs.daemon(parts, [watch], ready, state=state)
            sample = self._fill(bench, who, config, ready, (made, source, state, tasks)) if tasks else {}
            values = [self._restart(bench, who, config, ready, tasks) for _ in range(bench.size(5, 1))]
        for key in values[0]:
            sample[key] = statistics.median(value[key] for value in values)
        return sample

    @staticmethod
    def _fill(bench: Bench, who: Contestant, config: str, ready: Path, work: tuple[Path, Path, Path, int]) -> Sample:
        made, source, state, tasks = work
        bench.tool("files", "make", made, "t", 100_000, tasks, 0)
        with bench.daemon(who, config, ready) as program:
            program.settle()
            before = program.tree.cpu_us()
            for first in range(0, tasks, GUST):
                bench.tool("files", "move", made, "t", 100_000 + first, min(GUST, tasks - first), source)
                program.settle()
            wait_until(lambda: _kept(state) == tasks, f"{tasks} tasks in the database", program)
            cpu_us = program.tree.cpu_us() - before
            program.terminate()
        return {"keep": cpu_us / tasks}

    @staticmethod
    def _restart(bench: Bench, who: Contestant, config: str, ready: Path, tasks: int) -> Sample:
        argv = bench.daemon_argv(who, config)
        with bench.start(argv, f"{READY} '{ready}'") as program:
            sample = {"ready": program.ready_s * 1e3, "cpu": program.tree.cpu_us() / 1e3}
            program.settle()
            if tasks:
                sample["task"] = program.tree.pss_bytes() / tasks
                program.terminate()
                found = re.search(r"tasks of the earlier daemon: (\d+) go on", program.log())
                if found is None or int(found.group(1)) != tasks:
                    raise Failed(f"not all of {tasks} tasks came back: {program.last_words()}")
        return sample


class StateMillion(StateRestart):
    """The same with a million tasks."""

    name = "state-million"
    title = "1,000,000 waiting tasks over a restart (without tasks, and with)"
    TASKS = (1_000_000, 30_000)
    targets = ()


ROWS: list[Row] = [StateStorm(), StateRestart(), StateMillion()]
