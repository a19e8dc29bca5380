"""What computes the COCO numbers: hotcoco in the versions proven equal to pycocotools, else pycocotools itself.

Equal means all 24 numbers and every category's AP, on the golden cases and on random ones with ties, crowds and images
without objects (tests/evaluation/test_scoring.py).
"""

import io
from collections import defaultdict
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.evaluation.table import DetectionTable

PROVEN = ("1.3.0",)
"""Versions of hotcoco that the equality tests have seen."""
IMAGES = 250
"""Images that are matched together: only their objects and detections exist twice."""

Rles = list[dict[str, Any] | list[list[float]]]
"""As hotcoco names a list of masks."""
Scores = tuple[list[float | None], list[float | None]]
"""The twelve numbers (None: no ground truth of the kind), and the AP of each category by ascending id."""


def score(truth: dict[str, Any], found: DetectionTable, iou_type: str, image_ids: list[int]) -> Scores:
    """Score detections against annotations, over the images of these ids.

    truth: images, annotations (ids from 1) and categories. found, image_ids: ascending by image. iou_type: "bbox" or
    "segm".
    """
    by = _score_by_hotcoco if is_fast() else score_by_pycocotools
    return by(truth, found, iou_type, image_ids)


def evaluation_library() -> str:
    """Name and version of what computes the numbers, for the record."""
    name = "hotcoco" if is_fast() else "pycocotools"
    return f"{name} {version(name)}"


@cache
def is_fast() -> bool:
    """Whether a proven hotcoco is installed."""
    try:
        return version("hotcoco") in PROVEN
    except PackageNotFoundError:
        return False


def _score_by_hotcoco(truth: dict[str, Any], found: DetectionTable, iou_type: str, image_ids: list[int]) -> Scores:
    """Some images at a time, so that only matches are kept of those that are done."""
    import hotcoco

    images = {image["id"]: image for image in truth["images"]}
    objects = _by_image(truth)
    wanted = np.isin(found.image_ids, image_ids)
    found = found if wanted.all() else found.take(wanted)
    run = hotcoco.StreamingEval(truth["categories"], iou_type)
    for first in range(0, len(image_ids), IMAGES):
        chosen = image_ids[first : first + IMAGES]
        begin = int(np.searchsorted(found.image_ids, chosen[0]))
        end = int(np.searchsorted(found.image_ids, chosen[-1], side="right"))
        inside = [row for number in chosen for row in objects.get(number, ())]
        table, masks = _table(found, begin, end, iou_type)
        run.update([images[number] for number in chosen], inside, table, segmentation=masks)
    done = run.finalize()
    done.accumulate()
    done.summary_lines()  # fills stats, and prints nothing
    accumulated: Any = done.eval
    return _scores(done.stats, accumulated["precision"])


def _by_image(truth: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """The annotations of each image, but for those of categories that the file does not list."""
    categories = {category["id"] for category in truth["categories"]}
    objects = defaultdict(list)
    for row in truth["annotations"]:
        if row["category_id"] in categories:
            objects[row["image_id"]].append(row)
    return objects


def _table(found: DetectionTable, begin: int, end: int, iou_type: str) -> tuple[NDArray[np.float64], Rles | None]:
    """Detections as hotcoco takes them, (image, x, y, width, height, score, category) each, and their masks.

    Their area is width x height there, and boxes are not looked at where there are masks: a mask is given a box of its
    own area.
    """
    from hotcoco import mask

    part = slice(begin, end)
    table = np.zeros((end - begin, 7))
    table[:, 0], table[:, 5], table[:, 6] = found.image_ids[part], found.scores[part], found.category_ids[part]
    if iou_type == "bbox":
        assert found.boxes is not None
        table[:, 1:5] = found.boxes[part]
        return table, None
    assert found.masks is not None
    masks = found.masks.rles(begin, end)
    table[:, 3], table[:, 4] = mask.area(masks), 1
    return table, list(masks)


def score_by_pycocotools(truth: dict[str, Any], found: DetectionTable, iou_type: str, image_ids: list[int]) -> Scores:
    """Like score, by the reference."""
    run = _pycocotools(truth, found, iou_type, image_ids)
    with redirect_stdout(io.StringIO()):  # it prints its progress
        run.evaluate()
        run.accumulate()
        run.summarize()
    return _scores(run.stats, run.eval["precision"])


def matched(
    truth: dict[str, Any], found: DetectionTable, iou_type: str, image_ids: list[int]
) -> list[dict[str, Any] | None]:
    """Which detections match what, all areas together: COCOeval.evalImgs of pycocotools."""
    run = _pycocotools(truth, found, iou_type, image_ids)
    run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
    with redirect_stdout(io.StringIO()):
        run.evaluate()
    evaluated: list[dict[str, Any] | None] = run.evalImgs
    return evaluated


def _pycocotools(truth: dict[str, Any], found: DetectionTable, iou_type: str, image_ids: list[int]) -> COCOeval:
    with redirect_stdout(io.StringIO()):
        run = COCOeval(_index(truth, truth["annotations"]), _index(truth, _rows(found, iou_type)), iou_type)
    run.params.imgIds = image_ids
    return run


def _rows(found: DetectionTable, iou_type: str) -> list[dict[str, Any]]:
    """With the id, area and crowd flag that COCOeval reads."""
    unused = "segmentation" if iou_type == "bbox" else "bbox"
    rows = []
    for number, row in enumerate(found.rows(), 1):
        row.pop(unused, None)
        area = row["bbox"][2] * row["bbox"][3] if iou_type == "bbox" else mask_api.area(row["segmentation"])
        rows.append(row | {"area": float(area), "iscrowd": 0, "id": number})
    return rows


def _index(truth: dict[str, Any], rows: list[dict[str, Any]]) -> COCO:
    """COCO.loadRes would fail on an empty list."""
    coco = COCO()
    coco.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": rows}
    coco.createIndex()
    return coco


def _scores(stats: Any, precision: Any) -> Scores:
    """precision: IoU x recall x category x area x detections; taken at all areas and 100 detections."""
    whole = precision[:, :, :, 0, -1]
    class_ap = [_mean(whole[:, :, number]) for number in range(whole.shape[2])]
    return [None if value == -1 else float(value) for value in stats], class_ap


def _mean(values: "np.ndarray[Any, Any]") -> float | None:
    """The mean over what has ground truth (pycocotools marks the rest -1)."""
    present = values[values > -1]
    return float(present.mean()) if present.size else None
