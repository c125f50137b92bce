"""Executes the files of a config, each in a namespace of its own.

Owns these namespaces, and what of the process a config may have changed that the daemon has to know: its environment,
directory and umask hold for the daemon's commands, too.
"""

from __future__ import annotations

import os
import sys

import pyinotifyd as api

from ..checked import ConfigError, expect
from ..scheduler import TaskScheduler, bare_jobs, made_schedulers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Optional, Union

    from ..checked import Place

# Found in a config without an import.
_NAMES = (
    "DEBUG",
    "INFO",
    "WARNING",
    "ERROR",
    "CRITICAL",
    "Batch",
    "Cancel",
    "EventMap",
    "FileManagerRule",
    "FileManagerScheduler",
    "Pyinotifyd",
    "Retry",
    "Settle",
    "ShellScheduler",
    "TaskScheduler",
    "Watch",
    "enableSyslog",
    "setLoglevel",
)


# What some editors begin a text in UTF-8 with.
_BOM = "\ufeff"


class Source:
    """A file of a config, and what it left: tracebacks of jobs show its text as it was when it was executed."""

    #: What it left in its variable `pyinotifyd`.
    config: api.Pyinotifyd
    #: All its variables.
    variables: dict[str, Any]
    #: The schedulers that were made while it was executed, and those of them that stand for bare coroutine functions.
    made: list[TaskScheduler]
    bare: list[TaskScheduler]

    def __init__(self, path: str, content: bytes) -> None:
        """Remember what the daemon has read of the file at `path`, which may be another one by now."""
        self.path = path
        self.filename = os.path.abspath(path)
        #: What the identities of its schedulers begin with.
        self.stem = os.path.splitext(os.path.basename(path))[0]
        self.content = content

    def execute(self) -> None:
        """Execute the file, and keep what it left.

        Raises:
            BaseException: Whatever the file raises.
        """
        made, bare = len(made_schedulers), len(bare_jobs)
        code = compile(_text(self.content), self.filename, "exec", dont_inherit=True)
        namespace: dict[str, Any] = {name: getattr(api, name) for name in _NAMES}
        # Configs know it as the name that is found among the builtins where a namespace has none; asyncio wants one.
        if b"Event" in self.content.replace(b"EventMap", b""):
            # For annotations; hardly any config asks for it, and its import takes time.
            namespace["Event"] = api.Event
        namespace["__name__"] = "builtins"
        namespace["__file__"] = self.filename
        exec(code, namespace)
        self.config, self.variables = _result(namespace, code), namespace
        self.made, self.bare = made_schedulers[made:], bare_jobs[bare:]


def _text(content: bytes) -> Union[str, bytes]:
    """Return the text of a config in UTF-8; of any other, the bytes, as Python heeds a coding cookie itself."""
    if b"coding" in b"".join(content.split(b"\n", 2)[:2]):
        return content
    try:
        # Of bytes, Python before 3.13 counts the columns of syntax errors in bytes.
        return content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError:
        return content


def _result(namespace: dict[str, Any], code: CodeType) -> api.Pyinotifyd:
    if "pyinotifyd" not in namespace:
        raise AssertionError(
            "the config defines no variable 'pyinotifyd': it has to hold an instance of Pyinotifyd, "
            "e.g. pyinotifyd = Pyinotifyd(watches=[...])"
        )
    config = namespace["pyinotifyd"]
    try:
        expect("pyinotifyd", config, api.Pyinotifyd)
    except AssertionError as error:
        raise ConfigError(str(error), _set_at(code, "pyinotifyd")) from None
    return config  # type: ignore[no-any-return]  # as of the check


def _set_at(code: CodeType, variable: str) -> Optional[Place]:
    """Return file and line of the last statement in the text of a file that sets a variable: `=`, `import`, `def`."""
    import dis

    line, lines = 0, dict(dis.findlinestarts(code))
    at = None
    for instruction in dis.get_instructions(code):
        line = lines.get(instruction.offset) or line
        if instruction.opname == "STORE_NAME" and instruction.argval == variable:
            at = code.co_filename, line
    return at


class Surroundings:
    """What of the process holds for the daemon, too; compared before and after a config."""

    def __init__(self) -> None:
        """Look at the process as it is."""
        self._environ = dict(os.environ)
        self._directory = _directory()
        self._umask = _umask()
        self._ids = (os.getresuid(), os.getresgid(), os.getgroups())

    def changes(self) -> dict[str, Any]:
        """Return what has changed since, for the DESCRIBE frame: variables (null: gone), directory and umask.

        Raises:
            AssertionError: The user or a group has changed, which the daemon can't follow.
        """
        if (os.getresuid(), os.getresgid(), os.getgroups()) != self._ids:
            raise AssertionError(
                "the config has changed its user or groups, which the daemon can't follow: start the daemon as the "
                "user that it is to be, e.g. by User= in its systemd unit"
            )
        now = dict(os.environ)
        names = [name for name in {**self._environ, **now} if self._environ.get(name) != now.get(name)]
        directory, umask = _directory(), _umask()
        return {
            "environ": {name: now.get(name) for name in names},
            "cwd": None if directory == self._directory else directory,
            "umask": None if umask == self._umask else umask,
        }


def _directory() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:  # it is gone
        return None


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def signal_handlers() -> list[str]:
    """Return the names of signals for which the config has set a function: the daemon's signals don't reach it."""
    signal = sys.modules.get("signal")
    if not signal:
        return []
    return [
        number.name
        for number in signal.valid_signals()
        if hasattr(number, "name")
        and callable(signal.getsignal(number))
        and signal.getsignal(number) not in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)
    ]
