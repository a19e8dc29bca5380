"""A COCO instances file, parsed into flat arrays; every fault in one line with its place."""

import gc
import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pycocotools import mask as rle_api

from harness.data.arrays import Arrays
from harness.errors import UserError

_KEYS = frozenset(
    "images annotations categories id width height file_name name image_id category_id bbox area iscrowd ignore "
    "segmentation size counts".split()
)
"""What is read of the file's objects."""


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without searches for cycles: there are none, and each search would pass over millions of records."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_no_collections()
def parse_instances(path: Path, digest: str = "") -> Arrays:
    """The fields of a CocoIndex (harness/data/coco.py), by name.

    An annotation is valid for training (CocoDataset of mmdetection 2.x) unless it is a crowd, says "ignore", has no
    area, is narrower or lower than 1 pixel, lies wholly outside its image, or has no usable segmentation.
    digest: the sha256 that the file must have ("": whatever it has).
    Raises UserError, naming the file and the place in it, where it is another file or not a COCO instances file.
    """
    images, annotations, categories = _sections(path, digest)
    image_ids = images.column("id", int, np.int64)
    category_ids = categories.column("id", int, np.int64)
    names = categories.column("name", str, np.str_)
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
    shapes = _segmentations(annotations, sizes[image_of[order]])
    masked = (np.diff(shapes["parts"]) > 0) | (np.diff(shapes["rles"]) > 0)
    return {
        "image_ids": image_ids,
        "file_names": images.column("file_name", str, np.str_),
        "sizes": sizes,
        "first": np.searchsorted(image_of[order], np.arange(len(image_ids) + 1)),
        "category_ids": category_ids[by_id],
        "category_names": names[by_id],
        "labels": by_id.argsort()[annotations.positions("category_id", category_ids, "categories")],
        "boxes": boxes,
        "areas": areas,
        "crowd": crowd,
        "valid": _usable(boxes, sizes[image_of[order]]) & (areas > 0) & masked & ~crowd & ~ignore,
        **shapes,
    }


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


def _sections(path: Path, digest: str) -> tuple[_Section, _Section, _Section]:
    content = _read(path, digest)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(
                f"{path}: no list {key!r}; expected a COCO instances file with images, annotations and categories"
            )
    images, annotations, categories = (
        _Section(path, key, content[key], range(len(content[key]))) for key in ("images", "annotations", "categories")
    )
    return images, annotations, categories


def _read(path: Path, digest: str) -> Any:
    """The JSON value, without what is not needed of it: half a gigabyte of text would else take several of memory."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {str(error.strerror).lower()}") from None
    if digest and (found := hashlib.sha256(content).hexdigest()) != digest:
        raise UserError(
            f"{path}: has sha256 {found[:16]}..., the run was submitted with {digest[:16]}...; put that file back, or "
            "submit the run anew"
        )
    try:
        text = content.decode()
        del content
        return json.loads(text, object_pairs_hook=_compact)
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise UserError(f"{path}: not JSON: {error}") from None


def _compact(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of what is read, its polygons as packed numbers where they are numbers."""
    record = {key: value for key, value in pairs if key in _KEYS}
    if isinstance(record.get("segmentation"), list):
        with suppress(TypeError):
            record["segmentation"] = [array("d", part) for part in record["segmentation"]]
    return record


def _box(value: Any) -> tuple[float, float, float, float]:
    x, y, width, height = value
    return float(x), float(y), float(width), float(height)


def _usable(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At least 1 pixel wide and high, and not wholly outside the image."""
    low, high = boxes[:, :2].clip(min=0), np.minimum(boxes[:, :2] + boxes[:, 2:], sizes[:, ::-1])
    usable: NDArray[np.bool_] = np.all((boxes[:, 2:] >= 1) & (high > low), axis=1)
    return usable


def _segmentations(annotations: _Section, sizes: NDArray[np.int64]) -> Arrays:
    """Polygon parts of at least three vertices, and compressed RLEs. What is read of a record is taken out of it."""
    parts, points, rles = [0], [0], [0]
    coordinates, counts = array("d"), bytearray()
    for i, (record, size) in enumerate(zip(annotations.records, sizes.tolist(), strict=True)):
        segmentation = record.pop("segmentation", None) or []
        try:
            if isinstance(segmentation, dict):
                counts += _compressed(segmentation, size)
            else:
                for part in segmentation:
                    if len(part) >= 6 and len(part) % 2 == 0:
                        coordinates.extend(part)
                        points.append(len(coordinates))
        except (KeyError, TypeError, ValueError):
            message = f"'segmentation' is neither polygons nor an RLE of the image's size {size}"
            raise annotations.fault(i, message) from None
        parts.append(len(points) - 1)
        rles.append(len(counts))
    return {
        "parts": np.array(parts, np.int64),
        "points": np.array(points, np.int64),
        "coordinates": np.frombuffer(coordinates, np.float64),
        "rles": np.array(rles, np.int64),
        "rle_bytes": np.frombuffer(counts, np.uint8),
    }


def _compressed(rle: dict[str, Any], size: list[int]) -> bytes:
    counts = rle["counts"]
    if rle["size"] != size:
        raise ValueError("size differs")
    if isinstance(counts, list):
        compressed: bytes = rle_api.frPyObjects(rle, *size)["counts"]
        return compressed
    return str(counts).encode()
