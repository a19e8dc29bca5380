"""The COCO numbers against published ones, and cases worked by hand."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from harness.errors import UserError
from harness.evaluation.coco import AP_FIELDS, AR_FIELDS, evaluate
from harness.evaluation.table import table_of

CASES = [("cocoapi_val2014_100", "bbox"), ("cocoapi_val2014_100", "segm"), ("torchmetrics_4img_bbox", "bbox")]


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kind"), CASES)
def test_published_numbers(shared: Path, case: str, kind: str) -> None:
    folder = shared / "reference/coco_eval" / case
    expected = load(folder / "expected.json")["iou_types"][kind]
    results = load(folder / expected["detections"])
    before = copy.deepcopy(results)
    found = evaluate(folder / "gt.json", table_of(results), iou_types=[kind])
    numbers = [found.numbers[f"{kind}_{field}"] for field in AP_FIELDS + AR_FIELDS]
    np.testing.assert_allclose(numbers, expected["computed"], rtol=0, atol=1e-10)
    assert results == before
    per_class = expected.get("per_category_AP_AR100", {"computed": {}})["computed"]
    for result in found.per_class if per_class else []:
        ap = per_class[str(result.category_id)][0]
        assert result.bbox_AP == (None if ap == -1 else pytest.approx(ap, abs=1e-10))


def test_mask_api_reads_boxes_and_polygons_as_published(shared: Path) -> None:
    cases = load(shared / "reference/coco_eval/mask_api/cases.json")
    height, width = cases["h"], cases["w"]
    for kind, shapes in (("bbox_rles", [[box] for box in cases["bboxes"]]), ("polygon_rles", cases["polygons"])):
        for shape, expected in zip(shapes, cases[kind], strict=True):
            shape = np.array(shape) if kind == "bbox_rles" else [shape]
            (rle,) = mask_api.frPyObjects(shape, height, width)
            assert rle == {"size": expected["size"], "counts": expected["counts"].encode()}
    union = mask_api.merge(cases["bbox_rles"])
    assert union["counts"].decode() == cases["bbox_rles_merged_union"]["counts"]
    packed = mask_api.frPyObjects(cases["uncompressed_rle"], *cases["uncompressed_rle"]["size"])
    assert packed["counts"].decode() == cases["compressed_rle"]["counts"]


def rle(bitmap: np.ndarray[Any, Any]) -> dict[str, Any]:
    mask = mask_api.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return {"size": mask["size"], "counts": mask["counts"].decode()}


def square(side: int, *, size: int = 100) -> dict[str, Any]:
    bitmap = np.zeros((size, size))
    bitmap[:side, :side] = 1
    return rle(bitmap)


def write_truth(folder: Path, annotations: list[dict[str, Any]]) -> Path:
    path = folder / "truth.json"
    images = [{"id": number, "file_name": f"{number}.png", "height": 100, "width": 100} for number in (1, 2)]
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def truth_row(number: int, image: int, category: int, side: int, **more: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": image, "category_id": category, "bbox": [0, 0, side, side], "area": side * side}
    return {**row, "segmentation": square(side), "iscrowd": 0, **more}


def found_row(image: int, category: int, side: int, score: float, **more: Any) -> dict[str, Any]:
    row = {"image_id": image, "category_id": category, "bbox": [0.0, 0.0, side, side], "score": score}
    return {**row, "segmentation": square(side), **more}


def test_by_hand(tmp_path: Path) -> None:
    """One cat of 40 x 40, found once as 40 x 33: IoU 1320 / 1600 = 0.825 passes the thresholds 0.50, 0.55, ..., 0.80.

    7 of 10: AP = AR = 0.7; AP50 = AP75 = 1. Medium: 32^2 <= 1600 < 96^2. Its id 0 must not read as "nothing matched".
    """
    path = write_truth(tmp_path, [truth_row(0, 1, 7, 40)])
    bitmap = np.zeros((100, 100))
    bitmap[:40, :33] = 1
    row = found_row(1, 7, 0, 0.9, bbox=[0, 0, 33, 40], segmentation=rle(bitmap))
    found = evaluate(path, table_of([row]))
    for kind in ("bbox", "segm"):
        expected = {"mAP": 0.7, "mAP_50": 1.0, "mAP_75": 1.0, "mAP_m": 0.7, "AR_1": 0.7, "AR_100": 0.7, "AR_m": 0.7}
        for field, value in expected.items():
            assert found.numbers[f"{kind}_{field}"] == pytest.approx(value)
        assert found.numbers[f"{kind}_mAP_s"] is found.numbers[f"{kind}_AR_l"] is None
    assert found.copypaste("segm") == "0.700 1.000 1.000 -1.000 0.700 -1.000"
    cat, dog = found.per_class
    assert (cat.category_id, cat.name, cat.instances, dog.instances) == (7, "cat", 1, 0)
    assert (cat.bbox_AP, cat.segm_AP) == (pytest.approx(0.7), pytest.approx(0.7))
    assert dog.bbox_AP is dog.segm_AP is None
    assert found.images == 2


def test_mask_size_classes_follow_the_masks_area(tmp_path: Path) -> None:
    """A wrong mask of 10 x 10 in a box of 50 x 50 is a small error, not a medium one: the medium mask AP stays 1."""
    path = write_truth(tmp_path, [truth_row(1, 1, 7, 40)])
    corner = np.zeros((100, 100))
    corner[90:, 90:] = 1
    wrong = found_row(1, 7, 0, 0.95, bbox=[50, 50, 50, 50], segmentation=rle(corner))
    found = evaluate(path, table_of([wrong, found_row(1, 7, 40, 0.9)]))
    assert found.numbers["segm_mAP_m"] == pytest.approx(1.0)
    assert found.numbers["bbox_mAP_m"] == pytest.approx(0.5)
    assert found.numbers["segm_mAP"] == pytest.approx(0.5)


def test_no_detections_score_zero_and_no_ground_truth_nothing(tmp_path: Path) -> None:
    path = write_truth(tmp_path, [truth_row(1, 1, 7, 40), truth_row(2, 1, 7, 99, iscrowd=1)])
    nothing_found = evaluate(path, table_of([]))
    assert nothing_found.numbers["bbox_mAP"] == nothing_found.numbers["segm_AR_100"] == 0.0
    assert [result.bbox_AP for result in nothing_found.per_class] == [0.0, None]
    assert [result.instances for result in nothing_found.per_class] == [1, 0]
    nothing_there = evaluate(path, table_of([found_row(1, 7, 40, 0.5)]), image_ids=[2])
    assert set(nothing_there.numbers.values()) == {None}
    assert nothing_there.images == 1


def test_image_ids_choose_what_counts(tmp_path: Path) -> None:
    path = write_truth(tmp_path, [truth_row(1, 1, 7, 40), truth_row(2, 2, 7, 40)])
    rows = [found_row(1, 7, 40, 0.5)]
    # Recall 0.5 at precision 1: the 51 recall points 0, 0.01, ..., 0.50 of 101.
    assert evaluate(path, table_of(rows)).numbers["bbox_mAP"] == pytest.approx(51 / 101)
    assert evaluate(path, table_of(rows), image_ids=[1]).numbers["bbox_mAP"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="no image 5"):
        evaluate(path, table_of(rows), image_ids=[1, 5])


def test_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(write_truth(tmp_path, [truth_row(1, 1, 7, 40)]), table_of([]))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, "unknown image_id 3"),
        ({"category_id": 1}, "unknown category_id 1"),
        ({"segmentation": square(5, size=50)}, r"mask of size \[50, 50\] for an image of \[100, 100\]"),
    ],
)
def test_rows_of_another_split_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_truth(tmp_path, [truth_row(1, 1, 7, 40)])
    bad = {**found_row(1, 7, 40, 0.5), **change}
    with pytest.raises(UserError, match=f"row 1: .*{message}.*2 of 3 rows"):
        evaluate(path, table_of([found_row(1, 7, 40, 0.5), bad, bad]))


def test_missing_fields_and_files_are_named(tmp_path: Path) -> None:
    path = write_truth(tmp_path, [truth_row(1, 1, 7, 40)])
    row = found_row(1, 7, 40, 0.5)
    del row["segmentation"]
    assert evaluate(path, table_of([row]), iou_types=["bbox"]).numbers["bbox_mAP"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="there are rows with no segmentation"):
        evaluate(path, table_of([row]))
    with pytest.raises(UserError, match="no such file"):
        evaluate(tmp_path / "gone.json", table_of([row]))
    path.write_text("[]")
    with pytest.raises(UserError, match="not a COCO annotation file"):
        evaluate(path, table_of([row]))
    boxes_only = truth_row(5, 1, 7, 40)
    del boxes_only["segmentation"]
    path = write_truth(tmp_path, [boxes_only])
    assert evaluate(path, table_of([row]), iou_types=["bbox"]).numbers["bbox_mAP"] == pytest.approx(1.0)
    with pytest.raises(UserError, match=r"annotations: 5 lacks one of .*segmentation \(1 such\)"):
        evaluate(path, table_of([row]))
