"""Label plates on a picture: readable, inside the image, and out of each other's way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FONT = cv2.FONT_HERSHEY_SIMPLEX
CAP_HEIGHT = 22  # pixels: height of a capital of this font at scale 1
CROWDED = 0.1  # a plate that would lie under others by more than this share of its area is left out

Plate = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text that belongs to a box (x1, y1, x2, y2, in pixels of the picture)."""

    text: str
    box: Sequence[float]
    colour: tuple[int, int, int]  # BGR


def place_labels(canvas: NDArray[np.uint8], labels: Sequence[Label]) -> list[Plate]:
    """Draw the labels, the most important first, and return where their plates lie.

    A plate takes the first free place along its box's edges; in a crowd it is left out rather than laid over others.
    """
    height, width = canvas.shape[:2]
    placed: list[Plate] = []
    for label in labels:
        scale = _font_scale(label, height, width)
        size = _plate_size(label.text, scale, width)
        plate, share = min(
            ((place, _covered(place, placed)) for place in _places(label.box, size, (width, height))),
            key=lambda found: found[1],
        )
        if share <= CROWDED:
            placed.append(plate)
            _draw_plate(canvas, label, plate, scale)
    return placed


def _font_scale(label: Label, height: int, width: int) -> float:
    """Text of 1/68 of the long side, down to 70 % of that on small boxes, never under 8 pixels a capital."""
    full = max(height, width) / 68
    extent = max(label.box[2] - label.box[0], label.box[3] - label.box[1]) / max(height, width)
    return max(8.0, full * min(1.0, 0.7 + extent)) / CAP_HEIGHT


def _plate_size(text: str, scale: float, limit: int) -> tuple[int, int]:
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, 1)
    return min(width + 2 * _margin(height), limit), height + baseline // 2 + 2 * _margin(height)


def _margin(text_height: int) -> int:
    return max(3, round(text_height * 0.4))


def _places(box: Sequence[float], size: tuple[int, int], bounds: tuple[int, int]) -> Iterator[Plate]:
    """Where a plate may lie, best first: over the box's top edge, inside it, at the bottom edge, then inside."""
    left, top, right, bottom = (round(value) for value in box)
    width, height = size
    lines = [top - height, top, bottom, bottom - height]
    lines += range(top + height, max(top + height, bottom - 2 * height), height)
    for y in lines:
        for x in (left, right - width, (left + right - width) // 2):
            x_inside = min(max(x, 0), bounds[0] - width)
            y_inside = min(max(y, 0), bounds[1] - height)
            yield x_inside, y_inside, x_inside + width, y_inside + height


def _covered(plate: Plate, others: Sequence[Plate]) -> float:
    """The share of the plate that lies on others."""
    left, top, right, bottom = plate
    overlaps = (
        max(0, min(right, other[2]) - max(left, other[0])) * max(0, min(bottom, other[3]) - max(top, other[1]))
        for other in others
    )
    return sum(overlaps) / ((right - left) * (bottom - top))


def _draw_plate(canvas: NDArray[Any], label: Label, plate: Plate, scale: float) -> None:
    left, top, right, bottom = plate
    blue, green, red = label.colour
    cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), label.colour, cv2.FILLED)
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 145 else (255, 255, 255)
    (_, height), baseline = cv2.getTextSize(label.text, FONT, scale, 1)
    origin = (left + _margin(height), bottom - _margin(height) - baseline // 2)
    cv2.putText(canvas, label.text, origin, FONT, scale, ink, max(1, round(scale * 1.6)), cv2.LINE_AA)
