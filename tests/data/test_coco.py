"""The index: hand-written cases, faults in one clear line, and the counts of real photos."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from renewals import wait_for_renewals

from harness import leases
from harness.data import coco
from harness.data.coco import CocoIndex, CocoSplit, load_index, train_filter
from harness.data.instances import parse_instances
from harness.data.masks import bitmap
from harness.errors import UserError
from harness.files import sha256

from .coco_files import SQUARE, content, many, write_split


def _index(tmp_path: Path, value: Any) -> CocoIndex:
    return load_index(write_split(tmp_path, value))


def test_annotations_are_grouped_by_image_and_categories_sorted_by_id(tmp_path: Path) -> None:
    index = _index(tmp_path, content())
    assert index.image_ids.tolist() == [7, 3, 5]
    assert index.file_names.tolist() == ["seven.png", "three.png", "five.png"]
    assert index.sizes.tolist() == [[40, 60], [60, 40], [40, 40]]
    assert index.first.tolist() == [0, 1, 3, 3]
    assert index.category_ids.tolist() == [9, 20] and index.category_names == ("nine", "twenty")
    assert index.labels.tolist() == [0, 1, 0]
    assert index.landscape().tolist() == [True, False, False]  # a square is not wider than high


def test_ground_truth_of_an_image(tmp_path: Path) -> None:
    truth = _index(tmp_path, content()).ground_truth(1)
    assert truth.boxes.dtype == np.float32
    assert truth.boxes.tolist() == [[10, 10, 30, 30], [1.5, 2, 4.5, 6.25]]
    assert truth.labels.tolist() == [1, 0]
    assert [[part.tolist() for part in parts] for parts in truth.segmentations] == [[SQUARE], [SQUARE]]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"iscrowd": 1}, False),
        ({"ignore": 1}, False),
        ({"area": 0}, False),
        ({"bbox": [10, 10, 0.99, 20]}, False),
        ({"bbox": [10, 10, 20, 0.5]}, False),
        ({"bbox": [10, 10, 1, 1]}, True),
        ({"bbox": [60, 10, 20, 20]}, False),  # begins where the image ends
        ({"bbox": [-20, 10, 20, 20]}, False),
        ({"bbox": [59, 10, 20, 20]}, True),  # one pixel inside
        ({"segmentation": []}, False),
        ({"segmentation": [[1, 1, 2, 2]]}, False),  # two vertices
        ({"segmentation": [[1, 1, 2, 2], SQUARE]}, True),
        ({"segmentation": None}, False),
    ],
)
def test_which_annotations_train(tmp_path: Path, change: dict[str, Any], kept: bool) -> None:
    value = content()
    value["annotations"][1].update(change)
    index = _index(tmp_path, value)
    assert len(index.ground_truth(0).labels) == int(kept)
    assert train_filter(index).tolist() == [0, 1]  # of image 0 nothing may be left to learn: it is kept all the same


def test_images_without_any_annotation_do_not_train(tmp_path: Path) -> None:
    value = content()
    del value["annotations"][1]
    assert train_filter(_index(tmp_path, value)).tolist() == [1]


def test_crowds_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    value = content()
    for annotation in value["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(UserError, match="of 3 images, 0 have a usable annotation"):
        train_filter(_index(tmp_path, value))


def test_small_images_do_not_train(tmp_path: Path) -> None:
    index = _index(tmp_path, content())
    assert train_filter(index, min_size=40).tolist() == [0, 1]
    with pytest.raises(UserError, match=r"of 3 images, 2 have a usable annotation .* both sides of at least 41 pixels"):
        train_filter(index, min_size=41)


@pytest.mark.parametrize("compressed", [False, True])
def test_rle_is_read(tmp_path: Path, compressed: bool) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 7] = 1  # column 7: 7 * 40 + 5 zeros, 20 ones, and 60 * 40 - 305 zeros
    rle = {"size": [40, 60], "counts": [285, 20, 2095]}
    if compressed:
        rle["counts"] = "m8d0_Q2"  # of the same runs, by pycocotools 2.0
    value = content()
    value["annotations"][1]["segmentation"] = rle
    (segmentation,) = _index(tmp_path, value).ground_truth(0).segmentations
    assert np.array_equal(bitmap(segmentation, 40, 60), mask)


def _without(section: str, key: str) -> dict[str, Any]:
    value = content()
    del value[section][1][key]
    return value


def _with(section: str, **fields: Any) -> dict[str, Any]:
    value = content()
    value[section][1].update(fields)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "no list 'images'"),
        ({"images": []}, "no list 'annotations'"),
        ({"images": [], "annotations": [], "categories": []}, "has no images"),
        (_without("images", "height"), r"images\[1\]: 'height' is missing"),
        (_without("annotations", "bbox"), r"annotations\[1\]: 'bbox' is missing"),
        (_with("annotations", bbox=[1, 2, 3]), r"annotations\[1\]: 'bbox' is not as in COCO"),
        (_with("annotations", area="big"), r"annotations\[1\]: 'area' is not as in COCO"),
        (_with("annotations", image_id=4), r"annotations\[1\]: image_id 4 is not among the images"),
        (_with("annotations", category_id=99), r"annotations\[1\]: category_id 99 is not among the categories"),
        (_with("annotations", segmentation={"counts": [1]}), r"annotations\[1\]: 'segmentation' is neither"),
        (_with("annotations", segmentation={"size": [1, 1], "counts": [1]}), r"image's size \[40, 60\]"),
        (_with("annotations", segmentation=[["a"] * 6]), r"annotations\[1\]: 'segmentation' is neither"),
        (_with("images", id=7), r"images\[1\]: id 7 occurs twice"),
        (_with("categories", id=20), r"categories\[1\]: id 20 occurs twice"),
    ],
)
def test_faults_are_one_line_with_file_and_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _index(tmp_path, value)
    assert str(caught.value).startswith(str(tmp_path / "instances.json")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_counts_of_real_photos(shared: Path, split: str) -> None:
    root = shared / "data/coco2017_open"
    index = load_index(CocoSplit(images=root / "images", annotations=root / f"annotations/instances_{split}.json"))
    stats = json.loads((root / "stats.json").read_text())[split]
    counted = {
        "images": len(index.image_ids),
        "images_without_annotations": int((np.diff(index.first) == 0).sum()),
        "instances": len(index.labels),
        "crowd_rle": int(index.crowd.sum()),
        "categories_present": len(np.unique(index.labels)),
        "small": int((index.areas[~index.crowd] < 32**2).sum()),
        "portrait": int((index.sizes[:, 0] > index.sizes[:, 1]).sum()),
        "max_instances_per_image": int(np.diff(index.first).max()),
    }
    assert counted == {key: stats[key] for key in counted}
    assert len(index.category_names) == 80 and index.category_names[0] == "person"
    assert len(train_filter(index)) == stats["images"] - stats["images_without_annotations"]
    assert index.valid.sum() == stats["instances"] - stats["crowd_rle"]


def _kept(tmp_path: Path) -> CocoSplit:
    split = write_split(tmp_path, many(landscapes=3, portraits=2))
    return replace(split, digest=sha256(split.annotations), indexes=tmp_path / "indexes")


def _equal(one: CocoIndex, two: CocoIndex) -> bool:
    names = [field.name for field in fields(CocoIndex) if field.name not in ("file", "category_names")]
    return one.category_names == two.category_names and all(
        np.array_equal(a := getattr(one, name), b := getattr(two, name)) and a.dtype == b.dtype for name in names
    )


def test_a_kept_index_is_the_parsed_one_and_needs_no_annotations(tmp_path: Path) -> None:
    split = _kept(tmp_path)
    parsed = load_index(replace(split, indexes=None))
    first = load_index(split)
    split.annotations.unlink()
    again = load_index(split)
    assert _equal(first, parsed) and _equal(again, parsed) and again.file is not None
    assert all(map(np.array_equal, again.ground_truth(1).boxes, parsed.ground_truth(1).boxes))
    passed_on = pickle.loads(content := pickle.dumps(again))  # noqa: S301
    assert _equal(passed_on, parsed) and len(content) < 1000  # the file's name, not the arrays
    assert _equal(pickle.loads(pickle.dumps(parsed)), parsed)  # noqa: S301


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:-9] + b"x" * 9, lambda _: b""]
)
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    split = _kept(tmp_path)
    file = load_index(split).file
    assert file is not None
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert _equal(load_index(split), load_index(replace(split, indexes=None)))
    assert file.read_bytes() == content


def test_annotations_that_are_others_than_submitted(tmp_path: Path) -> None:
    split = _kept(tmp_path)
    split.annotations.write_text(split.annotations.read_text() + " ")
    for own in (split, replace(split, indexes=None)):
        with pytest.raises(UserError, match=r"instances.json: has sha256 .*, the run was submitted with .*; put that"):
            load_index(own)
    assert not list((tmp_path / "indexes").glob("*.safetensors"))


def test_the_lease_is_renewed_while_annotations_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SECONDS", 0.4)
    split = write_split(tmp_path, content())
    split = replace(split, digest=sha256(split.annotations), indexes=tmp_path / "indexes")
    parse = lambda path, digest: (wait_for_renewals(tmp_path), parse_instances(path, digest))[1]  # noqa: E731
    monkeypatch.setattr(coco, "parse_instances", parse)
    assert len(load_index(split).image_ids) == 3


def test_an_index_that_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = _kept(tmp_path)
    (tmp_path / "indexes").touch()  # no folder can be there
    assert _equal(load_index(split), load_index(replace(split, indexes=None)))
    assert "each process parses" in capsys.readouterr().err


PARSING = """
import sys, time
from pathlib import Path
from harness.data import coco

real = coco.parse_instances
def slow(*arguments):
    print("parsed", flush=True)
    time.sleep(float(sys.argv[4]))
    return real(*arguments)

coco.parse_instances = slow
split = coco.CocoSplit(images=Path(), annotations=Path(sys.argv[1]), digest=sys.argv[2], indexes=Path(sys.argv[3]))
print(len(coco.load_index(split).labels))
"""


@pytest.mark.slow
def test_of_processes_that_start_at_once_one_parses_and_another_follows_a_dead_one(tmp_path: Path) -> None:
    split = _kept(tmp_path)

    def start(seconds: float) -> "subprocess.Popen[str]":
        words = [str(split.annotations), split.digest, str(split.indexes), str(seconds)]
        return subprocess.Popen([sys.executable, "-c", PARSING, *words], stdout=subprocess.PIPE, text=True)

    with start(600) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == "parsed\n"
        others = [start(0.5) for _ in range(2)]
        killed.kill()
    said = [other.communicate(timeout=120)[0].split() for other in others]
    assert sorted(said) == [["7"], ["parsed", "7"]]
