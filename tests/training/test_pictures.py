"""Pictures of predictions on any photos."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.errors import UserError
from harness.training.pictures import predict_images
from harness.training.session import Training


def test_photos_of_the_same_name(trained: Training, shapes: Path, tmp_path: Path) -> None:
    assert trained.saved is not None
    photos = [shapes / "val" / "000001.png", shapes / "train" / "000001.png", tmp_path / "000001-1.jpg"]
    shutil.copy(photos[0], tmp_path / "copy.png")
    cv2.imwrite(str(photos[2]), cv2.imread(str(photos[0])))
    made = list(predict_images(trained.saved.path, photos, tmp_path / "out", min_score=0.0))
    assert [source for source, _, _ in made] == photos
    assert [target.name for _, target, _ in made] == ["000001.png", "000001-1.png", "000001-1-1.png"]
    for source, target, found in made:
        before, after = cv2.imread(str(source)), cv2.imread(str(target))
        assert after.shape == before.shape
        assert bool(np.any(before != after)) == (found > 0)
    assert sum(found for _, _, found in made) > 0


def test_min_score(trained: Training, shapes: Path, tmp_path: Path) -> None:
    assert trained.saved is not None
    photo = shapes / "val" / "000001.png"
    ((_, target, found),) = predict_images(trained.saved.path, [photo], tmp_path, min_score=1.0)
    assert found == 0
    assert np.array_equal(cv2.imread(str(target)), cv2.imread(str(photo)))


def test_broken_photo(trained: Training, tmp_path: Path) -> None:
    assert trained.saved is not None
    (tmp_path / "broken.jpg").write_text("not a photo")
    with pytest.raises(UserError, match=r"broken\.jpg") as caught:
        list(predict_images(trained.saved.path, [tmp_path / "broken.jpg"], tmp_path, min_score=0.5))
    assert "\n" not in str(caught.value)
