"""Anchors by hand."""

import pytest
import torch

from harness.detection.anchors import AnchorGenerator


def test_size_ratio_and_centre() -> None:
    (level,) = AnchorGenerator(scale=8, ratios=(0.5, 1, 2), strides=(4,))([(2, 3)])
    assert level.shape == (2 * 3 * 3, 4)
    # 8 * 4 = 32 pixels; ratio 1 at position (y 0, x 0) lies around (0, 0), at (y 1, x 2) around (8, 4).
    assert level[1].tolist() == [-16, -16, 16, 16]
    assert level[(1 * 3 + 2) * 3 + 1].tolist() == [-8, -12, 24, 20]
    width, height = level[2, 2] - level[2, 0], level[2, 3] - level[2, 1]
    assert (height / width).item() == pytest.approx(2)
    assert (height * width).item() == pytest.approx(32 * 32)


def test_positions_beyond_an_images_own_padding_are_not_valid() -> None:
    generator = AnchorGenerator(scale=8, ratios=(1,), strides=(4, 8))
    valid = generator.valid([(3, 4), (2, 2)], torch.tensor([[12, 16], [5, 9]]))
    assert valid[0].all()
    # 5 x 9 pixels: 2 x 3 positions at stride 4, 1 x 2 at stride 8.
    assert valid[1].int().tolist() == [1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0]


def test_nothing_of_it_is_saved() -> None:
    assert not AnchorGenerator(scale=8, ratios=(1,), strides=(4,)).state_dict()
