"""A whole training as a GPU has it, with the arithmetic of the CPU: on one device throughout, with the same results."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pretended_gpu import GPU, Pretended, pretended_gpu, waits

from harness.files import read_json
from harness.launching.prepare import PreparedRun
from harness.recipe import Recipe
from harness.run_log import read_log
from harness.training.benchmark import benchmark
from harness.training.build import build_optimizer
from harness.training.checkpoint import load
from harness.training.distributed import Ranks
from harness.training.loop import train
from harness.training.outcome import write_outcome
from harness.training.precision import LossScaler
from harness.training.session import Training
from training.tiny import changed, journal, make_shapes, prepared_run, run_to_end, stop_after

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def unset_is_nan() -> Iterator[None]:
    """Memory that torch allocates and leaves unset holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def on_gpu(run: PreparedRun, *, attempt: int = 1) -> Training:
    return Training(run.paths, run.spec, Ranks(device=GPU), attempt=attempt)


def test_mixed_devices_are_noticed() -> None:
    with pretended_gpu():
        there = torch.zeros(3, device="cuda")
        assert (there + 1).device == GPU
        assert (there + 1).cpu().tolist() == [1, 1, 1]
        with pytest.raises(AssertionError, match="on the CPU of shapes"):
            there + torch.zeros(3)
        assert not waits
        assert bool(there[0] == 0)
        assert waits == {"_local_scalar_dense": 1}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [{"mask_format": "bitmap"}, {"mask_format": "polygon", "kernels": "fast"}])
def test_stopped_resumed_and_tested(run: PreparedRun, tmp_path: Path, recipe: dict[str, str]) -> None:
    """The same losses as on the CPU; a training waits for a suppression an iteration, and for the rows of its log."""
    paths, spec = changed(run, tmp_path / "cpu", **recipe)
    run_to_end(paths, spec)
    run = PreparedRun(paths=changed(run, tmp_path / "gpu", **recipe)[0], spec=spec)
    with pretended_gpu():
        first = on_gpu(run)
        assert all(isinstance(value, Pretended) for value in first.model.state_dict().values())
        waits.clear()
        assert not train(first, stop=stop_after(2))
        assert waits == {"nms": 2, "tolist": 2}  # a row each
        second = on_gpu(run, attempt=2)
        assert second.position.step == 2
        assert train(second)
        result = write_outcome(second)
    assert (result["memory_kind"], result["hardware"]["device"]) == ("cuda", "Pretended GPU")
    assert read_log(run.paths.log)[0]["env_info"]["tf32"] == {"matmul": False, "cudnn": True}
    assert second.saved is not None
    assert not any(isinstance(value, Pretended) for value in load(second.saved.path)["state_dict"].values())
    for ours, theirs in zip(journal(run.paths), journal(paths), strict=True):
        numbers = {name for name, value in theirs.items() if isinstance(value, float)}
        assert {name: ours[name] for name in numbers} == pytest.approx(
            {name: theirs[name] for name in numbers}, rel=1e-4
        )
    assert read_json(run.paths.evaluation)["numbers"].keys() == read_json(paths.evaluation)["numbers"].keys()


def test_dynamic_loss_scaling(tmp_path: Path) -> None:
    """Steps of rate 1: 1 - 0.25; two that overflow and are skipped, which divides the scale of 65536 by 4; and three

    of 0.125, of which two in a row double it.
    """
    with pretended_gpu():
        weight = torch.nn.Parameter(torch.ones(1, device=GPU))
        optimizer = torch.optim.SGD([weight], lr=1.0, fused=True)
        scaler = LossScaler("fp16", "dynamic", GPU)

        def step(gradient: float) -> None:
            optimizer.zero_grad()
            scaler.backward((weight * gradient).sum())
            scaler.step(optimizer)

        step(0.25)
        scaled = weight.grad
        for _ in range(2):
            step(float("inf"))
        assert not waits
        assert scaled is not None and float(scaled) == 0.25  # unscaled, which is done with the step
        assert (weight.item(), float(scaler.overflows), scaler.overflows.device) == (0.75, 2, GPU)
        torch.save(scaler.state_dict() | {"growth_interval": 2}, tmp_path / "state.pth")
        scaler = LossScaler("fp16", "dynamic", GPU)
        scaler.load_state_dict(load(tmp_path / "state.pth"))
        waits.clear()
        for _ in range(3):
            step(0.125)
        assert not waits
        assert weight.item() == 0.375
        state = scaler.state_dict()
        assert (state["scale"], state["_growth_tracker"]) == (65536 / 4 * 2, 1)


def test_an_overflow_in_the_first_step_leaves_no_trace(unset_is_nan: None) -> None:
    """A fused step that is skipped keeps the momentum that was allocated for it, unset; here memory that is not set is

    NaN. One step of rate 0.02 and gradient 0.25, weight decay 0.
    """
    with pretended_gpu():
        layer = torch.nn.Linear(1, 1, bias=False, device=GPU)
        torch.nn.init.ones_(layer.weight)
        optimizer = build_optimizer(Recipe(lr=0.02, weight_decay=0.0), layer)
        scaler = LossScaler("fp16", 512.0, GPU)
        for gradient in (float("inf"), 0.25):
            optimizer.zero_grad()
            scaler.backward((layer.weight * gradient).sum())
            scaler.step(optimizer)
        assert layer.weight.item() == pytest.approx(0.995)


@pytest.mark.slow
def test_fp16_stopped_and_resumed(run: PreparedRun, tmp_path: Path) -> None:
    """The scale, which doubles every step here, goes on from its checkpoint, and so does the count of overflows."""
    paths, spec = changed(run, tmp_path / "run", precision="fp16", loss_scale="dynamic")
    with pretended_gpu():
        first = on_gpu(PreparedRun(paths=paths, spec=spec))
        first.scaler.load_state_dict(first.scaler.state_dict() | {"growth_interval": 1})
        first.scaler.overflows += 3
        waits.clear()
        assert not train(first, stop=stop_after(2))
        assert waits == {"nms": 2, "tolist": 2, "_local_scalar_dense": 2}  # a checkpoint has the scale, and its age
        second = on_gpu(PreparedRun(paths=paths, spec=spec), attempt=2)
        assert second.scaler.state_dict()["scale"] == 65536 * 4
        assert train(second)
        assert second.scaler.state_dict()["scale"] == 65536 * 2**6
        assert write_outcome(second)["overflows"] == 3


@pytest.mark.slow
def test_benchmark(tmp_path: Path) -> None:
    run = prepared_run(tmp_path, make_shapes(tmp_path / "shapes", val=7))
    with pretended_gpu():
        found = benchmark(run.spec, None, GPU)
    assert (found["memory_mb"], found["memory_kind"], found["memory_images"]) == (1.0, "cuda", 6)
    assert (found["hardware"]["kind"], found["fps_images"]) == ("cuda", 2)
    assert found["tf32"] == {"matmul": False, "cudnn": True} and found["cudnn_benchmark"] is False
