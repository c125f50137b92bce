"""What the schedulers of a config are called, and what their jobs consist of.

Owns the search for a name: the argument, else the variable of the config, for a coroutine function in an event map the
function's name, else a number. A name lasts over reloads and restarts, so that it must not depend on what else is in
the config, as far as that can be.
"""

from __future__ import annotations

from ..checked import ConfigError
from ..scheduler import TaskScheduler, function_of, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

    from .load import Source

# Constants of a function whose text says all about them; that of an object would hold its address.
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis))

_CODE = type((lambda: None).__code__)

# Constants in constants.
_NESTING_MAX = 20


class Names:
    """The names of all schedulers of a config, and the files to which these belong.

    A scheduler belongs to the file that was being executed when it was made. In each file names are looked for and
    numbers count as if there were no other one.
    """

    def __init__(self, sources: list[Source], used: list[tuple[Source, list[TaskScheduler]]]) -> None:
        """Name all that the files have made, and those in `used` that a file got in another way, as by copy.copy.

        Raises:
            ConfigError: Two of one file have one name.
        """
        self._names: dict[int, str] = {}
        self._files: dict[int, str] = {}
        self._taken: dict[tuple[str, str], TaskScheduler] = {}
        # Each belongs to one file before any is named: a variable of another file may hold it, too.
        owned = [{id(scheduler): scheduler for scheduler in source.made} for source in sources]
        known = {number for schedulers in owned for number in schedulers}
        for source, schedulers in used:
            others = {id(scheduler): scheduler for scheduler in schedulers if id(scheduler) not in known}
            owned[sources.index(source)].update(others)
            known.update(others)
        for source, mine in zip(sources, owned):
            self._name_all(source, mine)

    def of(self, scheduler: TaskScheduler) -> str:
        """Return the name of a scheduler."""
        return self._names[id(scheduler)]

    def file_of(self, scheduler: TaskScheduler) -> str:
        """Return the stem of the file to which a scheduler belongs."""
        return self._files[id(scheduler)]

    def _name_all(self, source: Source, mine: dict[int, TaskScheduler]) -> None:
        self._files.update(dict.fromkeys(mine, source.stem))
        for scheduler in mine.values():
            if scheduler.name is not None:
                self._name(scheduler, scheduler.name)
        for variable, value in source.variables.items():
            is_mine = isinstance(value, TaskScheduler) and id(value) in mine
            if is_mine and id(value) not in self._names and is_name(variable):
                self._name(value, variable)
        # One function in the maps of several events makes a scheduler for each; the first has its name.
        for scheduler in source.bare:
            function = str(getattr(function_of(scheduler.job), "__name__", ""))
            is_taken = (source.stem, function) in self._taken
            if id(scheduler) not in self._names and not is_taken and is_name(function):
                self._name(scheduler, function)
        for number, scheduler in enumerate(mine.values(), 1):
            if id(scheduler) not in self._names:
                self._name(scheduler, f"scheduler-{number}")

    def _name(self, scheduler: TaskScheduler, name: str) -> None:
        other = self._taken.setdefault((self.file_of(scheduler), name), scheduler)
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
