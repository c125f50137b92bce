"""The vocabulary: a row of the table, its figures, contestants and targets, and what a measurement can end with."""

from __future__ import annotations

import enum
import statistics
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from measure.bench import Bench

# What one measurement of one contestant brings: figure key -> value in the figure's unit.
Sample = dict[str, float]


class Failed(Exception):
    """The contestant did not do its work, or not all of it. No figure of such a run counts."""


class Unavailable(Exception):
    """This machine cannot measure that; the text says why."""


class Kind(enum.Enum):
    """What a contestant is; ratios and colours go by it."""

    OURS = "ours"
    LIMIT = "limit"
    ORIGINAL = "original"
    OTHER = "other"


@dataclass(frozen=True)
class Contestant:
    """One of those who do the work of a row."""

    name: str
    kind: Kind
    # Interpreter, for those that need one.
    python: Path | None = None


OURS = Contestant("ours", Kind.OURS)
LIMIT = Contestant("limit", Kind.LIMIT)
ORIGINAL = Contestant("original", Kind.ORIGINAL)
INOTIFYWAIT = Contestant("inotifywait", Kind.OTHER)
CP = Contestant("cp", Kind.OTHER)


@dataclass(frozen=True)
class Figure:
    """One number that a row measures."""

    key: str
    title: str
    unit: str
    # Rates are better when they are higher; all else is a cost.
    higher_is_better: bool = False


@dataclass(frozen=True)
class Target:
    """What ours should reach: a bound on the figure, or on its ratio to another contestant of the same run."""

    figure: str
    bound: float
    against: str | None = None
    # Whose figure, where a row has several of ours.
    of: str = "ours"


@dataclass
class Results:
    """All samples of one row in one run."""

    row: Row
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def values(self, contestant: str, figure: str) -> list[float]:
        """The figure in each round in which the contestant brought it."""
        return [sample[figure] for sample in self.samples.get(contestant, []) if figure in sample]

    def median(self, contestant: str, figure: str) -> float | None:
        """None where there is no sample."""
        values = self.values(contestant, figure)
        return statistics.median(values) if values else None

    def verdict(self, target: Target) -> bool | None:
        """Whether the target is met; None where it can't be told."""
        ours = self.median(target.of, target.figure)
        other = 1.0 if target.against is None else self.median(target.against, target.figure)
        if ours is None or other is None:
            return None
        figure = next(figure for figure in self.row.figures if figure.key == target.figure)
        return ours >= target.bound * other if figure.higher_is_better else ours <= target.bound * other


class Row(ABC):
    """A row of the table: one kind of work, done by several contestants, measured in one or more figures."""

    name: ClassVar[str]
    title: ClassVar[str]
    figures: ClassVar[tuple[Figure, ...]]
    targets: ClassVar[tuple[Target, ...]] = ()
    # Who stands at 1 in ratios and in the picture.
    baseline: ClassVar[str] = "limit"

    @abstractmethod
    def contestants(self, bench: Bench) -> list[Contestant]:
        """Who does this work. Those that are not at hand are reported by the bench, not here."""

    def prepare(self, bench: Bench) -> None:
        """Makes what all contestants share, once for all rounds."""

    def finish(self, bench: Bench) -> None:
        """Removes what `prepare` made."""

    @abstractmethod
    def measure(self, bench: Bench, who: Contestant) -> Sample:
        """Does the work once and checks that it was done.

        Raises Failed or Unavailable.
        """
