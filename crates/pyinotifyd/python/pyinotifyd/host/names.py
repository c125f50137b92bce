"""What the schedulers of a config are called, and what their jobs consist of.

Owns the search for a name: the argument, else the variable of the config, for a coroutine function in an event map the
function's name, else a number. A name lasts over reloads and restarts, so that it must not depend on what else is in
the config, as far as that can be.
"""

from __future__ import annotations

from ..checked import ConfigError
from ..scheduler import TaskScheduler, bare_jobs, function_of, is_name, made_schedulers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType
    from typing import Any

# Constants of a function whose text says all about them; that of an object would hold its address.
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis))

_CODE = type((lambda: None).__code__)

# Constants in constants.
_NESTING_MAX = 20


class Names:
    """The names of all schedulers of a config."""

    def __init__(self, variables: dict[str, Any], used: Iterable[TaskScheduler]) -> None:
        """Name all that the config has made, and those in use that it got in another way, as by copy.copy.

        Raises:
            ConfigError: Two have one name.
        """
        every = {id(scheduler): scheduler for scheduler in (*made_schedulers, *used)}.values()
        self._names: dict[int, str] = {}
        self._taken: dict[str, TaskScheduler] = {}
        for scheduler in every:
            if scheduler.name is not None:
                self._name(scheduler, scheduler.name)
        for variable, value in variables.items():
            if isinstance(value, TaskScheduler) and id(value) not in self._names and is_name(variable):
                self._name(value, variable)
        # One function in the maps of several events makes a scheduler for each; the first has its name.
        for scheduler in bare_jobs:
            function = str(getattr(function_of(scheduler.job), "__name__", ""))
            if id(scheduler) not in self._names and function not in self._taken and is_name(function):
                self._name(scheduler, function)
        for number, scheduler in enumerate(every, 1):
            if id(scheduler) not in self._names:
                self._name(scheduler, f"scheduler-{number}")

    def of(self, scheduler: TaskScheduler) -> str:
        """Return the name of a scheduler."""
        return self._names[id(scheduler)]

    def _name(self, scheduler: TaskScheduler, name: str) -> None:
        other = self._taken.setdefault(name, scheduler)
        if other is not scheduler:
            where = f" at {other.at[0]}:{other.at[1]}" if other.at else ""
            text = f"name: {name!r} is the name of the scheduler{where} already, give each a name of its own"
            raise ConfigError(text, scheduler.at)
        self._names[id(scheduler)] = name


def code_of(job: object) -> str:
    """Return what a job does, as a text that is the same in each process as long as its function is the same."""
    function = function_of(job)
    code = getattr(function, "__code__", None)
    if type(code) is not _CODE:  # a mock would say that it is one
        return type(job).__name__
    cells = getattr(function, "__closure__", None) or ()
    bound = [getattr(job, "args", None), getattr(job, "keywords", None), getattr(function, "__defaults__", None)]
    values = [*_contents(cells), *bound]
    return " ".join([_code_text(code, 0), *(_constant(value, 0) for value in values)])


def _contents(cells: Any) -> Iterator[object]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:  # not set yet
            continue


def _code_text(code: CodeType, depth: int) -> str:
    """Return bytecode, names and constants, without lines and files."""
    constants = " ".join(_constant(constant, depth) for constant in code.co_consts)
    names = (*code.co_names, *code.co_varnames, *code.co_freevars)
    return f"{code.co_code.hex()} {','.join(names)} {constants}"


def _constant(value: Any, depth: int) -> str:
    if depth > _NESTING_MAX:
        return "..."
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({','.join(_constant(item, depth + 1) for item in value)})"
    if isinstance(value, (set, frozenset)):  # their order differs between processes
        return f"{{{','.join(sorted(_constant(item, depth + 1) for item in value))}}}"
    if isinstance(value, dict):
        items = (f"{_constant(key, depth + 1)}:{_constant(item, depth + 1)}" for key, item in value.items())
        return f"{{{','.join(items)}}}"
    if type(value) is _CODE:
        return f"[{_code_text(value, depth + 1)}]"
    return type(value).__name__
