"""What computes the COCO numbers: hotcoco in the versions proven equal to pycocotools, else pycocotools itself.

Equal means all 24 numbers and every category's AP, on the golden cases and on random ones with ties, crowds and images
without objects (tests/evaluation/test_scoring.py).
"""

import io
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

PROVEN = ("1.3.0",)
"""Versions of hotcoco that the equality tests have seen."""

Scores = tuple[list[float | None], list[float | None]]
"""The twelve numbers (None: no ground truth of the kind), and the AP of each category by ascending id."""


def score(truth: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, image_ids: list[int]) -> Scores:
    """Score detections against annotations, over the images of these ids.

    truth: images, annotations (ids from 1) and categories; rows: image_id, category_id, score, area, iscrowd, id and
    bbox or segmentation, as iou_type "bbox" or "segm" needs.
    """
    by = _score_by_hotcoco if is_fast() else score_by_pycocotools
    return by(truth, rows, iou_type, image_ids)


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


def _score_by_hotcoco(truth: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, image_ids: list[int]) -> Scores:
    import hotcoco

    index = hotcoco.COCO(truth)
    found = hotcoco.COCO({**truth, "annotations": rows})
    run = hotcoco.COCOeval(index, found, iou_type)
    run.params.imgIds = image_ids
    run.evaluate()
    run.accumulate()
    run.summary_lines()  # fills stats, and prints nothing
    accumulated: Any = run.eval
    return _scores(run.stats, accumulated["precision"])


def score_by_pycocotools(
    truth: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, image_ids: list[int]
) -> Scores:
    """Like score, by the reference."""
    run = _pycocotools(truth, rows, iou_type, image_ids)
    with redirect_stdout(io.StringIO()):  # it prints its progress
        run.evaluate()
        run.accumulate()
        run.summarize()
    return _scores(run.stats, run.eval["precision"])


def matched(
    truth: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, image_ids: list[int]
) -> list[dict[str, Any] | None]:
    """Which detections match what, all areas together: COCOeval.evalImgs of pycocotools."""
    run = _pycocotools(truth, rows, iou_type, image_ids)
    run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
    with redirect_stdout(io.StringIO()):
        run.evaluate()
    evaluated: list[dict[str, Any] | None] = run.evalImgs
    return evaluated


def _pycocotools(truth: dict[str, Any], rows: list[dict[str, Any]], iou_type: str, image_ids: list[int]) -> COCOeval:
    with redirect_stdout(io.StringIO()):
        run = COCOeval(_index(truth, truth["annotations"]), _index(truth, rows), iou_type)
    run.params.imgIds = image_ids
    return run


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
