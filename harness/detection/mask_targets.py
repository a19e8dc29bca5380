"""Ground-truth masks as the mask branch sees them: cropped to a region and scaled to a small square."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from harness.detection.polygons import rasterize
from harness.structures import Polygons


def mask_targets(masks: Tensor | Polygons, *, boxes: Tensor, images: Tensor, slots: Tensor, size: int) -> Tensor:
    """Targets of K regions, K x size x size bool.

    masks: of a batch (see structures.Batch); boxes: K x 4; images, slots: K, whose mask to take.
    """
    if isinstance(masks, Polygons):
        return polygon_targets(masks.edges[images, slots], masks.parts[images, slots], boxes=boxes, size=size)
    return bitmap_targets(masks, boxes=boxes, images=images, slots=slots, size=size)


def bitmap_targets(masks: Tensor, *, boxes: Tensor, images: Tensor, slots: Tensor, size: int) -> Tensor:
    """RoIAlign of the 0/1 bitmap (B x G x H x W) at each box, >= 0.5."""
    source = (images * masks.shape[1] + slots)[:, None].to(boxes.dtype)
    flat = masks.flatten(0, 1)[:, None].to(boxes.dtype)
    mean: Tensor = roi_align(flat, torch.cat([source, boxes], dim=1), size, 1.0, sampling_ratio=0, aligned=True)
    return mean.squeeze(1) >= 0.5


def polygon_targets(edges: Tensor, parts: Tensor, *, boxes: Tensor, size: int) -> Tensor:
    """Polygons (edges K x V x 4, parts K x V) moved to their box, scaled to size x size and rasterised.

    Boxes narrower or lower than one pixel count as one pixel (PolygonMasks.crop_and_resize of the recipes' code).
    """
    origin = boxes[:, :2].double()
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).double()  # the difference is float32, as in the recipes
    scaled = (edges - origin.repeat(1, 2)[:, None]) * (size / extent).repeat(1, 2)[:, None]
    return rasterize(scaled, parts, height=size, width=size)
