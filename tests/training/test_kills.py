"""Killed at random moments, on one process and several, a training ends with the same weights and the same journal."""

import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.launching.prepare import PreparedRun
from harness.runs import RunPaths, merged_rows
from harness.training import checkpoint
from training.tiny import changed, journal

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HARNESS_TEST_KILLS", "3"))
CHILD = Path(__file__).with_name("child.py")


def start(paths: RunPaths, *, world: int = 1, seconds: float = 600.0) -> list[subprocess.Popen[str]]:
    """The processes of a training, rank 0 first; returns when it is built."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(paths.folder), str(seconds)],
            env=shared | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=(paths.folder / f"stderr{rank}").open("a"),
            text=True,
        )
        for rank in range(world)
    ]
    assert processes[0].stdout is not None
    assert processes[0].stdout.readline() == "ready\n", (paths.folder / "stderr0").read_text()
    return processes


def finish(processes: list[subprocess.Popen[str]]) -> None:
    assert [process.wait(timeout=300) for process in processes] == [0] * len(processes)


def last_weights(paths: RunPaths) -> dict[str, Tensor]:
    saved = checkpoint.newest(paths.checkpoints)
    assert saved is not None
    weights: dict[str, Tensor] = checkpoint.load(saved.path)["state_dict"]
    return weights


def make(run: PreparedRun, folder: Path, **fields: Any) -> RunPaths:
    """2 epochs of 4 iterations, each with a row."""
    shortening = replace(run.spec.shortening, iterations_per_epoch=4)
    resources = run.spec.resources | {"workers": fields.pop("workers", 0)}
    return changed(run, folder, shortening=shortening, resources=resources, **fields)[0]


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_kills_change_nothing(run: PreparedRun, tmp_path: Path, world: int, workers: int) -> None:
    undisturbed = make(run, tmp_path / "undisturbed", batch=4, micro_batch=2)
    finish(start(undisturbed, world=world))
    killed = make(run, tmp_path / "killed", batch=4, micro_batch=2, workers=workers)
    random.seed(world + workers)
    for _ in range(KILLS):
        processes = start(killed, world=world, seconds=0.5)
        time.sleep(random.uniform(0.2, 4.0))
        for process in processes:
            process.kill()
            process.wait()
    finish(start(killed, world=world, seconds=0.5))
    assert journal(killed) == journal(undisturbed)
    assert [row["step"] for row in merged_rows(killed) if row["mode"] == "val"] == [4, 8]
    expected, found = last_weights(undisturbed), last_weights(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(("world", "micro_batches"), [(2, 4), (3, 8)])
def test_ranks_do_what_one_process_does(run: PreparedRun, tmp_path: Path, world: int, micro_batches: int) -> None:
    """Frozen batch norm: the sums are the same, in another order. 3 ranks have 3, 3 and 2 of 8 micro-batches."""
    frozen = {"bn_eval": True, "bn_affine_trained": False, "optimizer": "SGD", "lr": 0.01}
    options = {"batch": micro_batches, "micro_batch": 1, "epochs": 1, **frozen}
    alone, shared = make(run, tmp_path / "alone", **options), make(run, tmp_path / "shared", **options)
    finish(start(alone))
    finish(start(shared, world=world))
    expected, found = last_weights(alone), last_weights(shared)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5)
    losses = [[row["loss"] for row in journal(paths) if row["mode"] == "train"] for paths in (alone, shared)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_other_numbers_of_ranks_go_on(run: PreparedRun, tmp_path: Path) -> None:
    """2, then 1, then 2 ranks: every step once."""
    paths = make(run, tmp_path / "run", batch=4, micro_batch=2)
    for world in (2, 1):
        processes = start(paths, world=world, seconds=0.0)
        deadline = time.monotonic() + 60
        before = len(merged_rows(paths))
        while len(merged_rows(paths)) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in processes:
            process.kill()
            process.wait()
    finish(start(paths, world=2, seconds=0.0))
    assert [row["step"] for row in journal(paths) if row["mode"] == "train"] == list(range(1, 9))
    assert {row["world"] for row in merged_rows(paths) if row["mode"] == "attempt"} == {1, 2}
