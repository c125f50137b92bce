"""What is odd about a config and shows only in its text, or when all of it is known.

Owns hints that a config test gives; none of them keeps a config from working.
"""

from __future__ import annotations

import _ast

from ..scheduler import TaskScheduler, made_schedulers
from ..watch import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..checked import Place
    from .load import Source
    from .names import Names

    Hint = tuple[str, Place]


def hints(sources: Iterable[Source], used: Iterable[TaskScheduler], names: Names) -> list[Hint]:
    """Return all hints, each with its place."""
    repeated = [hint for source in sources for hint in _repeated_keys(source)]
    return [*repeated, *_unused(used, names)]


def _unused(used: Iterable[TaskScheduler], names: Names) -> Iterator[Hint]:
    known = {id(scheduler) for scheduler in used}
    for scheduler in made_schedulers:
        if id(scheduler) not in known and scheduler.at:
            yield f"no event map of a watch uses the scheduler '{names.of(scheduler)}'", scheduler.at


def _repeated_keys(source: Source) -> Iterator[Hint]:
    """Find events that stand twice in one dict, of which Python keeps the last without a word."""
    # A look at the text costs nothing, and most configs name each event once.
    if all(source.content.count(flag.encode()) < 2 for flag in FLAGS):
        return
    only_tree = 0x400  # ast.PyCF_ONLY_AST
    for node in _nodes(compile(source.content, source.filename, "exec", only_tree, True)):
        if not isinstance(node, _ast.Dict):
            continue
        seen: dict[object, int] = {}
        for key in node.keys:
            name = getattr(key, "value", None)
            if name in FLAGS:
                line: int = key.lineno  # type: ignore[union-attr]  # a constant, as it has a value
                if name in seen:
                    text = f"{name} stands twice in this event map, only this entry counts; write a list for both"
                    yield f"{text} (the first is in line {seen[name]})", (source.filename, line)
                seen[name] = line


def _nodes(root: Any) -> Iterator[Any]:
    """Go through a syntax tree; importing ast costs 5 ms."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        for name in node._fields:
            value = getattr(node, name, None)
            found = value if isinstance(value, list) else [value]
            waiting.extend(one for one in found if isinstance(one, _ast.AST))
