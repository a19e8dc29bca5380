"""Learning curves: which rows are shown, their validation AP by epoch, and beside them the imported published ones."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.errors import UserError
from harness.reporting.pareto import label
from harness.reporting.records import HISTORY, EpochAP
from harness.reporting.rows import Row

LEGIBLE = 8
"""Rows whose curves can be told apart in one plot."""

Published = Mapping[str, Sequence[EpochAP]]
"""Of a cell the validations of its imported log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Of one run, or of the published log of a cell: by metric (epochs x repeats of the data, AP in percent)."""

    label: str
    series: int  # rows have one each
    values: dict[str, list[tuple[float, float]]]
    published: bool = False


def choose(rows: Sequence[Row], chosen: Sequence[str]) -> list[Row]:
    """Of the rows that have a curve, those chosen by name or pattern; without a choice the LEGIBLE with the best AP.

    Their order is kept.
    """
    drawn = [row for row in rows if any(run and run.history for _, run in row.runs)]
    if chosen:
        return [row for row in drawn if any(_fits(row, pattern) for pattern in chosen)]
    best = sorted(drawn, key=lambda row: (-_reached(row), row.planned.name))[:LEGIBLE]
    return [row for row in drawn if row in best]


def _fits(row: Row, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (row.planned.name, row.planned.cell.name))


def _reached(row: Row) -> float:
    """The best box AP of any of its validations."""
    return max((point.bbox_mAP or 0.0 for _, run in row.runs if run for point in run.history), default=0.0)


def check_choice(rows: Sequence[Row], chosen: Sequence[str]) -> None:
    """Raise UserError where a name or pattern fits no row."""
    for pattern in chosen:
        if not any(_fits(row, pattern) for row in rows):
            raise UserError(f"--curves {pattern}: no cell of the experiment is called so; harness plan lists them")


def curves(rows: Sequence[Row], published: Published) -> list[Curve]:
    """A curve for each run of the rows that was validated, and of full rows the published one, where there is one."""
    found = []
    for series, row in enumerate(rows):
        repeats = row.planned.executed.repeats
        mine = [_curve(label(row), series, run.history, repeats) for _, run in row.runs if run and run.history]
        theirs = published.get(row.planned.name, ()) if row.planned.full else ()
        found += mine
        if theirs:
            name = f"{label(row).removesuffix(' *')}, published"
            found.append(replace(_curve(name, series, theirs, repeats), published=True))
    return found


def _curve(name: str, series: int, history: Sequence[EpochAP], repeats: int) -> Curve:
    values = {
        metric: [
            (float(point.epoch * repeats), 100 * value)
            for point in history
            if (value := getattr(point, metric)) is not None and value >= 0
        ]
        for metric in HISTORY
    }
    return Curve(label=name, series=series, values=values)
