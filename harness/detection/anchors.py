"""Anchors of the region proposal network: one grid a pyramid level, centred at multiples of the stride."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AnchorGenerator(nn.Module):
    """Anchors of `scale * stride` pixels in several aspect ratios at every feature position.

    The centres lie at (0, 0) + stride * position, not at half a stride, and nothing is rounded (recipes, section 2).
    """

    base: Tensor

    def __init__(self, *, scale: float, ratios: Sequence[float], strides: Sequence[int]) -> None:
        """ratios: height / width. strides: pixels between feature positions, one a level."""
        super().__init__()
        self.strides = tuple(strides)
        self.per_position = len(ratios)
        self.register_buffer("base", _base_anchors(scale=scale, ratios=ratios, strides=strides), persistent=False)

    def forward(self, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Anchors for feature maps of `shapes` (height, width): a level N x 4, ordered by (y, x, ratio)."""
        levels = []
        for base, stride, (height, width) in zip(self.base, self.strides, shapes, strict=True):
            y = torch.arange(height, device=base.device, dtype=base.dtype) * stride
            x = torch.arange(width, device=base.device, dtype=base.dtype) * stride
            shifts = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).repeat(1, 1, 2)
            levels.append((shifts[:, :, None] + base).reshape(-1, 4))
        return levels

    def valid(self, shapes: Sequence[tuple[int, int]], padded_sizes: Tensor) -> Tensor:
        """Which anchors sit within each image's own padded size (B x 2: height, width) -> B x N bool, levels joined."""
        levels = []
        for stride, (height, width) in zip(self.strides, shapes, strict=True):
            limits = (padded_sizes + stride - 1) // stride  # B x 2 positions
            y = torch.arange(height, device=padded_sizes.device) < limits[:, :1]
            x = torch.arange(width, device=padded_sizes.device) < limits[:, 1:]
            inside = y[:, :, None, None] & x[:, None, :, None]
            levels.append(inside.expand(-1, -1, -1, self.per_position).flatten(1))
        return torch.cat(levels, dim=1)


def _base_anchors(*, scale: float, ratios: Sequence[float], strides: Sequence[int]) -> Tensor:
    roots = torch.tensor(ratios, dtype=torch.float32).sqrt()
    half_width = torch.stack([stride * (1 / roots) * scale for stride in strides]) * 0.5  # levels x ratios
    half_height = torch.stack([stride * roots * scale for stride in strides]) * 0.5
    return torch.stack([-half_width, -half_height, half_width, half_height], dim=-1)
