"""Levels by hand and against torchvision, and both ways of pooling."""

import pytest
import torch
from torchvision.ops.poolers import LevelMapper

from harness.detection.roi_align import pyramid_roi_align, roi_levels


def test_level_boundaries() -> None:
    # With finest scale 56 a level is an octave: below 112 pixels level 0, 112 .. 223 level 1, ..., from 448 on level 3.
    sides = torch.tensor([0.0, 1, 111.9, 112, 223.9, 224, 447.9, 448, 4000])
    boxes = torch.stack([torch.zeros_like(sides), torch.zeros_like(sides), sides, sides], dim=1)
    assert roi_levels(boxes, finest_scale=56, levels=4).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_levels_equal_torchvision() -> None:
    corner = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 300
    boxes = torch.cat([corner, corner + 1 + corner.flip(0) * 3], dim=1)
    mapper = LevelMapper(2, 5, canonical_scale=224, canonical_level=4, eps=1e-6)
    assert torch.equal(roi_levels(boxes, finest_scale=56, levels=4), mapper([boxes]))


@pytest.mark.parametrize(
    ("size", "sampling_ratio", "aligned"), [(7, 0, True), (14, 0, True), (7, 2, True), (7, 2, False), (7, 0, False)]
)
def test_both_ways_of_pooling_are_equal(size: int, sampling_ratio: int, aligned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    pyramids = [
        [
            torch.randn(2, 5, 512 // stride, 512 // stride, generator=generator).requires_grad_()
            for stride in (4, 8, 16, 32)
        ]
    ]
    pyramids.append([level.detach().clone().requires_grad_() for level in pyramids[0]])
    corner = torch.rand(40, 2, generator=generator) * 250
    boxes = torch.cat([corner, corner + torch.rand(40, 2, generator=generator).square() * 500], dim=1).clamp(max=512)
    boxes[3] = 0  # an unused slot
    boxes[4] = torch.tensor([10.0, 20, 500, 510])
    weights = torch.randn(40, 5, size, size, generator=generator)
    pooled = []
    for pyramid, listed in zip(pyramids, (True, False), strict=True):
        pooled.append(
            pyramid_roi_align(
                pyramid,
                boxes,
                torch.arange(40) % 2,
                size=size,
                strides=(4, 8, 16, 32),
                finest_scale=56,
                sampling_ratio=sampling_ratio,
                aligned=aligned,
                listed=listed,
            )
        )
        (pooled[-1] * weights).sum().backward()
    torch.testing.assert_close(pooled[0], pooled[1], rtol=1e-5, atol=1e-6)
    if aligned and sampling_ratio == 0:
        assert not pooled[0][3].any()
    for one, other in zip(*pyramids, strict=True):
        assert one.grad is not None and one.grad.any()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)
