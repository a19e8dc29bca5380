"""Killed at random moments, on one process and several, a training ends with the same weights and the same journal."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.files import read_json
from harness.launching.prepare import PreparedRun
from harness.run_log import merged_rows, read_log
from harness.run_paths import RunPaths
from harness.training import checkpoint, loop, scoring, validation
from training import processes
from training.tiny import changed, journal

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HARNESS_TEST_KILLS", "6"))
STEPS = 12
"""An epoch; with a log row every other one."""


def last_weights(paths: RunPaths) -> dict[str, Tensor]:
    saved = checkpoint.newest(paths.checkpoints)
    assert saved is not None
    weights: dict[str, Tensor] = checkpoint.load(saved.path)["state_dict"]
    return weights


def make(run: PreparedRun, folder: Path, **fields: Any) -> RunPaths:
    """A run that has not started; micro-batches of 1."""
    shortening = replace(run.spec.shortening, iterations_per_epoch=fields.pop("iterations", STEPS))
    resources = run.spec.resources | {"workers": fields.pop("workers", 0)}
    fields = {"batch": 2, "micro_batch": 1, "repeats": 4} | fields
    return changed(run, folder, shortening=shortening, resources=resources, **fields)[0]


def to_end(paths: RunPaths, *, world: int = 1, seconds: float = 600.0, small: bool = True) -> None:
    log = paths.folder / "rank"
    processes.finish(processes.start(processes.train, paths.folder, seconds, small, world=world, log=log), log)


def killed_at(paths: RunPaths, rows: int, delay: float, *, world: int = 1) -> bool:
    """Train, checkpointing every 0.2 s; kill all `delay` seconds after so many rows; whether that came in time."""
    started = processes.start(processes.train, paths.folder, 0.2, world=world, log=paths.folder / "rank")
    wait_for_rows(paths, rows)
    time.sleep(delay)
    came_in_time = all(process.is_alive() for process in started)
    processes.kill(started)
    return came_in_time


def wait_for_rows(paths: RunPaths, count: int) -> None:
    deadline = time.monotonic() + 120
    while sum(row["mode"] != "attempt" for row in merged_rows(paths)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 1)])
def test_kills_change_nothing(
    run: PreparedRun, tmp_path: Path, world: int, workers: int, record_property: Callable[[str, object], None]
) -> None:
    """At moments spread over one run: while it starts, trains, writes a checkpoint, or is evaluated."""
    undisturbed, killed = make(run, tmp_path / "undisturbed"), make(run, tmp_path / "killed", workers=workers)
    to_end(undisturbed, world=world)
    expected = journal(undisturbed)
    moments = random.Random(f"{world} ranks, {workers} workers")
    after = sorted(moments.randrange(len(expected) - 3) for _ in range(KILLS))
    kills = sum(killed_at(killed, rows, moments.uniform(0, 0.4), world=world) for rows in after)
    to_end(killed, world=world, seconds=0.2)
    found = journal(killed)
    rows = [row for log in killed.folder.glob("attempts/*/log.json") for row in read_log(log)]
    written = [row for row in rows if row["mode"] in ("train", "val")]
    lost, twice = len(expected) - len(found), len(written) - len(found)
    record_property("counts", f"{kills} kills survived, {lost} rows lost, {twice} rows twice")
    assert kills >= KILLS - 2
    assert found == expected
    assert not twice
    assert [row["step"] for row in found if row["mode"] == "val"] == [STEPS, 2 * STEPS]
    weights = last_weights(killed)
    assert all(torch.equal(value, weights[name]) for name, value in last_weights(undisturbed).items())
    assert not list(killed.checkpoints.glob(".*"))


def half_written(content: object, file: Any) -> None:
    """In place of torch.save."""
    file.write(b"half a checkpoint")
    file.flush()
    die()


def die(*words: Any, **options: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


record_val = loop._Loop._record_val


def recorded(*words: Any) -> None:
    """In place of _record_val."""
    record_val(*words)
    die()


MOMENTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "a checkpoint is half written": (torch, "save", half_written),
    "it is written, but not named": (checkpoint, "write_json", die),
    "it is named, the old ones are there": (checkpoint, "_remove_others", die),
    "the first image is to be tested": (validation, "detect", die),
    "the detections are to be scored": (scoring.Scoring, "_start", die),
    "the evaluation is written, its row is not": (loop._Loop, "_record_val", die),
    "its row is written, what was found is still there": (loop._Loop, "_record_val", recorded),
    "all is done, the log is to be merged": (loop, "merge_log", die),
}


def train_up_to(folder: Path, moment: str) -> None:
    """In a process: train, checkpointing at each iteration, and die at that moment."""
    module, name, death = MOMENTS[moment]
    setattr(module, name, death)
    processes.train(folder, 0.0)


def test_killed_at_each_awkward_moment(run: PreparedRun, tmp_path: Path) -> None:
    """One after the other in one run, which ends like an undisturbed one."""
    undisturbed, killed = (make(run, tmp_path / name, epochs=1) for name in ("undisturbed", "killed"))
    to_end(undisturbed)
    for moment in MOMENTS:
        (process,) = processes.start(train_up_to, killed.folder, moment, log=killed.folder / "rank")
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, moment
    to_end(killed)
    assert journal(killed) == journal(undisturbed)
    weights = last_weights(killed)
    assert all(torch.equal(value, weights[name]) for name, value in last_weights(undisturbed).items())
    assert read_json(killed.evaluation) == read_json(undisturbed.evaluation)


@pytest.mark.parametrize(("world", "micro_batches"), [(2, 4), (3, 8)])
def test_ranks_do_what_one_process_does(run: PreparedRun, tmp_path: Path, world: int, micro_batches: int) -> None:
    """Frozen batch norm: the sums are the same, in another order. 3 ranks have 3, 3 and 2 of 8 micro-batches."""
    frozen = {"bn_eval": True, "bn_affine_trained": False, "optimizer": "SGD", "lr": 0.01}
    options = {"batch": micro_batches, "epochs": 1, "iterations": 4, **frozen}
    alone, shared = make(run, tmp_path / "alone", **options), make(run, tmp_path / "shared", **options)
    to_end(alone, small=False)
    to_end(shared, world=world, small=False)
    assert_same(shared, alone)


def assert_same(paths: RunPaths, other: RunPaths) -> None:
    """Within the rounding of sums in another order."""
    found, expected = last_weights(paths), last_weights(other)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5)
    losses, others = ([row["loss"] for row in journal(each) if row["mode"] == "train"] for each in (paths, other))
    assert losses == pytest.approx(others, rel=1e-3)


def test_other_numbers_of_ranks_go_on(run: PreparedRun, tmp_path: Path) -> None:
    """2 ranks, then 1, then 2, with 2, then 4, then 2 micro-batches each: the same training, and the change is told."""
    options = {
        "optimizer": "SGD",
        "lr": 0.01,
        "bn_eval": True,
        "bn_affine_trained": False,
        "epochs": 2,
        "iterations": 8,
    }
    paths, undisturbed = make(run, tmp_path / "run", **options), make(run, tmp_path / "undisturbed", **options)
    for world, rows in ((2, 4), (1, 10)):
        started = processes.start(processes.train, paths.folder, 0.0, False, world=world, log=paths.folder / "rank")
        wait_for_rows(paths, rows)
        processes.kill(started)
    to_end(paths, world=2, small=False)
    to_end(undisturbed, world=2, small=False)
    assert [row["step"] for row in journal(paths) if row["mode"] == "train"] == list(range(1, 17))
    attempts = [row for row in merged_rows(paths) if row["mode"] == "attempt"]
    assert [(row["world_before"], row["world"]) for row in attempts] == [(None, 2), (2, 1), (1, 2)]
    assert_same(paths, undisturbed)


def test_a_dead_rank_takes_the_others_down(run: PreparedRun, tmp_path: Path) -> None:
    """They notice at the next exchange, whichever rank it is."""
    for rank in (0, 1):
        paths = make(run, tmp_path / f"run{rank}", iterations=1000)
        started = processes.start(processes.train, paths.folder, 600.0, world=2, log=paths.folder / "rank")
        wait_for_rows(paths, 1)
        time.sleep(1)
        started[rank].kill()
        began = time.monotonic()
        started[1 - rank].join(60)
        assert started[1 - rank].exitcode == 1
        assert time.monotonic() - began < 60
        assert "peer" in (paths.folder / f"rank{1 - rank}").read_text()
