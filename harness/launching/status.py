"""Where every run of an experiment stands, from the run folders."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import read_json
from harness.imported import minus_published
from harness.launching import prepare, supervisor
from harness.launching.restarts import fruitless
from harness.launching.slurm_jobs import Standing, read_job, standings
from harness.matrix import Experiment
from harness.runs import RunPaths, RunSpec, RunState, State, experiment_runs, merged_rows, read_spec
from harness.settings import Settings
from harness.training.notes import read_notes
from harness.wording import percent

SILENCE = 120.0
"""Seconds without a note of rank 0 after which status says so; it writes one every few seconds."""


def status_rows(experiment: Experiment, settings: Settings) -> list[dict[str, Any]]:
    """A row for each cell and seed of the matrix, in its order, and then for runs that it no longer contains."""
    present = {paths.folder: read_spec(paths) for paths in experiment_runs(settings.run_root, experiment.name)}
    found = dict(zip(present, standings(map(RunPaths, present), patient=True), strict=True))
    supervised = supervisor.lives(supervisor.Home(settings.run_root))
    rows = []
    for name, seed, folder in _wanted(experiment, settings, present):
        known = folder is not None and present.pop(folder, None) is not None
        rows.append(_row(name, seed, folder, found[folder], supervised) if folder and known else _new_row(name, seed))
    for folder, spec in present.items():
        row = _row(spec.name, spec.seed, folder, found[folder], supervised)
        rows.append(row | {"text": "not in the matrix as it is now"})
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


def _new_row(name: str, seed: int) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "state": "NEW",
        "attempt": 0,
        "box_ap": "-",
        "mask_ap": "-",
        "minus_published": "",
        "text": "",
        "folder": "",
        "output": "",
    }


def _row(name: str, seed: int, folder: Path, standing: Standing, supervised: bool) -> dict[str, Any]:
    paths, state = RunPaths(folder), standing.state
    numbers = _numbers(paths)
    return _new_row(name, seed) | {
        "state": str(state.state),
        "attempt": state.attempt,
        "box_ap": percent(numbers.get("bbox_mAP")),
        "mask_ap": percent(numbers.get("segm_mAP")),
        "minus_published": _minus_published(paths),
        "text": "; ".join(_texts(paths, standing, supervised=supervised)),
        "folder": str(paths.folder),
        "output": str(_output(paths, state)),
    }


def _texts(paths: RunPaths, standing: Standing, *, supervised: bool) -> Iterator[str]:
    """What there is to say of a run that is not finished."""
    state = standing.state
    if state.state == State.FINISHED:
        return
    yield from filter(None, (state.reason or state.progress, standing.text))
    if state.state == State.QUEUED and not supervised and read_job(paths) is None:
        yield "no supervisor lives: harness submit starts one"
    if state.state == State.FAILED and len(fruitless(paths)) > 1:
        yield f"{len(fruitless(paths))} attempts in a row without a newer checkpoint"
    if state.state == State.RUNNING:
        for note in read_notes(paths.attempt(state.attempt), [0]):
            yield from (f"slow: {text}" for text in note.slow)
            if (silence := time.time() - note.written) > SILENCE:
                yield f"no sign of life from {note.host} for {silence:.0f} s"


def _numbers(paths: RunPaths) -> dict[str, Any]:
    if paths.result.exists():
        metrics: dict[str, Any] = read_json(paths.result)["metrics"]
        return metrics
    return next((row for row in reversed(merged_rows(paths)) if row["mode"] == "val"), {})


def _minus_published(paths: RunPaths) -> str:
    """Box and mask AP of the last validation minus the imported curve's at the same epoch, in percent."""
    last = next((row for row in reversed(merged_rows(paths)) if row["mode"] == "val"), None)
    if last is None:
        return ""
    found = minus_published(paths.folder.parent.parent, read_spec(paths), last["epoch"], last)
    return " / ".join(f"{100 * value:+.1f}" for value in found.values())


def _output(paths: RunPaths, state: RunState) -> Path:
    """The file in which the last attempt's output is, or the folder of the run."""
    job = read_job(paths)
    if job is not None and job.output:
        return Path(job.output)
    files = sorted((paths.attempt(state.attempt) / "submitit").glob("*.out"))
    return files[0] if files else paths.folder
