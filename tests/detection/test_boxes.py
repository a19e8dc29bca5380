"""Box arithmetic against torchvision and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from harness.detection import boxes as box_ops

coordinates = st.floats(0, 1000, width=32)
extents = st.floats(0.5, 500, width=32)
box_lists = st.lists(st.tuples(coordinates, coordinates, extents, extents), min_size=1, max_size=8).map(
    lambda rows: torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows])
)


@given(box_lists, box_lists)
def test_iou_is_torchvisions(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(box_ops.pairwise_iou(first, second), box_iou(first, second), rtol=1e-5, atol=1e-6)


def test_iou_by_hand() -> None:
    # 10 x 10 against 10 x 10 moved by 5: 50 / 150; an empty box overlaps nothing, not even itself.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3]])
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(box_ops.pairwise_iou(boxes, boxes), expected)


@given(box_lists)
def test_decode_undoes_encode(boxes: Tensor) -> None:
    stds = torch.tensor([0.1, 0.1, 0.2, 0.2])
    center = boxes.mean(dim=0).expand_as(boxes).double()
    # Ratios within the bound of 62.5 come back.
    size = (center[:, 2:] - center[:, :2]).clamp(min=20)
    references = torch.cat([center[:, :2], center[:, :2] + size], dim=1)
    deltas = box_ops.encode(references, boxes.double(), stds=stds)
    ratios = (deltas[:, 2:] * stds[2:]).abs()
    within = (ratios < box_ops.MAX_LOG_RATIO).all(dim=1)
    decoded = box_ops.decode(references, deltas, stds=stds)
    torch.testing.assert_close(decoded[within], boxes.double()[within], rtol=1e-6, atol=1e-3)


def test_decode_by_hand() -> None:
    # A 10 x 20 box at (5, 10) moved by a tenth of its size and doubled in width: centre (6, 12), 20 x 20.
    box = box_ops.decode(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[0.1, 0.1, math.log(2), 0]]))
    assert box[0].tolist() == pytest.approx([-4, 2, 16, 22])
    # Growth is bounded: 10 * 1000 / 16 = 625 pixels, to both sides of the centre.
    box = box_ops.decode(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[0.0, 0, 50, 0]]))
    assert box[0].tolist() == pytest.approx([5 - 312.5, 0, 5 + 312.5, 20])


def test_clip_takes_height_then_width() -> None:
    boxes = torch.tensor([[-1.0, -2, 300, 300]]).expand(2, 1, 4)
    clipped = box_ops.clip(boxes, torch.tensor([[10, 20], [30, 40]])[:, None])
    assert clipped[:, 0].tolist() == [[0, 0, 20, 10], [0, 0, 40, 30]]
