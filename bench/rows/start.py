"""Start and idleness: start to ready, memory, wake-ups."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from measure.bench import READY, Bench
from measure.process import Program
from measure.row import LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs

PYTHON_PASS = Contestant("python3 -c pass", Kind.OTHER)
OURS_JOB = Contestant("ours, job", Kind.OURS)
OURS_WATCH = Contestant("ours, watch", Kind.OURS)
OURS_STATE = Contestant("ours, state", Kind.OURS)
# A state's first checkpoint is written 3 s after the start, threads of workers that the start needed end after 10 s.
AT_REST_S = 11
ORIGINAL_JOB = Contestant("original, job", Kind.ORIGINAL)

JOB = """
async def job(event, task_id):
    pass
sched = TaskScheduler(job=job)
"""


def start_minimal(bench: Bench, who: Contestant, root: Path) -> Program:
    """One watch with one rule, or one custom job, or a command line."""
    if who.kind is Kind.LIMIT:
        return bench.limit("reader", root, pipe_log=True)
    if who == OURS_WATCH:
        return bench.start([str(bench.tools.ours), "watch", str(root)], f"{READY} '{root}'", pipe_log=True)
    has_job = who in (OURS_JOB, ORIGINAL_JOB)
    state = f", state={str(root / 'state')!r}" if who == OURS_STATE else ""
    part = JOB if has_job else configs.rules("sched", configs.rule("delete", f"^{root}/end$"))
    config = "\n".join(
        [
            part,
            f"pyinotifyd = Pyinotifyd(shutdown_timeout=1{state})",
            configs.watch(root, '{"IN_CLOSE_WRITE": sched}'),
        ]
    )
    return bench.daemon(who, config, root, pipe_log=True)


class Start(Row):
    """Start to ready with a minimal configuration."""

    name = "start"
    title = "start to ready, minimal config (without and with a custom job, and as a command line)"
    baseline = PYTHON_PASS.name
    figures = (
        Figure("ready", "start to ready", "ms"),
        Figure("cpu", "CPU", "ms"),
    )
    targets = (
        Target("ready", 1.5, PYTHON_PASS.name),
        Target("cpu", 1.5, PYTHON_PASS.name),
        Target("ready", 1.0, ORIGINAL_JOB.name, of=OURS_JOB.name),
        Target("ready", 5, of=OURS_WATCH.name),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, OURS_JOB, OURS_WATCH, LIMIT, PYTHON_PASS, ORIGINAL, ORIGINAL_JOB]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        samples = [self._once(bench, who) for _ in range(bench.size(10, 3))]
        return {key: statistics.median(sample[key] for sample in samples) for key in ("ready", "cpu")}

    @staticmethod
    def _once(bench: Bench, who: Contestant) -> Sample:
        if who is PYTHON_PASS:
            with bench.start([str(bench.tools.python), "-c", "pass"], None, pipe_log=True) as program:
                if program.wait_exit(60):
                    raise Failed(program.last_words())
                ready_s = (time.monotonic_ns() - program.started_ns) / 1e9
                return {"ready": ready_s * 1e3, "cpu": program.tree.cpu_us() / 1e3}
        with bench.scratch() as root, start_minimal(bench, who, root) as program:
            return {"ready": program.ready_s * 1e3, "cpu": program.tree.cpu_us() / 1e3}


class Idle(Row):
    """Nothing happens."""

    name = "idle"
    title = "idle (without and with a custom job, and with a state)"
    figures = (
        Figure("private", "private memory (Private_Dirty)", "MB"),
        Figure("rss", "resident memory", "MB"),
        Figure("wakeups", "wake-ups a second", "1/s"),
        Figure("cpu", "CPU a second", "µs"),
    )
    targets = (
        Target("private", 1),
        Target("private", 1.0, ORIGINAL_JOB.name, of=OURS_JOB.name),
        Target("private", 2.5, of=OURS_STATE.name),
        Target("wakeups", 0),
        Target("wakeups", 0, of=OURS_JOB.name),
        Target("wakeups", 0, of=OURS_STATE.name),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, OURS_JOB, OURS_STATE, LIMIT, ORIGINAL, ORIGINAL_JOB]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        seconds = bench.size(10, 1)
        with bench.scratch() as root, start_minimal(bench, who, root) as program:
            program.settle()
            time.sleep(AT_REST_S)
            tree = program.tree
            memory = {"private": tree.private_bytes() / 1e6, "rss": tree.resident_bytes() / 1e6}
            # Asking for the memory may have interrupted it.
            time.sleep(0.5)
            wakeups, cpu_us = tree.wakeups(), tree.cpu_us()
            time.sleep(seconds)
            return {
                **memory,
                "wakeups": (tree.wakeups() - wakeups) / seconds,
                "cpu": (tree.cpu_us() - cpu_us) / seconds,
            }


ROWS: list[Row] = [Start(), Idle()]
