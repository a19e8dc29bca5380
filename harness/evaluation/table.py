"""Detections as columns: what a model finds in a whole split, without an object for each number.

As COCO result rows they would take five times the memory.
"""

import io
import json
import math
import operator
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
    """Compressed COCO RLEs, one after the other."""

    sizes: NDArray[np.int64]  # N x 2: height, width of the image
    ends: NDArray[np.int64]  # N: where the counts of each one end
    counts: bytes

    def rles(self, first: int, last: int) -> list[dict[str, Any]]:
        """Those from number `first` to before `last`: {"size": [height, width], "counts": bytes}."""
        edges = np.concatenate([[0], self.ends])[first : last + 1].tolist()
        return [
            {"size": size, "counts": self.counts[start:end]}
            for size, (start, end) in zip(self.sizes[first:last].tolist(), pairwise(edges), strict=True)
        ]

    def take(self, numbers: NDArray[np.int64]) -> "Masks":
        """Those of these numbers, in their order."""
        ends = self.ends[numbers].tolist()
        starts = np.concatenate([[0], self.ends])[numbers].tolist()
        parts = [self.counts[start:end] for start, end in zip(starts, ends, strict=True)]
        lengths = np.array([len(part) for part in parts], np.int64)
        return Masks(sizes=self.sizes[numbers], ends=np.cumsum(lengths), counts=b"".join(parts))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionTable:
    """N detections. Boxes, and masks, are there of all of them or of none (None)."""

    image_ids: NDArray[np.int64]  # N
    category_ids: NDArray[np.int64]  # N
    scores: NDArray[np.float64]  # N, finite
    boxes: NDArray[np.float64] | None  # N x (x, y, width, height), finite, in pixels of the original image
    masks: Masks | None

    def __len__(self) -> int:
        return len(self.scores)

    def has(self, iou_type: str) -> bool:
        """Whether there are boxes ("bbox") or masks ("segm")."""
        return (self.boxes if iou_type == "bbox" else self.masks) is not None

    def take(self, chosen: NDArray[Any]) -> "DetectionTable":
        """The detections of these numbers, in their order, or those that a mask of N says."""
        numbers = np.arange(len(self))[chosen]
        return DetectionTable(
            image_ids=self.image_ids[numbers],
            category_ids=self.category_ids[numbers],
            scores=self.scores[numbers],
            boxes=None if self.boxes is None else self.boxes[numbers],
            masks=None if self.masks is None else self.masks.take(numbers),
        )

    def by_image(self) -> "DetectionTable":
        """In the order of image ids; within an image as before."""
        if (self.image_ids[1:] >= self.image_ids[:-1]).all():
            return self
        return self.take(np.argsort(self.image_ids, kind="stable"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """COCO result rows; the counts of masks are text, as in JSON."""
        fields: dict[str, Sequence[Any]] = {
            "image_id": self.image_ids.tolist(),
            "category_id": self.category_ids.tolist(),
        }
        if self.boxes is not None:
            fields["bbox"] = self.boxes.tolist()
        fields["score"] = self.scores.tolist()
        if self.masks is not None:
            masks = self.masks.rles(0, len(self))
            fields["segmentation"] = [mask | {"counts": mask["counts"].decode()} for mask in masks]
        return (dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True))

    def of_image(self, image_id: int) -> list[dict[str, Any]]:
        """The COCO result rows of one image."""
        return list(self.take(self.image_ids == image_id).rows())

    def save(self, file: IO[bytes], meta: Mapping[str, Any]) -> None:
        """Write the columns as they are, and meta (anything JSON), as `load` reads them."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in ("image_ids", "category_ids", "scores")}
        if self.boxes is not None:
            columns["boxes"] = self.boxes
        if self.masks is not None:
            columns |= {"mask_sizes": self.masks.sizes, "mask_ends": self.masks.ends}
            columns["mask_counts"] = np.frombuffer(self.masks.counts, np.uint8)
        np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **columns)


def load(file: IO[bytes]) -> tuple[DetectionTable, dict[str, Any]]:
    """What `DetectionTable.save` wrote, bit for bit, and its meta. Raises ValueError where it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as found:
            columns = {name: found[name] for name in found.files}
        masks = None
        if "mask_ends" in columns:
            counts = columns.pop("mask_counts").tobytes()
            masks = Masks(sizes=columns.pop("mask_sizes"), ends=columns.pop("mask_ends"), counts=counts)
        meta: dict[str, Any] = json.loads(columns.pop("meta").tobytes())
        return DetectionTable(**{"boxes": None, **columns}, masks=masks), meta
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def to_bytes(table: DetectionTable) -> bytes:
    """The columns, to be sent to another process."""
    table.save(file := io.BytesIO(), {})
    return file.getvalue()


def from_bytes(data: bytes) -> DetectionTable:
    """What `to_bytes` gave."""
    return load(io.BytesIO(data))[0]


def concatenated(tables: Sequence[DetectionTable]) -> DetectionTable:
    """One table of at least one, in their order."""
    boxes = [table.boxes for table in tables if table.boxes is not None]
    masks = [table.masks for table in tables if table.masks is not None]
    shifts = np.cumsum([0, *(len(each.counts) for each in masks)])
    return DetectionTable(
        image_ids=np.concatenate([table.image_ids for table in tables]),
        category_ids=np.concatenate([table.category_ids for table in tables]),
        scores=np.concatenate([table.scores for table in tables]),
        boxes=np.concatenate(boxes) if len(boxes) == len(tables) else None,
        masks=Masks(
            sizes=np.concatenate([each.sizes for each in masks]),
            ends=np.concatenate([each.ends + shift for each, shift in zip(masks, shifts, strict=False)]),
            counts=b"".join(each.counts for each in masks),
        )
        if len(masks) == len(tables)
        else None,
    )


def table_of(rows: Iterable[Any]) -> DetectionTable:
    """COCO result rows as columns. Raises ValueError, saying which row is wrong and why, where one is none."""
    table = Builder()
    for row in rows:
        table.add(row)
    return table.built()


class Builder:
    """Columns that grow row by row."""

    def __init__(self) -> None:
        self.image_ids, self.category_ids, self.scores = array("q"), array("q"), array("d")
        self.boxes, self.sizes, self.ends, self.counts = array("d"), array("q"), array("q"), bytearray()

    def add(self, row: Any) -> None:
        """Append a COCO result row: image_id, category_id, score and, if it has them, bbox and segmentation (an RLE).

        Raises ValueError, saying which row is wrong and why, where it is none.
        """
        if fault := _fault(row):
            raise ValueError(f"row {len(self.scores)}: {fault}")
        self.image_ids.append(row["image_id"])
        self.category_ids.append(row["category_id"])
        self.scores.append(row["score"])
        if "bbox" in row:
            self.boxes.extend(row["bbox"])
        if "segmentation" in row:
            counts = row["segmentation"]["counts"]
            self.counts += counts.encode() if isinstance(counts, str) else counts
            self.sizes.extend(row["segmentation"]["size"])
            self.ends.append(len(self.counts))

    def built(self) -> DetectionTable:
        """All rows so far."""
        count = len(self.scores)
        masks = Masks(
            sizes=np.array(self.sizes, np.int64).reshape(-1, 2),
            ends=np.array(self.ends, np.int64),
            counts=bytes(self.counts),
        )
        return DetectionTable(
            image_ids=np.array(self.image_ids, np.int64),
            category_ids=np.array(self.category_ids, np.int64),
            scores=np.array(self.scores, np.float64),
            boxes=np.array(self.boxes, np.float64).reshape(-1, 4) if len(self.boxes) == 4 * count else None,
            masks=masks if len(self.ends) == count else None,
        )


def _fault(row: Any) -> str | None:
    """What is wrong with a result row, or None."""
    if not isinstance(row, dict):
        return f"expected an object, found {type(row).__name__}"
    if missing := [field for field in ("image_id", "category_id", "score") if field not in row]:
        return f"no {missing[0]}"
    for field in ("image_id", "category_id"):
        if not _whole([row[field]], 1):
            return f"{field} {row[field]!r} is no whole number"
    if not _finite([row["score"]], 1):
        return f"score {row['score']!r} is no finite number"
    if "bbox" in row and not _finite(row["bbox"], 4):
        return f"bbox {row['bbox']!r} is not four finite numbers"
    if "segmentation" in row and not _is_mask(row["segmentation"]):
        return "segmentation is not a compressed RLE {size: [height, width], counts}"
    return None


def _is_mask(mask: Any) -> bool:
    return isinstance(mask, dict) and isinstance(mask.get("counts"), str | bytes) and _whole(mask.get("size"), 2)


def _finite(values: Any, count: int) -> bool:
    """Whether values are `count` finite numbers (numpy's count as numbers too)."""
    try:
        return len(values) == count and all(map(math.isfinite, values))
    except TypeError:
        return False


def _whole(values: Any, count: int) -> bool:
    """Whether values are `count` whole numbers."""
    try:
        return len(values) == count and all(-(2**63) <= operator.index(value) < 2**63 for value in values)
    except TypeError:
        return False
