"""Decode, resize, flip and normalise, with the arithmetic of mmdetection's pipelines (cv2 on uint8 BGR)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.coco import GroundTruth
from harness.data.masks import Parts, as_polygons, bitmap
from harness.errors import UserError

Image = NDArray[np.uint8]  # H x W x 3, BGR


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How a training image is prepared.

    scales are (long side, short side) limits in pixels. "fixed" takes the only one, "value" one of them at random,
    "range" draws each limit uniformly between those of the two scales, both ends included. mean and std are of pixel
    values 0..255, in channel_order.
    """

    scales: tuple[tuple[int, int], ...]
    multiscale_mode: Literal["fixed", "value", "range"]
    flip_probability: float
    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mask_format: Literal["bitmap", "polygon"]
    pad_divisor: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One augmented training image, in the resized image's pixels, not yet normalised or padded."""

    image: Image
    boxes: NDArray[np.float32]  # N x 4: (x1, y1, x2, y2)
    labels: NDArray[np.int64]  # N
    bitmaps: list[NDArray[np.uint8]]  # N of the image's height x width; none where mask_format is "polygon"
    polygons: list[Parts]  # N; none where mask_format is "bitmap"


def decode(path: Path) -> Image:
    """Read an image file as H x W x 3 BGR, turned upright where its EXIF says so (cv2.IMREAD_COLOR, as the recipes).

    Raises UserError naming the file where it is missing or broken.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `harness data check` lists all faulty images") from None
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if image is None:
        raise UserError(f"{path}: not a readable image; `harness data check` lists all faulty images")
    return _uint8(image)


def rescale_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """(width, height) resized to fit (long side, short side) limits with the aspect ratio kept (mmcv.rescale_size)."""
    width, height = size
    factor = min(max(scale) / max(width, height), min(scale) / min(width, height))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def choose_scale(augmentation: Augmentation, random: np.random.Generator) -> tuple[int, int]:
    """The (long side, short side) limits for one image."""
    scales = augmentation.scales
    if augmentation.multiscale_mode == "range":
        longs, shorts = [max(scale) for scale in scales], [min(scale) for scale in scales]
        return int(random.integers(min(longs), max(longs) + 1)), int(random.integers(min(shorts), max(shorts) + 1))
    return scales[random.integers(len(scales))]


def augment(image: Image, truth: GroundTruth, augmentation: Augmentation, random: np.random.Generator) -> Sample:
    """Resize and perhaps flip an image with its ground truth; `random` draws the scale, then the flip."""
    old_height, old_width = image.shape[:2]
    width, height = rescale_size((old_width, old_height), choose_scale(augmentation, random))
    flip = bool(random.random() < augmentation.flip_probability)
    resized = resize(image, (width, height))
    factors = np.array([width / old_width, height / old_height], np.float64)
    bitmaps, polygons = [], []
    if augmentation.mask_format == "bitmap":
        masks = (bitmap(segmentation, old_height, old_width) for segmentation in truth.segmentations)
        bitmaps = [flipped(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), flip) for mask in masks]
    else:
        instances = (as_polygons(segmentation, old_height, old_width) for segmentation in truth.segmentations)
        polygons = [transformed_parts(parts, factors, width if flip else None) for parts in instances]
    return Sample(
        image=flipped(resized, flip),
        boxes=transformed_boxes(truth.boxes, factors, (width, height), flip),
        labels=truth.labels,
        bitmaps=bitmaps,
        polygons=polygons,
    )


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Bilinear, to (width, height)."""
    return _uint8(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def flipped(image: NDArray[np.uint8], flip: bool) -> NDArray[np.uint8]:
    """Mirror left and right where `flip` says so."""
    return _uint8(cv2.flip(image, 1)) if flip else image


def transformed_boxes(
    boxes: NDArray[np.float32], factors: NDArray[np.float64], size: tuple[int, int], flip: bool
) -> NDArray[np.float32]:
    """Boxes times (width factor, height factor), clipped to the resized (width, height), mirrored where asked."""
    moved = (boxes * np.tile(factors, 2).astype(np.float32)).clip(0, np.tile(size, 2).astype(np.float32))
    if flip:
        moved[:, [0, 2]] = np.float32(size[0]) - moved[:, [2, 0]]
    return moved


def transformed_parts(parts: Parts, factors: NDArray[np.float64], flip_width: int | None) -> Parts:
    """Polygon parts times (width factor, height factor), mirrored where the resized image's width is given."""
    moved = [(part.reshape(-1, 2) * factors) for part in parts]
    if flip_width is not None:
        for part in moved:
            part[:, 0] = flip_width - part[:, 0]
    return [part.reshape(-1) for part in moved]


def normalise(
    image: Image,
    out: Tensor,
    *,
    channel_order: Literal["rgb", "bgr"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    """Write (image - mean) / std, H x W x 3 BGR uint8, into `out`, 3 x H x W float32, in the given channel order."""
    channels = torch.from_numpy(image).permute(2, 0, 1)
    out.copy_(channels.flip(0) if channel_order == "rgb" else channels)
    out.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])


def padded(length: int, divisor: int) -> int:
    """The next multiple of `divisor`."""
    return -(-length // divisor) * divisor


def _uint8(image: Any) -> NDArray[np.uint8]:
    """cv2 is untyped; this changes nothing but the type."""
    return cast(NDArray[np.uint8], image)
