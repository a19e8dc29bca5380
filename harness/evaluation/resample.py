"""COCO's AP of weighted images, from matches made once: what a paired bootstrap over images needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads the precision."""
BLOCK = 64
"""Resamples that are computed together."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMatches:
    """One category's detections by falling score over all images, and whether they are right, at T thresholds of IoU.

    Detections that count neither way (on crowds) have true and false both zero.
    """

    image: NDArray[np.int64]  # D, index into the images
    score: Floats  # D, falling
    true: NDArray[np.bool_]  # T x D
    false: NDArray[np.bool_]  # T x D
    objects: Floats  # of the category in each image, crowds left out: images


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What detections get right, for one kind of IoU (boxes or masks), all areas, 100 detections an image."""

    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    classes: tuple[ClassMatches, ...]


def average_precisions(matches: Matches, weights: Floats) -> Floats:
    """The AP (0..1) over IoU 0.50:0.95 of every category and resample: resamples x categories.

    weights: resamples x images, how often each image counts. NaN where a resample has no object of a category. With
    all weights 1 these are the numbers of pycocotools.
    """
    found = np.full((len(weights), len(matches.classes)), np.nan)
    for first in range(0, len(weights), BLOCK):
        part = weights[first : first + BLOCK]
        for number, entry in enumerate(matches.classes):
            found[first : first + BLOCK, number] = _average_precision(entry, part)
    return found


def _average_precision(entry: ClassMatches, weights: Floats) -> Floats:
    objects = weights @ entry.objects
    each = weights[:, entry.image]
    total = np.cumsum(each, axis=1)
    per_iou = [
        _at_threshold(true, each, total if counts.all() else np.cumsum(each * counts, axis=1), objects)
        for true, counts in zip(entry.true, entry.true | entry.false, strict=True)
    ]
    mean: Floats = np.mean(per_iou, axis=0)
    return np.where(objects > 0, mean, np.nan)


def _at_threshold(right: NDArray[np.bool_], each: Floats, total: Floats, objects: Floats) -> Floats:
    """Precision is read where a true detection raises the recall; elsewhere it only falls.

    right: D; each, total: resamples x D, a detection's weight, and that of all down to it; objects: resamples.
    """
    positions = np.flatnonzero(right)
    if not len(positions):
        return np.zeros(len(each))
    true, total = np.cumsum(each[:, positions], axis=1), total[:, positions]
    precision = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = true / np.maximum(objects, 1e-300)[:, None]
    passed = np.searchsorted(RECALLS, recall, side="right")  # points of recall reached
    result: Floats = (envelope * np.diff(passed, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return result


def mean_precision(per_class: Floats) -> Floats:
    """The AP over the categories that have objects, of each resample."""
    present = ~np.isnan(per_class)
    total: Floats = np.where(present, per_class, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return total


def image_quality(matches: Matches, *, min_score: float = 0.5) -> Floats:
    """How well each image is done (0..1): F1 of its detections from min_score on, over all categories, averaged over

    the thresholds of IoU; 1 where there is nothing, and nothing is found.
    """
    images = len(matches.image_ids)
    objects = np.sum([entry.objects for entry in matches.classes], axis=0)
    right, counted = np.zeros((2, 10, images))
    for entry in matches.classes:
        sure = entry.score >= min_score
        for number, (true, false) in enumerate(zip(entry.true, entry.false, strict=True)):
            right[number] += np.bincount(entry.image[true & sure], minlength=images)
            counted[number] += np.bincount(entry.image[(true | false) & sure], minlength=images)
    whole = counted + objects
    mean: Floats = np.divide(2 * right, whole, out=np.ones_like(whole), where=whole > 0).mean(axis=0)
    return mean


def draws(images: int, resamples: int, seed: int = 0) -> Floats:
    """How often each image is drawn, with replacement: resamples x images. The same for the same numbers, so that

    detections of the same images are resampled together.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def of_evaluation(
    evaluated: Sequence[dict[str, Any] | None], categories: Sequence[int], images: Sequence[int]
) -> Matches:
    """From COCOeval.evalImgs: of all areas, in the order of categories and, within, of images."""
    rows = len(images)
    classes = (_of_class(evaluated[number * rows : (number + 1) * rows]) for number in range(len(categories)))
    return Matches(image_ids=tuple(images), category_ids=tuple(categories), classes=tuple(classes))


def _of_class(entries: Sequence[dict[str, Any] | None]) -> ClassMatches:
    objects = np.array([0 if entry is None else np.sum(entry["gtIgnore"] == 0) for entry in entries], np.float64)
    kept = [(index, entry) for index, entry in enumerate(entries) if entry is not None]
    if not kept:
        nothing = np.zeros((10, 0), bool)
        return ClassMatches(
            image=np.zeros(0, np.int64), score=np.zeros(0), true=nothing, false=nothing, objects=objects
        )
    scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in kept])
    order = np.argsort(-scores, kind="mergesort")  # COCO's, ties in the order of images
    image = np.concatenate([np.full(len(entry["dtScores"]), index) for index, entry in kept])[order]
    matched = np.concatenate([np.asarray(entry["dtMatches"]) for _, entry in kept], axis=1)[:, order] != 0
    ignored = np.concatenate([np.asarray(entry["dtIgnore"]) for _, entry in kept], axis=1)[:, order] != 0
    true, false = matched & ~ignored, ~matched & ~ignored
    return ClassMatches(image=image, score=scores[order], true=true, false=false, objects=objects)
