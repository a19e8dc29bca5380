"""Images for testing: one scale, padded to 32, shared among processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.data.coco import load_index
from harness.data.evaluation_images import EvaluationImage, evaluation_images
from harness.errors import UserError

from .coco_files import content, write_images, write_split

NORM: dict[str, Any] = {"channel_order": "bgr", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def _all(tmp_path: Path, **changes: Any) -> list[EvaluationImage]:
    value = content()
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    return list(evaluation_images(load_index(split), split.images, scale=(60, 45), **NORM, **changes))


def test_sizes_by_hand(tmp_path: Path) -> None:
    # 60 x 40 (w x h): factor min(60 / 60, 45 / 40) = 1. 40 x 40: factor min(60 / 40, 45 / 40) = 1.125.
    wide, high, square = _all(tmp_path)
    assert [image.image_id for image in (wide, high, square)] == [7, 3, 5]
    assert (wide.size, wide.original_size, wide.scale_factor) == ((40, 60), (40, 60), (1.0, 1.0))
    assert (high.size, high.image.shape) == ((60, 40), (1, 3, 64, 64))
    assert (square.size, square.original_size, square.scale_factor) == ((45, 45), (40, 40), (1.125, 1.125))
    assert wide.image[0, 0, 0, 0] == 7  # unchanged at factor 1
    assert not square.image[..., 45:, :].any() and not square.image[..., 45:].any()


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_the_images(tmp_path: Path, workers: int) -> None:
    alone = _all(tmp_path / "alone")
    ranks = [_all(tmp_path / str(rank), rank=rank, world=2, workers=workers) for rank in range(2)]
    assert [[image.image_id for image in images] for images in ranks] == [[7, 5], [3]]
    assert torch.equal(ranks[0][1].image, alone[2].image) and torch.equal(ranks[1][0].image, alone[1].image)


def test_a_missing_image_is_one_line(tmp_path: Path) -> None:
    split = write_split(tmp_path, content())
    images = evaluation_images(load_index(split), split.images, scale=(60, 45), **NORM)
    with pytest.raises(UserError, match=r"seven.png: No such file or directory; `harness data check`"):
        next(images)
