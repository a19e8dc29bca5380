"""What must be true of a run when it is over, whatever happened to it on the way."""

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from harness.run_paths import RunPaths, next_attempt
from harness.run_spec import read_spec
from harness.run_state import State, read_state
from harness.tracking.points import SETTLED, UPDATED, row_key
from harness.training.checkpoint import load, newest
from harness.training.distributed import Ranks
from harness.training.loop import train
from harness.training.session import Training
from slurm.conftest import eventually
from slurm.place import Place, steps

_UNDISTURBED: dict[str, dict[str, Any]] = {}
"""The weights that a run of one process ends with when nothing happens to it, by the run's key."""


def assert_whole(place: Place, paths: RunPaths, *, iterations: int = 3, weights: bool = True) -> None:
    """It has finished: every step and every epoch's evaluation once in the journal, and in one MLflow run.

    iterations: of an epoch, few enough that each has its row. weights: compare them with an undisturbed run's, bit by
    bit; for runs of one process.
    """
    assert read_state(paths).state == State.FINISHED
    epochs = read_spec(paths).executed.epochs
    assert steps(paths, "train") == list(range(1, epochs * iterations + 1))
    assert steps(paths, "val") == list(range(iterations, epochs * iterations + 1, iterations))
    tracked = place.folder / "mlflow.db"
    eventually(lambda: _statuses(tracked, paths) == ["FINISHED"], 90)
    _assert_tracked(tracked, paths)
    eventually(lambda: not [file for file in paths.folder.rglob(".*") if file.suffix in (".tmp", ".json")])
    if weights:
        _assert_undisturbed(place, paths)


def _query(file: Path, text: str, *values: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(text, values).fetchall()
    finally:
        connection.close()


def _statuses(file: Path, paths: RunPaths) -> list[str]:
    """Of all MLflow runs of the run's key."""
    select = "select status from runs natural join tags where tags.key = 'harness.key' and tags.value = ?"
    return [status for (status,) in _query(file, select, read_spec(paths).key)] if file.exists() else []


def _assert_tracked(file: Path, paths: RunPaths) -> None:
    """Every row of the journal that is to be tracked is there, and nothing twice."""
    select = (
        "select metrics.key, metrics.step from metrics join tags on metrics.run_uuid = tags.run_uuid "
        "where tags.key = 'harness.key' and tags.value = ?"
    )
    found = Counter(point for point in _query(file, select, read_spec(paths).key) if point[0] not in (UPDATED, SETTLED))
    assert [point for point, times in found.items() if times > 1] == []
    rows = {row_key({"mode": "train", "step": step}): step for step in reversed(steps(paths, "train"))}
    assert {step for key, step in found if key == "train/loss"} == set(rows.values())
    assert sorted(step for key, step in found if key == "val/bbox_mAP") == steps(paths, "val")


def _assert_undisturbed(place: Place, paths: RunPaths) -> None:
    """The weights are those of a training by the same specification, which nothing happens to."""
    spec = read_spec(paths)
    if spec.key not in _UNDISTURBED:
        other, threads = RunPaths(place.folder / f"undisturbed-{spec.key}"), torch.get_num_threads()
        torch.set_num_threads(1)
        assert train(Training(other, spec, Ranks(), attempt=next_attempt(other)))
        torch.set_num_threads(threads)
        _UNDISTURBED[spec.key] = _weights(other)
    ours, theirs = _weights(paths), _UNDISTURBED[spec.key]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def _weights(paths: RunPaths) -> dict[str, Any]:
    saved = newest(paths.checkpoints)
    assert saved is not None
    content: dict[str, Any] = load(saved.path)["state_dict"]
    return content
