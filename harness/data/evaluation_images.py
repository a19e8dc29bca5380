"""The images of a split for testing: one scale, no flip, one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.data.coco import CocoIndex
from harness.data.loading import load, read_image
from harness.data.transforms import Image, normalise, padded, rescale_size, resize
from harness.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationImage:
    """One image to test, prepared without any augmentation."""

    image_id: int
    image: Tensor  # 1 x 3 x H x W float32, normalised, zero-padded right and bottom
    size: tuple[int, int]  # (height, width) of the resized image without padding
    original_size: tuple[int, int]  # (height, width)
    scale_factor: tuple[float, float]  # (width, height): resized / original

    def pin_memory(self) -> "EvaluationImage":
        """The same with its image in pinned memory (called by the data loader)."""
        return replace(self, image=self.image.pin_memory())


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet(Dataset[EvaluationImage | UserError]):
    """The images of a split, one by one, resized to one scale; item i is image i of the index."""

    index: CocoIndex
    images: Path
    scale: tuple[int, int]
    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pad_divisor: int

    def __getitem__(self, image: int) -> EvaluationImage | UserError:
        """A UserError is handed back, not raised, as in TrainSet."""
        try:
            pixels = read_image(self.index, self.images, image)
        except UserError as error:
            return error
        return evaluation_image(
            pixels,
            image_id=int(self.index.image_ids[image]),
            scale=self.scale,
            channel_order=self.channel_order,
            mean=self.mean,
            std=self.std,
            pad_divisor=self.pad_divisor,
        )


def evaluation_image(
    pixels: Image,
    *,
    image_id: int,
    scale: tuple[int, int],
    channel_order: Literal["rgb", "bgr"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    pad_divisor: int = 32,
) -> EvaluationImage:
    """Prepare one decoded BGR image for testing: resize to the (long side, short side) limits, normalise, pad."""
    height, width = pixels.shape[:2]
    new_width, new_height = rescale_size((width, height), scale)
    out = torch.zeros(1, 3, padded(new_height, pad_divisor), padded(new_width, pad_divisor))
    resized = resize(pixels, (new_width, new_height))
    normalise(resized, out[0, :, :new_height, :new_width], channel_order=channel_order, mean=mean, std=std)
    return EvaluationImage(
        image_id=image_id,
        image=out,
        size=(new_height, new_width),
        original_size=(height, width),
        scale_factor=(new_width / width, new_height / height),
    )


def evaluation_images(
    index: CocoIndex,
    images: Path,
    *,
    scale: tuple[int, int],
    channel_order: Literal["rgb", "bgr"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    pad_divisor: int = 32,
    numbers: Sequence[int] | None = None,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[EvaluationImage]:
    """Images of a split for testing: of `numbers` (None: all, those without annotations too) every world-th from rank.

    Raises UserError, when it is reached, where an image cannot be read.
    """
    images_to_test = EvaluationSet(
        index=index,
        images=images,
        scale=scale,
        channel_order=channel_order,
        mean=mean,
        std=std,
        pad_divisor=pad_divisor,
    )
    places = (range(len(index.image_ids)) if numbers is None else numbers)[rank::world]
    return load(images_to_test, places, workers=workers, pin_memory=pin_memory)
