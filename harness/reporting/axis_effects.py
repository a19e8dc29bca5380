"""What each axis buys: the differences of AP between cells that differ in one axis alone."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness import axes
from harness.cell import Cell
from harness.intervals import Interval, mean_interval
from harness.matrix import PlannedCell
from harness.recipe import diff
from harness.reporting.marks import marks
from harness.reporting.measures import percentages
from harness.reporting.pareto import comparable
from harness.reporting.rows import Row

METRICS = (("bbox_mAP", "box AP"), ("segm_mAP", "mask AP"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows of which the second has the later value of an axis, and nothing else is different.

    AP in percent of the seeds of both, by metric.
    """

    one: str
    two: str
    precision: dict[str, tuple[list[float], list[float]]]
    marked: bool  # one of them is no full result

    def difference(self, metric: str) -> float:
        """Mean over seeds, two minus one."""
        one, two = self.precision[metric]
        return statistics.fmean(two) - statistics.fmean(one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One value of an axis against another: all pairs, their mean difference with its interval, by metric."""

    name: str  # such as "schedule: 1x to 2x"
    pairs: tuple[Pair, ...]
    intervals: dict[str, Interval]


def effects(rows: Sequence[Row]) -> list[Effect]:
    """For each axis and each two of its values, in the order of the axes, where there is a pair with both AP.

    Only full results, where a pair of them is there. The interval is of training again (harness.intervals).
    """
    found = []
    for axis in axes.AXES:
        for one, two in itertools.combinations(axis.values, 2):
            pairs = comparable(list(_pairs(rows, axis, one, two)))
            if pairs:
                intervals = {metric: mean_interval([pair.precision[metric] for pair in pairs]) for metric, _ in METRICS}
                name = f"{axis.name}: {word(one.key)} to {word(two.key)}"
                found.append(Effect(name=name, pairs=tuple(pairs), intervals=intervals))
    return found


def word(key: str | bool) -> str:
    """A value of an axis as people write it."""
    return {True: "yes", False: "no"}[key] if isinstance(key, bool) else key


def _pairs(rows: Sequence[Row], axis: axes.Axis, one: axes.Value, two: axes.Value) -> Iterator[Pair]:
    by_point = {row.planned.cell.values: row for row in rows}
    for first in rows:
        second = by_point.get(_moved(first.planned.cell, axis, two))
        if first.planned.cell[axis.name] != one.key or second is None or not _alike(first.planned, second.planned):
            continue
        both = {metric: (percentages(first, metric), percentages(second, metric)) for metric, _ in METRICS}
        if all(values for pair in both.values() for values in pair):
            yield Pair(
                one=first.planned.name,
                two=second.planned.name,
                precision=both,
                marked=bool(marks(first) or marks(second)),
            )


def _moved(cell: Cell, axis: axes.Axis, value: axes.Value) -> tuple[tuple[str, str | bool], ...]:
    """The cell's values with another one on the axis."""
    return tuple((name, value.key if name == axis.name else key) for name, key in cell.values)


def _alike(one: PlannedCell, two: PlannedCell) -> bool:
    """Whether overrides and shortening leave two cells different in nothing but what their values make different."""
    own = diff(one.cell.recipe(), two.cell.recipe())
    return one.shortening == two.shortening and diff(one.recipe, two.recipe).keys() <= own.keys()
