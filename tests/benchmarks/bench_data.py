"""Images/s of a core, from photo files to batches at full size, ours and torchvision's reference pipeline in turns.

python tests/benchmarks/bench_data.py [ROUNDS]. Photos: those of $HARNESS_SHARED (data/coco2017_open), else generated.
Both decode, resize to 1333 x 800, flip, normalise and collate two images with boxes, labels and masks, on one thread.
torchvision's is that of its references/detection: PIL, polygons to masks of the whole image by pycocotools, and then
GeneralizedRCNNTransform, which its models begin with.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import functional

from harness.data.batches import TrainSet, plan_epoch
from harness.data.coco import CocoIndex, CocoSplit, load_index, train_filter
from harness.data.shapes import generate_shapes
from harness.data.tar import pack
from harness.data.transforms import Augmentation

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
GPUS, IMAGES_A_GPU = 8, 60


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as place:
        split, what = photos(Path(place))
        index = load_index(split)
        kept = train_filter(index)
        plan = kept[plan_epoch(index.landscape()[kept], seed=0, epoch=0, total_batch=2)]
        packed = packed_copy(split, Path(place))
        ways: dict[str, Callable[[int], Any]] = {
            "torchvision": torchvision_batches(index, split.images, plan),
            "ours, bitmaps": ours(index, split.images, plan, "bitmap"),
            "ours, polygons": ours(index, split.images, plan, "polygon"),
            "ours, polygons, from a tar": ours(index, packed, plan, "polygon"),
        }
        print(
            f"{what}: {len(plan)} batches of 2, {index.valid.sum() / len(kept):.1f} objects an image; {rounds} rounds"
        )
        show(timed(ways, len(plan), rounds))


def photos(place: Path) -> tuple[CocoSplit, str]:
    """Real ones where there are any."""
    root = Path(os.environ.get("HARNESS_SHARED", Path(__file__).parents[3] / "shared")) / "data/coco2017_open"
    if root.is_dir():
        return CocoSplit(
            images=root / "images", annotations=root / "annotations/instances_train.json"
        ), "photos of COCO"
    generate_shapes(place / "shapes", train=48, val=1, size=640)
    return CocoSplit(
        images=place / "shapes/train", annotations=place / "shapes/annotations/instances_train.json"
    ), "generated images"


def packed_copy(split: CocoSplit, place: Path) -> Path:
    """The images in a tar."""
    (place / "images").mkdir()
    for name in load_index(split).file_names:
        (place / "images" / name).write_bytes((split.images / name).read_bytes())
    return pack(place / "images").path


def as_published(mask_format: Any) -> Augmentation:
    """Of training images, at full size."""
    return Augmentation(
        scales=((1333, 800),),
        multiscale_mode="fixed",
        flip_probability=0.5,
        channel_order="rgb",
        mean=MEAN,
        std=STD,
        mask_format=mask_format,
    )


def ours(index: CocoIndex, images: Path, plan: np.ndarray, mask_format: Any) -> Callable[[int], Any]:
    """The micro-batches of a training."""
    augmentation = as_published(mask_format)
    items = TrainSet(index=index, images=images, plan=plan, augmentation=augmentation, seed=0, epoch=0, pad_gt_to=1)
    return lambda number: items[number, 0]


def torchvision_batches(index: CocoIndex, images: Path, plan: np.ndarray) -> Callable[[int], Any]:
    """As references/detection/coco_utils.py and presets.py (hflip) prepare them, and the model's own first step."""
    transform = GeneralizedRCNNTransform(800, 1333, [value / 255 for value in MEAN], [value / 255 for value in STD])
    random = np.random.default_rng(0)

    def sample(number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        photo = Image.open(images / index.file_names[number]).convert("RGB")
        truth = index.ground_truth(number)
        masks = torch.stack([full_mask(entry, photo.height, photo.width) for entry in truth.segmentations])
        boxes, image = torch.from_numpy(truth.boxes), functional.pil_to_tensor(photo)
        if random.random() < 0.5:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = photo.width - boxes[:, [2, 0]]
        target = {"boxes": boxes, "labels": torch.from_numpy(truth.labels), "masks": masks}
        return functional.convert_image_dtype(image, torch.float), target

    def batch(number: int) -> Any:
        samples = [sample(int(image)) for image in plan[number, 0]]
        return transform([image for image, _ in samples], [target for _, target in samples])

    return batch


def full_mask(segmentation: Any, height: int, width: int) -> torch.Tensor:
    """convert_coco_poly_to_mask: each part by itself, then united."""
    rles = segmentation if isinstance(segmentation, dict) else [part.tolist() for part in segmentation]
    mask = torch.as_tensor(coco_mask.decode(coco_mask.frPyObjects(rles, height, width)), dtype=torch.uint8)
    return mask.any(dim=2) if mask.dim() == 3 else mask


def timed(ways: dict[str, Callable[[int], Any]], count: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds an image of each way and round; the ways take turns at every batch."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        spent = dict.fromkeys(ways, 0.0)
        for number in range(count):
            for name, batch in ways.items():
                began = time.process_time()
                batch(number)
                spent[name] += time.process_time() - began
        for name, total in spent.items():
            seconds[name].append(total / count / 2)
    return seconds


def show(seconds: dict[str, list[float]]) -> None:
    """Medians with their spread, and what it takes to feed fast GPUs."""
    reference = statistics.median(seconds["torchvision"])
    print(f"{'':30}{'ms/image':>10}{'least':>8}{'most':>8}{'images/s':>10}{'ratio':>8}{'cores':>8}")
    for name, values in seconds.items():
        one = statistics.median(values)
        times = f"{one * 1e3:10.1f}{min(values) * 1e3:8.1f}{max(values) * 1e3:8.1f}"
        print(f"{name:30}{times}{1 / one:10.1f}{reference / one:8.2f}{GPUS * IMAGES_A_GPU * one:8.1f}")
    print(f"cores: for {GPUS} GPUs of {IMAGES_A_GPU} images/s each. ratio: images/s by torchvision's")


if __name__ == "__main__":
    main()
