"""Which records fill which row: a row is a cell of the experiment as its matrix file says today."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.identity import NUMERICS
from harness.matrix import Experiment, PlannedCell
from harness.recipe import Recipe, to_dict
from harness.reporting.records import Record, order, ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A planned cell and its run of each seed, or None where no run is recorded."""

    planned: PlannedCell
    runs: tuple[tuple[int, Record | None], ...]

    @property
    def finished(self) -> tuple[Record, ...]:
        """The runs whose numbers the row shows, by seed."""
        return tuple(record for _, record in self.runs if record and record.finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """A record that fills no row, and why."""

    record: Record
    why: str


def match(experiment: Experiment, records: Iterable[Record]) -> tuple[list[Row], list[OtherRun]]:
    """The experiment's rows in its order, and the runs that belong to none of them.

    A run fills a row only if name, executed recipe, precision and shortening are what the matrix file says today: what
    a CPU ran in bf16 is no FP16 result. Runs of a row whose identity differs are never mixed: the newest go first.
    """
    rows, others = [], []
    candidates: dict[str, list[Record]] = {planned.name: [] for planned in experiment.cells}
    planned_by_name = {planned.name: planned for planned in experiment.cells}
    for record in ordered(records):
        why = _misfit(planned_by_name.get(record.name), record, experiment)
        if why:
            others.append(OtherRun(record=record, why=why))
        else:
            candidates[record.name].append(record)
    for planned in experiment.cells:
        row, left = _fill(planned, candidates[planned.name], experiment.seeds)
        rows.append(row)
        others += left
    return rows, sorted(others, key=lambda other: order(other.record))


def _misfit(planned: PlannedCell | None, record: Record, experiment: Experiment) -> str | None:
    """Why a record cannot fill the row of its name, or None."""
    if planned is None:
        return "no such cell in the matrix file"
    if record.origin != experiment.origin:
        return f"{record.origin}, where the rows are {experiment.origin}"
    if record.seed not in experiment.seeds:
        return f"seed {record.seed} is not in the matrix file"
    if record.shortening != planned.shortening.describe():
        return f"shortening was {record.shortening or 'none'}, is {planned.shortening.describe() or 'none'}"
    if record.precision != record.recipe_precision:
        return f"ran in {record.precision}, the recipe says {record.recipe_precision}"
    if record.numerics != NUMERICS:
        return f"made with numerics {record.numerics}, the code is at {NUMERICS}: its results would differ now"
    wanted, executed = _plain(planned.executed), _plain(Recipe()) | record.recipe
    changed = [name for name in executed if name not in wanted or executed[name] != wanted[name]]
    return f"the recipe has changed since: {', '.join(changed)}" if changed else None


@cache
def _plain(recipe: Recipe) -> dict[str, Any]:
    """Once for all runs of a cell."""
    return to_dict(recipe)


def _fill(planned: PlannedCell, records: list[Record], seeds: tuple[int, ...]) -> tuple[Row, list[OtherRun]]:
    chosen, others = newest(records)
    return Row(planned=planned, runs=tuple((seed, chosen.get(seed)) for seed in seeds)), others


def newest(records: Iterable[Record]) -> tuple[dict[int, Record], list[OtherRun]]:
    """Of the records of one cell the newest of each seed, all of the identity of the newest; and the others."""
    ranked = sorted(records, key=_preference, reverse=True)
    chosen: dict[int, Record] = {}
    others = []
    for record in ranked:
        why = _left_out(record, ranked[0], chosen.get(record.seed))
        if why:
            others.append(OtherRun(record=record, why=why))
        else:
            chosen[record.seed] = record
    return chosen, others


def _preference(record: Record) -> tuple[int, str]:
    return record.started, record.run_id


def _left_out(record: Record, first: Record, same_seed: Record | None) -> str | None:
    """Why a record does not stand in a row beside its first choice, or None."""
    if record.identity != first.identity:
        return "data, weights or numerics differ from the newest run's"
    return f"superseded by run {same_seed.run_id}" if same_seed else None
