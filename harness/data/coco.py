"""A COCO split: where it lies, and its index: the annotations, parsed once into flat arrays that processes share."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import Arrays, map_arrays, write_arrays
from harness.data.instances import parse_instances
from harness.data.masks import Segmentation
from harness.errors import UserError
from harness.leases import holding, renewing
from harness.wording import count, shown

FORMAT = 1
"""Of a kept index: raised when the arrays or their meaning change."""
PATIENCE = 1800.0
"""Seconds to wait for another process that parses the same annotations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoSplit:
    """Where one split lies: its images, a folder or a packed one (harness/data/tar.py), and its instances file."""

    images: Path
    annotations: Path
    digest: str = ""  # the sha256 that the annotations must have ("": whatever they have)
    indexes: Path | None = None  # where the index of that digest is kept (None: it is parsed each time)


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
    file: Path | None = None  # that the arrays are mapped from

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Another process maps the same file instead of getting a copy."""
        return (_map_index, (self.file,)) if self.file else object.__reduce_ex__(self, protocol)

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

    @property
    def categories(self) -> dict[int, str]:
        """Category id -> name."""
        return dict(zip(self.category_ids.tolist(), self.category_names, strict=True))

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
    """The index of an instances file: as it is kept, else parsed, and kept for the next one.

    Of several processes that want it at once one parses while the others wait. A damaged index is replaced. What cannot
    be kept is told on stderr.
    Raises UserError, naming the file and the place in it, where it is not a COCO instances file, or not that of the
    split's digest.
    """
    if split.indexes is None:
        return _index(parse_instances(split.annotations, split.digest))
    file = split.indexes / f"{split.digest}-{FORMAT}.safetensors"
    return _index(found, file) if (found := map_arrays(file)) else _parse_once(split, file)


def _parse_once(split: CocoSplit, file: Path) -> CocoIndex:
    """Parsed and kept, by this process or the one that is at it."""
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(holding(file.with_suffix(".lease"), patience=PATIENCE))
        except (OSError, UserError) as error:  # nothing can be written there, or the other process takes too long
            return _unkept(split, parse_instances(split.annotations, split.digest), error)
        if found := map_arrays(file):
            return _index(found, file)
        stack.enter_context(renewing(lease))
        arrays = parse_instances(split.annotations, split.digest)
        try:
            write_arrays(file, arrays)
        except UserError as error:
            return _unkept(split, arrays, error)
    return _map_index(file)


def _unkept(split: CocoSplit, arrays: Arrays, error: Exception) -> CocoIndex:
    sys.stderr.write(f"each process parses {split.annotations} by itself: {error}\n")
    return _index(arrays)


def _map_index(file: Path) -> CocoIndex:
    """Raises UserError where the file has gone or was damaged meanwhile."""
    if (found := map_arrays(file)) is None:
        raise UserError(f"{file}: is missing or damaged; start again, and it is made anew")
    return _index(found, file)


def _index(arrays: Arrays, file: Path | None = None) -> CocoIndex:
    names = tuple(str(name) for name in arrays.pop("category_names"))
    return CocoIndex(**arrays, category_names=names, file=file)


def unlike_categories(found: Mapping[int, str], train: Mapping[int, str]) -> list[str]:
    """Where the categories of a split (id -> name) are not those of its training split, which labels count through."""
    return [
        f"category {number}: {shown(found.get(number))}, in train {shown(train.get(number))}"
        for number in sorted(found.keys() | train.keys())
        if found.get(number) != train.get(number)
    ]


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
            f"no image to train on: of {count(len(index.image_ids), 'image')}, {with_truth.sum()} have a usable "
            f"annotation with a mask and none of those has both sides of at least {min_size} pixels; "
            "run `harness data check`"
        )
    return np.flatnonzero((np.diff(index.first) > 0) & large)
