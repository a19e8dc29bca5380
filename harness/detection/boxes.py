"""Axis-aligned boxes (x1, y1, x2, y2) in pixels, without any +1: overlap, coding, clipping.

All functions work on the last dimension and broadcast over the ones before it, in float32 or float64.
"""

import math

import torch
from torch import Tensor

MAX_LOG_RATIO = abs(math.log(16 / 1000))
"""Bound of the predicted log width and height ratios (recipes: wh_ratio_clip 16 / 1000)."""


def area(boxes: Tensor) -> Tensor:
    """Areas, ... x 4 -> ... (px^2)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair, ... x M x 4 and ... x N x 4 -> ... x M x N.

    Empty unions count as 1e-6 px^2, so that two empty boxes overlap by 0.
    """
    first, second = first.unsqueeze(-2), second.unsqueeze(-3)
    width = (
        torch.minimum(first[..., 2], second[..., 2]).sub_(torch.maximum(first[..., 0], second[..., 0])).clamp_(min=0)
    )
    height = torch.minimum(first[..., 3], second[..., 3]).sub_(torch.maximum(first[..., 1], second[..., 1]))
    intersection = width.mul_(height.clamp_(min=0))
    union = (area(first) + area(second)).sub_(intersection).clamp_(min=1e-6)
    return intersection.div_(union)


def encode(references: Tensor, targets: Tensor, *, stds: Tensor | None = None) -> Tensor:
    """Deltas (dx, dy, log dw, log dh) that move `references` onto `targets`, divided by `stds` where given.

    `decode(references, encode(references, targets)) == targets`; both need a positive width and height.
    """
    centers, sizes = _centers_sizes(references)
    target_centers, target_sizes = _centers_sizes(targets)
    deltas = torch.cat([(target_centers - centers) / sizes, torch.log(target_sizes / sizes)], dim=-1)
    return deltas if stds is None else deltas / stds


def decode(references: Tensor, deltas: Tensor, *, stds: Tensor | None = None) -> Tensor:
    """Boxes that `deltas` (dx, dy, log dw, log dh) make of `references`; |log d| is bounded by MAX_LOG_RATIO."""
    if stds is not None:
        deltas = deltas * stds
    centers, sizes = _centers_sizes(references)
    moved = centers + sizes * deltas[..., :2]
    half = sizes * deltas[..., 2:].clamp(min=-MAX_LOG_RATIO, max=MAX_LOG_RATIO).exp() * 0.5
    return torch.cat([moved - half, moved + half], dim=-1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes cut to images of `sizes` (height, width), which broadcasts against `boxes` without its last dimension."""
    bounds = sizes.to(boxes.dtype).flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([bounds, bounds], dim=-1))


def _centers_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) * 0.5, high - low
