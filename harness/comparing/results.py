"""The numbers that the gate holds against each other: of runs, experiments, records, or the published rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.comparing.gate import Number
from harness.errors import UserError
from harness.files import read_json
from harness.published import published_rows
from harness.runs import RunPaths, read_spec

if TYPE_CHECKING:
    from harness.reporting.records import Record

PUBLISHED = "published"
"""What --against takes for the 21 published rows."""
METRICS = {"bbox_mAP": "box AP", "segm_mAP": "mask AP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The AP of one finished training, in percent."""

    name: str  # of the cell, with its overrides
    seed: int
    kind: str  # shortening and precision: only results of one kind are held against each other
    full: bool  # may stand for its cell
    numbers: dict[str, float]  # by METRICS' values


def of_run(paths: RunPaths) -> Result:
    """The result of a run's folder.

    Raises UserError where the run has not been evaluated.
    """
    if not paths.result.exists():
        raise UserError(f"{paths.folder}: has not finished; see harness status")
    spec, numbers = read_spec(paths), read_json(paths.result)["metrics"]
    kind = _kind(spec.shortening.describe(), spec.precision)
    return Result(name=spec.name, seed=spec.seed, kind=kind, full=spec.full, numbers=_percent(numbers))


def of_experiment(file: Path, tracking_uri: str) -> list[Result]:
    """The results of a matrix file's finished runs, from MLflow."""
    from harness.matrix import load_experiment
    from harness.reporting.records import from_tracking
    from harness.reporting.rows import match

    experiment = load_experiment(file)
    rows, _ = match(experiment, from_tracking(tracking_uri, experiment.name))
    return _of_records(record for row in rows for record in row.finished)


def of_records(file: Path) -> list[Result]:
    """The results of a report's records.json."""
    from harness.reporting.records import read_snapshot

    return _of_records(record for record in read_snapshot(file).records if record.finished)


def _of_records(records: "Iterable[Record]") -> list[Result]:
    return [
        Result(
            name=record.name,
            seed=record.seed,
            kind=_kind(record.shortening, record.precision),
            full=record.full and record.epoch == record.epochs,
            numbers=_percent(record.metrics),
        )
        for record in records
    ]


def against_published(results: Sequence[Result]) -> tuple[list[Number], list[str]]:
    """Full results of published cells beside their rows, and a line for each result left out, saying why."""
    numbers, left_out = [], []
    for name, runs in _by_name(results).items():
        row = published_rows().get(name)
        full = [run for run in runs if run.full]
        if row is None or not full:
            why = "no published row" if row is None else f"no full result ({runs[0].kind})"
            left_out.append(f"{name}: {why}")
            continue
        for metric, value in (("box AP", row.box_ap), ("mask AP", row.mask_ap)):
            now = tuple(run.numbers[metric] for run in full if metric in run.numbers)
            table = {"results": "Results", "pretrained": "Pre-trained models"}[row.table]
            if now:
                numbers.append(Number(table=table, row=name, metric=metric, now=now, before=(value,)))
    return numbers, left_out


def against_results(results: Sequence[Result], before: Sequence[Result]) -> tuple[list[Number], list[str]]:
    """Results beside those of the same cell and kind, and a line for each left out."""
    numbers, left_out = [], []
    others = {(run.name, run.kind) for run in before}
    for name, kind in dict.fromkeys((run.name, run.kind) for run in results):
        if (name, kind) not in others:
            left_out.append(f"{name} ({kind}): nothing of this cell and kind to hold it against")
            continue
        for metric in METRICS.values():
            now, then = (_values(side, name, kind, metric) for side in (results, before))
            if now and then:
                numbers.append(Number(table="Results", row=name, metric=metric, now=now, before=then))
    return numbers, left_out


def _values(results: Sequence[Result], name: str, kind: str, metric: str) -> tuple[float, ...]:
    mine = (run.numbers for run in results if (run.name, run.kind) == (name, kind))
    return tuple(numbers[metric] for numbers in mine if metric in numbers)


def _by_name(results: Sequence[Result]) -> dict[str, list[Result]]:
    names = dict.fromkeys(run.name for run in results)
    return {name: [run for run in results if run.name == name] for name in names}


def _percent(numbers: Mapping[str, float | None]) -> dict[str, float]:
    found = ((shown, numbers.get(metric)) for metric, shown in METRICS.items())
    return {shown: 100 * value for shown, value in found if value is not None and value >= 0}


def _kind(shortening: str, precision: str) -> str:
    return f"{shortening or 'whole recipe'}, {precision}"
