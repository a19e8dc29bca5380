"""Predicted masks into the image, straight to COCO RLE: only the pixels around the box are ever computed."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

Rle = dict[str, Any]


def paste_rles(probabilities: Tensor, boxes: Tensor, *, height: int, width: int, threshold: float) -> list[Rle]:
    """COCO RLEs of masks pasted into a height x width image, probability >= threshold.

    probabilities: D x h x w; boxes: D x 4 float32, in the image's pixels; both on the CPU.
    """
    return [
        encode_crop(crop, x=x, y=y, height=height, width=width)
        for crop, x, y in paste_crops(probabilities, boxes, height=height, width=width, threshold=threshold)
    ]


def paste_crops(
    probabilities: Tensor, boxes: Tensor, *, height: int, width: int, threshold: float
) -> list[tuple[Tensor, int, int]]:
    """Each mask as a bool crop with its position (crop, x, y): the box and a pixel around it, within the image.

    Bilinear, pixel centres at +0.5. Beyond the box all is below 0.5, so for thresholds from there on the result is that
    of sampling the whole image.
    """
    grid_x = _grid(width, boxes[:, 0::2])  # D x width
    grid_y = _grid(height, boxes[:, 1::2])  # D x height
    low = (boxes[:, :2].floor() - 1).clamp(min=0).int().tolist()
    high = (boxes[:, 2:].ceil() + 1).int().tolist()  # may lie beyond the image, where slices end by themselves
    crops = []
    for mask, x, y, (x0, y0), (x1, y1) in zip(probabilities, grid_x, grid_y, low, high, strict=True):
        grid = torch.stack(torch.meshgrid(x[x0:x1], y[y0:y1], indexing="xy"), dim=-1)
        crops.append((F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= threshold, x0, y0))
    return crops


def encode_crop(crop: Tensor, *, x: int, y: int, height: int, width: int) -> Rle:
    """COCO RLE of a height x width image that is zero but for `crop` (h x w bool) at column x, row y."""
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), dtype=bool)  # with an empty pixel above and below
    columns[:, 1:-1] = crop.numpy().T
    flat = columns.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), columns.shape[1])
    changes = (column + x) * height + row + y
    # A run that ends at the image's lower edge and goes on at the upper one of the next column is one run.
    joined = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    changes = changes[changes < height * width]
    counts = np.diff(changes, prepend=0, append=height * width)
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return rle


def _grid(length: int, ends: Tensor) -> Tensor:
    """Pixel centres in grid_sample's coordinates: -1 at a box's lower end, 1 at its upper one (D x 2 -> D x length)."""
    low, high = ends.split_with_sizes([1, 1], dim=1)
    grid = (torch.arange(length, dtype=torch.float32) + 0.5 - low) / (high - low) * 2 - 1
    return grid.masked_fill(grid.isinf(), 0)  # of an empty box
