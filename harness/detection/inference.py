"""From the second stage's outputs to detections: thresholds, suppression by class, masks."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from harness.detection import boxes as box_ops
from harness.detection.nms import offset_boxes

NmsFrame = Literal["original", "resized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """What the box head found in one image, best score first."""

    resized: Tensor  # D x 4, in the resized image's pixels: where the mask head looks
    original: Tensor  # D x 4, in the original image's pixels
    scores: Tensor  # D
    labels: Tensor  # D int64


def select_instances(
    scores: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    *,
    stds: Tensor,
    size: Tensor,
    scale_factor: Tensor,
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
    nms_frame: NmsFrame,
) -> Instances:
    """Boxes of one image that pass the score threshold (strictly) and survive suppression within their class.

    scores: P x (classes + 1) probabilities, background last; deltas: P x 4 classes; proposals: P x 4, resized frame;
    size: (height, width) of the resized image; scale_factor: (w, h) resized / original.
    nms_frame: where boxes are compared, in the "original" image (2.x of the recipes) or the "resized" one (3.x).
    """
    rows, labels = (scores[:, :-1] > score_threshold).nonzero().unbind(1)
    chosen = deltas.view(len(deltas), deltas.shape[1] // 4, 4)[rows, labels]
    boxes = box_ops.clip(box_ops.decode(proposals[rows], chosen, stds=stds), size)
    scale = scale_factor.to(boxes.dtype).repeat(2)
    if nms_frame == "original":
        boxes = boxes / scale
    score = scores[rows, labels]
    keep = suppress_by_class(boxes, score, labels, iou=nms_iou)[:max_detections]
    boxes = boxes[keep]
    return Instances(
        resized=boxes * scale if nms_frame == "original" else boxes,
        original=boxes if nms_frame == "original" else boxes / scale,
        scores=score[keep],
        labels=labels[keep],
    )


def suppress_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, *, iou: float) -> Tensor:
    """Indices of the boxes (N x 4) that no better one of their class overlaps by more than `iou`, best score first."""
    if not len(boxes):
        return labels
    kept: Tensor = nms(offset_boxes(boxes, labels, torch.ones_like(labels, dtype=torch.bool)), scores, iou)
    return kept
