"""Where every run of an experiment stands, from the run folders."""

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json
from harness.launching import prepare
from harness.matrix import Experiment
from harness.runs import RunPaths, RunSpec, RunState, State, experiment_runs, merged_rows, read_spec, read_state
from harness.settings import Settings
from harness.wording import percent


def status_rows(experiment: Experiment, settings: Settings) -> list[dict[str, Any]]:
    """A row for each cell and seed of the matrix, in its order, and then for runs that it no longer contains."""
    present = {paths.folder: read_spec(paths) for paths in experiment_runs(settings.run_root, experiment.name)}
    rows = []
    for name, seed, folder in _wanted(experiment, settings, present):
        known = folder is not None and present.pop(folder, None) is not None
        rows.append(_row(name, seed, RunPaths(folder) if folder and known else None))
    for folder, spec in present.items():
        rows.append(_row(spec.name, spec.seed, RunPaths(folder)) | {"text": "not in the matrix as it is now"})
    return rows


def _wanted(
    experiment: Experiment, settings: Settings, present: dict[Path, RunSpec]
) -> list[tuple[str, int, Path | None]]:
    """(name, seed, folder) of every run. Where data or weights are missing, so that no identity is known, the folder

    is that of a run of this name and seed, if there is one.
    """
    wanted: list[tuple[str, int, Path | None]] = []
    named = {(spec.name, spec.seed): folder for folder, spec in present.items()}
    for planned in experiment.cells:
        try:
            runs = prepare.prepare(experiment, settings, [planned])
            wanted += [(run.spec.name, run.spec.seed, run.paths.folder) for run in runs]
        except UserError:
            wanted += [(planned.name, seed, named.get((planned.name, seed))) for seed in experiment.seeds]
    return wanted


def _row(name: str, seed: int, paths: RunPaths | None) -> dict[str, Any]:
    row = {
        "name": name,
        "seed": seed,
        "state": "NEW",
        "attempt": 0,
        "box_ap": "-",
        "mask_ap": "-",
        "text": "",
        "folder": "",
    }
    if paths is None:
        return row | {"output": ""}
    state = read_state(paths)
    numbers = _numbers(paths)
    return row | {
        "state": str(state.state),
        "attempt": state.attempt,
        "box_ap": percent(numbers.get("bbox_mAP")),
        "mask_ap": percent(numbers.get("segm_mAP")),
        "text": _text(state),
        "folder": str(paths.folder),
        "output": str(_output(paths, state)),
    }


def _text(state: RunState) -> str:
    return "" if state.state == State.FINISHED else state.reason or state.progress


def _numbers(paths: RunPaths) -> dict[str, Any]:
    if paths.result.exists():
        metrics: dict[str, Any] = read_json(paths.result)["metrics"]
        return metrics
    return next((row for row in reversed(merged_rows(paths)) if row["mode"] == "val"), {})


def _output(paths: RunPaths, state: RunState) -> Path:
    """The file in which the last attempt's output is, or the folder of the run."""
    files = sorted((paths.attempt(state.attempt) / "submitit").glob("*.out"))
    return files[0] if files else paths.folder
