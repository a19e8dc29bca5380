"""Learning curves: which rows are shown, their validation AP by epoch, and beside them what was published."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.published import published_rows
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
    seed: int | None = None  # None: as published
    line: int = 0  # one for each of a row's seeds, the same in all rows
    values: dict[str, list[tuple[float, float]]]

    @property
    def published(self) -> bool:
        """Whether others have trained it."""
        return self.seed is None


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
    """A curve for each run of the rows that was validated, and what was published of full rows that have one: the

    imported curve or, where there is none, the table's AP at the last epoch.
    """
    found = []
    for series, row in enumerate(rows):
        repeats = row.planned.executed.repeats
        mine = [
            Curve(label=label(row), series=series, seed=seed, line=line, values=_values(run.history, repeats))
            for line, (seed, run) in enumerate(row.runs)
            if run and run.history
        ]
        found += mine
        if not row.planned.full:
            continue
        name = f"{label(row).removesuffix(' *')}, published"
        if row.planned.name in published:
            found.append(Curve(label=name, series=series, values=_values(published[row.planned.name], repeats)))
        elif mine and (last := _last(row)):
            found.append(Curve(label=f"{name}, last epoch", series=series, values=_values([last], repeats)))
    return found


def _last(row: Row) -> EpochAP | None:
    """The published AP of a row, which is of its last epoch."""
    theirs = published_rows().get(row.planned.name)
    if theirs is None:
        return None
    return EpochAP(epoch=row.planned.executed.epochs, bbox_mAP=theirs.box_ap / 100, segm_mAP=theirs.mask_ap / 100)


def _values(history: Sequence[EpochAP], repeats: int) -> dict[str, list[tuple[float, float]]]:
    return {
        metric: [
            (float(point.epoch * repeats), 100 * value)
            for point in history
            if (value := getattr(point, metric)) is not None and value >= 0
        ]
        for metric in HISTORY
    }
