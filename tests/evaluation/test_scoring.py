"""The fast library equals pycocotools: on the golden cases, and on random ones with everything that is awkward."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from harness.evaluation import scoring
from harness.evaluation.coco import evaluate
from harness.evaluation.table import table_of

SIZE = 48


def made(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of all sizes and crowds, images and categories without any, tied scores, more than 100 detections."""
    rng = np.random.default_rng(seed)
    images = [{"id": int(number), "height": SIZE, "width": SIZE} for number in rng.permutation(9) + 5]
    categories = [{"id": number, "name": f"c{number}"} for number in (2, 3, 5, 7)]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in images[:-2]:
        for _ in range(rng.integers(0, 6)):
            category, crowd = int(rng.choice([2, 3, 5])), int(rng.random() < 0.2)
            mask, box = shape(rng)
            row = {"image_id": image["id"], "category_id": category, "segmentation": mask, "bbox": box}
            area = float(rng.choice([mask_api.area(mask), 10.0, 2000.0, 20000.0]))
            annotations.append(row | {"area": area, "iscrowd": crowd, "id": len(annotations)})
            for _ in range(rng.integers(0, 4)):
                near = mask if rng.random() < 0.5 else shape(rng)[0]
                moved = [value + float(rng.integers(-2, 3)) for value in box[:2]] + box[2:]
                wrong = rng.random() < 0.1
                score = round(float(rng.random()), 1)
                kind = 7 if wrong else category
                results.append(
                    {"image_id": image["id"], "category_id": kind, "score": score, "bbox": moved, "segmentation": near}
                )
    for _ in range(130):  # more than an image may have, in one that has no object
        mask, box = shape(rng)
        row = {"image_id": images[-1]["id"], "category_id": 2, "score": 0.5, "bbox": box, "segmentation": mask}
        results.append(row)
    rng.shuffle(results)  # type: ignore[arg-type]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def shape(rng: np.random.Generator) -> tuple[dict[str, Any], list[float]]:
    """A rectangle's mask, and its box (x, y, width, height)."""
    x, y = (int(value) for value in rng.integers(0, SIZE - 4, 2))
    w, h = int(rng.integers(1, SIZE - x)), int(rng.integers(1, SIZE - y))
    bitmap = np.zeros((SIZE, SIZE), np.uint8, order="F")
    bitmap[y : y + h, x : x + w] = 1
    mask = mask_api.encode(bitmap)
    return {"size": [SIZE, SIZE], "counts": mask["counts"].decode()}, [float(x), float(y), float(w), float(h)]


def both(monkeypatch: pytest.MonkeyPatch, truth: Path, rows: list[Any], **keywords: Any) -> tuple[Any, Any]:
    """The evaluation by the fast library, and by pycocotools."""
    assert scoring.is_fast(), "hotcoco is not installed in a version that is proven"
    found = table_of(rows)
    fast = evaluate(truth, found, **keywords)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "is_fast", lambda: False)
        assert scoring.evaluation_library().startswith("pycocotools ")
        return fast, evaluate(truth, found, **keywords)


def close(fast: Any, reference: Any) -> None:
    """Every number within 1e-9, and absent where absent."""
    assert fast.numbers.keys() == reference.numbers.keys()
    for name, value in reference.numbers.items():
        assert fast.numbers[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name
    for mine, theirs in zip(fast.per_class, reference.per_class, strict=True):
        for one, two in ((mine.bbox_AP, theirs.bbox_AP), (mine.segm_AP, theirs.segm_AP)):
            assert one == (None if two is None else pytest.approx(two, abs=1e-9)), mine.name
    assert [c.instances for c in fast.per_class] == [c.instances for c in reference.per_class]


@pytest.mark.parametrize("seed", range(40))
def test_random_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    truth, results = made(seed)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    fast, reference = both(monkeypatch, tmp_path / "truth.json", results)
    assert len(reference.numbers) == 24
    close(fast, reference)
    some = [image["id"] for image in truth["images"][::2]]
    close(*both(monkeypatch, tmp_path / "truth.json", results, image_ids=some))


def test_nothing_found_and_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, results = made(0)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    close(*both(monkeypatch, tmp_path / "truth.json", []))
    (tmp_path / "empty.json").write_text(json.dumps(truth | {"annotations": []}))
    close(*both(monkeypatch, tmp_path / "empty.json", results))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kind"), [("cocoapi_val2014_100", "bbox"), ("cocoapi_val2014_100", "segm")])
def test_golden_cases(shared: Path, monkeypatch: pytest.MonkeyPatch, case: str, kind: str) -> None:
    folder = shared / "reference/coco_eval" / case
    expected = json.loads((folder / "expected.json").read_text())["iou_types"][kind]
    results = json.loads((folder / expected["detections"]).read_text())
    close(*both(monkeypatch, folder / "gt.json", results, iou_types=[kind]))


def test_an_unknown_version_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    scoring.is_fast.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "PROVEN", ("0.9",))
        assert scoring.evaluation_library().startswith("pycocotools ")
    scoring.is_fast.cache_clear()
    assert scoring.evaluation_library() == "hotcoco 1.3.0"
