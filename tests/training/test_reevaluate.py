"""Repeated numbers equal the recorded ones, and what was altered is said to be."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch

from harness.data.coco import CocoSplit
from harness.errors import UserError
from harness.files import read_json
from harness.training import reevaluate as reevaluate_module
from harness.training.reevaluate import Verdict, detections_of_checkpoint, reevaluate
from harness.training.session import Training

pytestmark = pytest.mark.usefixtures("tiny")


def files(trained: Training) -> list[Path]:
    assert trained.saved is not None
    return [trained.saved.path, trained.paths.detections]


@pytest.mark.parametrize("number", [0, 1])
def test_equals_the_record(trained: Training, number: int) -> None:
    found = reevaluate(files(trained)[number])
    assert found.verdict == Verdict.EQUAL
    assert found.evaluation.numbers == found.recorded == read_json(trained.paths.evaluation)["numbers"]
    assert found.evaluation.images == 4


@pytest.mark.parametrize("number", [0, 1])
def test_outside_of_the_run(trained: Training, tmp_path: Path, shapes: Path, number: int) -> None:
    """A copy elsewhere: nothing to test on, then the same numbers, with no record to compare."""
    copy = tmp_path / files(trained)[number].name
    shutil.copy(files(trained)[number], copy)
    with pytest.raises(UserError, match="--annotations FILE"):
        reevaluate(copy)
    found = reevaluate(copy, annotations=shapes / "annotations/instances_val.json", images=shapes / "val")
    assert (found.verdict, found.recorded) == (Verdict.UNKNOWN, None)
    assert found.evaluation.numbers == read_json(trained.paths.evaluation)["numbers"]


def test_altered_detections(trained: Training, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained.paths.folder, folder, ignore=shutil.ignore_patterns("checkpoints"))
    detections = folder / "detections.json.gz"
    text = gzip.decompress(detections.read_bytes()).decode()
    first = text.index('"score":') + len('"score":')
    detections.write_bytes(gzip.compress(f"{text[:first]}0.{text[first:].lstrip('0.')}".encode()))
    assert reevaluate(detections).verdict == Verdict.ALTERED
    detections.write_bytes(detections.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        reevaluate(detections)


def test_earlier_checkpoint_is_not_the_recorded_one(trained: Training) -> None:
    assert reevaluate(trained.paths.checkpoints / "epoch_1.pth").verdict == Verdict.ALTERED


def test_the_same_weights_are_not_tested_twice(
    trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = trained.paths.checkpoints / "epoch_1.pth"
    found, _ = detections_of_checkpoint(checkpoint, cache=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(reevaluate_module, "_detect", lambda *_: pytest.fail("the model ran again"))
        again, split = detections_of_checkpoint(checkpoint, cache=tmp_path)
    assert len(found) and sorted(map(repr, again.rows())) == sorted(map(repr, found.rows()))
    assert len(split.image_ids) == 4
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    assert len(detections_of_checkpoint(checkpoint, cache=tmp_path)[0]) == len(found)


def test_half_a_split(trained: Training, shapes: Path) -> None:
    with pytest.raises(UserError, match="both --annotations FILE and --images FOLDER"):
        reevaluate(files(trained)[0], annotations=shapes / "annotations/instances_val.json")


def test_other_classes(trained: Training, tmp_path: Path) -> None:
    one = tmp_path / "one.json"
    one.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}], "annotations": [],'
        ' "categories": [{"id": 1, "name": "cat"}]}'
    )
    with pytest.raises(UserError, match=r"finds 3 classes, but .*one\.json has 1 category"):
        reevaluate(files(trained)[0], annotations=one, images=tmp_path)


@pytest.mark.parametrize("name", ["none.pth", "folder"])
def test_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        reevaluate(tmp_path / name)


def test_the_data_set_of_the_recipe(trained: Training, tmp_path: Path, shapes: Path) -> None:
    """A copy elsewhere is tested on the data set that its recipe names."""
    copy = tmp_path / "copy.pth"
    shutil.copy(files(trained)[0], copy)
    asked: list[str] = []

    def find(name: str) -> CocoSplit:
        asked.append(name)
        return CocoSplit(images=shapes / "val", annotations=shapes / "annotations/instances_val.json")

    found = reevaluate(copy, find_split=find)
    assert asked == ["shapes"]
    assert found.evaluation.numbers == read_json(trained.paths.evaluation)["numbers"]
    assert (found.precision, found.published) == ("fp32", None)


def test_weights_of_a_shortened_run_are_tested_on_as_many_images(
    trained: Training, tmp_path: Path, shapes: Path
) -> None:
    """2 of 4, wherever the weights lie; on what the user names all are tested."""
    content = torch.load(files(trained)[0], weights_only=True)
    content["meta"]["eval_images"] = 2
    torch.save(content, copy := tmp_path / "copy.pth")
    split = CocoSplit(images=shapes / "val", annotations=shapes / "annotations/instances_val.json")
    short = reevaluate(copy, find_split=lambda _: split)
    assert (short.evaluation.images, short.images) == (2, 4)
    assert reevaluate(copy, annotations=split.annotations, images=split.images).evaluation.images == 4
