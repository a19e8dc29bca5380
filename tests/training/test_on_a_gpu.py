"""A whole training as a GPU has it, with the arithmetic of the CPU: on one device throughout, with the same results."""

from pathlib import Path

import pytest
import torch
from pretended_gpu import GPU, Pretended, pretended_gpu, waits

from harness.files import read_json
from harness.launching.prepare import PreparedRun
from harness.training.benchmark import benchmark
from harness.training.checkpoint import load
from harness.training.distributed import Ranks
from harness.training.loop import train
from harness.training.outcome import write_outcome
from harness.training.session import Training
from training.tiny import changed, journal, make_shapes, prepared_run, run_to_end, stop_after

pytestmark = pytest.mark.usefixtures("tiny")


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
    assert second.saved is not None
    assert not any(isinstance(value, Pretended) for value in load(second.saved.path)["state_dict"].values())
    for ours, theirs in zip(journal(run.paths), journal(paths), strict=True):
        numbers = {name for name, value in theirs.items() if isinstance(value, float)}
        assert {name: ours[name] for name in numbers} == pytest.approx(
            {name: theirs[name] for name in numbers}, rel=1e-4
        )
    assert read_json(run.paths.evaluation)["numbers"].keys() == read_json(paths.evaluation)["numbers"].keys()


@pytest.mark.slow
def test_benchmark(tmp_path: Path) -> None:
    run = prepared_run(tmp_path, make_shapes(tmp_path / "shapes", val=7))
    with pretended_gpu():
        found = benchmark(run.spec, None, GPU)
    assert (found["memory_mb"], found["memory_kind"], found["memory_images"]) == (1.0, "cuda", 6)
    assert (found["hardware"]["kind"], found["fps_images"]) == ("cuda", 2)
