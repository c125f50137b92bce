"""Who waits for whom: a healthy file is moved while a filesystem hangs, a tree is set up, directories are exchanged."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from measure.bench import READY, Bench, percentile, wait_until
from measure.row import OURS, Contestant, Failed, Figure, Row, Sample, Target, Unavailable
from rows import configs
from rows.latency import GAP_US, Places, latencies_us

# What a person does not notice.
P99_MAX_US = 20_000
# A filesystem served by a process, which SIGSTOP makes hang.
SERVER = Path(__file__).resolve().parents[2] / "tests" / "fuse.py"
# WIDTH directories with INNER in each.
MILLION = (1000, 1000)
FIFTY_THOUSAND = (500, 99)
EXCHANGED = (10, 50)
ROOTS = 8000
SLOW_FILES = 20
MOVE = "IN_CLOSE_WRITE"
LOADED = "configuration loaded: "


class Waits(Row):
    """What all of them share: files that are moved from one healthy directory to another."""

    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("p50", "median", "µs"),
        Figure("p99", "99th percentile", "µs"),
        Figure("max", "longest", "ms"),
    )
    targets = (Target("p99", P99_MAX_US),)

    def contestants(self, bench: Bench) -> list[Contestant]:
        # The original, and the C programs, wait for everything: there is nothing to measure.
        return [OURS]

    def config(self, places: Places, parts: list[str], watches: list[str]) -> str:
        """A configuration that moves files from `source` to `target`, and does `watches` beside that."""
        rule = configs.rule("move", f"^{places.source}/(.*)$", rf"{places.target}/\1")
        healthy = configs.watch(places.source, f'{{"{MOVE}": sched}}')
        return configs.daemon([configs.rules("sched", rule), *parts], [healthy, *watches], places.ready)


def sample(values_us: list[float]) -> Sample:
    return {"p50": percentile(values_us, 0.5), "p99": percentile(values_us, 0.99), "max": max(values_us) / 1000}


@contextlib.contextmanager
def hanging(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A FUSE filesystem mounted at `directory`; its server answers until it is stopped."""
    server = subprocess.Popen([sys.executable, str(SERVER), str(directory)], stdout=subprocess.PIPE)
    assert server.stdout
    try:
        if not server.stdout.readline():
            raise Unavailable("needs root and /dev/fuse")
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        subprocess.run(["umount", "-l", str(directory)], check=False, stderr=subprocess.DEVNULL)


class Hung(Waits):
    """A filesystem that does not answer."""

    def places(self, root: Path, mount: Path) -> tuple[list[str], list[str]]:
        """What the daemon has to do with the filesystem: parts and watches of its configuration."""
        raise NotImplementedError

    def work(self, root: Path) -> None:
        """What happens while it hangs."""

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            places = Places(root)
            mount = root / "tree" / "mount"
            mount.mkdir(parents=True)
            (root / "slow").mkdir()
            server = stack.enter_context(hanging(mount))
            config = self.config(places, *self.places(root, mount))
            program = stack.enter_context(bench.daemon(who, config, places.ready))
            # First of all at the end: nothing kills who waits for an answer that the server has begun.
            stack.callback(server.kill)
            server.send_signal(signal.SIGSTOP)
            self.work(root)
            program.send(signal.SIGHUP)
            values = latencies_us(
                bench.tool("probe", "file", places.source, places.target, bench.size(1000, 300), GAP_US)
            )
            return sample(values)


class HungRoot(Hung):
    """It is a root."""

    name = "waits-root"
    title = "file closed to file moved while another root is on a filesystem that hangs"

    def places(self, root: Path, mount: Path) -> tuple[list[str], list[str]]:
        return [], [configs.watch(mount, '{"IN_CREATE": sched}', rec=True, auto_add=True)]


class HungInside(Hung):
    """It is mounted in a watched tree."""

    name = "waits-inside"
    title = "the same while a filesystem hangs inside a watched tree"

    def places(self, root: Path, mount: Path) -> tuple[list[str], list[str]]:
        return [], [configs.watch(mount.parent, '{"IN_CREATE": sched}', rec=True, auto_add=True)]

    def work(self, root: Path) -> None:
        for number in range(SLOW_FILES):
            (root / "tree" / f"d{number}").mkdir()


class HungDestination(Hung):
    """Another rule moves files to it."""

    name = "waits-destination"
    title = "the same while another rule moves files to a filesystem that hangs"

    def places(self, root: Path, mount: Path) -> tuple[list[str], list[str]]:
        rule = configs.rule("move", f"^{root}/slow/(.*)$", rf"{mount}/\1")
        return [configs.rules("slow", rule)], [configs.watch(root / "slow", f'{{"{MOVE}": slow}}')]

    def work(self, root: Path) -> None:
        for number in range(SLOW_FILES):
            (root / "slow" / f"f{number}").write_text("")


class SetUp(Waits):
    """A large tree is set up."""

    shape: ClassVar[tuple[int, int]]

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        width, inner = self.shape
        count = width * (inner + 1) + 1
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            places = Places(root)
            top = root / "tree"
            top.mkdir()
            bench.tool("tree", top, width, inner)
            stack.enter_context(bench.sysctl("max_user_watches", count + 10_000))
            program = stack.enter_context(bench.daemon(who, self.config(places, [], []), places.ready))
            large = [configs.watch(top, '{"IN_CREATE": sched}', rec=True, auto_add=True)]
            bench.daemon_argv(who, self.config(places, [], large))
            with bench.tool_beside("probe", "file", places.source, places.target, 0, GAP_US) as probe:
                program.send(signal.SIGHUP)
                wait_until(lambda: program.log().count(f"{READY} '{top}'") == 1, "the larger tree", program)
                probe.terminate()
                printed = probe.communicate()[0]
            if program.tree.watches() < count:
                raise Failed(f"{program.tree.watches()} watches, not {count}")
            return sample(latencies_us(printed))


class SetUpFiftyThousand(SetUp):
    """Small enough for every run."""

    name = "waits-reload"
    title = "the same while a reload sets up a tree of 50,000 directories"
    shape = FIFTY_THOUSAND


class SetUpMillion(SetUp):
    """Needs memory and minutes."""

    name = "scale-waits-reload"
    title = "file closed to file moved while a reload sets up a tree of 1,000,000 directories"
    shape = MILLION


class Unchanged(Waits):
    """A configuration that has not changed is loaded again and again."""

    def watches(self, bench: Bench, root: Path) -> list[str]:
        """Makes what is large, and gives the watches of it."""
        raise NotImplementedError

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            places = Places(root)
            config = self.config(places, [], self.watches(bench, root))
            program = stack.enter_context(bench.daemon(who, config, places.ready))
            with bench.tool_beside("probe", "file", places.source, places.target, 0, GAP_US) as probe:
                for count in range(1, bench.size(20, 5) + 1):
                    program.send(signal.SIGHUP)
                    wait_until(lambda count=count: program.log().count(LOADED) == count, "the reload", program)
                probe.terminate()
                printed = probe.communicate()[0]
            return sample(latencies_us(printed))


class UnchangedTree(Unchanged):
    """One watch of many directories."""

    name = "waits-unchanged-tree"
    title = "the same while a configuration with a tree of 50,000 directories is loaded again and again"

    def watches(self, bench: Bench, root: Path) -> list[str]:
        width, inner = FIFTY_THOUSAND
        bench.require_watches(width * (inner + 1) + 10)
        (root / "tree").mkdir()
        bench.tool("tree", root / "tree", width, inner)
        return [configs.watch(root / "tree", '{"IN_CREATE": sched}', rec=True, auto_add=True)]


class UnchangedRoots(Unchanged):
    """Many watches of one directory each."""

    name = "waits-unchanged-roots"
    title = f"the same while a configuration with {ROOTS:,} watches is loaded again and again"

    def watches(self, bench: Bench, root: Path) -> list[str]:
        bench.require_watches(ROOTS + 10)
        (root / "tree").mkdir()
        bench.tool("tree", root / "tree", ROOTS, 0)
        entries = sorted((root / "tree").iterdir())
        return [configs.watch(path, '{"IN_CREATE": sched}', rec=True, auto_add=True) for path in entries]


class Exchange(Waits):
    """Which directory has which name is in doubt all the time."""

    name = "waits-exchange"
    title = "the same while two directories of another tree are exchanged in a loop"

    def measure(self, bench: Bench, who: Contestant) -> Sample:
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(bench.scratch())
            places = Places(root)
            for name in ("one", "other"):
                (root / "tree" / name).mkdir(parents=True)
                bench.tool("tree", root / "tree" / name, *EXCHANGED)
            tree = [configs.watch(root / "tree", '{"IN_CREATE": sched}', rec=True, auto_add=True)]
            stack.enter_context(bench.daemon(who, self.config(places, [], tree), places.ready))
            stack.enter_context(bench.tool_beside("exchange", root / "tree", "one", "other"))
            files = bench.size(1000, 300)
            return sample(latencies_us(bench.tool("probe", "file", places.source, places.target, files, GAP_US)))


ROWS: list[Row] = [
    HungRoot(),
    HungInside(),
    HungDestination(),
    SetUpFiftyThousand(),
    UnchangedTree(),
    UnchangedRoots(),
    Exchange(),
]
SCALE_ROWS: list[Row] = [SetUpMillion()]
