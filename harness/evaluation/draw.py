"""Pictures of detections: masks, boxes and labels on the photo. Images are BGR, H x W x 3 uint8, as cv2 has them."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from harness.errors import UserError
from harness.evaluation.labels import Label, place_labels
from harness.files import replacing

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

READABLE = 640  # pixels: an image whose long side is below is enlarged before anything is drawn on it
GUTTER = 12  # pixels between the pictures of a sheet
PAPER = (250, 250, 250)
INK = (40, 40, 40)


def draw(
    image: Image,
    boxes: Sequence[Sequence[float]] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    scores: Sequence[float] | NDArray[Any] | None,
    masks: Sequence[dict[str, Any]],
    class_names: Sequence[str],
    *,
    min_score: float = 0.5,
) -> Image:
    """A copy of the image with translucent masks, boxes and labels ("dog 0.93").

    boxes: D x (x1, y1, x2, y2) in pixels; labels: indices into class_names; scores: None for ground truth (all drawn,
    without a number); masks: D COCO RLEs of the image's size. Detections under min_score are left out. A small image is
    enlarged to 640 pixels. A class keeps its hue in every picture; its instances differ in shade. Large objects lie
    under small ones.
    """
    certainty = np.ones(len(labels)) if scores is None else np.asarray(scores, np.float64)
    kept = [
        int(number)
        for number in np.argsort(-certainty, kind="stable")
        if scores is None or certainty[number] >= min_score
    ]
    colours = _instance_colours([int(labels[number]) for number in kept])
    scale = max(1.0, READABLE / max(image.shape[:2]))
    canvas = _resize(image, scale)
    objects = []
    for number, colour in zip(kept, colours, strict=True):
        name = class_names[int(labels[number])]
        text = name if scores is None else f"{name} {certainty[number]:.2f}"
        box = [float(value) * scale for value in boxes[number]]
        objects.append((_resize_mask(mask_api.decode(masks[number]), canvas), Label(text=text, box=box, colour=colour)))
    large_first = sorted(objects, key=lambda found: -np.count_nonzero(found[0]))
    for mask, label in large_first:
        _tint(canvas, mask, label.colour)
    for mask, label in large_first:
        _outline(canvas, mask, label)
    place_labels(canvas, [label for _, label in (large_first[::-1] if scores is None else objects)])
    return canvas


def contact_sheet(images: Sequence[Image], columns: int, *, titles: Sequence[str] = ()) -> Image:
    """The images in rows of `columns`, each fitted into the largest one's height and width and centred in its cell.

    titles: a heading for each column ("ground truth", "prediction").
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    fitted = [_resize(image, min(height / image.shape[0], width / image.shape[1])) for image in images]
    headings = [[_heading(title, width) for title in titles]] if titles else []
    rows = [*headings, *(fitted[first : first + columns] for first in range(0, len(fitted), columns))]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    shape = (sum(heights) + GUTTER * (len(rows) + 1), GUTTER + columns * (width + GUTTER), 3)
    sheet: Image = np.full(shape, PAPER, np.uint8)
    top = GUTTER
    for row, row_height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            y = top + (row_height - cell.shape[0]) // 2
            x = GUTTER + column * (width + GUTTER) + (width - cell.shape[1]) // 2
            sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
        top += row_height + GUTTER
    return sheet


def write_image(path: Path, image: Image) -> None:
    """Write a PNG or JPEG, by the suffix, atomically. Raises UserError on another suffix."""
    options = {".png": [], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92], ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 92]}
    if path.suffix.lower() not in options:
        raise UserError(f"{path}: pictures are written as .png or .jpg, not {path.suffix or 'without a suffix'!r}")
    _, data = cv2.imencode(path.suffix, image, options[path.suffix.lower()])
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _heading(title: str, width: int) -> Image:
    strip: Image = np.full((width // 16, width, 3), PAPER, np.uint8)
    cv2.putText(
        strip, title, (0, width // 20), cv2.FONT_HERSHEY_SIMPLEX, width / 700, INK, max(1, width // 500), cv2.LINE_AA
    )
    return strip


def _instance_colours(labels: list[int]) -> list[Colour]:
    """BGR of each instance: labels a golden angle of hue apart, the n-th of a class in its n-th shade."""
    seen: dict[int, int] = {}
    colours = []
    for label in labels:
        shade = seen.get(label, 0)
        seen[label] = shade + 1
        hue = (0.58 + label * 0.6180339887 + (0, 0.055, -0.055)[shade % 3]) % 1
        saturation, value = ((0.85, 1.0), (0.55, 1.0), (0.95, 0.72), (0.7, 0.88))[shade % 4]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(blue * 255), round(green * 255), round(red * 255)))
    return colours


def _resize(image: Image, scale: float) -> Image:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if size == (image.shape[1], image.shape[0]):
        return image.copy()
    resized: Image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    return resized


def _resize_mask(mask: Image, canvas: Image) -> Image:
    """The bitmap (0 or 1) at the canvas's size, its staircase smoothed where it is enlarged."""
    height, width = canvas.shape[:2]
    if mask.shape == (height, width):
        return mask
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    step = width / mask.shape[1]
    soft = cv2.GaussianBlur(soft, (0, 0), sigmaX=step / 2)
    bitmap: Image = (soft >= 0.5).astype(np.uint8)
    return bitmap


def _tint(canvas: Image, mask: Image, colour: Colour, opacity: float = 0.42) -> None:
    """Mix the colour into the masked pixels, within the mask's own rectangle."""
    x, y, width, height = cv2.boundingRect(mask)
    part = canvas[y : y + height, x : x + width]
    inside = mask[y : y + height, x : x + width, None] * opacity
    part[:] = np.rint(part * (1 - inside) + np.array(colour) * inside).astype(np.uint8)


def _outline(canvas: Image, mask: Image, label: Label) -> None:
    """The mask's contour, dark-edged to stand out from its own tint, and the thinner box."""
    height, width = canvas.shape[:2]
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    dark, thickness = tuple(value // 2 for value in label.colour), max(1, round(max(height, width) / 500))
    cv2.drawContours(canvas, contours, -1, dark, thickness + 1, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, label.colour, thickness, cv2.LINE_AA)
    left, top, right, bottom = (round(value) for value in label.box)
    first, last = (max(left, 0), max(top, 0)), (min(right, width - 1), min(bottom, height - 1))
    cv2.rectangle(canvas, first, last, label.colour, max(1, round(max(height, width) / 900)))
