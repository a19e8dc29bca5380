"""A COCO instances file, parsed once into flat arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pycocotools import mask as rle_api

from harness.data.masks import Segmentation
from harness.errors import UserError
from harness.files import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoSplit:
    """Where one split lies: the folder of its images and its instances file."""

    images: Path
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """What training learns from in one image, in the original image's pixels: no crowds, no degenerate boxes."""

    boxes: NDArray[np.float32]  # N x 4: (x1, y1, x2, y2) = (x, y, x + w, y + h) of the file
    labels: NDArray[np.int64]  # N
    segmentations: list[Segmentation]  # N


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoIndex:
    """A split: N images, A annotations (grouped by image, in the file's order within), K categories.

    Segmentations are flat: annotation a has the polygon parts p with parts[a] <= p < parts[a + 1], each being
    coordinates[points[p] : points[p + 1]], or the compressed RLE rle_bytes[rles[a] : rles[a + 1]], or neither.
    """

    image_ids: NDArray[np.int64]  # N
    file_names: NDArray[np.str_]  # N
    sizes: NDArray[np.int64]  # N x 2: (height, width)
    first: NDArray[np.int64]  # N + 1: image i has the annotations first[i] .. first[i + 1] - 1
    category_ids: NDArray[np.int64]  # K, ascending: label k means category_ids[k]
    category_names: tuple[str, ...]  # K
    labels: NDArray[np.int64]  # A: 0 .. K - 1
    boxes: NDArray[np.float64]  # A x 4: (x, y, width, height) as in the file
    areas: NDArray[np.float64]  # A
    crowd: NDArray[np.bool_]  # A
    valid: NDArray[np.bool_]  # A: training learns from it
    parts: NDArray[np.int64]  # A + 1
    points: NDArray[np.int64]  # P + 1
    coordinates: NDArray[np.float64]  # x1, y1, x2, y2, ... of all polygon parts
    rles: NDArray[np.int64]  # A + 1
    rle_bytes: NDArray[np.uint8]

    def ground_truth(self, image: int) -> GroundTruth:
        """The annotations of image number `image` that training learns from."""
        here = np.arange(self.first[image], self.first[image + 1])
        here = here[self.valid[here]]
        boxes = self.boxes[here]
        return GroundTruth(
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32),
            labels=self.labels[here],
            segmentations=[self._segmentation(annotation, self.sizes[image]) for annotation in here],
        )

    def landscape(self) -> NDArray[np.bool_]:
        """N: whether width / height > 1; batches never mix the two kinds."""
        return self.sizes[:, 1] > self.sizes[:, 0]

    def _segmentation(self, annotation: int, size: NDArray[np.int64]) -> Segmentation:
        start, end = self.rles[annotation : annotation + 2]
        if end > start:
            return {"size": size.tolist(), "counts": self.rle_bytes[start:end].tobytes()}
        bounds = self.points[self.parts[annotation] : self.parts[annotation + 1] + 1]
        return [self.coordinates[a:b] for a, b in pairwise(bounds)]


def load_index(split: CocoSplit) -> CocoIndex:
    """Parse an instances file.

    An annotation is valid for training (CocoDataset of mmdetection 2.x) unless it is a crowd, says "ignore", has no
    area, is narrower or lower than 1 pixel, lies wholly outside its image, or has no usable segmentation.
    Raises UserError, naming the file and the place in it, where it is not a COCO instances file.
    """
    path = split.annotations
    images, annotations, categories = _sections(path)
    image_ids = images.column("id", int, np.int64)
    category_ids = categories.column("id", int, np.int64)
    names = categories.column("name", str, object)
    by_id = np.argsort(category_ids)
    if not (len(images.records) and len(categories.records)):
        raise UserError(f"{path}: has no {'categories' if images.records else 'images'}; expected COCO instances")
    images.unique(image_ids)
    categories.unique(category_ids)

    image_of = annotations.positions("image_id", image_ids, "images")
    order = np.argsort(image_of, kind="stable")
    annotations = _Section(path, "annotations", [annotations.records[i] for i in order], order)
    sizes = np.stack([images.column("height", int, np.int64), images.column("width", int, np.int64)], axis=1)
    boxes = annotations.column("bbox", _box, np.float64).reshape(-1, 4)
    areas = annotations.column("area", float, np.float64)
    crowd = annotations.column("iscrowd", bool, np.bool_, default=0)
    ignore = annotations.column("ignore", bool, np.bool_, default=0)
    polygons, rles = _segmentations(annotations, sizes[image_of[order]])
    parts = _offsets([len(own) for own in polygons])
    flat = [part for own in polygons for part in own]
    masked = (np.diff(parts) > 0) | np.array([len(rle) > 0 for rle in rles], np.bool_)
    return CocoIndex(
        image_ids=image_ids,
        file_names=images.column("file_name", str, np.str_),
        sizes=sizes,
        first=np.searchsorted(image_of[order], np.arange(len(image_ids) + 1)),
        category_ids=category_ids[by_id],
        category_names=tuple(names[by_id]),
        labels=by_id.argsort()[annotations.positions("category_id", category_ids, "categories")],
        boxes=boxes,
        areas=areas,
        crowd=crowd,
        valid=_usable(boxes, sizes[image_of[order]]) & (areas > 0) & masked & ~crowd & ~ignore,
        parts=parts,
        points=_offsets([len(part) for part in flat]),
        coordinates=np.concatenate([np.zeros(0), *flat]),
        rles=_offsets([len(rle) for rle in rles]),
        rle_bytes=np.frombuffer(b"".join(rles), np.uint8),
    )


def train_filter(index: CocoIndex, min_size: int = 32) -> NDArray[np.int64]:
    """Numbers of the images to train on: with an annotation of any kind, and neither side under `min_size` pixels.

    As in CocoDataset of mmdetection 2.x, an image of crowds or degenerate boxes alone stays, without ground truth. On
    COCO train2017 these are the well-known 117,266 of 118,287. Raises UserError where none has any ground truth.
    """
    valid_before = np.concatenate([[0], np.cumsum(index.valid)])
    with_truth = valid_before[index.first[1:]] > valid_before[index.first[:-1]]
    large = index.sizes.min(axis=1) >= min_size
    if not (with_truth & large).any():
        raise UserError(
            f"no image to train on: of {len(index.image_ids)} images, {with_truth.sum()} have a usable annotation "
            f"with a mask and none of those has both sides of at least {min_size} pixels; run `harness data check`"
        )
    return np.flatnonzero((np.diff(index.first) > 0) & large)


class _Section:
    """One list of the file, read column by column; a fault names its place in the file."""

    def __init__(self, path: Path, name: str, records: list[Any], numbers: Sequence[int] | NDArray[np.int64]) -> None:
        self.path, self.name, self.records, self.numbers = path, name, records, numbers

    def column(self, key: str, convert: Callable[[Any], Any], dtype: DTypeLike, default: Any = None) -> NDArray[Any]:
        values = []
        for i, record in enumerate(self.records):
            try:
                values.append(convert(record[key] if default is None else record.get(key, default)))
            except KeyError:
                raise self.fault(i, f"{key!r} is missing") from None
            except (TypeError, ValueError, AttributeError):
                raise self.fault(i, f"{key!r} is not as in COCO: {str(record)[:80]}") from None
        return np.array(values, dtype)

    def positions(self, key: str, ids: NDArray[np.int64], among: str) -> NDArray[np.int64]:
        """For each record the place of record[key] in `ids`."""
        wanted = self.column(key, int, np.int64)
        sorted_ids = np.argsort(ids)
        found: NDArray[np.int64] = sorted_ids[np.searchsorted(ids[sorted_ids], wanted).clip(max=len(ids) - 1)]
        unknown = np.flatnonzero(ids[found] != wanted)
        if len(unknown):
            raise self.fault(int(unknown[0]), f"{key} {wanted[unknown[0]]} is not among the {among}")
        return found

    def unique(self, ids: NDArray[np.int64]) -> None:
        _, place = np.unique(ids, return_index=True)
        if len(place) < len(ids):
            twice = int(np.setdiff1d(np.arange(len(ids)), place)[0])
            raise self.fault(twice, f"id {ids[twice]} occurs twice")

    def fault(self, i: int, what: str) -> UserError:
        return UserError(f"{self.path}: {self.name}[{self.numbers[i]}]: {what}; `harness data check` lists all faults")


def _sections(path: Path) -> tuple[_Section, _Section, _Section]:
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(
                f"{path}: no list {key!r}; expected a COCO instances file with images, annotations and categories"
            )
    images, annotations, categories = (
        _Section(path, key, content[key], range(len(content[key]))) for key in ("images", "annotations", "categories")
    )
    return images, annotations, categories


def _box(value: Any) -> tuple[float, float, float, float]:
    x, y, width, height = value
    return float(x), float(y), float(width), float(height)


def _usable(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At least 1 pixel wide and high, and not wholly outside the image."""
    low, high = boxes[:, :2].clip(min=0), np.minimum(boxes[:, :2] + boxes[:, 2:], sizes[:, ::-1])
    usable: NDArray[np.bool_] = np.all((boxes[:, 2:] >= 1) & (high > low), axis=1)
    return usable


def _segmentations(
    annotations: _Section, sizes: NDArray[np.int64]
) -> tuple[list[list[NDArray[np.float64]]], list[bytes]]:
    """Each annotation's polygon parts of at least three vertices, and its compressed RLE (b"" where it has none)."""
    polygons: list[list[NDArray[np.float64]]] = []
    rles: list[bytes] = []
    for i, (record, size) in enumerate(zip(annotations.records, sizes.tolist(), strict=True)):
        segmentation = record.get("segmentation") or []
        try:
            if isinstance(segmentation, dict):
                rles.append(_compressed(segmentation, size))
                polygons.append([])
            else:
                rles.append(b"")
                polygons.append(
                    [np.array(part, np.float64) for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
                )
        except (KeyError, TypeError, ValueError):
            message = f"'segmentation' is neither polygons nor an RLE of the image's size {size}"
            raise annotations.fault(i, message) from None
    return polygons, rles


def _compressed(rle: dict[str, Any], size: list[int]) -> bytes:
    counts = rle["counts"]
    if rle["size"] != size:
        raise ValueError("size differs")
    if isinstance(counts, list):
        compressed: bytes = rle_api.frPyObjects(rle, *size)["counts"]
        return compressed
    return str(counts).encode()


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
