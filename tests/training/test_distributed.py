"""Several processes do what one does: gradients, losses, tests, stops and faults; real processes on gloo."""

import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from harness.errors import UserError
from harness.failures import Failure
from harness.launching.prepare import PreparedRun
from harness.run_log import merged_rows
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, read_spec
from harness.training import checkpoint, distributed, loop, validation
from harness.training.distributed import Ranks
from harness.training.precision import LossScaler
from harness.training.session import Training
from harness.training.step import iterate
from training import processes
from training.tiny import changed, session, tiny_backbone

pytestmark = pytest.mark.slow

FROZEN = {"bn_eval": True, "bn_affine_trained": False, "micro_batch": 1, "batch": 8}


def together(work: Callable[..., None], paths: RunPaths, *arguments: Any, world: int = 2) -> None:
    log = paths.folder / "rank"
    processes.finish(processes.start(work, paths.folder, *arguments, world=world, log=log), log)


def begin(folder: Path) -> Training:
    """In a rank: the run's training."""
    paths, ranks = RunPaths(folder), distributed.start(gpu=False)
    return Training(paths, read_spec(paths), ranks, attempt=1)


def one_step(model: nn.Module, batches: list[Any], ranks: Ranks, micro_batches: int) -> dict[str, dict[str, Tensor]]:
    """Gradients and losses of an iteration that moves nothing."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = LossScaler("fp32", 1.0, ranks.device)
    model.train()
    losses = iterate(model, batches, optimizer, scaler, precision="fp32", micro_batches=micro_batches, ranks=ranks)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return {"losses": losses, "gradients": {name: p.grad for name, p in inner.named_parameters() if p.grad is not None}}


def save_step(folder: Path) -> None:
    """In a rank: its losses, the gradients after the exchange, and how many exchanges there were."""
    training = begin(folder)
    exchanges: list[int] = []

    def hook(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        exchanges.append(bucket.index())
        return allreduce_hook(None, bucket)

    assert isinstance(training.replica, DistributedDataParallel)
    training.replica.register_comm_hook(None, hook)
    batches = next(training.images.epoch(0, training.ranks, start=0))
    found = one_step(training.replica, batches, training.ranks, training.recipe.batch // training.recipe.micro_batch)
    torch.save(found | {"exchanges": exchanges}, folder / f"{training.ranks.rank}.pth")


@pytest.mark.parametrize(("world", "micro_batches"), [(2, 2), (2, 4), (3, 8)])
def test_gradients_are_the_mean_of_the_micro_batches(
    run: PreparedRun, tmp_path: Path, world: int, micro_batches: int
) -> None:
    """Of each rank's own, and as one process accumulates them. 3 ranks have 3, 3 and 2 of 8 micro-batches."""
    paths, spec = changed(run, tmp_path / "run", **FROZEN | {"batch": micro_batches})
    together(save_step, paths, world=world)
    found = [torch.load(paths.folder / f"{rank}.pth") for rank in range(world)]
    training = session(paths, spec)
    batches = next(training.images.epoch(0, Ranks(), start=0))
    alone = [one_step(deepcopy(training.model), [batch], Ranks(), 1) for batch in batches]
    accumulated = one_step(deepcopy(training.model), batches, Ranks(), micro_batches)
    names = {name for name, parameter in training.model.named_parameters() if parameter.requires_grad}
    assert found[0]["gradients"].keys() == accumulated["gradients"].keys() == names
    for name in names:
        mean = torch.stack([each["gradients"][name] for each in alone]).mean(0)
        torch.testing.assert_close(found[0]["gradients"][name], mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[0]["gradients"][name], accumulated["gradients"][name], rtol=1e-4, atol=1e-6)
        assert all(torch.equal(found[0]["gradients"][name], other["gradients"][name]) for other in found)
    for name, value in accumulated["losses"].items():
        mean = sum(float(each["losses"][name]) for each in found) / world
        assert mean == pytest.approx(float(value), rel=1e-5)
    # gradients go around once an iteration, after the last micro-batch: each bucket of them once
    assert all(sorted(each["exchanges"]) == list(range(len(each["exchanges"]))) for each in found)


def save_rows(folder: Path, counts: tuple[int, ...]) -> None:
    """In a rank: the detections on the first images."""
    with tiny_backbone():
        training = begin(folder)
    for first in counts:
        found = validation.detect(training.model, replace(training.validation, first=first), training.ranks)
        assert (found is not None) == training.ranks.main
        if found is not None:
            (folder / f"{first}.json").write_text(json.dumps(list(found.rows())))


@pytest.mark.parametrize(("world", "workers", "counts"), [(2, 0, (0, 1, 2, 3)), (3, 0, (1, 4)), (2, 1, (1,))])
def test_every_image_is_tested_once(
    run: PreparedRun, tmp_path: Path, world: int, workers: int, counts: tuple[int, ...]
) -> None:
    """Also where ranks have no image at all."""
    paths, spec = changed(run, tmp_path / "run", resources=run.spec.resources | {"workers": workers})
    together(save_rows, paths, counts, world=world)
    with tiny_backbone():
        training = session(paths, spec)
    for first in counts:
        split = replace(training.validation, first=first)
        expected = validation.detect(training.model, split, Ranks())
        assert expected is not None
        found = json.loads((paths.folder / f"{first}.json").read_text())
        assert {row["image_id"] for row in found} == set(split.image_ids)
        assert sorted(found, key=lambda row: split.image_ids.index(row["image_id"])) == list(expected.rows())


def train_until(folder: Path, stop: Callable[[Training], bool]) -> None:
    """In a rank: train; leave how it ended."""
    with tiny_backbone():
        training = begin(folder)
    try:
        ended: Any = loop.train(training, stop=lambda: stop(training))
    except UserError as error:
        ended = str(error)
    (folder / f"ended{training.ranks.rank}.json").write_text(json.dumps([ended, training.position.step]))


def endings(paths: RunPaths) -> list[Any]:
    return [json.loads((paths.folder / f"ended{rank}.json").read_text()) for rank in range(2)]


def many(run: PreparedRun, folder: Path, iterations: int) -> tuple[RunPaths, RunSpec]:
    shortening = replace(run.spec.shortening, iterations_per_epoch=iterations)
    return changed(run, folder, micro_batch=1, repeats=400, shortening=shortening)


def stopped_on_rank_1(folder: Path) -> None:
    train_until(folder, lambda training: training.ranks.rank == 1 and training.position.step >= 3)


def test_one_rank_is_told_to_stop(run: PreparedRun, tmp_path: Path) -> None:
    """All stop after the same iteration, with a checkpoint of it."""
    paths, _ = many(run, tmp_path / "run", 1000)
    together(stopped_on_rank_1, paths)
    first, second = endings(paths)
    saved = checkpoint.newest(paths.checkpoints)
    assert first == second
    assert saved is not None and first == [False, saved.step]
    assert 3 <= saved.step < 1000


def stopped_in_evaluation(folder: Path) -> None:
    detect, testing = validation.detect, []
    validation.detect = lambda *words: testing.append(1) or detect(*words)  # type: ignore[assignment,func-returns-value]
    train_until(folder, lambda training: training.ranks.rank == 1 and bool(testing))


def test_one_rank_is_told_to_stop_while_testing(run: PreparedRun, tmp_path: Path) -> None:
    paths, _ = many(run, tmp_path / "run", 2)
    together(stopped_in_evaluation, paths)
    assert endings(paths) == [[False, 2]] * 2
    assert not any(row["mode"] == "val" for row in merged_rows(paths))


def broken_on_rank_1(folder: Path) -> None:
    real = loop.iterate

    def broken(*words: Any, **options: Any) -> dict[str, Tensor]:
        losses = real(*words, **options)
        broken.calls += 1
        factor = float("nan") if options["ranks"].rank == 1 and broken.calls == 2 else 1.0
        return {name: value * factor for name, value in losses.items()}

    broken.calls = 0
    loop.iterate = broken
    train_until(folder, lambda training: False)


def test_one_rank_s_loss_is_not_finite(run: PreparedRun, tmp_path: Path) -> None:
    """All ranks fail, with the image that rank 1 had in iteration 2, though the row is after iteration 4."""
    paths, spec = many(run, tmp_path / "run", 20)
    together(broken_on_rank_1, paths)
    with tiny_backbone():
        images = session(paths, spec).images
    (image,) = images.ids(0, 1, Ranks(rank=1, world=2))
    first, second = endings(paths)
    assert first == second
    assert first[0].startswith(f"epoch 1, iteration 2: the loss is not finite for images {image}; ")
    assert first[1] == 4
    assert image in images.ids(0, 1, Ranks()) and image not in images.ids(0, 1, Ranks(rank=0, world=2))


@pytest.mark.parametrize(("code", "backend", "ends"), [(2, "nccl", [2]), (0, "nccl", []), (2, "gloo", [])])
def test_after_a_failure_nobody_takes_leave_of_nccl(
    monkeypatch: pytest.MonkeyPatch, code: int, backend: str, ends: list[int]
) -> None:
    """Its end would wait for the other ranks, which may wait for this one."""
    did: list[Any] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: backend)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: did.append("leave"))

    def leave(code: int) -> None:
        did.append(code)
        raise SystemExit

    monkeypatch.setattr(distributed.os, "_exit", leave)
    with suppress(SystemExit):
        distributed.stop(code)
    assert did == (ends or ["leave"])


def test_a_node_without_its_gpus_is_told_before_the_others_wait() -> None:
    store = dist.HashStore()
    distributed._require_same_device(store, 0, "cuda")
    distributed._require_same_device(store, 1, "cuda")
    with pytest.raises(UserError, match="trains on cpu, rank 0 on cuda") as caught:
        distributed._require_same_device(store, 2, "cpu")
    assert caught.value.failure == Failure.NODE
