"""A small data set in COCO format that a detector can learn in minutes: drawn shapes that overlap and hide each other.

Three categories; size, place, turn, colour and texture are random and say nothing of the category. Some images have no
objects, some a crowd. Masks are the visible parts: polygons, several where an object is cut in two, and RLE where
polygons cannot say it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.data.masks import bitmap, outlines
from harness.errors import UserError
from harness.files import read_json, replacing, write_json, write_text

Bitmap = NDArray[np.uint8]

CATEGORIES = ("circle", "square", "triangle")
_VERTICES = (48, 4, 3)
_EMPTY_SHARE, _CROWD_SHARE = 1 / 20, 1 / 10
_TURN = 0.35  # radians to either side of upright: learnable from few images
_LEAST_VISIBLE = 0.4  # of an object's area; what would be hidden further is not drawn upon
_MARK = "shapes.json"
_VERSION = 1  # raised when the same arguments draw other images


def generate_shapes(
    out: Path,
    *,
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    size: int = 160,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Write out/{train,val}/NNNNNN.png and out/annotations/instances_{train,val}.json, the same bytes each time.

    train, val: how many images. size: the largest side in pixels; images vary in size, some are upright. progress is
    told the images done and their total. The folder appears only when it is complete.
    Returns False, having done nothing, where `out` holds these very shapes; raises UserError where it holds others.
    """
    made_with = {"version": _VERSION, "train": train, "val": val, "seed": seed, "size": size}
    if _holds(out, made_with):
        return False
    partial = out.with_name(f".{out.name}.{uuid4().hex}.partial")
    try:
        for split, count, before in (("train", train, 0), ("val", val, train)):
            for done in _write_split(partial, split, count, made_with):
                progress(before + done, train + val)
        write_json(partial / _MARK, made_with)
        try:
            partial.replace(out)
        except OSError:  # another process was faster
            return not _holds(out, made_with)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _holds(out: Path, made_with: dict[str, int]) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / _MARK).is_file():
        raise UserError(f"{out}: exists and holds something other than generated shapes; name another folder")
    found = read_json(out / _MARK)
    if found != made_with:
        raise UserError(
            f"{out}: holds shapes made with {found}, not with {made_with}; name another folder or remove it"
        )
    return True


def _write_split(root: Path, split: str, count: int, made_with: dict[str, int]) -> Iterator[int]:
    """Yields the number of images written so far; the instances file comes last."""
    (root / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        random = np.random.default_rng([made_with["seed"], split == "val", image_id])
        pixels, objects = _draw(random, made_with["size"])
        name = f"{image_id:06d}.png"
        with replacing(root / split / name) as temporary:  # cv2.imwrite does not say why it cannot
            temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        images.append({"id": image_id, "file_name": name, "height": pixels.shape[0], "width": pixels.shape[1]})
        for one in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotation(one)})
        yield image_id
    instances = {
        "info": {"description": "Drawn shapes", **made_with},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CATEGORIES)],
    }
    write_text(root / "annotations" / f"instances_{split}.json", json.dumps(instances))


@dataclass(slots=True, kw_only=True)
class _Object:
    label: int
    mask: Bitmap  # H x W: what is visible of it
    area: int  # before anything was drawn over it
    crowd: bool = False


def _draw(random: np.random.Generator, size: int) -> tuple[Bitmap, list[_Object]]:
    """One image, H x W x 3 BGR, and its objects, from the back to the front."""
    long = int(size * random.uniform(0.8, 1))
    short = int(long * random.uniform(0.76, 0.9))
    height, width = (long, short) if random.random() < 0.3 else (short, long)
    pixels = _background(random, height, width)
    kind = random.random()
    objects: list[_Object] = []
    if kind < _EMPTY_SHARE:
        return _with_noise(random, pixels), objects
    if kind < _EMPTY_SHARE + _CROWD_SHARE:
        objects.append(_draw_crowd(random, pixels))
    for _ in range(random.integers(1, 5)):
        label = int(random.integers(len(CATEGORIES)))
        mask = _shape(random, label, height, width, short * random.uniform(0.3, 0.65))
        left = [np.count_nonzero(other.mask & ~mask & 1) for other in objects]
        if any(area < _LEAST_VISIBLE * other.area for area, other in zip(left, objects, strict=True)):
            continue
        for other in objects:
            other.mask &= 1 - mask
        _paint(random, pixels, mask)
        objects.append(_Object(label=label, mask=mask, area=int(mask.sum())))
    return _with_noise(random, pixels), objects


def _draw_crowd(random: np.random.Generator, pixels: Bitmap) -> _Object:
    """A heap of small shapes of one category, annotated as one crowd."""
    height, width = pixels.shape[:2]
    label = int(random.integers(len(CATEGORIES)))
    heap = np.zeros((height, width), np.uint8)
    x, y = random.uniform(0.25, 0.75, 2) * (width, height)
    for _ in range(12):
        place = (x + random.normal(0, width / 10), y + random.normal(0, height / 10))
        mask = _shape(random, label, height, width, min(height, width) * 0.12, place)
        _paint(random, pixels, mask)
        heap |= mask
    return _Object(label=label, mask=heap, area=int(heap.sum()), crowd=True)


def _shape(
    random: np.random.Generator,
    label: int,
    height: int,
    width: int,
    diameter: float,
    place: tuple[float, float] | None = None,
) -> Bitmap:
    """A turned shape of the category as a bitmap, its centre at `place` or anywhere but near the border."""
    x, y = place or random.uniform(0.15, 0.85, 2) * (width, height)
    first = -np.pi / 2 + np.pi / 4 * (label == CATEGORIES.index("square")) + random.uniform(-_TURN, _TURN)
    angles = first + 2 * np.pi * np.arange(_VERTICES[label]) / _VERTICES[label]
    corners = np.stack([x + diameter / 2 * np.cos(angles), y + diameter / 2 * np.sin(angles)], axis=1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
    return mask


def _paint(random: np.random.Generator, pixels: Bitmap, mask: Bitmap) -> None:
    """Colour and texture (plain, stripes, checks or dots) on the pixels of the mask."""
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width]
    period, phase = random.integers(6, 12), random.integers(12)
    across, along = (rows + phase) // (period // 2) % 2, (columns + phase) // (period // 2) % 2
    texture = (0 * rows, across, along, across ^ along, across & along)[random.integers(5)]
    colour = random.choice([0, 40, 215, 255], 3)  # the background is muted
    second = np.clip(colour + random.choice([-1, 1], 3) * random.integers(30, 90), 0, 255)
    inside = mask.astype(bool)
    pixels[inside] = np.where(texture[..., None] == 1, second, colour)[inside]


def _background(random: np.random.Generator, height: int, width: int) -> Bitmap:
    """Soft clouds of muted colour."""
    coarse = random.integers(70, 186, (random.integers(3, 7), random.integers(3, 7), 3), np.uint8)
    fine: Bitmap = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return fine


def _with_noise(random: np.random.Generator, pixels: Bitmap) -> Bitmap:
    noisy: Bitmap = np.clip(pixels + random.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
    return noisy


def _annotation(one: _Object) -> dict[str, Any]:
    """The visible part in COCO's words."""
    height, width = one.mask.shape
    polygons = [part for part in map(_simplified, outlines(one.mask)) if len(part) >= 6]
    wrong = np.count_nonzero(bitmap(polygons, height, width) != one.mask) if polygons else one.mask.size
    as_polygons = not one.crowd and wrong <= 0.05 * one.mask.sum()
    x, y, box_width, box_height = cv2.boundingRect(one.mask)
    return {
        "category_id": one.label + 1,
        "bbox": [x, y, box_width, box_height],
        "area": int(one.mask.sum()),
        "iscrowd": int(one.crowd),
        "segmentation": [part.tolist() for part in polygons] if as_polygons else _run_lengths(one.mask),
    }


def _simplified(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """The polygon without the vertices that matter less than half a pixel."""
    points = outline.reshape(-1, 1, 2).astype(np.float32)
    return np.asarray(cv2.approxPolyDP(points, 0.5, True)).reshape(-1).astype(np.float64)


def _run_lengths(mask: Bitmap) -> dict[str, Any]:
    """Uncompressed RLE, column by column, beginning with a run of zeros."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=np.uint8(0)))
    counts = np.diff(changes, prepend=0, append=flat.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}
