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
    """`value` as instances.json, and its images in plain grey."""
    (folder / "images").mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(value))
    for image in value["images"] if isinstance(value, dict) and "images" in value else []:
        pixels = np.full((image["height"], image["width"], 3), 120, np.uint8)
        assert cv2.imwrite(str(folder / "images" / image["file_name"]), pixels)
    return CocoSplit(images=folder / "images", annotations=folder / "instances.json")
