"""Proposals and losses of the region proposal network, against a plain loop and by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from harness.detection import boxes as box_ops
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.rpn import Proposals, RPNHead

SHAPES = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
SIZES = torch.tensor([[96, 128], [80, 100]])


def outputs(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(2, 3, *shape, generator=generator) for shape in SHAPES]
    return logits, [torch.randn(2, 12, *shape, generator=generator) for shape in SHAPES]


def plain_proposals(head: RPNHead, logits: list[Tensor], deltas: list[Tensor], image: int) -> tuple[Tensor, Tensor]:
    """The rule for one image, as one reads it."""
    boxes, scores, levels = [], [], []
    for level, anchors in enumerate(head.anchors(SHAPES)):
        score = logits[level][image].permute(1, 2, 0).reshape(-1).sigmoid()
        delta = deltas[level][image].permute(1, 2, 0).reshape(-1, 4)
        best = score.argsort(descending=True)[: head.nms_pre_train]
        box = box_ops.clip(box_ops.decode(anchors[best], delta[best]), SIZES[image])
        boxes.append(box)
        scores.append(score[best])
        levels.append(torch.full((len(best),), level))
    box, score, group = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    whole = ((box[:, 2:] - box[:, :2]) > 0).all(dim=1)
    box, score, group = box[whole], score[whole], group[whole]
    keep = batched_nms(box, score, group, head.nms_iou)[: head.max_proposals]
    return box[keep], score[keep]


@pytest.mark.parametrize("compact", [True, False])
def test_proposals_equal_a_plain_loop(compact: bool) -> None:
    head = RPNHead(nms_pre_train=150, max_proposals=120, compact=compact).train()
    logits, deltas = outputs()
    proposals = head.proposals(logits, deltas, sizes=SIZES)
    for image in range(2):
        boxes, scores = plain_proposals(head, logits, deltas, image)
        count = int(proposals.valid[image].sum())
        assert count == len(boxes)
        assert not proposals.valid[image, count:].any()
        torch.testing.assert_close(proposals.boxes[image, :count], boxes)
        torch.testing.assert_close(proposals.scores[image, :count], scores)


def test_testing_and_training_keep_their_own_numbers() -> None:
    head = RPNHead(nms_pre_train=40, nms_pre_test=10, nms_iou=1.0)
    logits, deltas = outputs()
    # Levels hold 2304, 576, 144, 36 and 12 anchors; nothing is suppressed at 1.0.
    assert head.train().proposals(logits, deltas, sizes=SIZES).boxes.shape[1] == 40 * 3 + 36 + 12
    assert head.eval().proposals(logits, deltas, sizes=SIZES).boxes.shape[1] == 10 * 5


def test_given_boxes_as_proposals() -> None:
    given = Proposals.of([torch.ones(2, 4), torch.zeros(0, 4)])
    assert given.valid.tolist() == [[True, True], [False, False]]
    assert given.boxes.shape == (2, 2, 4)


def passing(head: RPNHead) -> RPNHead:
    """A head of one channel whose logits are its features, where these are positive, and whose deltas are 0."""
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(head.rpn_conv.weight[:, :, 1, 1])
    nn.init.ones_(head.rpn_cls.weight)
    return head


def test_outputs_at_some_anchors_and_their_gradients_are_those_of_all() -> None:
    """Corners and edges of maps among them, one anchor twice, and anchors whose neighbourhoods overlap."""
    torch.manual_seed(0)
    head = RPNHead(in_channels=6, feat_channels=5)
    nn.init.normal_(head.rpn_conv.bias)
    pyramid = [[torch.randn(2, 6, *shape).requires_grad_() for shape in SHAPES]]
    pyramid.append([level.detach().clone().requires_grad_() for level in pyramid[0]])
    count = sum(3 * height * width for height, width in SHAPES)
    index = torch.stack([torch.randperm(count)[:300], torch.arange(count - 300, count)])
    index[0, :4] = torch.tensor([0, 3 * 31, 3 * 24 * 32 - 1, 0])
    logits, deltas = head(pyramid[1])
    expected = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in logits], dim=1).gather(1, index)
    boxes = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 4) for level in deltas], dim=1)
    outputs = [head.outputs_at(index, pyramid[0]), (expected, boxes[torch.arange(2)[:, None], index])]
    weights = [torch.randn_like(part) for part in outputs[0]]
    gradients = []
    for parts, features in zip(outputs, pyramid, strict=True):
        total = sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True))
        gradients.append(torch.autograd.grad(total, [*features, *head.parameters()]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)


def test_losses_by_hand() -> None:
    """One 32-pixel object right on an anchor, all logits 0 and all deltas 0.25."""
    head = passing(RPNHead(in_channels=1, feat_channels=1, ratios=(1,), strides=(4,), anchor_scale=8, samples=16))
    nn.init.constant_(head.rpn_reg.bias, 0.25)
    losses = head.losses(
        [torch.zeros(2, 1, 24, 32)],
        gt_boxes=torch.tensor([[[16.0, 16, 48, 48]], [[0.0, 0, 0, 0]]]),
        gt_valid=torch.tensor([[True], [False]]),
        sizes=torch.tensor([[96, 128], [96, 128]]),
        seeds=torch.tensor([1, 2]),
    )
    # Anchors moved by 4 px along one axis overlap by 28 * 32 / (2 * 32^2 - 28 * 32) = 0.78, by 4 px along both by 0.62:
    # 5 positives, 11 negatives. The image without objects has 16 negatives and counts one positive more: 16 + 17.
    assert losses["loss_rpn_cls"].item() == pytest.approx(32 * 0.6931472 / 33, rel=1e-5)
    # The matching anchor's target is 0 in all four, the others' 4 / 32 = 0.125 in one: of |0.25 - target| that makes
    # 4 * 0.25 for the first, 3 * 0.25 + 0.125 for two of the others and 3 * 0.25 + 0.375 for two.
    assert losses["loss_rpn_bbox"].item() == pytest.approx((1 + 2 * 0.875 + 2 * 1.125) / 33, rel=1e-5)


def test_anchors_beyond_an_images_padding_are_not_sampled() -> None:
    """Logits that would cost 100 each beyond the padding leave the loss alone."""
    head = passing(RPNHead(in_channels=1, feat_channels=1, ratios=(1,), strides=(4,), samples=10_000))
    logits = torch.zeros(1, 1, 24, 32)
    logits[:, :, 16:] = 100  # 64 rows of pixels and below
    logits[:, :, :, 24:] = 100  # 96 columns and beyond
    losses = head.losses(
        [logits],
        gt_boxes=torch.zeros(1, 1, 4),
        gt_valid=torch.tensor([[False]]),
        sizes=torch.tensor([[50, 90]]),
        seeds=torch.tensor([1]),
    )
    count = 16 * 24
    expected = F.softplus(torch.zeros(())).item() * count / (count + 1)
    assert losses["loss_rpn_cls"].item() == pytest.approx(expected, rel=1e-5)


def test_initial_weights(small_model: Callable[..., MaskRCNN]) -> None:
    head = RPNHead()
    head.init_weights()
    for conv in (head.rpn_conv, head.rpn_cls, head.rpn_reg):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert conv.bias is not None and not conv.bias.any()
