"""Masks in the image: cropped pasting against pasting into the whole image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch import Tensor

from harness.detection.mask_paste import encode_crop, paste_rles

HEIGHT, WIDTH = 40, 61


def paste_whole(masks: Tensor, boxes: Tensor) -> Tensor:
    """The rule itself: sample each mask at every pixel centre of the image."""
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    y = (torch.arange(HEIGHT) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(WIDTH) + 0.5 - x0) / (x1 - x0) * 2 - 1
    shape = (len(masks), HEIGHT, WIDTH)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0] >= 0.5


def encode(mask: Tensor) -> bytes:
    counts: bytes = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))["counts"]
    return counts


def test_crops_equal_the_whole_image() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(200, 28, 28, generator=generator)
    masks[:50] = 1  # saturated up to the rim of the box
    corner = torch.rand(200, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    size = torch.rand(200, 2, generator=generator).square() * 60 + 0.01
    boxes = torch.cat([corner, torch.minimum(corner + size, torch.tensor([WIDTH, HEIGHT]))], dim=1)
    boxes[100:120] = boxes[100:120].round()
    boxes[0] = torch.tensor([0.0, 0, WIDTH, HEIGHT])
    usable = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    masks, boxes = masks[usable], boxes[usable]
    assert len(masks) > 180
    rles = paste_rles(masks, boxes, height=HEIGHT, width=WIDTH, threshold=0.5)
    expected = paste_whole(masks, boxes)
    assert expected.any(dim=2).any(dim=1).sum() > 100
    assert [rle["counts"] for rle in rles] == [encode(mask) for mask in expected]
    assert all(rle["size"] == [HEIGHT, WIDTH] for rle in rles)


def test_no_detections() -> None:
    assert paste_rles(torch.zeros(0, 28, 28), torch.zeros(0, 4), height=4, width=5, threshold=0.5) == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_shifted_runs_equal_an_encoded_image(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    bits = data.draw(st.integers(0, 2 ** ((y1 - y0) * (x1 - x0)) - 1) | st.just(-1))
    image = torch.zeros(height, width, dtype=torch.bool)
    cells = torch.tensor([bool(bits >> i & 1) for i in range((y1 - y0) * (x1 - x0))]).view(y1 - y0, x1 - x0)
    image[y0:y1, x0:x1] = cells
    rle = encode_crop(cells, x=x0, y=y0, height=height, width=width)
    assert rle["counts"] == encode(image)


@pytest.mark.parametrize("box", [[3.5, 3.5, 3.5, 9], [60.9, 39.9, 61, 40], [5, 5, 5, 5]])
def test_tiny_and_empty_boxes_stay_within_a_pixel_of_the_box(box: list[float]) -> None:
    (rle,) = paste_rles(torch.ones(1, 28, 28), torch.tensor([box]), height=HEIGHT, width=WIDTH, threshold=0.5)
    painted = torch.from_numpy(coco_mask.decode(rle)).nonzero().flip(1)  # (x, y)
    low, high = torch.tensor(box[:2]).floor() - 1, torch.tensor(box[2:]).ceil() + 1
    assert ((painted >= low) & (painted < high)).all()
