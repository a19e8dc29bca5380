"""Each kind of fault is found, counted and named; real photos and faultless sets have none."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.data.check import SEVERITIES, Report, check_split
from harness.data.coco import CocoSplit
from harness.errors import UserError

from .coco_files import SQUARE, content, write_images, write_split


def _report(tmp_path: Path, value: Any) -> Report:
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    return check_split(split)


def _found(report: Report) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {finding.kind: (finding.count, finding.offenders) for finding in report.findings}


def test_a_faultless_set(tmp_path: Path) -> None:
    report = _report(tmp_path, content())
    assert _found(report) == {"image without annotations": (1, ("five.png",))}
    assert (report.images, report.annotations, report.categories, report.errors) == (3, 3, 2, 0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"id": 1}, "annotation id used twice"),
        ({"id": None}, "malformed annotation"),
        ({"image_id": 99}, "unknown image id"),
        ({"category_id": 99}, "unknown category"),
        ({"bbox": [1, 2, 3]}, "malformed box"),
        ({"bbox": [1, 2, 3, float("nan")]}, "malformed box"),
        ({"bbox": [60, 10, 5, 5]}, "box wholly outside"),
        ({"bbox": [50, 10, 20, 20]}, "box partly outside"),
        ({"bbox": [-1.5, 10, 20, 20]}, "box partly outside"),
        ({"bbox": [10, 10, 0, 20]}, "box under 1 pixel"),
        ({"bbox": [10, 10, 0.5, 20]}, "box under 1 pixel"),
        ({"area": 0}, "no area"),
        ({"segmentation": []}, "no segmentation"),
        ({"segmentation": [SQUARE, [1, 2, 3, 4]]}, "malformed polygon"),
        ({"segmentation": [SQUARE[:-1]]}, "malformed polygon"),
        ({"segmentation": [["x"] * 6]}, "malformed polygon"),
        ({"segmentation": {"size": [40, 60]}}, "malformed RLE"),
        ({"segmentation": {"size": [40, 60], "counts": [2399]}}, "malformed RLE"),
        ({"segmentation": {"size": [60, 40], "counts": [2400]}}, "RLE of another size than its image"),
        ({"iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [2400]}}, "crowd"),
    ],
)
def test_annotation_faults(tmp_path: Path, change: dict[str, Any], kind: str) -> None:
    value = content()
    value["annotations"][1].update(change)
    report = _report(tmp_path, value)
    found = _found(report)
    count, (offender, *_) = found.pop(kind)
    assert count == 1 and offender.startswith(("annotation ", "number 1"))
    assert set(found) <= {"image without annotations"}
    assert report.errors == (1 if SEVERITIES[kind] == "error" else 0)


def test_entry_faults(tmp_path: Path) -> None:
    value = content()
    value["images"].append(value["images"][2])
    value["categories"].append({"id": 9, "name": "again"})
    value["categories"].append({"id": "x"})
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    found = _found(check_split(split))
    assert found["image id used twice"] == (1, ("5",))
    assert found["category id used twice"] == (1, ("9",))
    assert found["malformed category"][0] == 1


def test_the_categories_are_those_of_the_training_split(tmp_path: Path) -> None:
    """Labels count through the training split's; one more, one less or one renamed moves what they mean."""
    value = content()
    train = _report(tmp_path / "train", value)
    value["categories"] = [{"id": 9, "name": "neuf"}, {"id": 20, "name": "twenty"}, {"id": 30, "name": "thirty"}]
    val = check_split(write_split(tmp_path / "val", value), train=train, decode=False)
    assert _found(val)["category unlike train's"] == (
        2,
        ("category 9: 'neuf', in train 'nine'", "category 30: 'thirty', in train nothing"),
    )
    same = check_split(train.split, train=train, decode=False)
    assert same.errors == 0


def test_file_faults(tmp_path: Path) -> None:
    value = content()
    names = ["seven.jpg", "three.jpg", "five.jpg"]
    for image, name in zip(value["images"], names, strict=True):
        image["file_name"] = name
    value["images"] += [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 40} for i in (100, 101, 102)]
    split = write_split(tmp_path, value)
    write_images(split, value["images"])
    whole = (split.images / "seven.jpg").read_bytes()
    (split.images / "seven.jpg").write_bytes(whole[:-10])
    (split.images / "three.jpg").write_bytes(b"")
    (split.images / "five.jpg").unlink()
    png = (split.images / "100.png").read_bytes()
    (split.images / "100.png").write_bytes(png[:-20])
    cv2.imwrite(str(split.images / "101.png"), np.zeros((40, 41, 3), np.uint8))
    cv2.imwrite(str(split.images / "extra.png"), np.zeros((4, 4, 3), np.uint8))
    report = check_split(split)
    found = _found(report)
    assert found["missing image file"] == (1, ("five.jpg",))
    assert found["broken image file"] == (
        3,
        (
            f"seven.jpg (truncated at {len(whole) - 10} bytes)",
            "three.jpg (0 bytes)",
            f"100.png (truncated at {len(png) - 20} bytes)",
        ),
    )
    assert found["image of another size than annotated"] == (1, ("101.png: 41 x 40, annotated 40 x 40",))
    assert found["image file without entry"] == (1, ("extra.png",))
    assert report.errors == 5
    assert "broken image file" not in _found(check_split(split, decode=False))


def test_many_offenders_are_counted_and_five_are_named(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = [value["annotations"][0] | {"id": i, "category_id": 99} for i in range(1, 8)]
    count, offenders = _found(_report(tmp_path, value))["unknown category"]
    assert count == 7
    assert offenders == tuple(f"annotation {i}: category 99" for i in range(1, 6))


def test_not_coco(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no list 'annotations'; expected a COCO instances file"):
        check_split(write_split(tmp_path, {"images": []}))


@pytest.mark.parametrize(("split", "crowds", "empty"), [("train", 6, 0), ("val", 7, 2)])
def test_real_photos_have_no_fault(shared: Path, split: str, crowds: int, empty: int) -> None:
    root = shared / "data/coco2017_open"
    seen = []
    report = check_split(
        CocoSplit(images=root / "images", annotations=root / f"annotations/instances_{split}.json"),
        progress=lambda done, total: seen.append((done, total)),
    )
    found = {kind: count for kind, (count, _) in _found(report).items()}
    assert report.errors == 0
    assert found["crowd"] == crowds and found.get("image without annotations", 0) == empty
    assert found["image file without entry"] == 104 - report.images  # the other split's photos are in the same folder
    assert seen[-1] == (report.images, report.images)
