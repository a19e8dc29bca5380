"""Small hand-written data sets."""

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.data.coco import CocoSplit

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "seven.png", "height": 40, "width": 60},
        {"id": 3, "file_name": "three.png", "height": 60, "width": 40},
        {"id": 5, "file_name": "five.png", "height": 40, "width": 40},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 20, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 9, "bbox": [1.5, 2, 3, 4.25], "area": 9, "iscrowd": 0},
    ],
    "categories": [{"id": 20, "name": "twenty"}, {"id": 9, "name": "nine"}],
}
for _annotation in CONTENT["annotations"]:
    _annotation["segmentation"] = [list(SQUARE)]


def content() -> dict[str, Any]:
    """A fresh copy of three images, three annotations and two categories, all faultless."""
    return copy.deepcopy(CONTENT)


def write_split(folder: Path, value: Any) -> CocoSplit:
    """`value` as instances.json beside an empty folder for the images."""
    (folder / "images").mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(value))
    return CocoSplit(images=folder / "images", annotations=folder / "instances.json")


def write_images(split: CocoSplit, images: list[dict[str, Any]]) -> None:
    """Smooth images, each with its id as the blue value of its first pixel."""
    for image in images:
        rows, columns = np.mgrid[: image["height"], : image["width"]]
        pixels = np.stack([rows * 3, columns * 3, rows + columns], axis=2).astype(np.uint8)
        pixels[0, 0, 0] = image["id"]
        assert cv2.imwrite(str(split.images / image["file_name"]), pixels)


def many(landscapes: int, portraits: int) -> dict[str, Any]:
    """48 x 40 and 40 x 48 images with ids from 1, each with one square and, if the id is even, a triangle."""
    images, annotations = [], []
    for i in range(1, landscapes + portraits + 1):
        width, height = (48, 40) if i <= landscapes else (40, 48)
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for polygon in [SQUARE, [5.0, 5.0, 25.0, 5.0, 5.0, 25.0]][: 2 - i % 2]:
            x, y = min(polygon[::2]), min(polygon[1::2])
            annotation = {"id": len(annotations) + 1, "image_id": i, "category_id": 1 + len(polygon) % 4 // 2}
            annotations.append({**annotation, "bbox": [x, y, 20, 20], "area": 200, "segmentation": [polygon]})
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "triangle"}],
    }
