"""How an event looks to a job."""

from __future__ import annotations

import copy
import pickle

import pytest
from pyinotifyd.event import COOKIE, DIR, OVERFLOW, PATH, SRC_PATHNAME, SYNTHETIC, Event

IN_ISDIR = 0x40000000


def event(mask=0x100, wd=1, cookie=0, name_len=1, flags=0, pathname="/w/f", src_pathname="", path=""):
    """Return an event."""
    rare = [text for flag, text in ((SRC_PATHNAME, src_pathname), (PATH, path)) if flags & flag]
    return Event((1, 0, mask, wd, cookie, name_len, flags), pathname, tuple(rare))


TEXTS = [
    (event(), "<Event dir=False mask=0x100 maskname=IN_CREATE name=f path=/w pathname=/w/f wd=1 >"),
    (
        event(mask=0x400 | IN_ISDIR, name_len=0, flags=DIR, pathname="/w"),
        "<Event dir=True mask=0x40000400 maskname=IN_DELETE_SELF|IN_ISDIR name='' path=/w pathname=/w wd=1 >",
    ),
    (
        event(mask=0x80, cookie=7, flags=COOKIE | SRC_PATHNAME, src_pathname="/w/a"),
        "<Event cookie=7 dir=False mask=0x80 maskname=IN_MOVED_TO name=f path=/w pathname=/w/f "
        "src_pathname=/w/a wd=1 >",
    ),
    (
        event(flags=SYNTHETIC),
        "<Event dir=False mask=0x100 maskname=IN_CREATE name=f path=/w pathname=/w/f synthetic=True wd=1 >",
    ),
    (
        event(flags=PATH, path="w"),
        "<Event dir=False mask=0x100 maskname=IN_CREATE name=f path=w pathname=/w/f wd=1 >",
    ),
    (event(mask=0x4000, wd=-1, flags=OVERFLOW, pathname="", name_len=0), "<Event mask=0x4000 maskname=IN_Q_OVERFLOW >"),
]


@pytest.mark.parametrize(("event", "text"), TEXTS)
def test_the_text_of_an_event(event, text):
    """Attributes by name, the mask in hex, a blank at the end."""
    assert str(event) == repr(event) == text


def test_path_and_name():
    """The name is behind the last slash, also where its length in bytes is not that in characters."""
    for pathname, name_len, path, name in (
        ("/f", 1, "/", "f"),
        ("/w/ä", 2, "/w", "ä"),
        ("/w/\udcff\udcfe", 2, "/w", "\udcff\udcfe"),
        ("/w/d", 0, "/w/d", ""),
    ):
        made = event(pathname=pathname, name_len=name_len)
        assert (made.path, made.name) == (path, name)


def test_absent_attributes_are_absent():
    """Not None, not empty: absent."""
    for name in ("cookie", "src_pathname", "synthetic", "other"):
        assert not hasattr(event(), name)
    overflow = event(mask=0x4000, wd=-1, flags=OVERFLOW, pathname="", name_len=0)
    for name in ("wd", "path", "name", "pathname", "cookie"):
        assert not hasattr(overflow, name)
    assert overflow.dir is False


def test_an_event_is_an_ordinary_object():
    """Jobs keep it, mark it, copy it, and send it to other processes."""
    made = event(mask=0x80, cookie=7, flags=COOKIE | SRC_PATHNAME, src_pathname="/w/a")
    made.seen = True
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert vars(twin) == vars(made)
    assert vars(made)["seen"] is True


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (0x1, "IN_ACCESS"),
        (0x2, "IN_MODIFY"),
        (0x4, "IN_ATTRIB"),
        (0x8, "IN_CLOSE_WRITE"),
        (0x10, "IN_CLOSE_NOWRITE"),
        (0x20, "IN_OPEN"),
        (0x40, "IN_MOVED_FROM"),
        (0x80, "IN_MOVED_TO"),
        (0x100, "IN_CREATE"),
        (0x200, "IN_DELETE"),
        (0x400, "IN_DELETE_SELF"),
        (0x800, "IN_MOVE_SELF"),
        (0x2000, "IN_UNMOUNT"),
        (0x4000, "IN_Q_OVERFLOW"),
        (0x8000, "IN_IGNORED"),
        (0x100 | 0x8, "IN_CLOSE_WRITE|IN_CREATE"),
    ],
)
def test_mask_names(mask, name):
    """As in inotify(7)."""
    assert event(mask=mask).maskname == name
    assert event(mask=mask | IN_ISDIR).maskname == f"{name}|IN_ISDIR"
