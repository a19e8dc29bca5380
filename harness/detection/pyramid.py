"""The levels of a feature pyramid as one table of positions, a row each."""

from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = Sequence[tuple[int, int]]
"""(height, width) of each level."""


def level_shapes(features: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each level (B x C x h x w)."""
    return [(level.shape[2], level.shape[3]) for level in features]


def as_table(features: Sequence[Tensor]) -> Tensor:
    """All positions x C: level after level, in each image after image, in each row after row."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in features])


def around(positions: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
    """The 3 x 3 positions around each one: rows of the table, and whether they lie on the map: B x S x 9 both.

    positions: B x S, of each image: level after level, in each row after row.
    """
    images = len(positions)
    image = torch.arange(images, device=positions.device)[:, None]
    row, local, height, width = (torch.zeros_like(positions) for _ in range(4))
    start = 0
    for h, w in shapes:
        reached = positions >= start
        row = torch.where(reached, images * start + image * (h * w), row)
        local = torch.where(reached, positions - start, local)
        height, width = height.masked_fill(reached, h), width.masked_fill(reached, w)
        start += h * w
    step = torch.arange(-1, 2, device=positions.device)
    y = (local // width)[..., None] + step.repeat_interleave(3, output_size=9)
    x = (local % width)[..., None] + step.repeat(3)
    inside = (y >= 0) & (y < height[..., None]) & (x >= 0) & (x < width[..., None])
    return (row[..., None] + y * width[..., None] + x).masked_fill(~inside, 0), inside
