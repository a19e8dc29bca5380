"""Polygons to bitmaps, pixel for pixel as pycocotools does it (rleFrPoly), in tensor operations for many at once."""

import torch
from torch import Tensor

UPSAMPLING = 5
"""pycocotools walks along the edges on a grid that is this much finer than the pixels."""


def rasterize(edges: Tensor, parts: Tensor, *, height: int, width: int) -> Tensor:
    """Bitmaps of K instances, K x height x width bool; even-odd within a part, parts united.

    edges: K x V x 4 float64 (x1, y1, x2, y2), in pixels of the bitmap or outside of it, closed within each part.
    parts: K x V int64, -1 in padding.

    A column's pixels are decided where the discretised outline passes from the left of the column's centre to its right
    or back: each such crossing toggles the column from its row downwards.
    """
    rows, crosses = _crossings(edges, width=width, height=height)  # K x width x V
    # Within a part and column the crossings are even in number, so that ordering them by (part, row) alternates
    # between entering and leaving, and the united parts are where more were entered than left.
    key = (parts[:, None] * (height + 1) + rows).masked_fill(~crosses | (parts < 0)[:, None], _UNUSED)
    key = key.to(torch.int32).sort(dim=2).values
    step = torch.ones(key.shape[2], dtype=torch.int32, device=key.device)
    step[1::2] = -1
    used = key != _UNUSED
    depth = torch.zeros(*key.shape[:2], height + 1, dtype=torch.int32, device=key.device)
    depth.scatter_add_(2, (key % (height + 1)).masked_fill(~used, height).long(), step.expand_as(key) * used)
    return (depth.cumsum(dim=2) > 0)[..., :height].transpose(1, 2)


_UNUSED = 2**31 - 1


def _crossings(edges: Tensor, *, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Row from which each edge toggles each column (0 .. height), and whether it does: K x width x V both."""
    fine = (edges * UPSAMPLING + 0.5).trunc()[:, None]  # K x 1 x V x 4; C's (int), towards zero
    x1, y1, x2, y2 = fine.unbind(-1)
    center = torch.arange(width, device=edges.device, dtype=edges.dtype)[:, None] * UPSAMPLING + UPSAMPLING // 2
    crosses = (x1 <= center) != (x2 <= center)  # between `center` and the fine position right of it
    wide = (x2 - x1).abs() >= (y2 - y1).abs()
    # Edges are walked from the lower end of their longer axis.
    swap = torch.where(wide, x1 > x2, y1 > y2)
    xs, ys = torch.where(swap, x2, x1), torch.where(swap, y2, y1)
    xe, ye = torch.where(swap, x1, x2), torch.where(swap, y1, y2)
    row = torch.where(wide, _row_of_wide(center, xs, ys, xe, ye), _row_of_high(center, xs, ys, xe, ye))
    row = ((row + UPSAMPLING // 2) / UPSAMPLING).floor()  # ceil((row + 0.5) / 5 - 0.5)
    return row.nan_to_num(0).clamp(0, height).long(), crosses


def _row_of_wide(center: Tensor, xs: Tensor, ys: Tensor, xe: Tensor, ye: Tensor) -> Tensor:
    """Least fine row of the two steps around `center`, of edges walked along x."""
    slope = (ye - ys) / (xe - xs)
    before = (ys + slope * (center - xs) + 0.5).trunc()
    after = (ys + slope * (center + 1 - xs) + 0.5).trunc()
    return torch.minimum(before, after)


def _row_of_high(center: Tensor, xs: Tensor, ys: Tensor, xe: Tensor, ye: Tensor) -> Tensor:
    """Least fine row of the two steps around `center`, of edges walked along y: find the first step beyond it.

    The step is estimated by division and put right by trying its neighbours with the walk's own rounding.
    """
    slope = (xe - xs) / (ye - ys)
    estimate = ((center + 0.5 - xs) / slope).ceil()

    def beyond(step: Tensor) -> Tensor:
        return ((xs + slope * step + 0.5).trunc() > center) == (xe > xs)

    first = torch.where(beyond(estimate - 1), estimate - 1, torch.where(beyond(estimate), estimate, estimate + 1))
    return ys + first - 1
