"""The event that a job is called with.

Owns how an event looks to Python: its attributes, of which those that an event doesn't have are really absent, and its
text. Leaves the frame, of which an event is made, to `pyinotifyd.host.jobs`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    #: Handle and scheduler of the task, then mask, wd, cookie, name_len, flags of the event, as the daemon sends them.
    Row = tuple[int, int, int, int, int, int, int]

# Flags of a row.
DIR = 1
COOKIE = 2
SRC_PATHNAME = 4
PATH = 8
SYNTHETIC = 16
OVERFLOW = 32
FAILED = 64

_IN_ISDIR = 0x40000000

#: Mask names by mask, those of directories included.
MASK_NAMES = {
    0x1: "IN_ACCESS",
    0x2: "IN_MODIFY",
    0x4: "IN_ATTRIB",
    0x8: "IN_CLOSE_WRITE",
    0x10: "IN_CLOSE_NOWRITE",
    0x20: "IN_OPEN",
    0x40: "IN_MOVED_FROM",
    0x80: "IN_MOVED_TO",
    0x100: "IN_CREATE",
    0x200: "IN_DELETE",
    0x400: "IN_DELETE_SELF",
    0x800: "IN_MOVE_SELF",
    0x2000: "IN_UNMOUNT",
    0x4000: "IN_Q_OVERFLOW",
    0x8000: "IN_IGNORED",
}
MASK_NAMES.update({mask | _IN_ISDIR: f"{name}|IN_ISDIR" for mask, name in MASK_NAMES.items()})
MASK_NAMES[_IN_ISDIR] = "IN_ISDIR"


class Event:
    """What happened to a file or directory.

    An event has only the attributes that make sense for it: ask ``hasattr(event, "src_pathname")``. An overflow of the
    kernel's queue (IN_Q_OVERFLOW) belongs to no path and has nothing but *mask*, *maskname* and *dir*.

    Example::

        async def job(event: Event, task_id: str) -> None:
            if event.maskname == "IN_MOVED_TO" and hasattr(event, "src_pathname"):
                print(f"{event.src_pathname} is now {event.pathname}")
    """

    #: Number of the event's kind, with the bit 0x40000000 where the kernel says that it is about a directory.
    mask: int
    #: Name of the event's kind, e.g. "IN_CREATE", or "IN_CREATE|IN_ISDIR" for a directory.
    maskname: str
    #: Whether the object is a directory. False for an overflow.
    dir: bool = False
    #: Number of the watch.
    wd: int
    #: Path of the watched directory; relative if the config's path is.
    path: str
    #: Name in the watched directory; empty for events of the watched object itself.
    name: str
    #: Absolute path of the object. Bytes that are not UTF-8 are surrogates, as everywhere in Python.
    pathname: str
    #: Number that an IN_MOVED_FROM shares with its IN_MOVED_TO; only these two have it.
    cookie: int
    #: Where the object was before; only IN_MOVED_TO has it, if its IN_MOVED_FROM was seen.
    src_pathname: str
    #: True for events that the daemon made up for what it found; others do not have it. Not in pyinotifyd 1.
    synthetic: bool
    #: Why a task has failed; only events of an *on_failure* have it. Not in pyinotifyd 1.
    error: str
    #: How often that task was tried. Not in pyinotifyd 1.
    attempts: int
    #: Id of that task. Not in pyinotifyd 1.
    task_id: str

    def __init__(self, row: Row, pathname: str, rare: tuple[str, ...]) -> None:
        """Make an event of what came from the daemon; `rare` is the source and the path as given, as flags say."""
        # Plain attributes, all at once: on most Pythons a look at one that is computed later costs more than all these.
        _, _, mask, wd, cookie, name_len, flags = row
        self.mask = mask
        self.maskname = MASK_NAMES.get(mask) or _mask_name(mask)
        if flags & OVERFLOW:
            if flags & FAILED:
                self._add_rare(flags & FAILED, cookie, rare)
            return
        self.dir = flags & DIR == DIR
        self.wd = wd
        self.pathname = pathname
        if name_len:
            # A name holds no slash; its length counts bytes, which is of no use where names are not ASCII.
            directory, _, self.name = pathname.rpartition("/")
            self.path = directory or "/"
        else:
            self.name = ""
            self.path = pathname
        if flags > DIR:
            self._add_rare(flags, cookie, rare)

    def _add_rare(self, flags: int, cookie: int, texts: tuple[str, ...]) -> None:
        """Add what most events don't have."""
        if flags & FAILED:
            *texts, self.error, attempts, self.task_id = texts  # type: ignore[assignment]  # a list does as well
            self.attempts = int(attempts)
        if flags & PATH:
            self.path = texts[-1]
        if flags & COOKIE:
            self.cookie = cookie
        if flags & SRC_PATHNAME:
            self.src_pathname = texts[0]
        if flags & SYNTHETIC:
            self.synthetic = True

    def __repr__(self) -> str:
        """Return the text that logs show: attributes by name, the mask in hex."""
        shown = (
            f"{name}={value:#x}" if name == "mask" else f"{name}={repr(value) if value == '' else value}"
            for name, value in sorted(vars(self).items())
        )
        return f"<Event {' '.join(shown)} >"


def _mask_name(mask: int) -> str:
    """Return the names of all bits of a mask that has several."""
    return "|".join(MASK_NAMES.get(1 << bit, hex(1 << bit)) for bit in range(32) if mask >> bit & 1)
