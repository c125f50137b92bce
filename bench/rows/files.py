"""File rules: many small files copied and moved, one large file copied, and what else goes on meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from measure.bench import Bench, free_bytes, is_tmpfs, wait_until
from measure.process import Program
from measure.row import CP, LIMIT, ORIGINAL, OURS, Contestant, Failed, Figure, Kind, Row, Sample, Target, Unavailable
from rows import configs
from rows.latency import latencies_us

SMALL_BYTES = 4096
# Below the default queue, for a contestant that does not read while it works.
BURST = 5000
# Every so many a file's whole content is compared; the size of each is.
COMPARE_EVERY = 100
BLOCK_BYTES = 1 << 20
GAP_US = 5000
OURS_DURABLE = Contestant("ours, durable", Kind.OURS)


class Small(Row):
    """20,000 files of 4 KiB."""

    action: ClassVar[str]
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("cpu", "CPU per file", "µs"),
        Figure("rate", "files a second", "1/s", higher_is_better=True),
    )

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, LIMIT, *([CP] if self.action == "copy" else []), ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        return drop_files(bench, who, self.action, bench.size(20_000, 10_000), burst=BURST)


def drop_files(
    bench: Bench, who: Contestant, action: str, files: int, *, burst: int, place: Path | None = None
) -> Sample:
    """Moves so many files into a watched directory, and waits until all have been moved on or copied."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(bench.scratch(place))
        if who.kind is Kind.LIMIT:
            # It does not read while it works, so it needs a queue that takes a whole burst.
            stack.enter_context(bench.sysctl("max_queued_events", 2 * burst))
        made, source, target, ready = (root / name for name in ("made", "in", "out", "ready"))
        for path in (made, source, target, ready):
            path.mkdir()
        bench.tool("files", "make", made, "f", 0, files, SMALL_BYTES)
        _warm(root, 2 * files * SMALL_BYTES)
        if who.kind is Kind.OTHER:
            return _cp_all(bench, made, target, files)
        with _start(bench, who, action, source, target, ready) as program:
            program.settle()
            before, elapsed = program.tree.cpu_us(), 0.0
            for first in range(0, files, burst):
                start = time.monotonic()
                count = min(burst, files - first)
                bench.tool("files", "move", made, "f", first, count, source)
                last = target / f"f{first + count - 1}"
                wait_until(last.exists, f"the last {action}", program)
                elapsed += time.monotonic() - start
                program.settle()
            cpu_us = program.tree.cpu_us() - before
            _check(program, source, target, files, moved=action == "move")
    return {"cpu": cpu_us / files, "rate": files / elapsed}


def _cp_all(bench: Bench, made: Path, target: Path, files: int) -> Sample:
    start = time.monotonic()
    with bench.start(["cp", "-r", f"{made}/.", str(target)], None) as program:
        if program.wait_exit(600):
            raise Failed(program.last_words())
        elapsed, cpu_us = time.monotonic() - start, program.tree.cpu_us()
        _check(program, made, target, files, moved=False)
    return {"cpu": cpu_us / files, "rate": files / elapsed}


def _start(bench: Bench, who: Contestant, action: str, source: Path, target: Path, ready: Path) -> Program:
    if who.kind is Kind.LIMIT:
        return bench.limit("mover", action, source, target)
    rule = configs.rule(action, f"^{source}/(.*)$", rf"{target}/\1", durable=who == OURS_DURABLE)
    parts = [configs.rules("sched", rule)]
    watch = configs.watch(source, '{"IN_MOVED_TO": sched}')
    return bench.daemon(who, configs.daemon(parts, [watch], ready), ready)


def _check(program: Program, source: Path, target: Path, files: int, *, moved: bool) -> None:
    """Everything is there, whole, and nothing besides."""
    names = os.listdir(target)
    if len(names) != files:
        raise Failed(f"{len(names)} of {files} files arrived: {program.last_words()}")
    if len(os.listdir(source)) != (0 if moved else files):
        raise Failed("the source does not hold what it should")
    for index in range(files):
        path = target / f"f{index}"
        if path.stat().st_size != SMALL_BYTES:
            raise Failed(f"{path} has {path.stat().st_size} bytes")
        if index % COMPARE_EVERY == 0 and path.read_text() != f"f{index}\n".ljust(SMALL_BYTES, "."):
            raise Failed(f"{path} has the wrong content")


class SmallCopies(Small):
    """Copies."""

    name = "files-copy"
    title = "files of 4 KiB copied by a rule"
    action = "copy"
    targets = (Target("cpu", 1.5, "limit"),)


class SmallMoves(Small):
    """Moves within one filesystem."""

    name = "files-move"
    title = "files of 4 KiB moved by a rule"
    action = "move"
    targets = (Target("cpu", 1.5, "limit"),)


class DurableCopies(Row):
    """What it costs that a copy is on the disk before it gets its name. The disk decides about the time."""

    name = "files-durable"
    title = "files of 4 KiB copied by a rule on a disk, without and with durable=True"
    figures = Small.figures

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, OURS_DURABLE, LIMIT]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        if is_tmpfs(bench.disk_dir):
            raise Unavailable(f"{bench.disk_dir} is in memory (see --disk-dir)")
        files = bench.size(5000, 500)
        return drop_files(bench, who, "copy", files, burst=BURST, place=bench.disk_dir)


class Large(Row):
    """One large copy, and small moves meanwhile by the same scheduler."""

    baseline = CP.name
    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("time", "file dropped to copy complete", "s"),
        Figure("cpu", "CPU", "s"),
        Figure("other", "other moves meanwhile, longest", "ms"),
    )
    targets: ClassVar[tuple[Target, ...]] = (
        Target("time", 1.05, "cp"),
        Target("cpu", 1.05, "cp"),
    )

    def place(self, bench: Bench) -> Path:
        """Where the file is copied."""
        raise NotImplementedError

    def contestants(self, bench: Bench) -> list[Contestant]:
        return [OURS, CP, ORIGINAL]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        size = bench.size(2048, 256) * BLOCK_BYTES
        place = self.place(bench)
        if free_bytes(place) < 3 * size:
            raise Unavailable(f"needs {3 * size // BLOCK_BYTES} MiB in {place}")
        with bench.scratch(place) as root:
            made = root / "big"
            _make_large(made, size)
            _warm(root, size + size // 4)
            if who.kind is Kind.OTHER:
                return self._cp(bench, made, root / "copy")
            return self._rule(bench, who, made, root)

    @staticmethod
    def _cp(bench: Bench, made: Path, copy: Path) -> Sample:
        with bench.start(["cp", str(made), str(copy)], None) as program:
            if program.wait_exit(600):
                raise Failed(program.last_words())
            elapsed = (time.monotonic_ns() - program.started_ns) / 1e9
            return {"time": elapsed, "cpu": program.tree.cpu_us() / 1e6}

    def _rule(self, bench: Bench, who: Contestant, made: Path, root: Path) -> Sample:
        source, target, ready = root / "in", root / "out", root / "ready"
        for path in (source, target, ready):
            path.mkdir()
        rules = configs.rules(
            "sched",
            configs.rule("copy", f"^{source}/big$", f"{target}/big"),
            configs.rule("move", f"^{source}/(p.*)$", rf"{target}/\1"),
        )
        info = 'setLoglevel(INFO, logname="sched")'
        watch = configs.watch(source, '{"IN_CLOSE_WRITE": sched, "IN_MOVED_TO": sched}')
        with bench.daemon(who, configs.daemon([rules, info], [watch], ready), ready) as program:
            longest_alone = self._longest_move(bench, source, target)
            before, start = program.tree.cpu_us(), time.monotonic()
            with bench.tool_beside("probe", "file", source, target, 0, GAP_US) as probe:
                os.rename(made, source / "big")
                wait_until(lambda: _task_finished(program, source / "big"), "the copy", program)
                elapsed = time.monotonic() - start
                probe.terminate()
                printed, _ = probe.communicate()
            program.settle()
            cpu_us = program.tree.cpu_us() - before
            _compare(source / "big", target / "big")
        longest = max(latencies_us(printed)) / 1000
        return {"time": elapsed, "cpu": cpu_us / 1e6, "other": longest, "alone": longest_alone}

    @staticmethod
    def _longest_move(bench: Bench, source: Path, target: Path) -> float:
        """Milliseconds of the slowest of some moves while nothing else happens."""
        return max(latencies_us(bench.tool("probe", "file", source, target, 100, GAP_US))) / 1000


def _warm(root: Path, size: int) -> None:
    """Uses and frees as much memory as is about to be used.

    A virtual machine pays for a page when it is first touched, several times the price of a copy: each contestant gets
    pages that were just in use.
    """
    _make_large(root / "memory", size)
    os.unlink(root / "memory")


def _make_large(path: Path, size: int) -> None:
    """No two blocks are alike, and none is empty."""
    block = bytearray(os.urandom(BLOCK_BYTES))
    with open(path, "wb", buffering=0) as out:
        for index in range(size // BLOCK_BYTES):
            block[:8] = index.to_bytes(8, "little")
            out.write(block)
        os.fsync(out.fileno())


def _task_finished(program: Program, path: Path) -> bool:
    return any("task finished" in line and f"path={path}," in line for line in program.log().splitlines())


def _compare(first: Path, second: Path) -> None:
    if subprocess.run(["cmp", str(first), str(second)], check=False).returncode:
        raise Failed("the copy differs from its source")


class LargeMemory(Large):
    """On tmpfs."""

    name = "large-tmpfs"
    title = "2 GiB copied by a rule, tmpfs"

    def place(self, bench: Bench) -> Path:
        return bench.memory_dir


class LargeDisk(Large):
    """On a disk."""

    name = "large-disk"
    title = "2 GiB copied by a rule, disk"

    def place(self, bench: Bench) -> Path:
        if is_tmpfs(bench.disk_dir):
            raise Unavailable(f"{bench.disk_dir} is in memory (see --disk-dir)")
        return bench.disk_dir


ROWS: list[Row] = [SmallCopies(), SmallMoves(), DurableCopies(), LargeMemory(), LargeDisk()]
