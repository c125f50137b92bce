"""Custom asyncio jobs: what a trivial one costs in bursts and alone, how many run a second; waiting tasks."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import ClassVar

from measure.bench import Bench, make_fifo, percentile, wait_until
from measure.build import BENCH
from measure.process import STALLED_S, Program
from measure.row import LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target
from rows import configs
from rows.latency import latencies_us

OURS_EAGER = "ours 3.12+"
LIMIT_EAGER = "limit 3.12+"
# Two events a file at most: with the default queue the original loses nothing.
BURST = 5000
GAP_US = 2000
# Until a file called END0 has had its job, all others have had theirs.
END = "END"
ASK_AGAIN_S = 0.02

TRIVIAL_JOB = """
import os
count = 0
fifo = os.open({fifo!r}, os.O_WRONLY)
async def job(event, task_id):
    global count
    count += 1
    if event.pathname.endswith("END0"):
        os.write(fifo, b"%d\\n" % count)
sched = TaskScheduler(job=job)
"""

ANSWERING_JOB = """
import os
fifo = os.open({fifo!r}, os.O_WRONLY)
async def job(event, task_id):
    os.write(fifo, b"x")
sched = TaskScheduler(job=job)
"""


class JobDaemon:
    """A daemon with one custom job for each file that is closed after writing, or moved in."""

    def __init__(self, bench: Bench, who: Contestant, root: Path, job: str) -> None:
        self._bench, self._who = bench, who
        self.made, self.source, self._ready, self.fifo = (root / name for name in ("made", "in", "ready", "fifo"))
        for path in (self.made, self.source, self._ready):
            path.mkdir()
        self._answers = make_fifo(self.fifo)
        self._job = job.format(fifo=str(self.fifo))
        # Jobs that should have run since the start.
        self.wanted = 0

    def make_files(self, directory: Path, count: int) -> None:
        """Files that exist before the daemon starts."""
        self._bench.tool("files", "make", directory, "f", 0, count, 1)
        self._bench.tool("files", "make", self.source, END, 0, 1, 1)

    def start(self) -> Program:
        """Until it is ready."""
        watch = configs.watch(self.source, '{"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched}')
        config = configs.daemon([self._job], [watch], self._ready)
        return self._bench.daemon(self._who, config, self._ready)

    def touch(self, program: Program, count: int) -> None:
        """Closes `count` files in the watched directory and waits until all jobs have run."""
        self._bench.tool("files", "touch", self.source, "f", 0, count)
        self._wait(program, count)

    def drop(self, program: Program, first: int, count: int) -> None:
        """Moves `count` files into the watched directory and waits until all jobs have run."""
        self._bench.tool("files", "move", self.made, "f", first, count, self.source)
        self._wait(program, count)

    def _wait(self, program: Program, count: int) -> None:
        """Asks how many jobs have run until all have. Jobs that the daemon had to look for after an overflow can come
        later than the question, so it may be asked again."""
        self.wanted += count
        missing, since = -1, time.monotonic()
        while missing:
            self._bench.tool("files", "touch", self.source, END, 0, 1)
            self.wanted += 1
            before, missing = missing, max(0, self.wanted - self._answer(program))
            if missing != before:
                since = time.monotonic()
            if missing and time.monotonic() - since > STALLED_S:
                raise Failed(f"{missing} jobs never ran: {program.last_words()}")
            time.sleep(ASK_AGAIN_S if missing else 0)

    def _answer(self, program: Program) -> int:
        answer = b""

        def answered() -> bool:
            nonlocal answer
            with contextlib.suppress(BlockingIOError):
                answer += os.read(self._answers, 100)
            return answer.endswith(b"\n")

        wait_until(answered, "the last job of a burst", program)
        return int(answer)

    def close(self) -> None:
        """Lets go of the pipe."""
        os.close(self._answers)


class Bursts(Row):
    """Many jobs at once."""

    name = "jobs-burst"
    title = "custom job, trivial, in bursts"
    figures = (Figure("cpu", "CPU per job", "µs"),)
    targets = (
        Target("cpu", 8),
        Target("cpu", 4, of=OURS_EAGER),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        eager = bench.tools.python_eager
        found = [OURS, LIMIT, ORIGINAL]
        if eager:
            found[1:1] = [Contestant(OURS_EAGER, Kind.OURS, eager)]
            found.insert(3, Contestant(LIMIT_EAGER, Kind.LIMIT, eager))
        return found

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        bursts = bench.size(20, 4)
        if who.kind is Kind.LIMIT:
            return {"cpu": _asyncio_limit_us(bench, who, bursts * BURST)}
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            daemon = stack.enter_context(contextlib.closing(JobDaemon(bench, who, root, TRIVIAL_JOB)))
            daemon.make_files(daemon.source, BURST)
            program = stack.enter_context(daemon.start())
            daemon.touch(program, BURST)  # The first one warms up.
            program.settle()
            before, done_before = program.tree.cpu_us(), daemon.wanted
            for _ in range(bursts):
                daemon.touch(program, BURST)
            program.settle()
            cpu_us = program.tree.cpu_us() - before
            return {"cpu": cpu_us / (daemon.wanted - done_before)}


def _asyncio_limit_us(bench: Bench, who: Contestant, jobs: int) -> float:
    """CPU per job of one asyncio task a job."""
    eager = who.python is not None
    argv = [str(who.python or bench.tools.python), str(BENCH / "limits" / "asyncio_tasks.py"), str(jobs)]
    output = bench.state_dir / "asyncio"
    with bench.start([*argv, "--eager"] if eager else argv, None, output=output) as program:
        if program.wait_exit(600):
            raise Failed(program.last_words())
    return float(output.read_text())


class Sustained(Row):
    """How many jobs a second, when there are always more."""

    name = "jobs-rate"
    title = "custom jobs, sustained"
    figures = (Figure("rate", "jobs a second", "1/s", higher_is_better=True),)
    targets = (Target("rate", 120_000),)

    def contestants(self, bench: Bench) -> list[Contestant]:
        eager = bench.tools.python_eager
        return [OURS, *([Contestant(OURS_EAGER, Kind.OURS, eager)] if eager else []), ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        if who.kind is Kind.ORIGINAL:
            return sustained(bench, who, bench.size(50_000, 25_000), burst=BURST)
        jobs = bench.size(200_000, 100_000)
        return sustained(bench, who, jobs, burst=jobs)


def sustained(bench: Bench, who: Contestant, jobs: int, *, burst: int) -> Sample:
    """Moves so many files in as fast as it goes, and waits for their jobs after each burst."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(bench.scratch())
        daemon = stack.enter_context(contextlib.closing(JobDaemon(bench, who, root, TRIVIAL_JOB)))
        daemon.make_files(daemon.made, jobs)
        program = stack.enter_context(daemon.start())
        start = time.monotonic()
        for first in range(0, jobs, burst):
            daemon.drop(program, first, min(burst, jobs - first))
        return {"rate": jobs / (time.monotonic() - start)}


class OneAtATime(Row):
    """A lone event: the way there and back."""

    name = "jobs-lone"
    title = "custom job, one event at a time"
    figures = (
        Figure("cpu", "CPU per job", "µs"),
        Figure("p50", "file closed to job run, median", "µs"),
    )
    targets = (
        Target("cpu", 1, "original"),
        Target("p50", 1, "original"),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        count = bench.size(1500, 400)
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            daemon = stack.enter_context(contextlib.closing(JobDaemon(bench, who, root, ANSWERING_JOB)))
            program = stack.enter_context(daemon.start())
            program.settle()
            before = program.tree.cpu_us()
            printed = bench.tool("probe", "byte", daemon.source, daemon.fifo, count, GAP_US)
            program.settle()
            cpu_us = program.tree.cpu_us() - before
        return {"cpu": cpu_us / count, "p50": percentile(latencies_us(printed), 0.5)}


class Reschedule(Row):
    """Events for tasks that already wait: their delay starts anew."""

    figures: ClassVar[tuple[Figure, ...]] = (Figure("cpu", "CPU per event", "µs"),)
    level: ClassVar[str]
    FILES = 1000
    BURST = 10_000
    DELAY_S = 3600

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        bursts = bench.size(20, 3)
        with bench.scratch() as root:
            source, ready = root / "in", root / "ready"
            source.mkdir()
            ready.mkdir()
            bench.tool("files", "make", source, "f", 0, self.FILES, 1)
            with self._start(bench, who, source, ready) as program:
                self._burst(bench, program, source)
                before = program.tree.cpu_us()
                for _ in range(bursts):
                    self._burst(bench, program, source)
                cpu_us = program.tree.cpu_us() - before
                if self.level == "INFO" and who.kind is not Kind.LIMIT:
                    self._check(program, bursts + 1)
        return {"cpu": cpu_us / (bursts * self.BURST)}

    def _start(self, bench: Bench, who: Contestant, source: Path, ready: Path) -> Program:
        if who.kind is Kind.LIMIT:
            return bench.limit("waiting", source)
        parts = [f'sched = ShellScheduler(cmd="true", delay={self.DELAY_S})']
        watch = configs.watch(source, '{"IN_MODIFY": sched}')
        return bench.daemon(who, configs.daemon(parts, [watch], ready, level=self.level), ready)

    def _burst(self, bench: Bench, program: Program, source: Path) -> None:
        bench.tool("files", "modify", source, "f", 0, self.FILES, self.BURST)
        program.settle()

    def _check(self, program: Program, bursts: int) -> None:
        """The log shows each re-schedule; each must have happened."""
        lines = len(re.findall("re-schedule task", program.log()))
        wanted = bursts * self.BURST - self.FILES
        if lines != wanted:
            raise Failed(f"{lines} of {wanted} events re-scheduled a task")


class RescheduleInfo(Reschedule):
    """With a line in the log for each."""

    name = "reschedule-info"
    title = "re-schedule storm, log at INFO"
    level = "INFO"
    targets = (Target("cpu", 2),)


class RescheduleError(Reschedule):
    """Without."""

    name = "reschedule-error"
    title = "re-schedule storm, log at ERROR"
    level = "ERROR"
    targets = (Target("cpu", 1),)


class Waiting(Row):
    """Many tasks that wait for the end of their delay."""

    name = "waiting"
    figures = (
        Figure("task", "memory per task", "B"),
        Figure("exit", "SIGTERM to exit, shutdown_timeout=1", "s"),
    )
    title = "200,000 waiting tasks"
    targets = (
        Target("task", 150),
        Target("exit", 1.05),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return waiting_tasks(bench, who, bench.size(200_000, 30_000))


def waiting_tasks(bench: Bench, who: Contestant, tasks: int) -> Sample:
    """Memory of so many waiting tasks with paths of some 45 bytes, and the time of a shutdown."""
    with bench.scratch() as root:
        source, ready, made = root / "in", root / "ready", root / "made"
        for path in (source, ready, made):
            path.mkdir()
        bench.tool("files", "make", made, "t", 100_000, tasks, 0)
        with _start_waiting(bench, who, source, ready, root / "seen") as program:
            program.settle()
            before = program.tree.pss_bytes()
            for first in range(0, tasks, BURST):
                bench.tool("files", "move", made, "t", 100_000 + first, min(BURST, tasks - first), source)
                if who.kind is Kind.ORIGINAL:
                    program.settle()
            program.settle()
            after = program.tree.pss_bytes()
            exit_s = program.terminate()
            _check_waiting(program, who, tasks, root / "seen")
    sample = {"task": (after - before) / tasks}
    return sample if who.kind is Kind.LIMIT else {**sample, "exit": exit_s}


def _start_waiting(bench: Bench, who: Contestant, source: Path, ready: Path, seen: Path) -> Program:
    if who.kind is Kind.LIMIT:
        return bench.limit("waiting", source, output=seen)
    parts = ['sched = ShellScheduler(cmd="true", delay=3600)']
    watch = configs.watch(source, '{"IN_MOVED_TO": sched}')
    return bench.daemon(who, configs.daemon(parts, [watch], ready, shutdown_timeout=1), ready)


def _check_waiting(program: Program, who: Contestant, tasks: int, seen: Path) -> None:
    """At the end of the timeout the daemons warn with the number of tasks that are left."""
    if who.kind is Kind.LIMIT:
        kept = int(seen.read_text().split()[0])
    else:
        found = re.search(r"cancel (\d+) remaining task", program.log())
        kept = int(found.group(1)) if found else 0
    if kept != tasks:
        raise Failed(f"{kept} of {tasks} tasks were waiting: {program.last_words()}")


ROWS: list[Row] = [
    Bursts(),
    Sustained(),
    OneAtATime(),
    RescheduleInfo(),
    RescheduleError(),
    Waiting(),
]
