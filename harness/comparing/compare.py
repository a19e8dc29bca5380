"""Sides beside each other: recipes, AP with both intervals, classes and images that moved. AP in percent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparing.sides import Member, Side
from harness.errors import UserError
from harness.evaluation.coco import matches
from harness.evaluation.resample import Matches, average_precisions, draws, image_quality, mean_precision
from harness.files import sha256
from harness.intervals import Interval, image_interval, training_interval
from harness.recipe import diff

RESAMPLES = 400
"""Resampled sets of images of a bootstrap."""
KINDS = {"bbox": "box AP", "segm": "mask AP"}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number of a side beside the first side's."""

    metric: str
    first: float
    other: float
    seeds: tuple[tuple[float, ...], tuple[float, ...]]  # of each side, every checkpoint's
    images: Interval  # do these checkpoints differ, whichever images they are tested on?
    training: Interval  # do these recipes differ, whichever seed they are trained with?


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """A category whose AP differs."""

    category: str
    metric: str
    first: float
    other: float
    seen: int  # images with objects of it
    images: Interval | None  # None: in one image alone, which says nothing of others


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedImage:
    """An image on which the sides do differently: F1 of detections above 0.5, averaged over IoU 0.50:0.95 and seeds."""

    image_id: int
    file_name: str
    first: float
    other: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A side beside the first."""

    first: str
    other: str
    seeds: tuple[int, int]  # how many checkpoints each side has
    missing: tuple[int, int]  # further seeds of each side that have not finished
    recipe: dict[str, tuple[Any, Any]]  # what differs
    alike: bool  # both recipes are known, and the same
    differences: tuple[Difference, ...]
    movers: tuple[Mover, ...]  # the largest first
    images: tuple[ChangedImage, ...]  # the largest first


@dataclass(frozen=True, slots=True)
class _Scored:
    """A side's AP: on the images as they are, and resampled; over its checkpoints."""

    each: dict[str, list[float]]  # AP of every checkpoint, by kind
    classes: dict[str, Floats]  # 1 + resamples x categories, the mean over checkpoints; row 0: as they are
    totals: dict[str, Floats]  # 1 + resamples
    quality: Floats  # of every image
    seen: NDArray[np.int64]  # images with objects of each category


def compare(sides: Sequence[Side], *, resamples: int = RESAMPLES) -> list[Pair]:
    """Each further side beside the first.

    Raises UserError where they were not made on the same images and annotations.
    """
    image_ids = _common_images(sides)
    weights = np.concatenate([np.ones((1, len(image_ids))), draws(len(image_ids), resamples)])
    kinds = [kind for kind in KINDS if all(member.results.has(kind) for side in sides for member in side.members)]
    if not kinds:
        raise UserError("neither boxes (bbox) nor masks (segmentation) are in all rows of all that is compared")
    first, *others = [_score(side, kinds, image_ids, weights) for side in sides]
    return [_pair(sides[0], first, side, other) for side, other in zip(sides[1:], others, strict=True)]


def _common_images(sides: Sequence[Side]) -> list[int]:
    members = [member for side in sides for member in side.members]
    first = members[0]
    for member in members[1:]:
        if not _same_file(member.split.annotations, first.split.annotations):
            raise UserError(
                f"{first.name} and {member.name} were tested on different annotations "
                f"({first.split.annotations}, {member.split.annotations}): their AP cannot be compared"
            )
        if member.split.image_ids != first.split.image_ids:
            counts = f"{len(first.split.image_ids)} and {len(member.split.image_ids)}"
            raise UserError(f"{first.name} and {member.name} were tested on different images ({counts} of them)")
    return sorted(first.split.image_ids)


def _same_file(one: Path, two: Path) -> bool:
    return one.resolve() == two.resolve() or sha256(one) == sha256(two)


def _score(side: Side, kinds: Sequence[str], image_ids: Sequence[int], weights: Floats) -> _Scored:
    found = [_matches(member, kinds, image_ids) for member in side.members]
    classes: dict[str, list[Floats]] = {
        kind: [100 * average_precisions(entry[kind], weights) for entry in found] for kind in kinds
    }
    means = {kind: np.mean(values, axis=0) for kind, values in classes.items()}
    return _Scored(
        each={kind: [float(mean_precision(value[:1])[0]) for value in values] for kind, values in classes.items()},
        classes=means,
        totals={kind: mean_precision(value) for kind, value in means.items()},
        quality=np.mean([image_quality(entry[kinds[-1]]) for entry in found], axis=0),
        seen=np.array([np.count_nonzero(entry.objects) for entry in found[0][kinds[0]].classes]),
    )


def _matches(member: Member, kinds: Sequence[str], image_ids: Sequence[int]) -> dict[str, Matches]:
    return matches(member.split.annotations, member.results, image_ids=image_ids, iou_types=kinds)


def _pair(first: Side, one: _Scored, other: Side, two: _Scored) -> Pair:
    split = first.members[0].split
    names = dict(zip(map(int, split.index.category_ids), split.index.category_names, strict=True))
    return Pair(
        first=first.name,
        other=other.name,
        seeds=(len(first.members), len(other.members)),
        missing=(first.missing, other.missing),
        recipe=diff(first.recipe, other.recipe) if first.recipe and other.recipe else {},
        alike=bool(first.recipe) and first.recipe == other.recipe,
        differences=tuple(_difference(kind, one, two) for kind in one.totals),
        movers=_movers(one, two, [names[number] for number in sorted(names)]),
        images=_changed(first, one, two),
    )


def _difference(kind: str, one: _Scored, two: _Scored) -> Difference:
    resampled = two.totals[kind] - one.totals[kind]
    return Difference(
        metric=KINDS[kind],
        first=float(one.totals[kind][0]),
        other=float(two.totals[kind][0]),
        seeds=(tuple(one.each[kind]), tuple(two.each[kind])),
        images=image_interval(float(resampled[0]), resampled[1:]),
        training=training_interval(one.each[kind], two.each[kind]),
    )


def _movers(one: _Scored, two: _Scored, names: Sequence[str]) -> tuple[Mover, ...]:
    found = []
    for kind, before in one.classes.items():
        moved = two.classes[kind] - before
        for number in np.flatnonzero(~np.isnan(moved[0])):
            resampled = moved[1:, number][~np.isnan(moved[1:, number])]
            values, seen = [float(side.classes[kind][0, number]) for side in (one, two)], int(one.seen[number])
            found.append(
                Mover(
                    category=names[int(number)],
                    metric=KINDS[kind],
                    first=values[0],
                    other=values[1],
                    seen=seen,
                    images=image_interval(float(moved[0, number]), resampled) if seen > 1 else None,
                )
            )
    return tuple(sorted(found, key=lambda mover: -abs(mover.other - mover.first)))


def _changed(first: Side, one: _Scored, two: _Scored) -> tuple[ChangedImage, ...]:
    index = first.members[0].split.index
    file_of = dict(zip(map(int, index.image_ids), map(str, index.file_names), strict=True))
    image_ids = sorted(first.members[0].split.image_ids)
    order = np.argsort(-np.abs(two.quality - one.quality), kind="stable")
    return tuple(
        ChangedImage(
            image_id=image_ids[number],
            file_name=file_of[image_ids[number]],
            first=float(one.quality[number]),
            other=float(two.quality[number]),
        )
        for number in order
        if one.quality[number] != two.quality[number]
    )
