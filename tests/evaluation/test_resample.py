"""AP of weighted images: equal to pycocotools on the images themselves and on images written out twice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.evaluation.coco import evaluate, matches
from harness.evaluation.resample import average_precisions, draws, mean_precision
from harness.evaluation.table import table_of

SIZE = 64


def made(folder: Path, images: int, seed: int = 0) -> tuple[Path, list[dict[str, Any]]]:
    """Random boxes of three categories with detections near and far, ties in score, and crowds."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.integers(0, 30, 2).tolist() + rng.integers(5, 30, 2).tolist()
            category, crowd = int(rng.integers(1, 4)), int(rng.random() < 0.1)
            row = {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd}
            annotations.append(row | {"id": len(annotations) + 1})
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.integers(-3, 4, 2).tolist()
                score = round(float(rng.random()), 1)
                seen = category if rng.random() < 0.8 else 1
                results.append({"image_id": image, "category_id": seen, "bbox": [x + dx, y + dy, w, h], "score": score})
    truth = {
        "images": [{"id": number, "height": SIZE, "width": SIZE} for number in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"c{number}"} for number in (1, 2, 3)],
    }
    file = folder / f"truth{images}.json"
    file.write_text(json.dumps(truth))
    return file, results


@pytest.mark.parametrize("seed", range(5))
def test_with_weights_of_one_it_is_pycocotools(tmp_path: Path, seed: int) -> None:
    file, results = made(tmp_path, 12, seed)
    expected = evaluate(file, table_of(results), iou_types=["bbox"])
    found = average_precisions(matches(file, table_of(results), iou_types=["bbox"])["bbox"], np.ones((1, 12)))
    classes = [np.nan if entry.bbox_AP is None else entry.bbox_AP for entry in expected.per_class]
    np.testing.assert_allclose(found[0], classes, rtol=0, atol=1e-12)
    assert mean_precision(found)[0] == pytest.approx(expected.numbers["bbox_mAP"], abs=1e-12)


def test_an_image_that_counts_twice_is_an_image_written_twice(tmp_path: Path) -> None:
    """Copies of a detection stand side by side, as no two rows have one score."""
    file, results = made(tmp_path, 6, 3)
    for number, row in enumerate(results):
        row["score"] = (number + 1) / 1000
    weights = np.array([[2, 0, 1, 3, 0, 1]], float)
    truth = json.loads(file.read_text())
    images, annotations, copies = [], [], []
    for copy in range(3):
        for index, image in enumerate(truth["images"]):
            if weights[0, index] > copy:
                shift = 100 * copy
                images.append(image | {"id": image["id"] + shift})
                for rows, into in ((truth["annotations"], annotations), (results, copies)):
                    into += [row | {"image_id": image["id"] + shift} for row in rows if row["image_id"] == image["id"]]
    written = tmp_path / "written.json"
    numbered = [row | {"id": number} for number, row in enumerate(annotations, 1)]
    written.write_text(json.dumps(truth | {"images": images, "annotations": numbered}))
    expected = evaluate(written, table_of(copies), iou_types=["bbox"])
    found = average_precisions(matches(file, table_of(results), iou_types=["bbox"])["bbox"], weights)
    assert mean_precision(found)[0] == pytest.approx(expected.numbers["bbox_mAP"], abs=1e-9)
    assert mean_precision(found)[0] != pytest.approx(
        evaluate(file, table_of(results), iou_types=["bbox"]).numbers["bbox_mAP"]
    )


def test_draws_are_the_same_for_the_same_numbers() -> None:
    one, two = draws(50, 8, 3), draws(50, 8, 3)
    assert (one == two).all() and one.shape == (8, 50) and (one.sum(axis=1) == 50).all()
    assert (draws(50, 8, 4) != one).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_it_is_pycocotools_on_the_golden_case(shared: Path, kind: str) -> None:
    folder = shared / "reference/coco_eval/cocoapi_val2014_100"
    expected = json.loads((folder / "expected.json").read_text())["iou_types"][kind]
    results = json.loads((folder / expected["detections"]).read_text())
    matched = matches(folder / "gt.json", table_of(results), iou_types=[kind])[kind]
    found = mean_precision(average_precisions(matched, np.ones((1, len(matched.image_ids)))))
    assert found[0] == pytest.approx(expected["computed"][0], abs=1e-9)
