"""Starts the host: ``python -m pyinotifyd.host SOCKET LIFELINE``, the numbers of two inherited descriptors.

Owns the order of a start: HELLO, a SOURCE for each file, LOAD, execute, DESCRIBE; then the end, or one of the two ways
to stay. The lifeline is a pipe of which the daemon holds the other end, and into which nobody writes: it ends with the
daemon.
"""

from __future__ import annotations

import os
import sys

from .. import __version__, levels
from ..checked import put_in_force
from ..levels import set_level, warn
from ..scheduler import made_rules
from ..watch import expect_watches
from . import lint, records, spawned, wire
from .describe import Description, patterns
from .load import Source, Surroundings, signal_handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from .wire import Channel


def main() -> None:
    """Run the host, with the numbers of socket and lifeline as the arguments."""
    channel, lifeline = wire.Channel(int(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(lifeline, False)
    _forget_the_current_directory()
    channel.send(
        wire.HOST_HELLO,
        wire.dumps(
            {
                "protocol": wire.PROTOCOL,
                "version": __version__,
                "python": ".".join(map(str, sys.version_info[:3])),
                "executable": sys.executable,
                "path": [path for path in sys.path if isinstance(path, str)],
            }
        ),
    )
    sys.exit(_serve(channel, lifeline))


def _forget_the_current_directory() -> None:
    """Take it off sys.path, where -m puts it first; the daemon starts us by boot.py, which has seen to it."""
    import __main__

    if __main__.__spec__ is not None and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


def _serve(channel: Channel, lifeline: int) -> int:
    """Load the config and do what it needs; return the exit status."""
    request = _handshake(channel)
    if request is None:
        return 1
    load, contents = request
    for name, level in load["levels"].items():
        set_level(name, level)
    if load["debug"]:
        set_level("", 10)
    _keep_streams_open()
    records.attach(channel)
    spawned.install()
    sources = [Source(path, content) for path, content in zip(load["configs"], contents)]
    executed: list[Source] = []
    _end_with_the_daemon(lifeline)
    try:
        description = _load(load, sources, executed)
    except BaseException as exception:
        return _refuse(channel, exception, executed[-1] if executed and len(sources) > 1 else None)
    if os.getpid() != channel.pid:
        # A child that the config forked and that came out at its end: only its parent is the host.
        return 0
    _fill_standard_descriptors()
    reason = description.body["stays_because"]
    channel.send(wire.DESCRIBE, wire.dumps(description.body))
    if reason is None:
        return 0
    put_in_force()
    levels.announce = lambda name, level: channel.send(wire.LEVEL, wire.dumps({"logger": name, "level": level}))
    import faulthandler

    # Where a segfault of a job comes from is otherwise unknowable. By its number: sys.stderr may be the config's own.
    faulthandler.enable(2)
    _ignore_interrupts()
    return _stay(channel, sources, description)


def _stay(channel: Channel, sources: list[Source], description: Description) -> int:
    if description.body["stays_because"] == "jobs":
        from . import jobs

        return jobs.run(channel, sources, description.schedulers)
    from . import stay

    return stay.run(channel)


def _handshake(channel: Channel) -> Optional[tuple[dict[str, Any], list[bytes]]]:
    """Receive HELLO, the SOURCE of each file and LOAD; None if there is no understanding."""
    hello = channel.receive()
    ours = {"protocol": wire.PROTOCOL, "version": __version__}
    if hello is None:
        return None
    theirs = wire.loads(hello[1]) if hello[0] == wire.HELLO else {}
    if {name: theirs.get(name) for name in ours} != ours:
        text = f"the daemon speaks {theirs}, but this host is {ours}: they have to be of one version"
        channel.send(wire.FAULT, wire.dumps({"message": text, "locations": [], "traceback": ""}))
        return None
    contents: list[bytes] = []
    while True:
        frame = channel.receive()
        if frame and frame[0] == wire.SOURCE:
            contents.append(frame[1])
        elif frame and frame[0] == wire.LOAD:
            return wire.loads(frame[1]), contents
        else:
            return None


def _load(load: dict[str, Any], sources: list[Source], executed: list[Source]) -> Description:
    """Execute the files of the config and describe it; the last of `executed` is the one that is being executed."""
    before = _Before()
    for source in sources:
        executed.append(source)
        sys.argv[:] = [source.path]
        source.execute()
        expect_watches(source.config._watches)
    executed.clear()
    if load["debug"]:
        set_level("", 10)
    description = Description(sources)
    description.body.update(before.surroundings.changes())
    for name in signal_handlers():
        warn(f"the config sets a function for {name}, but signals that the daemon gets don't reach it")
    hints = lint.hints(sources, description.schedulers, description.names)
    description.body["hints"] = [{"text": text, "at": {"file": at[0], "line": at[1]}} for text, at in hints]
    filtered = records.filtered(description.lognames())
    handlers = records.has_handlers(description.lognames()) or bool(filtered)
    reason = before.reason_to_stay(description, handlers)
    description.complete(handlers=handlers, filtered=filtered, stays=reason is not None, stays_because=reason)
    _flush()
    return description


class _Before:
    """What there was before the config, to see what it leaves behind."""

    def __init__(self) -> None:
        """Look at the process as it is."""
        import atexit

        self._callbacks = atexit._ncallbacks
        self._before = self._own_callbacks()
        self.surroundings = Surroundings()

    def _own_callbacks(self) -> int:
        """Count callbacks at the end, without those of Python's own modules."""
        own = ("logging", "multiprocessing.util")
        return self._callbacks() - sum(name in sys.modules for name in own)

    def reason_to_stay(self, description: Description, handlers: bool) -> Optional[str]:
        """Say why the process has to go on; None if it doesn't."""
        from _thread import _count

        if description.has_jobs() or _uses_a_loop():
            return "jobs"
        if handlers:
            return "handlers"
        # Daemon threads, too: in one process with the daemon they would go on.
        if _count():
            return "threads"
        return "atexit" if self._own_callbacks() > self._before else None


def _uses_a_loop() -> bool:
    """Say whether the config has put work of its own onto a loop that it didn't run."""
    if "asyncio.events" not in sys.modules:
        return False
    from .loop import current, has_work

    loop = current()
    return loop is not None and has_work(loop)


def _refuse(channel: Channel, exception: BaseException, source: Optional[Source]) -> int:
    """Tell the daemon why there is no config, and which of several files was executed; return the exit status."""
    from . import errors

    _flush()
    if isinstance(exception, SystemExit):
        code, text = errors.exit_status(exception)
        channel.send(wire.EXIT, wire.report({"code": code, "message": text}))
        return code
    # A bad expression that came before is the fault to tell.
    body = {**errors.fault(exception), "patterns": patterns(made_rules), "path": source and source.path}
    channel.send(wire.FAULT, wire.report(body))
    return 1


def _flush() -> None:
    """Write out what the config has printed; nobody may be listening."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue


def _keep_streams_open() -> None:
    """Let code of the config close stdout and stderr as it likes: other jobs print to them as well."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.close = stream.flush  # type: ignore[method-assign]  # for `with`, too


def _fill_standard_descriptors() -> None:
    """Lead to nowhere what the config has closed: the next file that is opened would get all that is printed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _ignore_interrupts() -> None:
    """Let Ctrl-C pass, which reaches the whole group; a function, as children would inherit SIG_IGN."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: None)


def _end_with_the_daemon(lifeline: int) -> None:
    """Have the kernel kill this process when the lifeline ends, whatever the config is doing then."""
    import fcntl
    import signal

    # The pipe's signal, of which SIGIO is only the default (fcntl(2), F_SETSIG). PR_SET_PDEATHSIG does the same, but
    # takes ctypes: half a MB, and not every Python has it.
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        # An end that came before is not signalled any more.
        os.read(lifeline, 1)
    except BlockingIOError:
        return
    os._exit(1)


if __name__ == "__main__":
    main()
