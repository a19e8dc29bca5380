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
    low = (boxes[:, :2].floor() - 1).clamp(min=0).long()
    bounds = torch.tensor([width, height])
    high = torch.minimum((boxes[:, 2:].ceil() + 1).long(), bounds)
    crops = []
    for mask, box, (x0, y0), (x1, y1) in zip(probabilities, boxes, low.tolist(), high.tolist(), strict=True):
        grid_x = _grid(x0, x1, box[0], box[2])
        grid_y = _grid(y0, y1, box[1], box[3])
        grid = torch.stack([grid_x.expand(len(grid_y), -1), grid_y[:, None].expand(-1, len(grid_x))], dim=-1)
        crops.append((F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= threshold, x0, y0))
    return crops


def encode_crop(crop: Tensor, *, x: int, y: int, height: int, width: int) -> Rle:
    """COCO RLE of a height x width image that is zero but for `crop` (h x w bool) at column x, row y."""
    columns = np.pad(crop.numpy().T, ((0, 0), (1, 1))).view(np.int8)
    column, row = np.nonzero(np.diff(columns, axis=1))
    changes = (column + x) * height + row + y
    # A run that ends at the image's lower edge and goes on at the upper one of the next column is one run.
    joined = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    changes = changes[changes < height * width]
    counts = np.diff(changes, prepend=0, append=height * width)
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return rle


def _grid(start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Pixels start .. stop - 1 in grid_sample's coordinates: -1 at `low`, 1 at `high`; 0 in an empty box."""
    centers = torch.arange(start, stop, dtype=torch.float32) + 0.5
    grid = (centers - low) / (high - low) * 2 - 1
    return torch.where(torch.isinf(grid), 0, grid)
