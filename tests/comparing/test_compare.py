"""Comparisons of runs whose detections are known."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from comparing.conftest import Rows, without
from harness.comparing.compare import compare
from harness.comparing.page import notes, table_of, write_page
from harness.comparing.sides import find_side
from harness.errors import UserError
from harness.files import read_json, sha256, write_json
from harness.launching.prepare import prepare, write
from harness.matrix import load_experiment
from harness.run_paths import RunPaths
from harness.settings import load_settings

RunOf = Callable[[int, int, Rows], RunPaths]
CELL = "mask_rcnn_r18_fpn_1x_coco+tiny"


def test_what_is_equal_is_not_told_apart_and_what_is_broken_is(run_of: RunOf, perfect: Rows, place: Path) -> None:
    one, same = run_of(0, 0, perfect), run_of(0, 1, perfect)
    broken = run_of(1, 0, without(perfect, 0.5))
    sides = [find_side(str(paths.folder), place / "runs") for paths in (one, same, broken)]
    equal, worse = compare(sides)
    for entry in equal.differences:
        assert (entry.first, entry.other) == (pytest.approx(100), pytest.approx(100))
        assert (entry.images.low, entry.images.high) == (0, 0) and not entry.images.excludes_zero
    assert not equal.images and not equal.recipe
    numbers = read_json(broken.evaluation)["numbers"]
    for entry, name in zip(worse.differences, ("bbox_mAP", "segm_mAP"), strict=True):
        assert entry.other == pytest.approx(100 * numbers[name], abs=1e-9)
        assert entry.images.high < 0
        assert entry.training.high - entry.training.low == pytest.approx(2 * 1.959964 * 0.3 * 2**0.5, rel=1e-5)
    assert set(worse.recipe) == {"train_scales", "multiscale_mode", "mask_format"}
    assert all(mover.other < mover.first for mover in worse.movers[:3])
    changed = worse.images[0]
    missing = [row["image_id"] for row in perfect if row not in without(perfect, 0.5)]
    assert changed.first == 1 and changed.other < 1 and changed.image_id in missing


def test_a_cell_stands_for_all_its_seeds(run_of: RunOf, perfect: Rows, place: Path) -> None:
    for seed in (0, 1):
        run_of(0, seed, without(perfect, 0.2, seed))
        run_of(1, seed, perfect)
    sides = [
        find_side(text, place / "runs")
        for text in ("tiny/mask_rcnn_r18_fpn_1x_coco", "mask_rcnn_r18_fpn_mstrain-poly_1x_coco+tiny")
    ]
    (pair,) = compare(sides)
    assert pair.seeds == (2, 2)
    assert [len(seeds) for seeds in pair.differences[0].seeds] == [2, 2]
    assert table_of(pair)[0][2] == "100.0 ± 0.0 [99.6, 100.4] (n=2)"  # 1.96 x 0.3 / sqrt(2) = 0.416
    assert pair.differences[0].training.high - pair.differences[0].training.low == pytest.approx(
        2 * 1.959964 * 0.3, rel=1e-5
    )


def test_sides_say_their_experiment_and_the_seeds_that_they_lack(run_of: RunOf, perfect: Rows, place: Path) -> None:
    """The same cell of two experiments; in the first of them seed 1 was submitted, and has not finished."""
    run_of(0, 0, perfect)
    matrix = place / "tiny.yaml"
    write(prepare(load_experiment(matrix), load_settings(place, {}))[1])
    matrix.write_text(matrix.read_text().replace("name: tiny", "name: again"))
    run_of(0, 0, perfect)
    sides = [find_side(f"{name}/mask_rcnn_r18_fpn_1x_coco", place / "runs") for name in ("tiny", "again")]
    (pair,) = compare(sides)
    assert (pair.first, pair.other) == (f"tiny/{CELL}", f"again/{CELL}")
    assert pair.missing == (1, 0)
    assert table_of(pair)[0][1:3] == ("100.0 [99.4, 100.6] (n=1 of 2)", "100.0")  # 1.96 x 0.3 = 0.588
    assert "(1 of 2 and 1 seeds)" in next(notes(pair))


@pytest.mark.slow
def test_the_page_has_tables_and_pictures(run_of: RunOf, perfect: Rows, place: Path, tmp_path: Path) -> None:
    paths = (run_of(0, 0, perfect), run_of(1, 0, without(perfect, 0.4)))
    sides = [find_side(str(entry.folder), place / "runs") for entry in paths]
    page = write_page(tmp_path / "page", compare(sides), sides)
    text = page.read_text()
    assert "| box AP | 100.0 |" in text and "paired bootstrap" in text and "fewer than 3 seeds" in text
    pictures = sorted((tmp_path / "page/pictures").glob("*.jpg"))
    assert pictures and all(f"(pictures/{picture.name})" in text for picture in pictures)


def test_detections_elsewhere_need_annotations(run_of: RunOf, perfect: Rows, place: Path, shapes: Path) -> None:
    paths = run_of(0, 0, perfect)
    copy = place / "copy.json.gz"
    copy.write_bytes(paths.detections.read_bytes())
    with pytest.raises(UserError, match="--annotations FILE"):
        find_side(str(copy), place / "runs")
    annotations = shapes / "annotations/instances_val.json"
    sides = [
        find_side(str(paths.folder), place / "runs"),
        find_side(str(copy), place / "runs", annotations=annotations),
    ]
    (pair,) = compare(sides)
    assert pair.differences[0].images.difference == 0


def test_a_checkpoint_whose_detections_are_kept_runs_no_model(run_of: RunOf, perfect: Rows, place: Path) -> None:
    """Its file is no checkpoint at all: only its sha256 is looked at."""
    paths = run_of(0, 0, perfect)
    checkpoint = paths.checkpoints / "epoch_2.pth"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(paths.detections.read_bytes())
    assert len(find_side(str(checkpoint), place / "runs").members[0].results) == len(perfect)


def test_weights_that_were_published_or_moved_have_the_detections_of_their_run(
    run_of: RunOf, perfect: Rows, place: Path, tmp_path: Path
) -> None:
    """Neither file is a checkpoint: known are the sha256 of one, and of the other its name and the log beside it."""
    paths = run_of(0, 0, perfect)
    paths.log.write_text("{}\n")
    write_json(paths.result, read_json(paths.result) | {"files": {"log": {"sha256": sha256(paths.log)}}})
    moved = tmp_path / "moved.pth"
    moved.write_bytes(paths.detections.read_bytes())
    published = tmp_path / "published" / f"x-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    published.parent.mkdir()
    published.write_bytes(b"weights")
    (published.parent / "log.json").write_text("{}\n")
    for file in (moved, published):
        assert len(find_side(str(file), place / "runs").members[0].results) == len(perfect)
    published.write_bytes(b"other weights")  # not those that its name says
    with pytest.raises(UserError, match=r"\.pth: "):
        find_side(str(published), place / "runs")


@pytest.mark.slow
def test_boxes_of_others_alone_are_compared_and_drawn(
    run_of: RunOf, perfect: Rows, place: Path, shapes: Path, tmp_path: Path
) -> None:
    """A plain COCO results list in the run's folder is not taken for the run's own; nor is one of no rows a fault."""
    paths = run_of(0, 0, perfect)
    boxes = paths.folder / "others.json"
    rows = [{name: row[name] for name in ("image_id", "category_id", "bbox", "score")} for row in perfect]
    boxes.write_text(json.dumps(without(rows, 0.5)))
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    annotations, images = shapes / "annotations/instances_val.json", shapes / "val"
    one, two = find_side(str(paths.folder), place / "runs"), find_side(str(boxes), place / "runs")
    three = find_side(str(nothing), place / "runs", annotations=annotations, images=images)
    half, none = compare([one, two, three])
    assert [entry.metric for entry in half.differences] == ["box AP"]
    assert 0 < half.differences[0].other < 100 and none.differences[0].other == 0
    assert none.differences[0].images.high < 0
    page = write_page(tmp_path / "page", [half, none], [one, two, three])
    assert page.read_text().count("](pictures/") == 12
    masks = tmp_path / "masks.json"
    masks.write_text(json.dumps([{k: v for k, v in row.items() if k != "bbox"} for row in perfect]))
    three = find_side(str(masks), place / "runs", annotations=annotations)
    with pytest.raises(UserError, match=r"neither boxes \(bbox\) nor masks"):
        compare([two, three])


def test_what_cannot_be_compared_is_said(run_of: RunOf, perfect: Rows, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of such a cell in .*; expected RUN_FOLDER"):
        find_side("mask_rcnn_r18_fpn_1x_coco", place / "runs")
    paths = run_of(0, 0, perfect)
    one = find_side(str(paths.folder), place / "runs")
    with pytest.raises(UserError, match="did you mean 'mask_rcnn_r18_fpn_1x_coco"):
        find_side("mask_rcnn_r18_fpn_1x_cocoa", place / "runs")
    text = one.members[0].split.annotations.read_text()
    (tmp_path / "other.json").write_text(text + " ")
    rows = tmp_path / "d.json.gz"
    rows.write_bytes(paths.detections.read_bytes())
    other = find_side(str(rows), place / "runs", annotations=tmp_path / "other.json")
    with pytest.raises(UserError, match="different annotations"):
        compare([one, other])
