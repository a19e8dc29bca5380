"""The COCO numbers of detections."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.evaluation.resample import Matches, of_evaluation
from harness.evaluation.scoring import matched, score
from harness.evaluation.table import DetectionTable
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
    """What detections score: fractions of 1 in full precision, None where there is no ground truth."""

    numbers: dict[str, float | None]  # "bbox_mAP", "bbox_mAP_50", ..., "bbox_AR_1", ..., "segm_mAP", ...
    per_class: list[ClassResult]  # by category id
    images: int

    def copypaste(self, iou_type: str) -> str:
        """The six APs of "bbox" or "segm" as the published logs print them: 3 decimals, -1.000 without ground truth."""
        values = [self.numbers[f"{iou_type}_{field}"] for field in AP_FIELDS]
        return " ".join(f"{-1.0 if value is None else value:.3f}" for value in values)


def evaluate(
    annotations: Path,
    found: DetectionTable,
    *,
    image_ids: Sequence[int] | None = None,
    iou_types: Sequence[str] = ("bbox", "segm"),
) -> Evaluation:
    """Score detections against an annotation file.

    found: with boxes, needed for "bbox", and masks, needed for "segm". image_ids: the images that count, all of the
    file by default. As in the published recipes, a mask's own area, not its box's, decides whether it is small, medium
    or large.
    Raises UserError where the file is no COCO annotation file, or detections name what it lacks.
    """
    truth, chosen = _checked(annotations, found, image_ids, iou_types)
    found = found.by_image()
    numbers: dict[str, float | None] = {}
    class_ap: dict[str, list[float | None]] = {}
    for iou_type in iou_types:
        scores, class_ap[iou_type] = score(truth, found, iou_type, chosen)
        numbers |= {f"{iou_type}_{field}": value for field, value in zip(AP_FIELDS + AR_FIELDS, scores, strict=True)}
    return Evaluation(numbers=numbers, per_class=_per_class(truth, chosen, class_ap), images=len(chosen))


def matches(
    annotations: Path,
    found: DetectionTable,
    *,
    image_ids: Sequence[int] | None = None,
    iou_types: Sequence[str] = ("bbox", "segm"),
) -> dict[str, Matches]:
    """Which detections are right, for each kind of IoU: what AP over resampled images is computed from.

    The arguments and errors are those of evaluate.
    """
    truth, chosen = _checked(annotations, found, image_ids, iou_types)
    categories = sorted(category["id"] for category in truth["categories"])
    return {
        iou_type: of_evaluation(matched(truth, found, iou_type, chosen), categories, chosen) for iou_type in iou_types
    }


def _checked(
    annotations: Path, found: DetectionTable, image_ids: Sequence[int] | None, iou_types: Sequence[str]
) -> tuple[dict[str, Any], list[int]]:
    """The annotations, and the images that count by id; the detections fit both."""
    truth = _ground_truth(annotations, iou_types)
    known = {image["id"] for image in truth["images"]}
    chosen = sorted(known) if image_ids is None else sorted(set(image_ids))
    if unknown := [image for image in chosen if image not in known]:
        raise UserError(
            f"{annotations}: no image {unknown[0]} ({len(unknown)} of {len(chosen)} images asked for are unknown)"
        )
    _check(found, truth, iou_types, annotations)
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
    for number, row in enumerate(truth["annotations"], 1):
        row["id"] = number  # anew, from 1: pycocotools takes an object of id 0 for "nothing matched", merges equal ids
        row.setdefault("iscrowd", 0)
    return dict(truth)


def _check(found: DetectionTable, truth: dict[str, Any], iou_types: Sequence[str], annotations: Path) -> None:
    misfit = f"detections do not fit {annotations}"
    for iou_type, field in (("bbox", "bbox"), ("segm", "segmentation")):
        if iou_type in iou_types and not found.has(iou_type):
            raise UserError(f"{misfit}: there are rows with no {field}")
    faults = list(_faults(found, truth, iou_types))
    wrong = np.any([bad for bad, _ in faults], axis=0)
    if wrong.any():
        number = int(np.argmax(wrong))
        fault = next(told(number) for bad, told in faults if bad[number])
        rows = f"{np.count_nonzero(wrong)} of {len(found)} rows are wrong"
        raise UserError(f"{misfit}: row {number}: {fault} ({rows}; evaluate the split they were made on)")


def _faults(
    found: DetectionTable, truth: dict[str, Any], iou_types: Sequence[str]
) -> Iterator[tuple[NDArray[np.bool_], Callable[[int], str]]]:
    """Which detections do not fit the annotations, fault by fault, and how that is said of one by its number."""
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    strange = ~np.isin(found.image_ids, list(sizes))
    yield strange, lambda number: f"unknown image_id {found.image_ids[number]}"
    categories = [category["id"] for category in truth["categories"]]
    yield ~np.isin(found.category_ids, categories), lambda number: f"unknown category_id {found.category_ids[number]}"
    if "segm" in iou_types and found.masks is not None:
        seen = found.masks.sizes
        expected = np.array([sizes.get(number, (0, 0)) for number in found.image_ids.tolist()]).reshape(-1, 2)
        yield (  # pycocotools silently gives masks of two sizes a negative IoU
            (seen != expected).any(axis=1),
            lambda number: (
                f"mask of size {seen[number].tolist()} for an image of {expected[number].tolist()} (height, width)"
            ),
        )


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
