"""The published rows as data: equal to the reference, and their faults where they are known."""

import csv
from dataclasses import fields
from pathlib import Path

import pytest

from harness.cell import PUBLISHED, parse_name
from harness.published import PublishedRow, compare, published_rows

ROWS = published_rows()


def test_they_are_the_published_cells_in_the_published_order(shared: Path) -> None:
    with (shared / "reference" / "published.csv").open(encoding="utf-8", newline="") as file:
        reference = list(csv.DictReader(file))
    assert list(ROWS) == [row["name"] for row in reference]
    assert set(ROWS) == PUBLISHED
    for plain in reference:
        row = ROWS[plain["name"]]
        for name, text in plain.items():
            value = getattr(row, name)
            shown = f"{value:.1f}" if isinstance(value, float) else "-" if value is None else str(value)
            assert shown == (text or "-"), (row.name, name)


def test_axes_of_the_rows_are_those_of_their_cells() -> None:
    for row in ROWS.values():
        cell = parse_name(row.name)
        found = (cell["style"], cell["schedule"], cell["fp16"], cell["multiscale"])
        assert found == (row.style, row.schedule, row.fp16, row.multiscale)


def test_numbers_of_one_row() -> None:
    """recipes.md section 3: 4.4 GB, 16.1 fps, 38.2 / 34.7, ..._20200205-d4b0c5d6."""
    row = ROWS["mask_rcnn_r50_fpn_1x_coco"]
    assert (row.mem_gb, row.fps, row.box_ap, row.mask_ap) == (4.4, 16.1, 38.2, 34.7)
    assert row.model_file == "mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth"
    assert row.sha256_prefix == "d4b0c5d6"
    assert row.log_file == "mask_rcnn_r50_fpn_1x_coco_20200205_050542.log.json"
    assert row.explanations() == []


def test_every_file_name_ends_with_its_digest() -> None:
    assert all(int(row.sha256_prefix, 16) > 0 for row in ROWS.values())
    assert len({row.sha256_prefix for row in ROWS.values()}) == 21


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco", "box_ap", "40.4"),
        ("mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco", "mask_ap", "35.9"),
        ("mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco", "box_ap", "43.6"),
    ],
)
def test_known_faults_explain_the_number(name: str, field: str, value: str) -> None:
    assert value in {fault.value for fault in ROWS[name].faults if fault.field == field}
    assert any(value in text for text in ROWS[name].explanations())


def test_faults_belong_to_rows_and_fields() -> None:
    names = {field.name for field in fields(PublishedRow)}
    found = [fault for row in ROWS.values() for fault in row.faults]
    text = (Path(__file__).parent.parent / "experiments/published/faults.csv").read_text()
    assert len(found) == len(text.splitlines()) - 1  # none is of an unknown row
    assert {fault.field for fault in found} <= names


def test_the_broken_log_link_has_its_right_target() -> None:
    row = ROWS["mask_rcnn_r101_caffe_fpn_mstrain-poly_3x_coco"]
    (fault,) = (fault for fault in row.faults if fault.kind == "link")
    assert "/mask_rcnn/" not in row.log_url
    assert fault.value.replace("/mask_rcnn/", "/", 1) == row.log_url
    assert all("/mask_rcnn/" in other.log_url for other in ROWS.values() if not other.fp16 and other != row)


def test_comparison_is_of_rounded_percents() -> None:
    """0.40449 is 40.4, and 44.3 - 40.4 = 3.9; -1 is COCO's "nothing of the kind"."""
    row = ROWS["mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco"]
    box, mask = compare(row, {"bbox_mAP": 0.40449, "segm_mAP": -1.0})
    assert (box.metric, box.now, box.published, box.difference) == ("bbox_mAP", 40.4, 44.3, -3.9)
    assert (mask.metric, mask.now, mask.published, mask.difference) == ("segm_mAP", None, 39.5, None)
