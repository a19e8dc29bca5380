"""Decode, resize, flip and normalise, with the arithmetic of mmdetection's pipelines (cv2 on uint8 BGR)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

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


class Patch(NamedTuple):
    """The part of a bitmap that holds all its ones."""

    top: int
    left: int
    pixels: NDArray[np.uint8]  # 0 or 1

    def within(self, height: int, width: int) -> NDArray[np.uint8]:
        """The whole bitmap."""
        whole = np.zeros((height, width), np.uint8)
        rows, columns = self.pixels.shape
        whole[self.top : self.top + rows, self.left : self.left + columns] = self.pixels
        return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One augmented training image, in the resized image's pixels, not yet normalised or padded."""

    image: Image
    boxes: NDArray[np.float32]  # N x 4: (x1, y1, x2, y2)
    labels: NDArray[np.int64]  # N
    bitmaps: list[Patch]  # N, of the image's height x width; none where mask_format is "polygon"
    polygons: list[Parts]  # N; none where mask_format is "bitmap"


def require_photos(paths: Sequence[Path]) -> None:
    """Raise UserError with a line for each file that cannot be read, or begins like no image; none is decoded."""
    if faults := [fault for path in paths if (fault := _photo_fault(path))]:
        raise UserError("\n".join(faults))


def _photo_fault(path: Path) -> str:
    try:
        with path.open("rb") as file:  # not by its name: cv2 crashes where that is no UTF-8
            begins_well = cv2.haveImageReader(f"/proc/self/fd/{file.fileno()}")
    except OSError as error:
        return f"{path}: {error.strerror}; name photos"
    return "" if begins_well else _no_photo(path)


def _no_photo(path: Path) -> str:
    return f"{path}: not a readable image; expected a photo, such as a JPEG or PNG"


def decode(path: Path) -> Image:
    """Decode a photo, which is of no data set: see decoded. Raises UserError where it is missing or broken."""
    try:
        image = _decoded(np.fromfile(path, np.uint8))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name photos") from None
    if image is None:
        raise UserError(_no_photo(path))
    return image


def decoded(content: NDArray[np.uint8], path: Path) -> Image:
    """An image file's bytes as H x W x 3 BGR, turned upright where its EXIF says so (IMREAD_COLOR, as the recipes).

    path: what to call it. Raises UserError where it is broken.
    """
    image = _decoded(content)
    if image is None:
        raise UserError(f"{path}: not a readable image; `harness data check` lists all faulty images")
    return image


def _decoded(content: NDArray[np.uint8]) -> Image | None:
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    return None if image is None else _uint8(image)


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
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        bitmaps = [_resized(mask, rows, columns[::-1] if flip else columns) for mask in masks]
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


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Which pixel of a side of `old` each of `new` is, as cv2's nearest neighbour has it for bytes."""
    places = np.arange(old)
    halves = [(places & 255).astype(np.uint8), (places >> 8).astype(np.uint8)]
    low, high = (cv2.resize(half[None], (new, 1), interpolation=cv2.INTER_NEAREST)[0] for half in halves)
    found: NDArray[np.int64] = low + high.astype(np.int64) * 256
    return found


def _resized(mask: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Patch:
    """mask[rows][:, columns], where it is not zero; rows and columns are ascending or descending."""
    y, x, height, width = cv2.boundingRect(mask.T)  # what pycocotools decodes is stored column by column
    (top, bottom), (left, right) = _within(rows, y, y + height), _within(columns, x, x + width)
    return Patch(top, left, mask[:, columns[left:right]][rows[top:bottom]])


def _within(places: NDArray[np.int64], low: int, high: int) -> tuple[int, int]:
    """From where to where low <= places < high."""
    inside = np.flatnonzero((places >= low) & (places < high))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


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
    values = torch.arange(256, dtype=torch.float32)
    tables = ((values - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]).numpy()
    channels = (2, 1, 0) if channel_order == "rgb" else (0, 1, 2)
    for plane, table, channel in zip(out.numpy(), tables, channels, strict=True):  # a table is the fastest here
        cv2.LUT(cv2.extractChannel(image, channel), table, plane)


def padded(length: int, divisor: int) -> int:
    """The next multiple of `divisor`."""
    return -(-length // divisor) * divisor


def _uint8(image: Any) -> NDArray[np.uint8]:
    """cv2 is untyped; this changes nothing but the type."""
    return cast(NDArray[np.uint8], image)
