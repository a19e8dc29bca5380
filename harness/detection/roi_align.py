"""RoIAlign over a feature pyramid (Lin et al. 2017, He et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from harness.detection.boxes import area
from harness.detection.pyramid import as_table, level_shapes


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
    listed: bool,
) -> Tensor:
    """Features of each box, from the level that fits its size: K x C x size x size.

    features: B x C x h x w each, finest first, `strides` pixels between positions; boxes: K x 4; images: K.
    sampling_ratio: samples a bin and axis, 0 for as many as there are feature positions.

    listed: list the positions that each bin takes part of, and sum them up; listing waits for the device, and is meant
    for CPUs, where torchvision's operation uses one core and reads a position once a sample and channel. Otherwise that
    operation, to which every level gives all boxes, those of other levels as nothing far outside of the map: they cost
    the writing of zeros.
    """
    levels = roi_levels(boxes, finest_scale=finest_scale, levels=len(features))
    if listed:
        low, high = (boxes / boxes.new_tensor(strides)[levels, None]).split_with_sizes([2, 2], dim=1)
        low, high = (low - 0.5, high - 0.5) if aligned else (low, torch.maximum(high, low + 1))
        return _sum_positions(features, low, high, images, levels, size=size, sampling_ratio=sampling_ratio)
    rois = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)
    total: Tensor | int = 0
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        outside = F.pad(rois.new_full((1, 4), -4 * stride), (1, 0))
        chosen = torch.where((levels == level)[:, None], rois, outside)
        total = total + roi_align(feature, chosen, size, 1 / stride, sampling_ratio=sampling_ratio, aligned=aligned)
    assert isinstance(total, Tensor)
    return total


def _sum_positions(
    features: Sequence[Tensor],
    low: Tensor,
    high: Tensor,
    images: Tensor,
    levels: Tensor,
    *,
    size: int,
    sampling_ratio: int,
) -> Tensor:
    """Pooling as a sparse matrix (bins x positions of all levels and images) times the features (positions x C).

    low, high: K x 2, the corners (x, y) of each box in positions of its level, of which the first one is at 0.
    """
    table = as_table(features).float()
    shapes = torch.tensor(level_shapes(features), device=low.device)
    before = (shapes.prod(dim=1) * len(features[0])).cumsum(0).roll(1).index_fill(0, levels.new_zeros(1), 0)
    height, width = shapes[levels].unbind(1)
    columns, wide, across = _taps(low[:, 0], high[:, 0], width, size=size, sampling_ratio=sampling_ratio)
    rows, tall, down = _taps(low[:, 1], high[:, 1], height, size=size, sampling_ratio=sampling_ratio)

    counts = (tall[:, :, None] * wide[:, None, :]).flatten()
    ends = F.pad(counts.cumsum(0), (1, 0))
    bins = torch.repeat_interleave(counts)  # of each tap, as all that follows
    tap = torch.arange(len(bins), device=bins.device) - ends[bins]
    line = bins // size  # of a box's rows of bins
    column = line // size * size + bins % size  # of a box's columns of bins
    y = tap // wide.flatten()[column]
    x = tap - y * wide.flatten()[column]
    corner = (before[levels] + images * height * width)[:, None, None] + rows[:, :, None] * width[:, None, None]
    index = (corner + columns[:, None]).flatten()[bins] + y * width[line // size] + x
    weights = down.flatten(0, 1)[line, y] * across.flatten(0, 1)[column, x]
    pooled = F.embedding_bag(index, table, ends, mode="sum", per_sample_weights=weights, include_last_offset=True)
    pooled = pooled.view(len(low), size, size, table.shape[1]).permute(0, 3, 1, 2)
    if not features[0].is_contiguous(memory_format=torch.channels_last):
        pooled = pooled.contiguous()
    return pooled.to(features[0].dtype)


def _taps(
    low: Tensor, high: Tensor, length: Tensor, *, size: int, sampling_ratio: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: first position of each bin, number of positions, their weights: K x size, K x size, K x size x T.

    low, high, length: K, a box's ends and the map's extent, in positions. A bin is the mean of equidistant samples,
    each interpolated between two positions; a sample more than one position outside of the map counts as zero.
    """
    step = ((high - low) / size)[:, None, None]
    number = torch.full_like(step, sampling_ratio) if sampling_ratio else step.ceil().clamp(min=0)
    sample = torch.arange(_most(number), device=low.device)
    start = low[:, None, None] + torch.arange(size, device=low.device)[:, None] * step
    at, last = start + (sample + 0.5) * step / number.clamp(min=1), (length - 1)[:, None, None]  # K x size x samples
    used = (sample < number) & (at >= -1) & (at <= last + 1)
    at = at.clamp(min=0).minimum(last)
    below = at.floor().long()
    above = (below + 1).minimum(last)
    first = below.masked_fill(~used, _NOWHERE).amin(dim=2)
    count = (above.masked_fill(~used, -1).amax(dim=2) - first + 1).clamp(min=0)
    share = used / number.clamp(min=1)
    weights = at.new_zeros(*count.shape, _most(count))
    for position, weight in ((below, 1 - (at - below)), (above, at - below)):
        weights.scatter_add_(2, (position - first[..., None]).masked_fill(~used, 0), share * weight)
    return first, count, weights


_NOWHERE = 2**31


def _most(numbers: Tensor) -> int:
    return max(1, int(numbers.amax())) if numbers.numel() else 1
