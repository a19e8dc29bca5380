"""What the data pipeline hands to the model, and the model to the evaluation.

Coordinates are pixels of the resized image, x to the right and y down, boxes (x1, y1, x2, y2) without any +1, unless a
field says otherwise. Letters in shapes: B images, G ground-truth slots an image, V polygon edges a slot, H x W the
padded batch, D detections.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Polygons:
    """Ground-truth masks as polygon edges, in the resized image's coordinates; parts of an instance are united."""

    edges: Tensor  # B x G x V x 4 float64: (x1, y1, x2, y2), from a vertex to the next one of its part
    parts: Tensor  # B x G x V int64: index of the part within its instance; -1 in padding

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Polygons":
        """The same polygons on another device."""
        return Polygons(
            edges=self.edges.to(device, non_blocking=non_blocking),
            parts=self.parts.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Polygons":
        """The same polygons in pinned memory (called by the data loader)."""
        return Polygons(edges=self.edges.pin_memory(), parts=self.parts.pin_memory())


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A micro-batch for training: images and ground truth, padded to common shapes."""

    images: Tensor  # B x 3 x H x W float32, normalised, zero-padded right and bottom; H and W multiples of 32
    sizes: Tensor  # B x 2 int64: (height, width) of each resized image without padding
    boxes: Tensor  # B x G x 4 float32; zeros in padding slots
    labels: Tensor  # B x G int64: 0 .. classes - 1; -1 in padding slots (padding comes last)
    masks: Tensor | Polygons  # bitmaps B x G x H x W uint8 (0 or 1), or polygons
    seeds: Tensor  # B int64: from (seed, epoch, position); every random choice for an image follows from it

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in pinned memory (called by the data loader)."""
        return self._map(lambda value: value.pin_memory())

    def _map(self, function: Any) -> "Batch":
        names = ("images", "sizes", "boxes", "labels", "masks", "seeds")
        return replace(self, **{name: function(getattr(self, name)) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What the model found in one image, best score first, in the ORIGINAL image's coordinates."""

    boxes: Tensor  # D x 4 float32
    scores: Tensor  # D float32
    labels: Tensor  # D int64: 0 .. classes - 1
    masks: list[dict[str, Any]]  # D COCO RLEs {"size": [height, width], "counts": bytes}, of the original image's size
