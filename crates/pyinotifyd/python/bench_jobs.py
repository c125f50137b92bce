"""Measures what a custom job costs in the host: ``python3 bench_jobs.py [--python PYTHON] [--jobs N]``.

Plays the daemon: starts trivial jobs in bursts, at most 1024 not yet begun, and divides the CPU time of the host by
their number; then one at a time, for the latency. Prints one line for each kind of job.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
LOAD, START, STOP, SOURCE = 2, 3, 6, 7
HOST_HELLO, DESCRIBE, DONE, TAKEN = 65, 66, 69, 73
UNTAKEN_MAX = 1024
BURST = 256

JOBS = {
    "does nothing": "async def job(event, task_id): pass",
    "reads the path": "async def job(event, task_id): event.pathname",
    "awaits once": "import asyncio\nasync def job(event, task_id): await asyncio.sleep(0)",
    "logs": "import logging\nasync def job(event, task_id): logging.info('%s', task_id)",
}


class Host:
    """A host with one job, and the daemon's end of its socket."""

    def __init__(self, python: str, job: str, directory: str) -> None:
        """Start it, and wait until it has described its config."""
        config = Path(directory, "config.py")
        config.write_text(f"{job}\npyinotifyd = Pyinotifyd()\npyinotifyd.add_watch('/', {{'IN_CREATE': job}})\n")
        self.sock, theirs = socket.socketpair()
        lifeline, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            [python, "-m", "pyinotifyd.host", str(theirs.fileno()), str(lifeline)],
            pass_fds=[theirs.fileno(), lifeline],
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )
        theirs.close()
        os.close(lifeline)
        self.buffer = b""
        self.send(1, b'{"protocol": 4, "version": "2.0.0"}')
        self.send(SOURCE, config.read_bytes())
        self.send(LOAD, b'{"configs": ["%s"], "debug": false, "levels": {"": 20}}' % os.fsencode(config))
        while self.frames(DESCRIBE) == 0:
            pass

    def send(self, kind: int, body: bytes) -> None:
        """Send a frame."""
        self.sock.sendall(struct.pack("<IB", len(body), kind) + body)

    def frames(self, wanted: int) -> int:
        """Receive once; return how many jobs (of DESCRIBE: frames) the frames of a kind stand for."""
        data = self.sock.recv(1 << 16)
        if not data:
            raise SystemExit("the host has ended")
        self.buffer += data
        count = begin = 0
        while len(self.buffer) - begin >= 5:
            size, kind = struct.unpack_from("<IB", self.buffer, begin)
            if len(self.buffer) - begin < 5 + size:
                break
            if kind == wanted:
                count += size // 8 if kind == DONE else 1
            begin += 5 + size
        self.buffer = self.buffer[begin:]
        return count

    def cpu_s(self) -> float:
        """Return the CPU time of the host so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kib(self) -> int:
        """Return the proportional share of memory."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        return 0

    def stop(self) -> None:
        """End it."""
        self.send(STOP, b"")
        self.process.wait()
        os.close(self.lifeline)


def starts(first: int, count: int) -> bytes:
    """Return the body of a START frame."""
    handles = range(first, first + count)
    rows = b"".join(struct.pack("<QIIiIHB", handle, 0, 0x100, 1, 0, 10, 0) for handle in handles)
    texts = [b"%036d\0/srv/incoming/f%09d" % (handle, handle) for handle in handles]
    return struct.pack("<I", count) + rows + b"\0".join(texts)


def bursts(host: Host, jobs: int) -> tuple[float, float]:
    """Run jobs in bursts; return CPU and wall microseconds a job."""
    bodies = [starts(first, BURST) for first in range(0, jobs, BURST)]
    jobs = len(bodies) * BURST
    cpu, wall = host.cpu_s(), time.monotonic()
    sent = done = 0
    while done < jobs:
        while sent < jobs and sent - done + BURST <= UNTAKEN_MAX:
            host.send(START, bodies[sent // BURST])
            sent += BURST
        done += host.frames(DONE)
    return (host.cpu_s() - cpu) / jobs * 1e6, (time.monotonic() - wall) / jobs * 1e6


def one_by_one(host: Host, jobs: int) -> tuple[float, float]:
    """Run jobs one at a time; return the CPU microseconds a job and the median of the latency."""
    bodies = [starts(handle, 1) for handle in range(jobs)]
    cpu, latencies = host.cpu_s(), []
    for body in bodies:
        begin = time.perf_counter()
        host.send(START, body)
        select.select([host.sock], [], [])
        while not host.frames(DONE):
            pass
        latencies.append(time.perf_counter() - begin)
    return (host.cpu_s() - cpu) / jobs * 1e6, sorted(latencies)[jobs // 2] * 1e6


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the host")
    parser.add_argument("--jobs", type=int, default=200_000, help="jobs of a burst measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for name, job in JOBS.items():
            host = Host(options.python, job, directory)
            memory = host.memory_kib()
            cpu, wall = bursts(host, options.jobs)
            single_cpu, latency = one_by_one(host, min(options.jobs, 5000))
            host.stop()
            print(
                f"{name:15} burst: {cpu:5.2f} us CPU, {wall:5.2f} us wall a job; "
                f"single: {single_cpu:5.1f} us CPU, p50 {latency:5.1f} us; {memory} KiB at the start",
                flush=True,
            )


if __name__ == "__main__":
    main()
