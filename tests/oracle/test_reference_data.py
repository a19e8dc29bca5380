"""Images, boxes and masks from files to a batch, against what the reference's pipelines made of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.data.batches import collate
from harness.data.coco import GroundTruth
from harness.data.evaluation_images import evaluation_image
from harness.data.transforms import Augmentation, Sample, augment, decode, resize
from harness.structures import Polygons

RGB: dict[str, Any] = {
    "channel_order": "rgb",
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}
BITMAP = Augmentation(
    scales=((560, 420),), multiscale_mode="fixed", flip_probability=0.0, mask_format="bitmap", pad_divisor=32, **RGB
)


@pytest.fixture
def samples(shared: Path) -> Callable[..., list[Sample]]:
    """Images a, and b mirrored, with what gt.json says of them, augmented."""
    folder = shared / "reference/oracle"

    def make(augmentation: Augmentation) -> list[Sample]:
        made = []
        for flip, entry in enumerate(json.loads((folder / "gt.json").read_text()).values()):
            instances = entry["instances"]
            truth = GroundTruth(
                boxes=np.array([instance["bbox_xyxy"] for instance in instances], np.float32),
                labels=np.array([instance["label"] for instance in instances]),
                segmentations=[
                    [np.array(instance[key]) for key in ("polygon", "polygon_part2") if key in instance]
                    for instance in instances
                ],
            )
            random = np.random.default_rng(0)
            made.append(
                augment(decode(folder / entry["file"]), truth, replace(augmentation, flip_probability=flip), random)
            )
        return made

    return make


def test_a_training_batch_with_bitmaps(samples: Callable[..., list[Sample]], oracle: Callable[[str], Any]) -> None:
    reference = oracle("r50_fpn/train")["all_bitmap"]
    batch = collate(samples(BITMAP), torch.tensor([1, 2]), BITMAP)
    assert torch.equal(batch.images, reference["inputs"])
    assert batch.sizes.tolist() == [meta["img_shape"] for meta in reference["metas"]]
    assert list(batch.images.shape[2:]) == reference["metas"][0]["batch_input_shape"]
    assert isinstance(batch.masks, Tensor)
    for image, (boxes, labels, masks) in enumerate(
        zip(reference["gt_bboxes"], reference["gt_labels"], reference["gt_masks"], strict=True)
    ):
        assert torch.equal(batch.boxes[image, : len(boxes)], boxes)
        assert torch.equal(batch.labels[image, : len(boxes)], labels)
        assert (batch.labels[image, len(boxes) :] == -1).all()
        assert torch.equal(batch.masks[image, : len(boxes)], masks)


def test_a_training_batch_with_polygons(samples: Callable[..., list[Sample]], oracle: Callable[[str], Any]) -> None:
    reference = oracle("r50_fpn/train")["strided_polygon"]
    augmentation = replace(BITMAP, mask_format="polygon")
    batch = collate(samples(augmentation), torch.tensor([1, 2]), augmentation)
    assert isinstance(batch.masks, Polygons)
    for image, instances in enumerate(reference["gt_polygons"]):
        for slot, parts in enumerate(instances):
            edges, numbers = batch.masks.edges[image, slot], batch.masks.parts[image, slot]
            assert numbers.max() == len(parts) - 1
            for number, part in enumerate(parts):
                assert torch.equal(edges[numbers == number][:, :2].flatten(), part)


def test_a_test_image(shared: Path, oracle: Callable[[str], Any]) -> None:
    reference = oracle("r50_fpn/test")
    pixels = decode(shared / "reference/oracle" / reference["image_file"])
    meta = reference["meta"]
    height, width = meta["img_shape"]
    assert np.array_equal(resize(pixels, (width, height)), reference["resized_bgr_uint8"].numpy())
    image = evaluation_image(pixels, image_id=meta["img_id"], scale=reference["scale"], **RGB)
    assert torch.equal(image.image, reference["inputs"])
    assert list(image.image.shape[2:]) == meta["pad_shape"]
    assert [*image.size, *image.original_size] == [*meta["img_shape"], *meta["ori_shape"]]
    assert list(image.scale_factor) == meta["scale_factor"]
