"""The drawn data set: the same bytes each time, complete or absent, and what it promises to hold."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from harness.data import shapes
from harness.data.check import check_split
from harness.data.coco import CocoIndex, load_index, train_filter
from harness.data.layout import find_split
from harness.data.masks import bitmap
from harness.data.shapes import generate_shapes
from harness.errors import UserError


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "shapes"
    calls: list[tuple[int, int]] = []
    assert generate_shapes(out, train=60, val=20, seed=3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 80) for i in range(1, 81)]
    return out


@pytest.mark.slow
def test_same_seed_same_bytes(drawn: Path, tmp_path: Path) -> None:
    generate_shapes(tmp_path / "again", train=60, val=20, seed=3)
    assert _digest(tmp_path / "again") == _digest(drawn)
    generate_shapes(tmp_path / "other", train=3, val=1, seed=4)
    assert _digest(tmp_path / "other")["train/000001.png"] != _digest(drawn)["train/000001.png"]
    assert _digest(drawn)["train/000001.png"] != _digest(drawn)["val/000001.png"]


def test_second_call_does_nothing_and_other_arguments_are_refused(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    assert not generate_shapes(drawn, train=60, val=20, seed=3)
    with pytest.raises(UserError, match=r"holds shapes made with .*'seed': 3.*, not with .*'seed': 4"):
        generate_shapes(drawn, train=60, val=20, seed=4)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something other than generated shapes"):
        generate_shapes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_broken_off_generation_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "shapes"
    with pytest.raises(KeyboardInterrupt):
        generate_shapes(out, train=2, val=1, progress=stop)
    assert list(tmp_path.iterdir()) == []
    # Killed before it could clean up: what is left has another name, and the next call succeeds.
    monkeypatch.setattr(shapes.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        generate_shapes(out, train=2, val=1, progress=stop)
    assert not out.exists() and len(list(tmp_path.iterdir())) == 1
    assert generate_shapes(out, train=2, val=1)


def _index(drawn: Path, split: str) -> CocoIndex:
    return load_index(find_split(drawn, split))  # type: ignore[arg-type]


def test_the_set_holds_what_it_promises(drawn: Path) -> None:
    index = _index(drawn, "train")
    assert index.category_names == ("circle", "square", "triangle")
    assert (np.bincount(index.labels, minlength=3) >= 20).all()
    assert index.crowd.any() and (np.diff(index.first) == 0).any()
    learnt_from = [image for image in range(60) if len(index.ground_truth(image).labels)]
    assert train_filter(index).tolist() == learnt_from and 50 < len(learnt_from) < 60
    assert index.sizes.max() <= 160 and index.sizes.min() >= 80
    assert 5 < (~index.landscape()).sum() < 40
    sides = index.boxes[index.valid, 2:].max(axis=1) / index.sizes.max()
    assert 0.15 < np.median(sides) < 0.5


def test_masks_do_not_overlap_and_fill_their_boxes(drawn: Path) -> None:
    index = _index(drawn, "val")
    hidden = 0
    for image, (height, width) in enumerate(index.sizes.tolist()):
        truth = index.ground_truth(image)
        masks = [bitmap(segmentation, height, width) for segmentation in truth.segmentations]
        for mask, (x1, y1, x2, y2) in zip(masks, truth.boxes, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            drawn_box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert abs(drawn_box - [x1, y1, x2, y2]).max() <= 1
        if masks:
            # Simplified outlines may share border pixels, never more.
            assert (np.sum(masks, axis=0) > 1).sum() <= 0.05 * np.sum(masks)
        hidden += sum(
            mask.sum() < 0.75 * (x2 - x1) * (y2 - y1) for mask, (x1, y1, x2, y2) in zip(masks, truth.boxes, strict=True)
        )
    assert hidden


def test_the_set_is_faultless(drawn: Path) -> None:
    report = check_split(find_split(drawn, "train"))
    assert {finding.severity for finding in report.findings} == {"info"}
    info = json.loads((drawn / "annotations/instances_train.json").read_text())["info"]
    assert info["seed"] == 3
