"""Limit of custom jobs: one asyncio task for each job, without any events.

    asyncio_tasks.py JOBS [--eager]

Makes JOBS tasks of a trivial coroutine in bursts, keeps a strong reference to each until it is done, as asyncio asks
for, and prints the CPU time of the loop in microseconds a job. With --eager (Python 3.12 and later) a job that never
waits is run without a turn of the loop.
"""

import asyncio
import sys
import time
from typing import Any

BURST = 1000  # About what one wake-up of a busy daemon brings.


class Event:
    """As little of an event as a job can use."""

    __slots__ = ("pathname",)

    def __init__(self, pathname: str) -> None:
        self.pathname = pathname


done = 0


async def job(event: Event, task_id: str) -> None:
    """The same work as the trivial job of the daemons' configs."""
    global done
    done += 1
    if event.pathname.endswith("END0"):
        print(done)


async def run(jobs: int, *, eager: bool) -> float:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"eager_start": True} if eager else {}
    running: set[asyncio.Task[None]] = set()
    start = time.process_time()
    for first in range(0, jobs, BURST):
        for index in range(first, min(first + BURST, jobs)):
            work = job(Event(f"/srv/in/{index}"), "id")
            task = asyncio.Task(work, loop=loop, **options)
            if not task.done():
                running.add(task)
                task.add_done_callback(running.discard)
        while running:
            await asyncio.sleep(0)
    return time.process_time() - start


def main() -> None:
    jobs = int(sys.argv[1])
    cpu_s = asyncio.run(run(jobs, eager="--eager" in sys.argv))
    if done != jobs:
        raise SystemExit(f"{done} of {jobs} jobs ran")
    print(f"{cpu_s / jobs * 1e6:.4f}")


main()
