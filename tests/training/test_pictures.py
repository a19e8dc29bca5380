"""Pictures of predictions on any photos."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.errors import UserError
from harness.training.pictures import predict_images
from harness.training.session import Training

pytestmark = pytest.mark.usefixtures("tiny")


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


def test_broken_photo(trained: Training, tmp_path: Path) -> None:
    assert trained.saved is not None
    (tmp_path / "broken.jpg").write_text("not a photo")
    with pytest.raises(UserError, match=r"broken\.jpg") as caught:
        list(predict_images(trained.saved.path, [tmp_path / "broken.jpg"], tmp_path, min_score=0.5))
    assert "\n" not in str(caught.value)
