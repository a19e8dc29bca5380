"""Single blocks against the reference's numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import nms

from harness.detection import boxes as box_ops
from harness.detection.anchors import AnchorGenerator
from harness.detection.inference import suppress_by_class
from harness.detection.mask_paste import paste_crops, paste_rles
from harness.detection.mask_targets import bitmap_targets, polygon_targets
from harness.detection.matcher import match
from harness.detection.roi_align import pyramid_roi_align, roi_levels

Oracle = Callable[[str], Any]

IMAGE = torch.tensor([300, 400])  # (height, width) that the coder's fixture clips to


def test_anchors(oracle: Oracle) -> None:
    reference = oracle("unit/anchors")
    generator = AnchorGenerator(scale=8, ratios=(0.5, 1, 2), strides=reference["strides"])
    shapes = [tuple(size) for size in reference["sizes"]]
    for ours, theirs in zip(generator.base, reference["base_anchors"], strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(generator(shapes), reference["grid"], strict=True):
        assert torch.equal(ours, theirs)
    valid = generator.valid(shapes, torch.tensor([reference["pad_shape"]]))
    assert torch.equal(valid[0], torch.cat(reference["valid_flags"]))
    assert not valid.all()


@pytest.mark.parametrize(("stage", "stds"), [("rpn", (1, 1, 1, 1)), ("rcnn", (0.1, 0.1, 0.2, 0.2))])
def test_box_coder(oracle: Oracle, stage: str, stds: tuple[float, ...]) -> None:
    reference = oracle("unit/bbox_coder")[stage]
    rois, divisors = reference["rois"], torch.tensor(stds, dtype=torch.float32)
    torch.testing.assert_close(
        box_ops.encode(rois, reference["gts"], stds=divisors), reference["encoded"], rtol=1e-6, atol=1e-6
    )
    decoded = box_ops.decode(rois, reference["deltas"], stds=divisors)
    torch.testing.assert_close(decoded, reference["decoded"], rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(box_ops.clip(decoded, IMAGE), reference["decoded_clip"], rtol=1e-6, atol=1e-4)
    by_class = box_ops.decode(rois[:, None], reference["deltas_cls"].view(len(rois), -1, 4), stds=divisors)
    torch.testing.assert_close(
        box_ops.clip(by_class, IMAGE).flatten(1), reference["decoded_cls_clip"], rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize(("stage", "thresholds"), [("rpn", (0.7, 0.3, 0.3)), ("rcnn", (0.5, 0.5, 0.5))])
def test_assigner(oracle: Oracle, stage: str, thresholds: tuple[float, float, float]) -> None:
    reference = oracle("unit/assigner")[stage]
    priors, gt = reference["priors"], reference["gt"]
    iou = box_ops.pairwise_iou(gt, priors)
    assert torch.equal(iou[:, :200], reference["iou"])
    assert torch.equal(iou.amax(dim=0), reference["max_overlaps"])

    def assign(boxes: Tensor, valid: Tensor) -> Tensor:
        positive, negative, low = thresholds
        usable = torch.ones(1, len(priors), dtype=torch.bool)
        return match(
            priors,
            usable,
            boxes[None],
            valid[None],
            positive_iou=positive,
            negative_iou=negative,
            min_positive_iou=low,
        )[0]

    # Theirs: -1 ignored, 0 background, index + 1; ours: -2, -1, index.
    padded = torch.cat([gt, torch.zeros(2, 4)])
    ours = assign(padded, torch.arange(len(padded)) < len(gt))
    assert torch.equal(ours + 1, reference["gt_inds"])
    assert torch.equal(reference["gt_labels"][ours.clamp(min=0)].masked_fill(ours < 0, -1), reference["labels"])
    assert torch.equal(assign(torch.zeros(1, 4), torch.tensor([False])) + 1, reference["gt_inds_nogt"])


def test_roi_levels(oracle: Oracle) -> None:
    reference = oracle("unit/roi_levels")
    ours = roi_levels(reference["rois"][:, 1:], finest_scale=reference["finest_scale"], levels=4)
    assert torch.equal(ours, reference["levels"])


@pytest.mark.parametrize("name", ["a7", "a14", "v1_7", "v1_14"])
@pytest.mark.parametrize("listed", [True, False])
def test_roi_align(oracle: Oracle, name: str, listed: bool) -> None:
    reference = oracle("unit/roi_align")
    case, x = reference[name], reference["x"].requires_grad_()
    y = pyramid_roi_align(
        [x],
        reference["rois"][:, 1:],
        reference["rois"][:, 0].long(),
        size=case["size"],
        strides=[round(1 / case["spatial_scale"])],
        finest_scale=56,
        sampling_ratio=case["sampling_ratio"],
        aligned=case["aligned"],
        listed=listed,
    )
    torch.testing.assert_close(y, case["y"], rtol=1e-5, atol=1e-5)
    weights = torch.arange(y.numel(), dtype=torch.float32).view_as(y) % 7  # as the reference's gradient was taken
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(gradient, case["grad"], rtol=1e-5, atol=1e-4)


def test_nms(oracle: Oracle) -> None:
    reference = oracle("unit/nms")
    boxes, scores = reference["boxes"], reference["scores"]
    rows = torch.cat([boxes, scores[:, None]], dim=1)
    for keep, theirs in (
        (nms(boxes, scores, 0.7), reference["nms07"]),
        (suppress_by_class(boxes, scores, reference["ids"], iou=0.5), reference["batched05"]),
    ):
        assert torch.equal(keep, theirs["keep"])
        assert torch.equal(rows[keep], theirs["dets"])


def test_class_wise_suppression(oracle: Oracle) -> None:
    reference = oracle("unit/nms")["multi"]
    rows, labels = (reference["scores"][:, :-1] > 0.05).nonzero().unbind(1)
    boxes = reference["bboxes"].view(len(reference["bboxes"]), -1, 4)[rows, labels]
    scores = reference["scores"][rows, labels]
    keep = suppress_by_class(boxes, scores, labels, iou=0.5)[:100]
    assert torch.equal(labels[keep], reference["labels"])
    assert torch.equal((rows * 80 + labels)[keep], reference["inds"])
    assert torch.equal(torch.cat([boxes[keep], scores[keep, None]], dim=1), reference["dets"])


def test_mask_targets_of_bitmaps(oracle: Oracle) -> None:
    reference = oracle("unit/masks")
    proposals = reference["proposals"]
    ours = bitmap_targets(
        reference["bitmaps"][None],
        boxes=proposals,
        images=torch.zeros(len(proposals), dtype=torch.long),
        slots=reference["inds"],
        size=28,
    )
    assert torch.equal(ours, reference["target_bitmap"].bool())


def test_mask_targets_of_polygons(oracle: Oracle, as_edges: Callable[..., tuple[Tensor, Tensor]]) -> None:
    reference = oracle("unit/masks")
    edges, parts = as_edges(reference["polygons"])
    index = reference["inds"]
    ours = polygon_targets(edges[index], parts[index], boxes=reference["proposals"], size=28)
    assert torch.equal(ours, reference["target_polygon"].bool())


def test_paste(oracle: Oracle) -> None:
    reference = oracle("unit/masks")
    height, width = reference["hw"]
    rles = paste_rles(
        reference["paste_probs"][:, 0], reference["paste_boxes"], height=height, width=width, threshold=0.5
    )
    assert np.array_equal(coco_mask.decode(rles).transpose(2, 0, 1).astype(bool), reference["pasted"].numpy())


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8])
def test_pasted_probabilities(oracle: Oracle, threshold: float) -> None:
    reference = oracle("unit/masks")
    height, width = reference["hw"]
    probabilities = reference["pasted_float_first2"]
    crops = paste_crops(
        reference["paste_probs"][:2, 0],
        reference["paste_boxes"][:2],
        height=height,
        width=width,
        threshold=threshold,
    )
    for (crop, x, y), theirs in zip(crops, probabilities, strict=True):
        whole = torch.zeros(height, width, dtype=torch.bool)
        whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        assert whole.any()
        assert torch.equal(whole, theirs >= threshold)
