"""The loop: what it writes and when; stopped and taken up again it does exactly what an undisturbed one does."""

import itertools
import json
import pickle
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.batches import TrainSet
from harness.errors import UserError
from harness.files import read_json, sha256, write_json
from harness.launching.prepare import PreparedRun
from harness.provenance import running_code
from harness.run_log import read_log
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec
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
        ("times", None, None, 6),
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
    assert row["code"] == asdict(running_code())
    assert (row["code"]["frozen"], row["matrix"]) == (False, None)  # not from a launcher's copy
    assert json.loads(row["config"])["epochs"] == 2


def test_val_rows_are_of_their_checkpoints(trained: Training) -> None:
    last = [row for row in read_log(trained.paths.log) if row["mode"] == "val"][-1]
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
    training = run_to_end(paths, spec, attempt=2)
    assert not calls
    with torch.no_grad():
        training.model.rpn_head.rpn_cls.bias += 1
    training.save()
    training.settle()
    run_to_end(paths, spec, attempt=3)
    assert calls
    assert training.saved is not None
    assert read_json(paths.evaluation)["checkpoint_sha256"] == training.saved.sha256


@pytest.mark.slow
def test_the_attempt_says_what_it_repeats(undisturbed: Training, tmp_path: Path) -> None:
    """Rows at 2, 4, 5; checkpoint at 3, then killed at 5: the second attempt repeats 4 and 5, and writes them not."""
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    assert not train(session(paths, spec), stop=stop_after(3))
    kept = {path: path.read_bytes() for path in paths.checkpoints.iterdir()}
    assert not train(session(paths, spec, attempt=2), stop=stop_after(2))
    for path in paths.checkpoints.iterdir():
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    assert train(session(paths, spec, attempt=3))
    first, second, third = (read_log(paths.segment(number)) for number in (1, 2, 3))
    heads = [rows[0] for rows in (first, second, third)]
    assert [(row["step"], row["replayed"]) for row in heads] == [(0, None), (3, None), (3, [4, 5])]
    assert [row["journal"] for row in heads] == [{}, {"0001": 3}, {"0001": 3, "0002": 4}]
    steps = [[row["step"] for row in rows if row["mode"] in ("train", "val")] for rows in (first, second, third)]
    assert steps == [[2], [4, 5], [5]]
    assert third[1]["mode"] == "val"
    assert journal(paths) == journal(undisturbed.paths)


@pytest.mark.slow
def test_a_lost_row_is_told(undisturbed: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    assert not train(session(paths, spec), stop=stop_after(3))
    paths.segment(1).unlink()
    assert train(session(paths, spec, attempt=2))
    assert "the log row of iteration 2 is gone" in capsys.readouterr().err


def test_a_step_waits_for_a_copy_only(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is stuck until the epoch's last iteration; what it then gets is what was at the time."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    save, steps, first = checkpoint.save, [], {}
    go_on = threading.Event()

    def slow(folder: Path, content: dict[str, Any], **at: int) -> checkpoint.Saved:
        assert go_on.wait(60)
        first.setdefault("weight", content["state_dict"]["rpn_head.rpn_cls.bias"])
        return save(folder, content, **at)

    def iterate(*words: Any, **options: Any) -> Any:
        losses = loop_iterate(*words, **options)
        steps.append(training.model.rpn_head.rpn_cls.bias.detach().clone())
        if len(steps) == 2:
            go_on.set()
        return losses

    loop_iterate = loop.iterate
    monkeypatch.setattr(loop, "iterate", iterate)
    monkeypatch.setattr(checkpoint, "save", slow)
    training = session(run.paths, run.spec)
    assert not train(training, stop=stop_after(2))
    assert torch.equal(first["weight"], steps[0])
    assert not torch.equal(steps[0], steps[1])
    assert training.saved is not None and training.saved.step == 2


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_the_training(
    undisturbed: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the iterations after it, not at the next one; the one before stays, and the run goes on from it."""
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    assert not train(session(paths, spec), stop=stop_after(1))
    training = session(paths, spec, attempt=2)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def full(*words: Any, **options: Any) -> checkpoint.Saved:
        loop.CHECKPOINT_SECONDS = 600.0
        raise UserError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match="disk full"):
            train(training)
    assert 2 < training.position.step < 5
    again = session(paths, spec, attempt=3)
    assert again.position.step == 1
    assert train(again)


@pytest.mark.slow
def test_evaluation_waits_for_its_checkpoint(run: PreparedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, spec = changed(run, tmp_path / "run", epochs=1)
    save, detect, order = checkpoint.save, validation.detect, []

    def slow(*words: Any, **options: Any) -> checkpoint.Saved:
        time.sleep(0.3)
        saved = save(*words, **options)
        order.append("durable")
        return saved

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(validation, "detect", lambda *words: order.append("evaluation") or detect(*words))
    run_to_end(paths, spec)
    assert order == ["durable", "evaluation"]


@pytest.mark.slow
def test_a_stop_is_heard_during_evaluation(trained: Training, tmp_path: Path) -> None:
    """Question 4 comes after the epoch's last iteration, 5 after the first image: the next attempt evaluates anew."""
    paths, spec = changed(
        PreparedRun(spec=trained.spec, paths=trained.paths), tmp_path / "run", shortening=trained.spec.shortening
    )
    assert not train(session(paths, spec), stop=stop_after(4))
    assert not paths.evaluation.exists()
    run_to_end(paths, spec, attempt=2)
    assert journal(paths) == journal(trained.paths)


def test_a_superseded_attempt_saves_nothing(run: PreparedRun) -> None:
    training = session(run.paths, run.spec)
    run.paths.attempt(2).mkdir(parents=True)
    training.save()
    with pytest.raises(UserError, match="attempt 1 gives way to a later one"):
        training.settle()
    assert not run.paths.checkpoints.exists()


@pytest.mark.slow
def test_nothing_draws_from_the_global_random_numbers(run: PreparedRun) -> None:
    """So a checkpoint needs no state of theirs."""

    def states() -> list[Any]:
        return [random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()]

    before = states()
    run_to_end(run.paths, run.spec)
    assert states() == before


def test_divergence_is_told_and_not_saved(run: PreparedRun, tmp_path: Path) -> None:
    """The first step is enough: the second one's loss is not finite, at the latest the third one's."""
    paths, spec = changed(run, tmp_path / "run", lr=1e30, warmup_iters=0)
    training = session(paths, spec)
    with pytest.raises(UserError, match=r"^epoch 1, iteration [23]: the loss is not finite for images") as caught:
        train(training)
    assert "\n" not in str(caught.value)
    assert checkpoint.newest(paths.checkpoints) is None
    assert "NaN" not in paths.segment(1).read_text()


def test_a_loss_that_is_not_finite_names_the_images(
    undisturbed: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN in iteration 3, finite again in 4, where the row is: the images are those that iteration 3 was given."""
    paths, spec = five_iterations(undisturbed, tmp_path / "run")
    training, count, seen = session(paths, spec), itertools.count(1), []
    sample = TrainSet._sample

    def iterate(*words: Any, **options: Any) -> Any:
        return {"loss": torch.tensor(float("nan") if next(count) == 3 else 1.0)}

    monkeypatch.setattr(loop, "iterate", iterate)
    monkeypatch.setattr(TrainSet, "_sample", lambda data, image, at: seen.append(image) or sample(data, image, at))
    with pytest.raises(
        UserError, match=r"^epoch 1, iteration 3: the loss is not finite for images (\d+), (\d+);"
    ) as caught:
        train(training)
    named = [int(number) for number in re.findall(r"images (\d+), (\d+);", str(caught.value))[0]]
    assert named == [int(training.images.index.image_ids[image]) for image in seen[4:6]]


def test_divergence_between_rows_is_not_saved(run: PreparedRun) -> None:
    training = session(run.paths, run.spec)
    training.meter.add({"loss": torch.tensor(float("nan"))}, step=1, seconds=1, data_seconds=0)
    with pytest.raises(UserError, match="epoch 1, iteration 1: the loss is not finite"):
        training.save()
    assert not run.paths.checkpoints.exists()


def test_weights_that_are_not_finite_are_not_saved(run: PreparedRun) -> None:
    """Though the loss still was, as it is after the step that broke them."""
    training = session(run.paths, run.spec)
    training.advance()
    with torch.no_grad():
        training.model.rpn_head.rpn_cls.bias[0] = float("inf")
    training.save()
    with pytest.raises(UserError, match="epoch 1, iteration 1: weights are no longer finite"):
        training.settle()
    assert not run.paths.checkpoints.exists()


def test_checkpoint_of_another_run_is_refused(trained: Training) -> None:
    with pytest.raises(UserError, match=r"epoch_2\.pth: belongs to another run"):
        session(trained.paths, replace(trained.spec, seed=1))


def test_wrong_number_of_classes(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 3 categories, the recipe says num_classes 80; set num_classes: 3"):
        session(*changed(run, tmp_path / "run", num_classes=80))


def test_a_validation_split_of_other_categories(run: PreparedRun, tmp_path: Path) -> None:
    """As many, so that the class count says nothing; a circle found would count as whatever is called label 0 there."""
    content = read_json(Path(run.spec.val.annotations))
    content["categories"][0]["name"] = "disc"
    write_json(tmp_path / "val.json", content)
    val = replace(run.spec.val, annotations=str(tmp_path / "val.json"), digest=sha256(tmp_path / "val.json"))
    with pytest.raises(
        UserError, match=r"val\.json: is not of the categories trained on: category 1: 'disc', in train '"
    ):
        session(*changed(run, tmp_path / "run", val=val))


def test_nothing_to_train_on(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image to train on"):
        session(*changed(run, tmp_path / "run", min_image_size=1000))


def test_precision_that_the_device_lacks(run: PreparedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is to be trained in fp16, and its process sees no GPU"):
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


@pytest.mark.slow
def test_bf16_is_recorded_as_what_it_is(run: PreparedRun, tmp_path: Path) -> None:
    training = run_to_end(*changed(run, tmp_path / "bf16", precision="bf16", epochs=1))
    assert read_log(training.paths.log)[0]["precision"] == "bf16"
    assert training.spec.key != run.spec.key
