"""What the objects of a config look like to the daemon.

Owns the JSON of the DESCRIBE frame. Objects are described after the config has ended, as it may change them until then.
"""

from __future__ import annotations

import os
import sys

from .. import command, levels, listen
from ..checked import ConfigError
from ..scheduler import (
    Cancel,
    FileManagerRule,
    FileManagerScheduler,
    ShellScheduler,
    TaskScheduler,
    expect_rules,
    fault_of_batch,
    function_of,
    made_rules,
)
from ..watch import Pyinotifyd, Watch
from . import wire
from .names import Names, code_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal, Optional, Union

    from ..checked import Number, Place
    from ..options import Retry, Settle
    from .load import Source

# The name that the original gives to the loggers of objects whose logname is None.
_LOGNAME = "pyinotifyd"
_SCHEDULER_LOGNAME = "pyinotifyd.scheduler"

# Text that stands for bytes goes over the wire as UTF-8 with surrogates; elsewhere than in the odd locale it is that.
_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Description:
    """A config as the daemon sees it, and the schedulers in the order of their numbers."""

    def __init__(self, sources: list[Source]) -> None:
        """Describe what the files of a config have left: the watches of all, in order."""
        self.schedulers: list[TaskScheduler] = []
        self._numbers: dict[int, int] = {}
        found: list[Watch] = []
        watches: list[dict[str, Any]] = []
        of_files: list[tuple[Source, list[TaskScheduler]]] = []
        for source in sources:
            first = len(self.schedulers)
            found += source.config._watches
            watches += [self._watch(watch) for watch in source.config._watches]
            self._number_receivers(first)
            of_files.append((source, self.schedulers[first:]))
        self.names = Names(sources, of_files)
        for watch, described in zip(found, watches):
            described["settings"] = _text_of({**described, "map": self._map_by_names(watch)})
        config = _together(sources)
        self.body: dict[str, Any] = {
            "logname": _LOGNAME if config.logname is None else config.logname,
            "shutdown_timeout": float(config._shutdown_timeout),
            "max_jobs": config.max_jobs,
            "state": _state(config.state),
            "history": config.history,
            "control": _control(config),
            "watches": watches,
            "schedulers": [self._scheduler(scheduler) for scheduler in self.schedulers],
            "levels": levels.current_levels(),
            "syslog": [_syslog(target) for target in levels.syslog],
        }
        used = {id(rule) for scheduler in self.schedulers for rule in getattr(scheduler, "rules", ())}
        self.body["loose_patterns"] = patterns(rule for rule in made_rules if id(rule) not in used)

    def complete(self, **more: object) -> None:
        """Add what is known last, and what a reload compares beside watches and schedulers."""
        self.body.update(more)
        settings = {name: value for name, value in self.body.items() if name not in _NO_SETTINGS}
        control = settings.pop("control")
        settings.update(
            {
                "control": [control["path"], control["never"]],
                "control_group": control["group"],
                "metrics": control["metrics"],
                "log levels": settings.pop("levels"),
            }
        )
        self.body["settings"] = {name: _text_of(value) for name, value in settings.items()}

    def has_jobs(self) -> bool:
        """Say whether there are jobs that only Python can run."""
        return any(_kind(scheduler) == "job" for scheduler in self.schedulers)

    def lognames(self) -> set[str]:
        """Return the names of the loggers that the config brings."""
        return {self.body["logname"], *(described["logname"] for described in self.body["schedulers"])}

    def _watch(self, watch: Watch) -> dict[str, Any]:
        path, event_map = watch.path(), watch.event_map()
        excluded = [*watch.excluded, *event_map.excluded]
        return {
            "paths": [_bytes_text(one) for one in ([path] if isinstance(path, str) else path)],
            "path_text": str(path),
            "rec": watch.rec,
            "auto_add": watch.auto_add,
            "initial": watch.initial,
            "logname": _LOGNAME if watch.logname is None else watch.logname,
            "exclude": [{"pattern": _bytes_text(pattern), "at": _at(at)} for pattern, at in excluded] or None,
            "map": {flag: [self._reaction(one) for one in reactions] for flag, reactions in event_map.items()},
            "at": _at(watch.at),
        }

    def _map_by_names(self, watch: Watch) -> dict[str, list[str]]:
        """Describe an event map by the names of its schedulers, which outlive their numbers."""

        def name(reaction: object) -> str:
            if isinstance(reaction, Cancel):
                return f"Cancel({self._full_name(reaction.task)})"
            assert isinstance(reaction, TaskScheduler)
            return self._full_name(reaction)

        return {flag: [name(one) for one in reactions] for flag, reactions in watch.event_map().items()}

    def _full_name(self, scheduler: TaskScheduler) -> str:
        return f"{self.names.file_of(scheduler)}/{self.names.of(scheduler)}"

    def _scheduler(self, scheduler: TaskScheduler) -> dict[str, Any]:
        described = {**_scheduler(scheduler, self.names), "running": self._running(scheduler)}
        receivers = [self._full_name(receiver) for receiver in scheduler.on_failure]
        retry_on = [_name_of_failure(one) for one in (scheduler.retry and scheduler.retry.on) or ()]
        described["settings"] = _text_of(
            {**described, "running": {**described["running"], "on_failure": receivers}, "retry_on": retry_on}
        )
        return described

    def _reaction(self, reaction: object) -> dict[str, int]:
        if isinstance(reaction, Cancel):
            return {"cancel": self._number(reaction.task)}
        assert isinstance(reaction, TaskScheduler)
        return {"schedule": self._number(reaction)}

    def _running(self, scheduler: TaskScheduler) -> dict[str, Any]:
        """Describe how tasks run."""
        return {
            "timeout": _seconds(scheduler.timeout),
            "retry": _retry(scheduler.retry),
            "on_failure": [self._number(receiver) for receiver in scheduler.on_failure],
            "max_delay": _seconds(scheduler.max_delay),
            "max_rate": list(scheduler.max_rate) if scheduler.max_rate else None,
            "settle": _settle(scheduler.settle),
            "on_busy": scheduler.on_busy,
            "persist": scheduler.persist,
            "rerun": scheduler.rerun,
            "batch": _batch(scheduler),
        }

    def _number_receivers(self, first: int) -> None:
        """Number those that get failures of the schedulers from a number on; they may have receivers themselves."""
        while first < len(self.schedulers):
            for receiver in self.schedulers[first].on_failure:
                self._number(receiver)
            first += 1

    def _number(self, scheduler: TaskScheduler) -> int:
        number = self._numbers.get(id(scheduler))
        if number is None:
            number = self._numbers[id(scheduler)] = len(self.schedulers)
            self.schedulers.append(scheduler)
        return number


#: What is described of all files together and is no setting that a person would look for.
_NO_SETTINGS = frozenset({"watches", "schedulers", "loose_patterns", "hints", "stays", "stays_because"})


def _text_of(described: object) -> str:
    """Return all that is described as a text, for telling whether any of it changed; where it stands doesn't count."""
    return wire.dumps(_placeless(described)).decode("ascii")


def _placeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _placeless(inner) for name, inner in value.items() if name != "at"}
    return [_placeless(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _name_of_failure(one: object) -> Any:
    return f"{one.__module__}.{one.__qualname__}" if isinstance(one, type) else one


def _control(config: Pyinotifyd) -> dict[str, Any]:
    described = listen.describe(config.control, config.control_group, config.metrics)
    if described["path"] is not None:
        described["path"] = _bytes_text(os.path.abspath(described["path"]))
    return described


#: What one of several files may say for all: arguments of Pyinotifyd, and the attributes that hold them.
_FOR_ALL = {
    "shutdown_timeout": "_shutdown_timeout",
    "max_jobs": "max_jobs",
    "state": "state",
    "history": "history",
    "control": "control",
    "control_group": "control_group",
    "metrics": "metrics",
}


def _together(sources: list[Source]) -> Pyinotifyd:
    """Return an object that has what the files say for all of them.

    Raises:
        ConfigError: Two files say one thing.
    """
    together = Pyinotifyd()
    for argument, attribute in _FOR_ALL.items():
        default = getattr(together, attribute)
        given = [source for source in sources if getattr(source.config, attribute) is not default]
        for source in given[:1]:
            setattr(together, attribute, getattr(source.config, attribute))
        for source in given[1:]:
            text = (
                f"{argument}: {given[0].path!r} gives it already, and it holds for all files: one of them may give it"
            )
            raise ConfigError(text, source.config.at)
    # Log settings hold in the order of the files.
    lognames = [source.config.logname for source in sources]
    given_names = [name for name in lognames if name != together.logname]
    together.logname = given_names[-1] if given_names else together.logname
    return together


def patterns(rules: Iterable[FileManagerRule]) -> list[dict[str, Any]]:
    """Describe the expressions of rules, for the daemon to check."""
    return [{"pattern": _bytes_text(rule.src_re), "at": _at(rule.at)} for rule in rules]


def _scheduler(scheduler: TaskScheduler, names: Names) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": _kind(scheduler),
        "name": names.of(scheduler),
        "file": names.file_of(scheduler),
        "named": scheduler.name is not None,
        "logname": _SCHEDULER_LOGNAME if scheduler.logname is None else scheduler.logname,
        "files": scheduler.files,
        "dirs": scheduler.dirs,
        "delay": max(0.0, float(scheduler.delay)),
        "delay_text": str(scheduler.delay),
        "singlejob": bool(scheduler.singlejob),
        "max_jobs": scheduler.max_jobs,
        "at": _at(scheduler.at),
    }
    if isinstance(scheduler, ShellScheduler):
        _describe_command(described, scheduler)
    elif isinstance(scheduler, FileManagerScheduler):
        expect_rules(list(scheduler.rules))
        described["rules"] = [_rule(rule) for rule in scheduler.rules]
        described["does"] = _text_of(described["rules"])
    else:
        described["job"] = _job_name(scheduler.job)
        described["does"] = code_of(scheduler.job)
    return described


def _describe_command(described: dict[str, Any], scheduler: ShellScheduler) -> None:
    options = command.describe(scheduler, _bytes_text)
    described["cmd"] = described["does"] = None if scheduler.cmd is None else _bytes_text(scheduler.cmd)
    described["command"] = options
    if options != command.DEFAULTS:
        described["does"] = wire.dumps([described["cmd"], options]).decode("ascii")


def _seconds(value: Optional[Number]) -> Optional[float]:
    return None if value is None else float(value)


def _retry(retry: Optional[Retry]) -> Optional[dict[str, Any]]:
    if retry is None:
        return None
    on = retry.on
    return {
        "times": retry.times,
        "delay": float(retry.delay),
        "factor": float(retry.factor),
        "max_delay": float(retry.max_delay),
        "jitter": float(retry.jitter),
        # Which exceptions of a job are meant, only Python can say.
        "on": on
        and {
            "errors": any(isinstance(one, type) for one in on),
            "statuses": [one for one in on if isinstance(one, int)],
            "timeout": "timeout" in on,
            "signal": "signal" in on,
        },
    }


def _batch(scheduler: TaskScheduler) -> Optional[dict[str, Any]]:
    batch = scheduler.batch
    if batch is None:
        return None
    # What excludes it may have been set after it was made.
    fault = fault_of_batch(scheduler)
    if fault:
        raise ConfigError(fault, scheduler.at)
    return {"quiet": float(batch.quiet), "max_wait": float(batch.max_wait), "max_files": batch.max_files}


def _settle(settle: Optional[Settle]) -> Optional[dict[str, Any]]:
    if settle is None:
        return None
    return {
        "no_writer": settle.no_writer,
        "stable": float(settle.stable),
        "min_size": settle.min_size,
        "marker": None if settle.marker is None else _bytes_text(settle.marker),
        "give_up": float(settle.give_up),
        "check": float(settle.check),
    }


def _kind(scheduler: TaskScheduler) -> str:
    if isinstance(scheduler, ShellScheduler):
        return "shell"
    return "files" if isinstance(scheduler, FileManagerScheduler) else "job"


def _rule(rule: FileManagerRule) -> dict[str, Any]:
    return {
        "action": rule.action,
        "src_re": _bytes_text(rule.src_re),
        "dst_re": _bytes_text(rule.dst_re),
        "auto_create": rule.auto_create,
        "dirmode": rule.dirmode,
        "filemode": rule.filemode,
        "user": rule.user,
        "group": rule.group,
        "rec": rule.rec,
        "durable": rule.durable,
        "on_conflict": rule.on_conflict or ("overwrite" if rule.overwrite else "fail"),
        "verify": rule.verify,
        "trash": _path(rule.trash),
        "trash_keep": rule.trash_keep,
        "generations": rule.generations,
        "mounted": _path(rule.mounted),
        "prune": rule.prune,
        "at": _at(rule.at),
    }


def _job_name(job: object) -> str:
    """Return what a job is called; a functools.partial has no name, but its function has."""
    named = function_of(job)
    return str(getattr(named, "__qualname__", None) or type(named).__name__)


def _at(place: Optional[Place]) -> Optional[dict[str, Any]]:
    return {"file": place[0], "line": place[1]} if place else None


def _path(path: Optional[str]) -> Optional[str]:
    return None if path is None else _bytes_text(os.path.normpath(path))


def _state(state: Union[None, Literal[False], str]) -> dict[str, Any]:
    path = _bytes_text(os.path.abspath(state)) if isinstance(state, str) else None
    return {"path": path, "never": state is False}


def _syslog(target: dict[str, Any]) -> dict[str, Any]:
    address = target["address"]
    described = {"path": _bytes_text(address)} if isinstance(address, str) else {"host": address}
    return {**target, "address": described}


def _bytes_text(text: str) -> str:
    """Return the text whose UTF-8 is what Python would give to the kernel for `text`."""
    return text if _UTF8 else os.fsencode(text).decode("utf-8", "surrogateescape")
