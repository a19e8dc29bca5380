"""A pilot goes on from its own checkpoint; the times that it keeps; memory and frames a second by themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from harness.files import read_json
from harness.launching.prepare import PreparedRun
from harness.run_log import read_log
from harness.shortening import Shortening
from harness.training import benchmark as benchmark_module
from harness.training.benchmark import benchmark
from harness.training.loop import train
from harness.training.pilot import resumed_halfway
from harness.training.session import Training
from harness.training.watch import Watch
from training.tiny import changed, make_shapes, prepared_run, run_to_end, session, weights


def silent(text: str) -> None:
    """Nobody listens."""


@pytest.mark.slow
def test_a_pilot_is_the_training_that_it_interrupts(tiny: None, run: PreparedRun, tmp_path: Path) -> None:
    """Two epochs with a resume between them, in one attempt: the weights of an undisturbed training."""
    watch = Watch()
    training = resumed_halfway(lambda: session(run.paths, run.spec), stop=lambda: False, on_row=silent, watch=watch)
    assert training.position.epoch == 1 and training.resumed is not None
    assert train(training, watch=watch)
    undisturbed = run_to_end(*changed(run, tmp_path / "other"))
    ours, theirs = weights(training), weights(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = read_log(run.paths.log)
    assert [row["step"] for row in rows if row["mode"] == "attempt"] == [0, 3]
    assert [row["step"] for row in rows if row["mode"] == "train"] == [1, 2, 3, 4, 5, 6]
    times = read_json(run.paths.attempt(1) / "times.json")
    assert (times["images"], times["evaluations"], times["checkpoints"]) == (8, 2, 2)
    assert times["seconds"]["start"] > times["resume"] > 0
    assert times["seconds"]["step"] > 0 and times["seconds"]["evaluation"] > 0


@pytest.mark.slow
def test_a_pilot_that_is_told_to_stop(tiny: None, run: PreparedRun) -> None:
    training = resumed_halfway(lambda: session(run.paths, run.spec), stop=lambda: True, on_row=silent, watch=Watch())
    assert (training.position.epoch, training.position.step) == (0, 1)


@pytest.fixture
def benched(tmp_path: Path) -> PreparedRun:
    """With 8 validation images, of which 3 are timed."""
    return prepared_run(tmp_path, make_shapes(tmp_path / "shapes", val=8))


@pytest.mark.slow
def test_benchmark(tiny: None, benched: PreparedRun) -> None:
    """5 iterations of the first of `batch / micro_batch` GPUs: of a batch of 6 in twos, two images each."""
    spec = replace(benched.spec, recipe=replace(benched.spec.recipe, batch=6), shortening=Shortening(image_scale=0.05))
    found = benchmark(spec, None, torch.device("cpu"))
    # 12 images, in groups of equal orientation that are filled up to whole batches: at least 2 iterations
    assert found["memory_images"] in (4, 6)
    assert (found["fps_images"], found["batch"], found["weights"], found["precision"]) == (3, 1, None, "fp32")
    assert found["memory_kind"] == "rss" and found["memory_mb"] > 50
    assert found["hardware"]["kind"] == "cpu" and found["hardware"]["count"] == 1
    assert found["fps"] == pytest.approx(1 / found["mean_s"])


@pytest.mark.slow
def test_benchmark_of_a_checkpoint(tiny: None, benched: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark_module.ITERATIONS, "cpu", 1)
    training: Training = run_to_end(benched.paths, benched.spec)
    assert training.saved is not None
    found = benchmark(benched.spec, training.saved.path, torch.device("cpu"))
    assert (found["weights"], found["memory_images"]) == (training.saved.sha256, 2)


def test_too_few_images_are_told_before_anything_is_measured(tiny: None, run: PreparedRun) -> None:
    with pytest.raises(
        UserError, match=r"instances_val\.json: 4 images to time, of which 5 are left out; expected more"
    ):
        benchmark(run.spec, None, torch.device("cpu"))
