"""What is wrong with a data set: every fault counted, with its first offenders."""

from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from harness.data.coco import CocoSplit, unlike_categories
from harness.data.image_files import file_names, has_file, is_packed, read_file
from harness.data.tar import changed_files
from harness.errors import UserError
from harness.files import read_json

Severity = Literal["error", "warning", "info"]
Fault = tuple[str, str]  # kind, offender

SEVERITIES: dict[str, Severity] = {
    "missing image file": "error",
    "broken image file": "error",
    "image of another size than annotated": "error",
    "malformed image entry": "error",
    "malformed annotation": "error",
    "malformed category": "error",
    "image id used twice": "error",
    "annotation id used twice": "error",
    "category id used twice": "error",
    "category unlike train's": "error",
    "unknown image id": "error",
    "unknown category": "error",
    "malformed box": "error",
    "box wholly outside": "error",
    "no segmentation": "error",
    "malformed polygon": "error",
    "malformed RLE": "error",
    "RLE of another size than its image": "error",
    "tar unlike the folder beside it": "warning",
    "box partly outside": "warning",
    "box under 1 pixel": "warning",
    "no area": "warning",
    "image without annotations": "info",
    "crowd": "info",
    "image file without entry": "info",
}
_OFFENDERS = 5
_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # how a file begins -> what a complete one has at its end
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of fault. Errors stop or spoil a training; warnings are skipped or clipped by it; infos are normal."""

    kind: str  # a key of SEVERITIES
    severity: Severity
    count: int
    offenders: tuple[str, ...]  # the first five


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check_split` found, errors first."""

    split: CocoSplit
    images: int
    annotations: int
    categories: int
    names: dict[int, str]  # of the categories, by id
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """The number of faults that are errors."""
        return sum(finding.count for finding in self.findings if finding.severity == "error")


def check_split(
    split: CocoSplit,
    *,
    train: Report | None = None,
    decode: bool = True,
    workers: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Look at every entry of the instances file and every image.

    train: what was found of the training split, whose categories this one is to have.
    decode: read the images too, to find broken, truncated and wrongly sized ones; else only their presence is checked.
    workers: threads that do so. progress is told the images done and their total.
    Raises UserError where the instances file is not JSON, or holds no lists of images, annotations and categories.
    """
    content = read_json(split.annotations)
    entries: dict[str, list[Any]] = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{split.annotations}: no list {key!r}; expected a COCO instances file")
        entries[key] = content[key]
    images = {entry["id"]: entry for entry in entries["images"] if _is_image(entry)}
    categories = {entry["id"]: entry["name"] for entry in entries["categories"] if _is_category(entry)}
    counted = _Counted()
    counted.add(_entry_faults("image entry", "image", entries["images"], _is_image))
    counted.add(_entry_faults("category", "category", entries["categories"], _is_category))
    if train is not None:
        counted.add(("category unlike train's", text) for text in unlike_categories(categories, train.names))
    counted.add(_annotation_faults(entries["annotations"], images, categories.keys()))
    counted.add(_file_faults(split.images, list(images.values()), decode=decode, workers=workers, progress=progress))
    if is_packed(split.images):
        counted.add(("tar unlike the folder beside it", name) for name in changed_files(split.images))
    return Report(
        split=split,
        images=len(entries["images"]),
        annotations=len(entries["annotations"]),
        categories=len(entries["categories"]),
        names=categories,
        findings=counted.findings(),
    )


class _Counted:
    """Faults by kind: how many, and the first of them."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SEVERITIES, 0)
        self.offenders: dict[str, list[str]] = {kind: [] for kind in SEVERITIES}

    def add(self, faults: Iterable[Fault]) -> None:
        for kind, offender in faults:
            self.counts[kind] += 1
            if len(self.offenders[kind]) < _OFFENDERS:
                self.offenders[kind].append(offender)

    def findings(self) -> tuple[Finding, ...]:
        """Those that occurred, in the order of SEVERITIES."""
        return tuple(
            Finding(kind=kind, severity=severity, count=self.counts[kind], offenders=tuple(self.offenders[kind]))
            for kind, severity in SEVERITIES.items()
            if self.counts[kind]
        )


def _is_image(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), int) for key in ("id", "height", "width"))
        and isinstance(entry.get("file_name"), str)
    )


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)


def _entry_faults(kind: str, short: str, entries: list[Any], is_good: Callable[[Any], bool]) -> Iterator[Fault]:
    seen = set()
    for number, entry in enumerate(entries):
        if not is_good(entry):
            yield f"malformed {kind}", f"number {number}: {str(entry)[:80]}"
            continue
        if entry["id"] in seen:
            yield f"{short} id used twice", str(entry["id"])
        seen.add(entry["id"])


def _annotation_faults(annotations: list[Any], images: dict[int, Any], categories: Set[int]) -> Iterator[Fault]:
    seen = set()
    annotated = set()
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or not all(
            isinstance(annotation.get(key), int) for key in ("id", "image_id", "category_id")
        ):
            yield "malformed annotation", f"number {number}: {str(annotation)[:80]}"
            continue
        name = f"annotation {annotation['id']}"
        if annotation["id"] in seen:
            yield "annotation id used twice", name
        seen.add(annotation["id"])
        annotated.add(annotation["image_id"])
        if annotation["category_id"] not in categories:
            yield "unknown category", f"{name}: category {annotation['category_id']}"
        image = images.get(annotation["image_id"])
        if image is None:
            yield "unknown image id", f"{name}: image {annotation['image_id']}"
            continue
        faults = [*_box_kinds(annotation, image), *_segmentation_kinds(annotation, image)]
        yield from ((kind, f"{name} of {image['file_name']}") for kind in faults)
    for image in images.values():
        if image["id"] not in annotated:
            yield "image without annotations", image["file_name"]


def _box_kinds(annotation: dict[str, Any], image: dict[str, Any]) -> Iterator[str]:
    if annotation.get("iscrowd"):
        yield "crowd"
    if not _is_number(annotation.get("area")) or annotation["area"] <= 0:
        yield "no area"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        yield "malformed box"
        return
    x, y, width, height = box
    right, bottom = x + width, y + height
    if min(right, image["width"]) <= max(x, 0) or min(bottom, image["height"]) <= max(y, 0):
        yield "box wholly outside" if width > 0 and height > 0 else "box under 1 pixel"
        return
    if x < -1 or y < -1 or right > image["width"] + 1 or bottom > image["height"] + 1:  # rounding is no fault
        yield "box partly outside"
    if width < 1 or height < 1:
        yield "box under 1 pixel"


def _segmentation_kinds(annotation: dict[str, Any], image: dict[str, Any]) -> Iterator[str]:
    segmentation = annotation.get("segmentation")
    if not segmentation:
        yield "no segmentation"
    elif isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(size, list) or not isinstance(counts, list | str):
            yield "malformed RLE"
        elif size != [image["height"], image["width"]]:
            yield "RLE of another size than its image"
        elif isinstance(counts, list) and (not all(map(_is_number, counts)) or sum(counts) != size[0] * size[1]):
            yield "malformed RLE"
    elif not isinstance(segmentation, list) or not all(map(_is_polygon, segmentation)):
        yield "malformed polygon"


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and all(map(_is_number, part))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _file_faults(
    folder: Path, images: list[dict[str, Any]], *, decode: bool, workers: int, progress: Callable[[int, int], None]
) -> Iterator[Fault]:
    def look(image: dict[str, Any]) -> Fault | None:
        if not has_file(folder, image["file_name"]):
            return "missing image file", image["file_name"]
        return _image_fault(folder, image) if decode else None

    with ThreadPoolExecutor(workers) as pool:
        for done, fault in enumerate(pool.map(look, images), start=1):
            if fault is not None:
                yield fault
            progress(done, len(images))
    known = {image["file_name"] for image in images}
    files = {name for name in file_names(folder) if Path(name).suffix.lower() in _SUFFIXES}
    yield from (("image file without entry", name) for name in sorted(files - known))


def _image_fault(folder: Path, image: dict[str, Any]) -> Fault | None:
    content = read_file(folder, image["file_name"]).tobytes()
    start = next((start for start in _ENDINGS if content.startswith(start)), b"")
    # Decoders may fill up a truncated file in grey without a word; some cameras write a little after the end.
    complete = _ENDINGS.get(start, b"") in content[-1024:]
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content and complete else None
    if pixels is None:
        what = f"truncated at {len(content)} bytes" if content and not complete else f"{len(content)} bytes"
        return "broken image file", f"{image['file_name']} ({what})"
    height, width = pixels.shape[:2]
    if (height, width) != (image["height"], image["width"]):
        sizes = f"{width} x {height}, annotated {image['width']} x {image['height']}"
        return "image of another size than annotated", f"{image['file_name']}: {sizes}"
    return None
