"""RoIAlign over a feature pyramid (Lin et al. 2017, He et al. 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from harness.detection.boxes import area


def roi_levels(boxes: Tensor, *, finest_scale: float, levels: int) -> Tensor:
    """Pyramid level of each box (... x 4 -> ... int64): 0 below 2 * finest_scale pixels, then one more an octave."""
    scale = area(boxes).clamp(min=0).sqrt()
    return (scale / finest_scale + 1e-6).log2().floor().clamp(min=0, max=levels - 1).long()


def pyramid_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    *,
    size: int,
    strides: Sequence[int],
    finest_scale: float,
    sampling_ratio: int,
    aligned: bool,
    compact: bool,
) -> Tensor:
    """Features of each box, from the level that fits its size: K x C x size x size.

    features: B x C x h x w each, finest first, `strides` pixels between positions; boxes: K x 4; images: K.
    sampling_ratio: samples a bin and axis, 0 for as many as there are feature positions.

    compact: gather each level's boxes, which waits for the device. Otherwise every level takes all boxes, with those of
    other levels shrunk to nothing: they cost the writing of zeros.
    """
    levels = roi_levels(boxes, finest_scale=finest_scale, levels=len(features))
    rois = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)

    def align(level: int, chosen: Tensor) -> Tensor:
        aligned_features: Tensor = roi_align(
            features[level], chosen, size, 1 / strides[level], sampling_ratio=sampling_ratio, aligned=aligned
        )
        return aligned_features

    if compact:
        order = [(levels == level).nonzero().squeeze(1) for level in range(len(features))]
        parts = torch.cat([align(level, rois[index]) for level, index in enumerate(order)])
        return parts[torch.cat(order).argsort()]
    total = align(0, rois * (levels == 0)[:, None])
    for level in range(1, len(features)):
        total = total + align(level, rois * (levels == level)[:, None])
    return total
