"""Which ground-truth box each candidate box stands for (MaxIoUAssigner of the recipes)."""

import torch
from torch import Tensor

from harness.detection.boxes import pairwise_iou

BACKGROUND = -1
IGNORED = -2


def match(
    candidates: Tensor,
    valid: Tensor,
    gt_boxes: Tensor,
    gt_valid: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    min_positive_iou: float,
    low_quality: bool = True,
) -> Tensor:
    """Index of the ground-truth slot of each candidate, or BACKGROUND, or IGNORED: B x N int64.

    A candidate is background where its best IoU is below `negative_iou` and positive from `positive_iou` on. With
    `low_quality`, all candidates that reach a ground truth's own best IoU (at least `min_positive_iou`) become its
    positives too, whatever they were; of several such ground truths the last one wins.

    candidates: N x 4 (the same for all images) or B x N x 4; valid: B x N, the others are IGNORED.
    gt_boxes: B x G x 4 with G > 0, zeros in padding slots; gt_valid: B x G.
    """
    iou = pairwise_iou(gt_boxes, candidates)  # B x G x N
    iou.masked_fill_(~valid[:, None], -1)
    best, index = iou.max(dim=1)
    matches = index.masked_fill(best < positive_iou, IGNORED)
    matches.masked_fill_((best >= 0) & (best < negative_iou), BACKGROUND)
    if low_quality:
        gt_best = iou.amax(dim=2, keepdim=True)
        tied = (iou == gt_best) & (gt_best >= min_positive_iou) & gt_valid[:, :, None]
        slots = torch.arange(1, gt_boxes.shape[1] + 1, device=iou.device, dtype=torch.int16)[:, None]
        last = (tied * slots).amax(dim=1).long() - 1  # B x N; -1 where no ground truth claims the candidate
        matches = torch.where(last >= 0, last, matches)
    return matches.masked_fill_(~valid, IGNORED)
