"""Non-maximum suppression within groups (a pyramid level, a class), by mmcv's offset rule."""

import torch
from torch import Tensor
from torchvision.ops import nms


def offset_boxes(boxes: Tensor, groups: Tensor, valid: Tensor) -> Tensor:
    """Boxes moved by group * (greatest valid coordinate of the image + 1), so that groups do not overlap.

    The rounding of the sum to float32 is part of the recipes (mmcv.ops.batched_nms): it decides near the threshold.

    boxes: ... x N x 4, coordinates from 0 on; groups: ... x N (or broadcastable) int64; valid: ... x N.
    """
    greatest = boxes.masked_fill(~valid[..., None], 0).flatten(-2).amax(dim=-1, keepdim=True)
    return boxes + (groups * (greatest + 1))[..., None]


def batched_nms(
    boxes: Tensor, scores: Tensor, valid: Tensor, *, level_sizes: list[int], iou: float, one_call: bool
) -> Tensor:
    """Which boxes survive suppression within their image and level: B x N bool.

    boxes: B x N x 4, the levels one after the other, of `level_sizes` boxes; scores and valid: B x N.

    one_call: all images and levels in one call, for a device that has to be waited for at each; images are set apart
    in float64, which leaves the float32 offsets as they are. Otherwise one call an image and level: fewer pairs.
    """
    levels = torch.cat([boxes.new_full((size,), level, dtype=torch.long) for level, size in enumerate(level_sizes)])
    moved = offset_boxes(boxes, levels, valid)
    if one_call:
        return _survivors_in_one_call(moved, scores, valid, iou=iou)
    by_level = zip(*(values.split_with_sizes(level_sizes, dim=1) for values in (moved, scores, valid)), strict=True)
    return torch.cat([_survivors_of_level(*level, iou=iou) for level in by_level], dim=1)


def _survivors_of_level(boxes: Tensor, scores: Tensor, valid: Tensor, *, iou: float) -> Tensor:
    keep = torch.zeros_like(valid)
    for image, candidates in enumerate(valid.unbind()):
        index = candidates.nonzero().squeeze(1)
        keep[image, index[nms(boxes[image, index], scores[image, index], iou)]] = True
    return keep


def _survivors_in_one_call(moved: Tensor, scores: Tensor, valid: Tensor, *, iou: float) -> Tensor:
    """B x N bool. Invalid boxes shrink to a point outside of all others, where they suppress none."""
    span = moved.amax().double() + 1
    images = torch.arange(len(moved), device=moved.device, dtype=torch.float64)[:, None, None]
    apart = (moved.double() + images * span).masked_fill(~valid[..., None], -1).flatten(0, 1)
    kept = nms(apart, scores.double().flatten(), iou)
    keep = torch.zeros(valid.numel(), dtype=torch.bool, device=valid.device).index_fill_(0, kept, True)
    return keep.view_as(valid) & valid
