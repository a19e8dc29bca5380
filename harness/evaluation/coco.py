"""The COCO numbers of a list of detections."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_api

from harness.errors import UserError
from harness.evaluation.resample import Matches, of_evaluation
from harness.evaluation.scoring import matched, score
from harness.files import read_json

# The twelve entries of COCOeval.stats, in its order; the APs under the names of the published logs.
AP_FIELDS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
AR_FIELDS = ("AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One category: AP over IoU 0.50:0.95, all areas, 100 detections an image."""

    category_id: int
    name: str
    bbox_AP: float | None  # None: no ground truth of this category, or not evaluated
    segm_AP: float | None
    instances: int  # ground-truth objects in the evaluated images, crowds left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a list of detections scores: fractions of 1 in full precision, None where there is no ground truth."""

    numbers: dict[str, float | None]  # "bbox_mAP", "bbox_mAP_50", ..., "bbox_AR_1", ..., "segm_mAP", ...
    per_class: list[ClassResult]  # by category id
    images: int

    def copypaste(self, iou_type: str) -> str:
        """The six APs of "bbox" or "segm" as the published logs print them: 3 decimals, -1.000 without ground truth."""
        values = [self.numbers[f"{iou_type}_{field}"] for field in AP_FIELDS]
        return " ".join(f"{-1.0 if value is None else value:.3f}" for value in values)


def evaluate(
    annotations: Path,
    results: list[dict[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
    iou_types: Sequence[str] = ("bbox", "segm"),
) -> Evaluation:
    """Score COCO result rows against an annotation file.

    results: rows of image_id, category_id, score, bbox (x, y, width, height; needed for "bbox") and segmentation
    (compressed RLE; needed for "segm"). image_ids: the images that count, all of the file by default.
    As in the published recipes, a mask's own area, not its box's, decides whether it is small, medium or large.
    Raises UserError where the file is no COCO annotation file, or rows are malformed or name what the file lacks.
    """
    truth, chosen = _checked(annotations, results, image_ids, iou_types)
    numbers: dict[str, float | None] = {}
    class_ap: dict[str, list[float | None]] = {}
    for iou_type in iou_types:
        scores, class_ap[iou_type] = score(truth, _rows(results, iou_type), iou_type, chosen)
        numbers |= {f"{iou_type}_{field}": value for field, value in zip(AP_FIELDS + AR_FIELDS, scores, strict=True)}
    return Evaluation(numbers=numbers, per_class=_per_class(truth, chosen, class_ap), images=len(chosen))


def matches(
    annotations: Path,
    results: list[dict[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
    iou_types: Sequence[str] = ("bbox", "segm"),
) -> dict[str, Matches]:
    """Which detections are right, for each kind of IoU: what AP over resampled images is computed from.

    The arguments and errors are those of evaluate.
    """
    truth, chosen = _checked(annotations, results, image_ids, iou_types)
    found = {}
    categories = sorted(category["id"] for category in truth["categories"])
    for iou_type in iou_types:
        evaluated = matched(truth, _rows(results, iou_type), iou_type, chosen)
        found[iou_type] = of_evaluation(evaluated, categories, chosen)
    return found


def _checked(
    annotations: Path, results: list[dict[str, Any]], image_ids: Sequence[int] | None, iou_types: Sequence[str]
) -> tuple[dict[str, Any], list[int]]:
    """The annotations, and the images that count by id; results fit both."""
    truth = _ground_truth(annotations, iou_types)
    known = {image["id"]: image for image in truth["images"]}
    chosen = sorted(known) if image_ids is None else sorted(set(image_ids))
    if unknown := [image for image in chosen if image not in known]:
        raise UserError(
            f"{annotations}: no image {unknown[0]} ({len(unknown)} of {len(chosen)} images asked for are unknown)"
        )
    _check(results, known, {category["id"] for category in truth["categories"]}, iou_types, annotations)
    return truth, chosen


def _ground_truth(path: Path, iou_types: Sequence[str]) -> dict[str, Any]:
    truth = read_json(path)
    needed = {
        "images": ("id", "height", "width"),
        "annotations": ("image_id", "category_id", "bbox", "area", *(["segmentation"] if "segm" in iou_types else [])),
        "categories": ("id", "name"),
    }
    if not isinstance(truth, dict) or any(not isinstance(truth.get(part), list) for part in needed):
        raise UserError(f"{path}: not a COCO annotation file: expected an object with the lists {', '.join(needed)}")
    for part, fields in needed.items():
        if bad := [row for row in truth[part] if any(field not in row for field in fields)]:
            raise UserError(f"{path}: {part}: {bad[0].get('id')} lacks one of {', '.join(fields)} ({len(bad)} such)")
    # Numbered anew from 1: pycocotools takes an object of id 0 for "nothing matched", and merges equal ids.
    objects = [{"iscrowd": 0, **row, "id": number} for number, row in enumerate(truth["annotations"], 1)]
    return {**truth, "annotations": objects}


def _check(
    results: list[dict[str, Any]],
    images: dict[int, dict[str, Any]],
    categories: set[int],
    iou_types: Sequence[str],
    annotations: Path,
) -> None:
    faults = ((number, _fault(row, images, categories, iou_types)) for number, row in enumerate(results))
    bad = [(number, fault) for number, fault in faults if fault]
    if bad:
        number, fault = bad[0]
        rows = f"{len(bad)} of {len(results)} rows are wrong"
        raise UserError(
            f"detections do not fit {annotations}: row {number}: {fault} ({rows}; evaluate the split they were made on)"
        )


def _fault(row: Any, images: dict[int, dict[str, Any]], categories: set[int], iou_types: Sequence[str]) -> str | None:
    """What is wrong with a result row, or None."""
    if not isinstance(row, dict):
        return f"expected an object, found {type(row).__name__}"
    needed = [
        "image_id",
        "category_id",
        "score",
        *({"bbox": "bbox", "segm": "segmentation"}[kind] for kind in iou_types),
    ]
    if missing := [field for field in needed if field not in row]:
        return f"no {missing[0]}"
    if row["image_id"] not in images:
        return f"unknown image_id {row['image_id']}"
    if row["category_id"] not in categories:
        return f"unknown category_id {row['category_id']}"
    if not _finite([row["score"]], 1):
        return f"score {row['score']!r} is no finite number"
    if "bbox" in iou_types and not _finite(row["bbox"], 4):
        return f"bbox {row['bbox']!r} is not four finite numbers"
    if "segm" in iou_types:
        return _mask_fault(row["segmentation"], images[row["image_id"]])
    return None


def _mask_fault(mask: Any, image: dict[str, Any]) -> str | None:
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str | bytes):
        return "segmentation is not a compressed RLE {size, counts}"
    size = [image["height"], image["width"]]  # pycocotools silently gives masks of two sizes a negative IoU
    if list(mask.get("size", [])) != size:
        return f"mask of size {mask.get('size')} for an image of {size} (height, width)"
    return None


def _finite(values: Any, count: int) -> bool:
    """Whether values are `count` finite numbers (numpy's count as numbers too)."""
    try:
        return len(values) == count and all(math.isfinite(value) for value in values)
    except TypeError:
        return False


def _rows(results: list[dict[str, Any]], iou_type: str) -> list[dict[str, Any]]:
    """Result rows with the id, area and crowd flag that COCOeval reads (COCO.loadRes fails on an empty list)."""
    area: Callable[[dict[str, Any]], float]
    if iou_type == "segm":
        field, area = "segmentation", lambda row: mask_api.area(row["segmentation"])
    else:
        field, area = "bbox", lambda row: row["bbox"][2] * row["bbox"][3]
    keys = ("image_id", "category_id", "score", field)
    return [
        {**{key: row[key] for key in keys}, "area": float(area(row)), "iscrowd": 0, "id": number}
        for number, row in enumerate(results, 1)
    ]


def _per_class(
    truth: dict[str, Any], image_ids: list[int], class_ap: dict[str, list[float | None]]
) -> list[ClassResult]:
    inside = set(image_ids)
    objects = (row for row in truth["annotations"] if row["image_id"] in inside and not row["iscrowd"])
    counts = Counter(row["category_id"] for row in objects)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    nothing: list[float | None] = [None] * len(categories)
    return [
        ClassResult(
            category_id=category["id"],
            name=category["name"],
            bbox_AP=bbox,
            segm_AP=segm,
            instances=counts[category["id"]],
        )
        for category, bbox, segm in zip(
            categories, class_ap.get("bbox", nothing), class_ap.get("segm", nothing), strict=True
        )
    ]
