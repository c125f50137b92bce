"""What schedulers are called, and what tells that one does something else than before."""

from __future__ import annotations

import os
import textwrap

import pytest

JOBS = """
import functools
async def work(event, task_id): pass
async def other(event, task_id): pass
class Bound:
    async def method(self, event, task_id): pass
"""


def names(described):
    """Return the names in the order of the description."""
    return [scheduler["name"] for scheduler in described["schedulers"]]


def config(text, mapped):
    """Return a config that maps IN_CREATE to `mapped`."""
    return JOBS + textwrap.dedent(text) + f"\npyinotifyd = Pyinotifyd([Watch('/w', {{'IN_CREATE': {mapped}}})])\n"


@pytest.mark.parametrize(
    ("text", "mapped", "expected"),
    [
        ("a = ShellScheduler('true', name='up-loads.1_x')", "a", ["up-loads.1_x"]),
        ("a = TaskScheduler(work, name='given')", "a", ["given"]),
        ("a = FileManagerScheduler([], name='given')", "a", ["given"]),
        ("a = ShellScheduler('true')", "a", ["a"]),
        # The first in the order of definition, whatever the map uses.
        ("b = ShellScheduler('true'); a = b", "[a, b]", ["b"]),
        ("a = None; b = ShellScheduler('true'); a = b", "b", ["a"]),
        ("a = ShellScheduler('true'); c = Cancel(a)", "c", ["a"]),
        ("", "[work, other, Bound().method, functools.partial(work)]", ["work", "other", "method", "scheduler-4"]),
        ("work = TaskScheduler(work)", "work", ["work"]),
        ("", "[ShellScheduler('a'), ShellScheduler('b')]", ["scheduler-1", "scheduler-2"]),
        ("unused = ShellScheduler('true'); all = [ShellScheduler('a')]", "all", ["scheduler-2"]),
        # A name that cannot be one is none.
        ("größe = ShellScheduler('true')", "größe", ["scheduler-1"]),
        ("import copy; a = ShellScheduler('a'); b = copy.copy(a)", "[a, b]", ["a", "b"]),
    ],
)
def test_names(describe, text, mapped, expected):
    """In the order: argument, variable, function, number."""
    assert names(describe(config(text, mapped))) == expected


def test_a_function_in_several_events_names_the_first_of_its_schedulers(describe):
    """Each event has a scheduler of its own, as ever, and the config still loads."""
    described = describe(JOBS + "pyinotifyd = Pyinotifyd([Watch('/w', {'IN_CREATE': work, 'IN_DELETE': work})])")
    assert names(described) == ["work", "scheduler-2"]


def test_named_says_whether_the_config_gave_the_name(describe):
    """A number is no name that lasts."""
    described = describe(config("a = ShellScheduler('true', name='a')\nb = ShellScheduler('true')", "[a, b]"))
    assert [scheduler["named"] for scheduler in described["schedulers"]] == [True, False]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = ShellScheduler('true', name='x')\nb = ShellScheduler('false', name='x')", 8),
        ("a = ShellScheduler('true', name='b')\nb = ShellScheduler('false')", 8),
        ("a = ShellScheduler('true', name='scheduler-2')\nb = [ShellScheduler('false')]", 8),
    ],
)
def test_two_of_one_name_are_refused_at_the_second(fault, text, line):
    """Used or not: it is a mistake either way."""
    said = fault(config(text, "a"))
    assert said["message"].startswith("name: '")
    assert "config.py:7 already" in said["message"]
    assert [(location["line"], bool(location["source"])) for location in said["locations"]] == [(line, True)]


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a\n", "x" * 101, 5])
def test_a_name_of_other_characters_is_refused(fault, name):
    """They would have to be quoted in tables, URLs and subjects."""
    said = fault(config(f"a = ShellScheduler('true', name={name!r})", "a"))
    assert said["message"].startswith("name: expected")
    assert said["locations"][-1]["line"] == 7


def does(describe, text, mapped="[work]", **env):
    """Return what stands for the work of the first scheduler."""
    return describe(config(text, mapped), env=env)["schedulers"][0]["does"]


BODY = """
async def work(event, task_id):
    if event.name in {"a", "b", "c", "d"}:
        return [x + FIRST for x in (1, 2)]
"""


def test_the_same_function_is_the_same_in_each_process(describe):
    """Neither the seed of hashes nor lines above it count."""
    seeds = [does(describe, BODY, PYTHONHASHSEED=str(seed)) for seed in range(5)]
    assert len({*seeds, does(describe, "\n\n# a line\n" + BODY)}) == 1


@pytest.mark.parametrize(
    "change", [("event.name", "event.path"), ('"a"', '"e"'), ("FIRST", "SECOND"), ("(1, 2)", "(1, 3)"), ("+", "-")]
)
def test_a_changed_function_is_another(describe, change):
    """Code, names and constants, in functions inside as well."""
    assert does(describe, BODY) != does(describe, BODY.replace(*change))


def test_what_a_function_is_bound_to_counts(describe):
    """Jobs that are made by a function differ only in that."""
    make = "def make(path):\n    async def job(event, task_id): print(path)\n    return job\nwork = make(%r)"
    assert does(describe, make % "a") != does(describe, make % "b")
    partial = "async def bound(x, event, task_id): pass\nwork = functools.partial(bound, %r)"
    assert does(describe, partial % 1) != does(describe, partial % 2)
    assert does(describe, partial.replace("%r", "object()")) == does(
        describe, "x = object()\n" + partial.replace("%r", "object()")
    )


def test_odd_jobs_have_a_digest_too(describe):
    """A mock says yes to every question."""
    text = "from unittest.mock import AsyncMock\nwork = AsyncMock()"
    assert does(describe, text) == "AsyncMock"


def test_rules_and_commands_count_by_what_they_say(describe):
    """Not by their place."""
    rule = "rule = FileManagerRule('copy', '^/a', '/b'%s)\nwork = FileManagerScheduler(rule)"
    assert does(describe, rule % "") == does(describe, "\n" + rule % "")
    assert does(describe, rule % "") != does(describe, rule % ", filemode=0o600")
    assert does(describe, "work = ShellScheduler('a\\udcff')") == "a\udcff"
    assert os.fsencode("a\udcff") == b"a\xff"
