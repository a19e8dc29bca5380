"""Losses and initialisation of the box and the mask head, by hand."""

import math

import pytest
import torch

from harness.detection.box_head import BoxHead
from harness.detection.mask_head import MaskHead, of_class
from harness.detection.mask_targets import bitmap_targets, polygon_targets


def test_box_losses_by_hand() -> None:
    head = BoxHead(in_channels=1, size=1, fc_width=2, num_classes=2)
    box = [0.0, 0, 10, 10]
    losses = head.losses(
        # Right class, wrong class, background and an unused slot (whose class would be wrong, and whose box is empty).
        torch.tensor([[math.log(8.0), 0, 0], [0, math.log(8.0), 0], [0, 0, math.log(8.0)], [9.0, 0, 0]]),
        torch.tensor([[1.0] * 4 + [9] * 4, [9] * 4 + [3] * 4, [5] * 8, [5] * 8], dtype=torch.float32),
        boxes=torch.tensor([box, box, box, [0.0] * 4]),
        gt_boxes=torch.tensor([[1.0, 0, 11, 10], box, box, [0.0] * 4]),
        labels=torch.tensor([0, 0, 2, 1]),
        valid=torch.tensor([True, True, True, False]),
    )
    # exp(logits) are 8, 1, 1: the right class costs log(10 / 8), a wrong one log(10 / 1); three regions count.
    assert losses["loss_cls"].item() == pytest.approx((2 * math.log(10 / 8) + math.log(10)) / 3, rel=1e-5)
    assert losses["acc"].item() == pytest.approx(200 / 3, rel=1e-5)
    # A pixel of ten to the right is 0.1 / std 0.1 = 1: the first costs 0 + 1 + 1 + 1, the second (deltas of class 0)
    # 4 * 9; background and unused ones nothing.
    assert losses["loss_bbox"].item() == pytest.approx((3 + 36) / 3, rel=1e-5)


def test_mask_loss_by_hand() -> None:
    head = MaskHead(in_channels=1, conv_width=1, conv_count=1, num_classes=2)
    logits = torch.zeros(3, 2, 2, 2)
    logits[0, 1] = 50  # its own class is sure, and right on half of the pixels
    logits[2] = 1e4  # an unused slot
    targets = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]]).bool()
    loss = head.loss(
        logits, targets=targets, labels=torch.tensor([1, 0, 2]), positive=torch.tensor([True, True, False])
    )
    # Four pixels at 0, 50, 0, 50 and four at log 2, over two positives of four pixels.
    assert loss.item() == pytest.approx((100 + 4 * math.log(2)) / 8, rel=1e-5)


def test_mask_head_doubles_the_resolution_and_picks_a_class() -> None:
    head = MaskHead(in_channels=3, conv_width=4, conv_count=2, num_classes=5)
    logits = head(torch.randn(2, 3, 14, 14))
    assert logits.shape == (2, 5, 28, 28)
    assert torch.equal(of_class(logits, torch.tensor([4, 1])), torch.stack([logits[0, 4], logits[1, 1]]))
    assert head(torch.zeros(0, 3, 14, 14)).shape == (0, 5, 28, 28)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    box, mask = BoxHead(in_channels=64, fc_width=256), MaskHead()
    box.init_weights()
    mask.init_weights()
    first = box.shared_fcs[0].weight
    # Xavier-uniform: +-sqrt(6 / (in + out)).
    assert first.abs().max().item() == pytest.approx(math.sqrt(6 / (64 * 49 + 256)), rel=1e-3)
    assert first.std().item() == pytest.approx(math.sqrt(2 / (64 * 49 + 256)), rel=0.02)
    assert box.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert box.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.02)
    # Kaiming-normal over fan out: sqrt(2 / (channels * kernel area)); torch counts a transposed one's inputs.
    assert mask.convs[0].conv.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
    assert mask.upsample.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 4)), rel=0.02)
    assert mask.conv_logits.weight.std().item() == pytest.approx(math.sqrt(2 / 80), rel=0.02)
    biases = [value for head in (box, mask) for name, value in head.named_parameters() if name.endswith("bias")]
    assert len(biases) == 4 + 6
    assert not any(bias.any() for bias in biases)


def test_mask_targets_of_a_half_covered_box() -> None:
    bitmap = torch.zeros(1, 2, 40, 40, dtype=torch.uint8)
    bitmap[0, 1, 4:32, 4:18] = 1
    boxes = torch.tensor([[4.0, 4, 32, 32]])
    index = torch.tensor([0])
    target = bitmap_targets(bitmap, boxes=boxes, images=index, slots=index + 1, size=28)
    assert torch.equal(target[0], bitmap[0, 1, 4:32, 4:32].bool())

    corners = [(4, 4), (18, 4), (18, 32), (4, 32)]
    edges = torch.tensor([[(*corners[i], *corners[(i + 1) % 4]) for i in range(4)]], dtype=torch.float64)
    target = polygon_targets(edges, torch.zeros(1, 4, dtype=torch.long), boxes=boxes, size=28)
    assert torch.equal(target[0], bitmap[0, 1, 4:32, 4:32].bool())
    # A box below a pixel is stretched as one pixel: all of it lies within the polygon.
    tiny = torch.tensor([[10.0, 10, 10.2, 10.2]])
    assert polygon_targets(edges, torch.zeros(1, 4, dtype=torch.long), boxes=tiny, size=28).all()
