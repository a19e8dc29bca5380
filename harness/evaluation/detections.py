"""The compressed file that keeps detections beside a checkpoint, and an image's detections as COCO result rows.

Gzipped JSON, a row a line: {"format": "maskrcnn-detections", "version": 1, "meta": {...}, "results": [...]}.
Rows are sorted by image id and then by falling score; equal rows give equal bytes, whenever written (with one zlib).
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserError
from harness.evaluation.table import Builder, DetectionTable
from harness.files import replacing, sha256

if TYPE_CHECKING:
    from harness.structures import Detections

FORMAT = "maskrcnn-detections"
VERSION = 1
LEVEL = 1
"""Of compression: 6 takes a fifth off the file, and several times as long."""
BLOCK = 4096
"""Rows that are written together."""
TAKEN = object()
"""In place of a row that is in the table."""


def to_results(image_id: int, detections: "Detections", category_ids: list[int]) -> list[dict[str, Any]]:
    """An image's detections as COCO rows: image_id, category_id, bbox (x, y, width, height), score, segmentation.

    category_ids: the data set's category id of each label. Boxes are rounded to 1e-4 pixels, about the resolution of
    float32 in a photo, scores to 9 significant digits, which tell any two float32 apart: order and ties stay.
    """
    numbers = (detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist())
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": float(f"{score:.9g}"),
            "segmentation": mask,
        }
        for (x1, y1, x2, y2), score, label, mask in zip(*numbers, detections.masks, strict=True)
    ]


def write_detections(path: Path, found: DetectionTable, *, meta: dict[str, Any]) -> str:
    """Write detections (bit for bit what read_detections gives back, but for the order); the file's sha256.

    meta: anything JSON that tells where they come from. Written atomically.
    """
    head = json.dumps({"format": FORMAT, "version": VERSION, "meta": meta}, sort_keys=True)
    with replacing(path) as temporary:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as file,
        ):
            file.write(f'{head[:-1]}, "results": [\n'.encode())
            for text in _blocks(found):
                file.write(text.encode())
            file.write(b"\n]}\n")
        return sha256(temporary)


def _blocks(found: DetectionTable) -> Iterator[str]:
    """The rows as text, in the order of the file."""
    order = np.lexsort((-found.scores, found.image_ids))  # stable: equal scores keep their order
    for first in range(0, len(found), BLOCK):
        yield (",\n" if first else "") + ",\n".join(_lines(found.take(order[first : first + BLOCK])))


def _lines(found: DetectionTable) -> Iterator[str]:
    """Rows as JSON; a fifth of the time that json.dumps takes for them."""
    fields, columns = '"image_id":{},"category_id":{}', [found.image_ids.tolist(), found.category_ids.tolist()]
    if found.boxes is not None:
        fields += ',"bbox":[{},{},{},{}]'
        columns += found.boxes.T.tolist()
    fields += ',"score":{}'
    columns.append(found.scores.tolist())
    if found.masks is not None:
        fields += ',"segmentation":{{"size":[{},{}],"counts":{}}}'
        columns += found.masks.sizes.T.tolist()
        columns.append([json.dumps(mask["counts"].decode()) for mask in found.masks.rles(0, len(found))])
    return map(f"{{{{{fields}}}}}".format, *columns)


def read_detections(path: Path) -> tuple[DetectionTable, dict[str, Any]]:
    """The detections and meta of a file of write_detections, or of a plain COCO results list (no meta), gzipped or not.

    Raises UserError where the file is missing, damaged or something else, or a row of it is none.
    """
    table = Builder()
    try:
        content = json.loads(_text(path), object_hook=lambda value: _taken(table, value))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise UserError(f"{path}: damaged or not a detections file: {error}") from None
    is_own = isinstance(content, dict) and content.get("format") == FORMAT
    if is_own and content["version"] != VERSION:
        raise UserError(f"{path}: detections of version {content['version']}, this harness reads {VERSION}; update it")
    if not is_own and not isinstance(content, list):
        raise UserError(f"{path}: expected detections (a COCO results list, or a file of this harness)")
    rows, meta = (content["results"], content["meta"]) if is_own else (content, {})
    if (odd := next((number for number, row in enumerate(rows) if row is not TAKEN), None)) is not None:
        raise UserError(f"{path}: row {odd}: expected an object with image_id, category_id and score")
    return table.built(), meta


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def _taken(table: Builder, value: dict[str, Any]) -> Any:
    """Put a row into the table as soon as it is read: all of them as objects would take five times the memory."""
    if "image_id" not in value:
        return value
    table.add(value)
    return TAKEN
