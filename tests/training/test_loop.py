"""The loop: what it writes and when; stopped and taken up again it does exactly what an undisturbed one does."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from harness.files import read_json, sha256
from harness.launching.prepare import PreparedRun
from harness.runs import RunPaths, RunSpec, read_log
from harness.training import checkpoint, loop, validation
from harness.training.loop import train
from harness.training.session import Training
from training.tiny import changed, journal, run_to_end, session, stop_after, weights

pytestmark = pytest.mark.usefixtures("tiny")

FIVE = {"iterations_per_epoch": 5, "eval_images": 1}


@pytest.fixture(scope="module", autouse=True)
def rows_every_other_iteration() -> Iterator[None]:
    """At 5 iterations an epoch; at 3 a row each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_ROWS", 2)
        yield


@pytest.fixture(scope="module")
def undisturbed(tiny: None, tmp_path_factory: pytest.TempPathFactory, trained: Training) -> Training:
    """One epoch of 5 iterations, logged every 2 and at the end."""
    return run_to_end(*five_iterations(trained, tmp_path_factory.mktemp("undisturbed")))


def five_iterations(trained: Training, folder: Path) -> tuple[RunPaths, RunSpec]:
    run = PreparedRun(spec=trained.spec, paths=trained.paths)
    return changed(run, folder, epochs=1, shortening=replace(run.spec.shortening, **FIVE))


def test_rows_of_a_run(trained: Training) -> None:
    rows = read_log(trained.paths.log)
    assert [(row["mode"], row.get("epoch"), row.get("iter"), row["step"]) for row in rows] == [
        ("attempt", None, None, 0),
        *[("train", 1, i, i) for i in (1, 2, 3)],
        ("val", 1, 3, 3),
        *[("train", 2, i, i + 3) for i in (1, 2, 3)],
        ("val", 2, 3, 6),
    ]
    losses = ["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss_mask", "loss"]
    assert list(rows[1]) == ["mode", "epoch", "iter", "step", "lr", "memory", *losses, "time", "data_time", "stamp"]
    parts = [rows[1][name] for name in losses if name not in ("acc", "loss")]
    assert rows[1]["loss"] == pytest.approx(sum(parts), rel=1e-5)
    # lr 0.001, warm-up of 3 iterations from a thousandth, a tenth from epoch 1 on
    rates = [row["lr"] for row in rows if row["mode"] == "train"]
    assert rates == pytest.approx([1e-6, 3.34e-4, 6.67e-4, 1e-4, 1e-4, 1e-4])


def test_first_row_says_where_and_with_what(trained: Training) -> None:
    row = read_log(trained.paths.log)[0]
    assert (row["attempt"], row["world"], row["device"], row["precision"], row["seed"]) == (1, 1, "cpu", "fp32", 0)
    assert row["time"] == pytest.approx(row["stamp"], abs=5)
    assert row["env_info"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert row["env_info"]["hardware"]["kind"] == "cpu"
    assert json.loads(row["config"])["epochs"] == 2


def test_val_rows_are_of_their_checkpoints(trained: Training) -> None:
    last = read_log(trained.paths.log)[-1]
    assert trained.saved is not None
    assert last["checkpoint_sha256"] == trained.saved.sha256 == sha256(trained.saved.path)
    evaluation = read_json(trained.paths.evaluation)
    assert (evaluation["epoch"], evaluation["step"]) == (2, 6)
    assert evaluation["checkpoint_sha256"] == trained.saved.sha256
    assert evaluation["detections_sha256"] == sha256(trained.paths.detections)
    assert {name: last[name] for name in evaluation["numbers"]} == evaluation["numbers"]
    assert len(last["bbox_mAP_copypaste"].split()) == 6


def test_interval_of_the_log(undisturbed: Training) -> None:
    rows = [row for row in journal(undisturbed.paths) if row["mode"] == "train"]
    assert [row["iter"] for row in rows] == [2, 4, 5]
    assert loop.LOG_INTERVAL == 50  # of the published logs, where epochs are long


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(1,), (3, 1), (5,)])
def test_stopped_and_resumed_is_undisturbed(undisturbed: Training, tmp_path: Path, stops: tuple[int, ...]) -> None:
    """Stops after an iteration: at odd ones with half an interval averaged. 5: after the last, before evaluation."""
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    for attempt, asked in enumerate(stops, 1):
        training = session(paths, spec, attempt=attempt)
        assert not train(training, stop=stop_after(asked))
        assert training.position.step == sum(stops[:attempt])
    training = run_to_end(paths, spec, attempt=len(stops) + 1)
    assert journal(paths) == journal(undisturbed.paths)
    expected, found = weights(undisturbed), weights(training)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_finished_run_has_nothing_to_do(undisturbed: Training) -> None:
    """Started again it neither trains nor evaluates."""
    before = journal(undisturbed.paths)
    again = run_to_end(undisturbed.paths, undisturbed.spec, attempt=99)
    assert again.position == undisturbed.position
    assert journal(undisturbed.paths) == before


@pytest.mark.slow
def test_checkpoints_by_the_clock(undisturbed: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at every iteration, and one lost: resumed from the one before, with the same end."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    assert not train(session(paths, spec), stop=stop_after(4))
    (paths.checkpoints / "epoch_0_iter_4.pth").write_bytes(b"cut")
    training = session(paths, spec, attempt=2)
    assert training.position.step == 3
    assert train(training)
    assert journal(paths) == journal(undisturbed.paths)


@pytest.mark.slow
def test_another_checkpoint_is_evaluated_again(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An evaluation that the journal has counts for the checkpoint it was made of, and for no other."""
    paths, spec = changed(run, tmp_path / "run", epochs=1)
    training = run_to_end(paths, spec)
    calls: list[int] = []
    detect = validation.detect
    monkeypatch.setattr(validation, "detect", lambda *words: calls.append(1) or detect(*words))
    run_to_end(paths, spec, attempt=2)
    assert not calls
    with torch.no_grad():
        training.model.rpn_head.rpn_cls.bias += 1
    training.save()
    run_to_end(paths, spec, attempt=3)
    assert calls
    assert training.saved is not None
    assert read_json(paths.evaluation)["checkpoint_sha256"] == training.saved.sha256


def test_divergence_is_told_and_not_saved(run: PreparedRun, tmp_path: Path) -> None:
    paths, spec = changed(run, tmp_path / "run", lr=1e30, warmup_iters=0)
    with pytest.raises(UserError, match=r"^epoch 1, iteration [23]: the loss is not finite") as caught:
        train(session(paths, spec))
    assert "\n" not in str(caught.value)
    assert checkpoint.newest(paths.checkpoints) is None
    assert "NaN" not in paths.segment(1).read_text()


def test_divergence_between_rows_is_not_saved(run: PreparedRun) -> None:
    training = session(run.paths, run.spec)
    training.meter.add({"loss": torch.tensor(float("nan"))}, seconds=1, data_seconds=0)
    with pytest.raises(UserError, match="not finite"):
        training.save()
    assert not run.paths.checkpoints.exists()


def test_checkpoint_of_another_run_is_refused(trained: Training) -> None:
    with pytest.raises(UserError, match=r"epoch_2\.pth: belongs to another run"):
        session(trained.paths, replace(trained.spec, seed=1))


def test_wrong_number_of_classes(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 3 categories, the recipe says num_classes 80; set num_classes: 3"):
        session(*changed(run, tmp_path / "run", num_classes=80))


def test_nothing_to_train_on(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image to train on"):
        session(*changed(run, tmp_path / "run", min_image_size=1000))


def test_precision_that_the_device_lacks(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepared for fp16 on a GPU"):
        session(*changed(run, tmp_path / "run", precision="fp16"))


def test_broken_image_is_told_in_one_line(run: PreparedRun, tmp_path: Path, shapes: Path) -> None:
    copy = tmp_path / "train"
    copy.mkdir()
    for image in (shapes / "train").iterdir():
        (copy / image.name).write_bytes(b"" if image.name == "000003.png" else image.read_bytes())
    paths, spec = changed(
        run,
        tmp_path / "run",
        train=replace(run.spec.train, images=str(copy)),
        shortening=replace(run.spec.shortening, iterations_per_epoch=None),
    )
    with pytest.raises(UserError, match=r"000003\.png") as caught:
        train(session(paths, spec))
    assert "\n" not in str(caught.value)


def test_bf16_is_recorded_as_what_it_is(run: PreparedRun, tmp_path: Path) -> None:
    training = run_to_end(*changed(run, tmp_path / "bf16", precision="bf16", epochs=1))
    assert read_log(training.paths.log)[0]["precision"] == "bf16"
    assert training.spec.key != run.spec.key
