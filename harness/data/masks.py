"""Segmentations as COCO writes them, as bitmaps, and as outlines."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_api

Parts = list[NDArray[np.float64]]  # one instance's polygon parts, each [x1, y1, x2, y2, ...] in pixels
Segmentation = Parts | dict[str, Any]  # or its RLE {"size": [height, width], "counts": bytes}


def bitmap(segmentation: Segmentation, height: int, width: int) -> NDArray[np.uint8]:
    """Rasterise one instance as pycocotools does: height x width, 0 or 1, its parts united."""
    if isinstance(segmentation, dict):
        rle = segmentation
    else:
        rle = rle_api.merge(rle_api.frPyObjects([part.tolist() for part in segmentation], height, width))
    decoded: NDArray[np.uint8] = rle_api.decode(rle)
    return decoded


def as_polygons(segmentation: Segmentation, height: int, width: int) -> Parts:
    """Polygons as they are; an RLE's outlines."""
    return outlines(bitmap(segmentation, height, width)) if isinstance(segmentation, dict) else segmentation


def outlines(mask: NDArray[np.uint8]) -> Parts:
    """Trace a bitmap's outer borders along the pixels' edges: a polygon for each connected piece, its holes filled.

    `bitmap(outlines(mask), *mask.shape) == mask` where the mask has no holes.
    """
    # On a grid of half pixels, pixel x covers the points 2x, 2x + 1 and 2x + 2, so that a border lies on grid points.
    grid = np.zeros((2 * mask.shape[0] + 1, 2 * mask.shape[1] + 1), np.uint8)
    grid[1::2, 1::2] = mask
    contours, _ = cv2.findContours(
        cv2.dilate(grid, np.ones((3, 3), np.uint8)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return [contour.reshape(-1).astype(np.float64) / 2 for contour in contours]
