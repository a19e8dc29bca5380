"""The numbers that the gate holds against each other: of runs, experiments, records, or the published rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.comparing.gate import Number
from harness.errors import UserError
from harness.files import read_json
from harness.published import published_rows
from harness.run_paths import RunPaths
from harness.run_spec import read_spec
from harness.run_state import State

if TYPE_CHECKING:
    from harness.reporting.records import Record
    from harness.reporting.rows import Row

PUBLISHED = "published"
"""What --against takes for the 21 published rows."""
GPU = "cuda"
"""The kind of hardware of a full result."""
METRICS = {"bbox_mAP": "box AP", "segm_mAP": "mask AP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The AP of one finished training, in percent."""

    name: str  # of the cell, with its overrides
    seed: int
    kind: str  # shortening and precision: only results of one kind are held against each other
    full: bool  # may stand for its cell: nothing of it is overridden or shortened, trained whole, by one code, on GPUs
    numbers: dict[str, float]  # by METRICS' values; of what has not finished none
    failed: bool = False  # no run of the cell has finished, and one has failed
    state: str = ""  # of a cell of which no run has finished
    missing: int = 0  # other seeds of the cell that have not finished


def of_run(paths: RunPaths, missing: int = 0) -> Result:
    """The result of a run's folder. missing: as of Result.

    Raises UserError where the run has not been evaluated.
    """
    if not paths.result.exists():
        raise UserError(f"{paths.folder}: has not finished; see harness status")
    spec, result = read_spec(paths), read_json(paths.result)
    return Result(
        name=spec.name,
        seed=spec.seed,
        kind=_kind(spec.shortening.describe(), spec.precision),
        full=spec.full and len(result["codes"]) < 2 and result["hardware"]["kind"] == GPU,
        numbers=_percent(result["metrics"]),
        missing=missing,
    )


def of_experiment(file: Path, tracking_uri: str) -> list[Result]:
    """The results of a matrix file's cells, from MLflow."""
    from harness.matrix import load_experiment
    from harness.reporting.rows import match
    from harness.reporting.tracked_records import from_tracking

    experiment = load_experiment(file)
    rows, _ = match(experiment, from_tracking(tracking_uri, experiment.name))
    found = []
    for row in rows:
        missing = len(row.runs) - len(row.finished)
        found += [_of_record(record, missing) for record in row.finished] or [_unfinished(row)]
    return found


def _unfinished(row: "Row") -> Result:
    from harness.reporting.marks import state_of

    states = ", ".join(dict.fromkeys(state_of(run) for _, run in row.runs))
    failed = any(run is not None and run.state == State.FAILED for _, run in row.runs)
    return Result(
        name=row.planned.name, seed=row.runs[0][0], kind="", full=False, numbers={}, failed=failed, state=states
    )


def of_records(file: Path) -> list[Result]:
    """The results of a report's records.json: of several runs of a seed the newest."""
    from harness.reporting.records import read_snapshot
    from harness.reporting.rows import newest

    kinds: dict[tuple[str, str], list[Record]] = {}
    for record in read_snapshot(file).records:
        kinds.setdefault((record.name, _kind(record.shortening, record.precision)), []).append(record)
    results = []
    for records in kinds.values():
        found, _ = newest(record for record in records if record.finished)
        missing = {record.seed for record in records if not record.finished} - found.keys()
        results += [_of_record(record, len(missing)) for _, record in sorted(found.items())]
    return results


def _of_record(record: "Record", missing: int) -> Result:
    return Result(
        name=record.name,
        seed=record.seed,
        kind=_kind(record.shortening, record.precision),
        full=record.full
        and record.epoch == record.epochs
        and record.hardware is not None
        and record.hardware.kind == GPU,
        numbers=_percent(record.metrics),
        missing=missing,
    )


def against_published(results: Sequence[Result]) -> tuple[list[Number], list[str]]:
    """Full results of published cells beside their rows, and a line for each result left out, saying why."""
    numbers, left_out = [], []
    for name, runs in _by_name(results).items():
        row = published_rows().get(name)
        full = [run for run in runs if run.full]
        if row is None or not full:
            why = runs[0].state or ("no published row" if row is None else f"no full result of a GPU ({runs[0].kind})")
            left_out.append(f"{name}: {why}")
            continue
        for metric, value in (("box AP", row.box_ap), ("mask AP", row.mask_ap)):
            now = tuple(run.numbers[metric] for run in full if metric in run.numbers)
            table = {"results": "Results", "pretrained": "Pre-trained models"}[row.table]
            if now:
                missing = (full[0].missing, 0)
                numbers.append(Number(table=table, row=name, metric=metric, now=now, before=(value,), missing=missing))
    return numbers, left_out


def against_results(results: Sequence[Result], before: Sequence[Result]) -> tuple[list[Number], list[str]]:
    """Results beside those of the same cell and kind, and a line for each left out."""
    numbers, left_out = [], []
    others = {(run.name, run.kind) for run in before}
    left_out += [f"{run.name}: {run.state}" for run in results if run.state]
    for name, kind in dict.fromkeys((run.name, run.kind) for run in results if not run.state):
        if (name, kind) not in others:
            left_out.append(f"{name} ({kind}): nothing of this cell and kind to hold it against")
            continue
        mine, theirs = ([run for run in side if (run.name, run.kind) == (name, kind)] for side in (results, before))
        missing = (mine[0].missing, theirs[0].missing)
        for metric in METRICS.values():
            now, then = (tuple(run.numbers[metric] for run in side if metric in run.numbers) for side in (mine, theirs))
            if now and then:
                numbers.append(Number(table="Results", row=name, metric=metric, now=now, before=then, missing=missing))
    return numbers, left_out


def _by_name(results: Sequence[Result]) -> dict[str, list[Result]]:
    names = dict.fromkeys(run.name for run in results)
    return {name: [run for run in results if run.name == name] for name in names}


def _percent(numbers: Mapping[str, float | None]) -> dict[str, float]:
    found = ((shown, numbers.get(metric)) for metric, shown in METRICS.items())
    return {shown: 100 * value for shown, value in found if value is not None and value >= 0}


def _kind(shortening: str, precision: str) -> str:
    return f"{shortening or 'whole recipe'}, {precision}"
