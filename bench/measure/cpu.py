"""Accounts for a process tree: CPU time, memory, wake-ups, and its end.

A tree is a cgroup where one can be made (v2, or cpuacct of v1): exact to the nanosecond and complete, also for
children that are gone. Otherwise it is found through /proc: good to a clock tick (10 ms) a process, and a child that
its parent has not waited for when it is looked at is only found while its parent chain is whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# A killed process is gone after a few milliseconds; a hundred thousand of them take longer.
GONE_TIMEOUT_S = 30.0

_numbers = itertools.count()


def _group_parents() -> list[tuple[Path, bool]]:
    """Directories in which a group could be made, best first, and whether they are of version 2."""
    parents = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified = CGROUP_ROOT / "unified"
            root = unified if unified.is_dir() else CGROUP_ROOT
            parents.append((root / path.lstrip("/"), True))
        elif "cpuacct" in controllers.split(","):
            parents.insert(0, (CGROUP_ROOT / controllers / path.lstrip("/"), False))
    return parents


def _children() -> dict[int, list[int]]:
    """Parent -> children, of all processes."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    return children


def prefer(pid: int, nice: int) -> None:
    """Gives a process, and the scheduler's group of its session, a share of the processor like `nice` (sched(7),
    "The autogroup feature"). Needs privilege for a larger share."""
    os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


class Tree:
    """One process tree. Make it, start a program in it (see process.py), read it, close it."""

    def __init__(self) -> None:
        self._group: Path | None = None
        self._is_v2 = False
        self._root: int | None = None
        for parent, is_v2 in _group_parents():
            group = parent / f"pyinotifyd-bench-{os.getpid()}-{next(_numbers)}"
            try:
                group.mkdir()
            except OSError:
                continue
            self._group, self._is_v2 = group, is_v2
            return

    @property
    def procs_file(self) -> str:
        """What a program writes its pid to in order to join; `-` if there is nothing to join."""
        return str(self._group / "cgroup.procs") if self._group else "-"

    @property
    def how(self) -> str:
        """How the figures are taken, for the report."""
        if self._group is None:
            return "/proc/PID/stat, in clock ticks"
        return "cgroup v2 cpu.stat" if self._is_v2 else "cgroup v1 cpuacct"

    def set_root(self, pid: int) -> None:
        """The process with which the tree began."""
        self._root = pid

    def pids(self) -> list[int]:
        """All living processes of the tree."""
        if self._group is not None:
            return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]
        children = _children()
        found, todo = [], [self._root] if self._root else []
        while todo:
            pid = todo.pop()
            if Path(f"/proc/{pid}").exists():
                found.append(pid)
                todo += children.get(pid, [])
        return found

    def cpu_us(self) -> float:
        """User and system time so far, in microseconds, of the living and the dead."""
        if self._group is None:
            return sum(self._ticks(pid) for pid in self.pids()) / TICKS_A_SECOND * 1e6
        if not self._is_v2:
            return int((self._group / "cpuacct.usage").read_text()) / 1e3
        fields = dict(line.split() for line in (self._group / "cpu.stat").read_text().splitlines())
        return float(fields["usage_usec"])

    @staticmethod
    def _ticks(pid: int) -> int:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return sum(int(value) for value in fields[11:15])

    def pss_bytes(self) -> float:
        """Proportional set size: what is shared counts by its share."""
        return self._sum("smaps_rollup", "Pss:") * 1024

    def private_bytes(self) -> float:
        """What only these processes have and have written to: the memory that they cost."""
        return self._sum("smaps_rollup", "Private_Dirty:") * 1024

    def resident_bytes(self) -> float:
        """Resident set size, files of the program included."""
        return self._sum("smaps_rollup", "Rss:") * 1024

    def peak_bytes(self) -> float:
        """The largest resident set that each living process ever had."""
        return self._sum("status", "VmHWM:") * 1024

    def wakeups(self) -> int:
        """Context switches of all threads so far: how often one was woken, or stopped."""
        total = 0
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                for line in (thread / "status").read_text().splitlines():
                    if "voluntary_ctxt_switches:" in line:
                        total += int(line.split()[1])
        return total

    def watches(self) -> int:
        """Inotify watches of all processes."""
        total = 0
        for pid in self.pids():
            for info in Path(f"/proc/{pid}/fdinfo").iterdir():
                with contextlib.suppress(OSError):
                    total += sum(line.startswith("inotify ") for line in info.read_text().splitlines())
        return total

    def _sum(self, file: str, key: str) -> int:
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(key))
        return total

    def close(self) -> None:
        """Kills what is left and removes the group."""
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes that cannot be killed: {pids}")
            time.sleep(0.005)
            self._reap()
        if self._group is not None:
            self._group.rmdir()
            self._group = None

    def _reap(self) -> None:
        """Waits for our own child, which otherwise stays in the group as a zombie."""
        if self._root is not None:
            try:
                os.waitpid(self._root, os.WNOHANG)
            except ChildProcessError:
                pass
