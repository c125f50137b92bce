"""Says on what was measured, so that a table can be judged later."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from measure.build import REPOSITORY, Tools
from measure.cpu import Tree

SYSCTLS = ["max_queued_events", "max_user_watches", "max_user_instances"]


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    except OSError:
        return "unknown"
    return (done.stdout or done.stderr).strip().split("\n")[0] or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _filesystem(path: Path) -> str:
    return _first_line(["stat", "-f", "-c", "%T", str(path)])


def describe(tools: Tools, memory_dir: Path, disk_dir: Path) -> dict[str, str]:
    """Machine, kernel, versions, in the order in which they are shown."""
    tree = Tree()
    how = tree.how
    tree.close()
    commit = _first_line(["git", "describe", "--always", "--dirty"])
    facts = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "processor": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "work directory": _filesystem(memory_dir),
        "disk directory": _filesystem(disk_dir),
        "CPU time": how,
        "load before": f"{os.getloadavg()[0]:.2f} (1 min)",
        "python": _first_line([str(tools.python), "--version"]),
        "cc": _first_line(["cc", "--version"]),
    }
    if tools.ours:
        facts["ours"] = _first_line([str(tools.ours), "--version"])
    if tools.original:
        facts["original"] = _first_line([str(tools.original), "--version"])
    if tools.python_eager:
        facts["python 3.12+"] = _first_line([str(tools.python_eager), "--version"])
    for name in SYSCTLS:
        facts[f"fs.inotify.{name}"] = Path(f"/proc/sys/fs/inotify/{name}").read_text().strip()
    return facts
