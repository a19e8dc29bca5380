"""Suppression within groups, in one call and in many, against the textbook loop."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from harness.detection.nms import batched_nms, offset_boxes


def textbook(boxes: Tensor, scores: Tensor, iou: float) -> list[bool]:
    """Greedy suppression, straight from its definition."""
    overlaps, keep = box_iou(boxes, boxes), [False] * len(boxes)
    for index in scores.argsort(descending=True).tolist():
        keep[index] = not any(kept and overlaps[index, other] > iou for other, kept in enumerate(keep))
    return keep


@pytest.mark.parametrize("one_call", [True, False])
def test_images_and_levels_are_apart(one_call: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(3, 90, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 20 + torch.rand(3, 90, 2, generator=generator) * 60], dim=2)
    boxes[0] *= 10  # images of different extents
    scores = torch.rand(3, 90, generator=generator)
    valid = torch.rand(3, 90, generator=generator) > 0.1
    sizes = [50, 30, 10]
    keep = batched_nms(boxes, scores, valid, level_sizes=sizes, iou=0.5, one_call=one_call)
    assert not (keep & ~valid).any()
    for image in range(3):
        for start, stop in ((0, 50), (50, 80), (80, 90)):
            used = valid[image, start:stop]
            expected = textbook(boxes[image, start:stop][used], scores[image, start:stop][used], 0.5)
            assert keep[image, start:stop][used].tolist() == expected
    assert 30 < keep.sum() < 200  # both outcomes occur


def test_nothing_valid_keeps_nothing() -> None:
    boxes, scores, valid = torch.zeros(2, 4, 4), torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bool)
    for one_call in (True, False):
        assert not batched_nms(boxes, scores, valid, level_sizes=[3, 1], iou=0.5, one_call=one_call).any()


def test_offsets_follow_the_greatest_valid_coordinate_of_each_image() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 20], [0, 0, 99, 99]], [[0.0, 0, 5, 5], [1, 1, 6, 30]]])
    moved = offset_boxes(boxes, torch.tensor([2, 1]), torch.tensor([[True, False], [True, True]]))
    assert moved[0, 0].tolist() == [42, 42, 52, 62]  # 2 * (20 + 1)
    assert moved[1].tolist() == [[62, 62, 67, 67], [32, 32, 37, 61]]  # (30 + 1) * 2 and * 1
