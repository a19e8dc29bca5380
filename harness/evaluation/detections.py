"""Detections as COCO result rows, and the compressed file that keeps them beside a checkpoint.

Gzipped JSON, a row a line: {"format": "maskrcnn-detections", "version": 1, "meta": {...}, "results": [...]}.
Rows are sorted by image id and then by falling score; equal rows give equal bytes, whenever written (with one zlib).
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import replacing, sha256

if TYPE_CHECKING:
    from harness.structures import Detections

FORMAT = "maskrcnn-detections"
VERSION = 1


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
            "segmentation": _text_mask(mask),
        }
        for (x1, y1, x2, y2), score, label, mask in zip(*numbers, detections.masks, strict=True)
    ]


def write_detections(path: Path, results: list[dict[str, Any]], *, meta: dict[str, Any]) -> str:
    """Write rows (bit for bit what read_detections gives back, but for the order) and return the file's sha256.

    meta: anything JSON that tells where they come from. Written atomically.
    """
    rows = sorted(results, key=lambda row: (row["image_id"], -row["score"]))  # stable: equal scores keep their order
    head = json.dumps({"format": FORMAT, "version": VERSION, "meta": meta}, sort_keys=True)
    lines = ",\n".join(json.dumps(_text_row(row), separators=(",", ":")) for row in rows)
    text = f'{head[:-1]}, "results": [\n{lines}\n]}}\n'
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
        return sha256(temporary)


def read_detections(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and meta of a file of write_detections, or of a plain COCO results list (no meta), gzipped or not.

    Raises UserError where the file is missing, damaged or something else.
    """
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise UserError(f"{path}: damaged or not a detections file: {error}") from None
    if isinstance(content, list):
        return content, {}
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: expected detections (a COCO results list, or a file of this harness)")
    if content["version"] != VERSION:
        raise UserError(f"{path}: detections of version {content['version']}, this harness reads {VERSION}; update it")
    return content["results"], content["meta"]


def _text_row(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "segmentation": _text_mask(row["segmentation"])} if "segmentation" in row else row


def _text_mask(mask: dict[str, Any]) -> dict[str, Any]:
    """The RLE with counts as text, which JSON can hold."""
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
