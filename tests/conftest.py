"""Fixtures of the black-box tests: a box to work in, a daemon that runs there, and who we are.

A test gets `box` (directories and daemons of its own) and, shorter, `run` (= `box.run`): it writes the config, starts
the daemon and waits until it listens. At the end of the test all processes are gone and the directory is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from pages import Site
from vocabulary import Box, Daemon, binary


def pytest_report_header() -> str:
    return f"pyinotifyd: {binary()}; user id {os.geteuid()}"


@pytest.fixture
def box() -> Iterator[Box]:
    """A directory with `src`, `dst` and room for more; its daemons end with the test."""
    made = Box()
    yield made
    panics = made.close()
    assert not panics, f"the daemon panicked: {panics}"


@pytest.fixture
def run(box: Box) -> Callable[..., Daemon]:
    """`run(config, *arguments, record=False, ...)`: a daemon that listens."""
    return box.run


@pytest.fixture
def site(box: Box) -> Site:
    """A box where a document's /srv is the test's own."""
    return Site(box)


@pytest.fixture
def root() -> None:
    """For tests that need root's rights; they are skipped, and said to be, without."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def plain_user(box: Box) -> None:
    """For tests of what a plain user may not do: root starts the program as one, and skips where no program can be."""
    if os.geteuid() == 0 and not box.become_plain_user():
        pytest.skip("needs setpriv, and a python3 that a plain user may run")
