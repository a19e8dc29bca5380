"""Pictures of predictions on any photos."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.errors import UserError
from harness.training.pictures import predict_images
from harness.training.session import Training

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.slow
def test_photos_of_the_same_name(trained: Training, shapes: Path, tmp_path: Path) -> None:
    assert trained.saved is not None
    photos = [shapes / "val" / "000001.png", shapes / "train" / "000001.png", tmp_path / "000001-1.jpg"]
    cv2.imwrite(str(photos[2]), cv2.imread(str(photos[0])))
    made = list(predict_images(trained.saved.path, photos, tmp_path / "out", min_score=0.0))
    assert [source for source, _, _ in made] == photos
    assert [target.name for _, target, _ in made] == ["000001.png", "000001-1.png", "000001-1-1.png"]
    assert all(cv2.imread(str(target)) is not None for _, target, _ in made)
    assert sum(found for _, _, found in made) > 0


def test_min_score(trained: Training, shapes: Path, tmp_path: Path) -> None:
    """Nothing has a score of 1, and what is found is drawn."""
    assert trained.saved is not None
    photo = shapes / "val" / "000001.png"
    ((_, without, none),) = predict_images(trained.saved.path, [photo], tmp_path / "a", min_score=1.0)
    ((_, with_, some),) = predict_images(trained.saved.path, [photo], tmp_path / "b", min_score=0.0)
    assert none == 0 < some
    assert not np.array_equal(cv2.imread(str(without)), cv2.imread(str(with_)))


def test_files_that_are_no_photos_are_told_at_once(tmp_path: Path) -> None:
    """Before the checkpoint is looked at."""
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()
    names = ["text.jpg", "gone.jpg", "empty.jpg", "folder"]
    with pytest.raises(UserError) as caught:
        list(predict_images(tmp_path / "none.pth", [tmp_path / name for name in names], tmp_path, min_score=0.5))
    no_image = "not a readable image; expected a photo, such as a JPEG or PNG"
    whats = [no_image, "No such file or directory; name photos", no_image, "Is a directory; name photos"]
    assert str(caught.value).splitlines() == [
        f"{tmp_path / name}: {what}" for name, what in zip(names, whats, strict=True)
    ]


def test_a_photo_that_ends_early_costs_itself_alone(trained: Training, shapes: Path, tmp_path: Path) -> None:
    assert trained.saved is not None
    whole, cut = tmp_path / os.fsdecode(b"wh\xf6le.png"), tmp_path / "cut.png"  # a name that is no UTF-8
    shutil.copyfile(shapes / "val" / "000001.png", whole)
    cut.write_bytes(whole.read_bytes()[:200])
    made = []
    with pytest.raises(UserError) as caught:
        made.extend(predict_images(trained.saved.path, [cut, whole], tmp_path / "out", min_score=0.0))
    assert str(caught.value) == f"{cut}: not a readable image; expected a photo, such as a JPEG or PNG"
    assert [source for source, _, _ in made] == [whole]
