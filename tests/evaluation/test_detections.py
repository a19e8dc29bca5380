"""The detections file: what is written comes back, damaged files are refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from harness.errors import UserError
from harness.evaluation.coco import evaluate
from harness.evaluation.detections import read_detections, to_results, write_detections
from harness.evaluation.table import table_of
from harness.files import sha256
from harness.structures import Detections


def some_rows(count: int = 50) -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    return [
        {
            "image_id": int(random.integers(5)),
            "category_id": 1,
            "bbox": random.uniform(0, 100, 4).tolist(),
            "score": float(random.uniform()),
            "segmentation": {"size": [20, 20], "counts": "Q21c000000o7"},
        }
        for _ in range(count)
    ]


def test_rows_come_back_exactly_sorted_by_image_and_score(tmp_path: Path) -> None:
    rows, path = some_rows(), tmp_path / "run/detections.json.gz"
    digest = write_detections(path, table_of(rows), meta={"split": "val", "cell": "é"})
    assert digest == sha256(path)
    back, meta = read_detections(path)
    assert list(back.rows()) == sorted(rows, key=lambda row: (row["image_id"], -row["score"]))
    assert meta == {"split": "val", "cell": "é"}
    assert [file.name for file in path.parent.iterdir()] == ["detections.json.gz"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = some_rows()
    first = write_detections(tmp_path / "a.json.gz", table_of(rows), meta={"a": 1, "b": 2})
    second = write_detections(tmp_path / "b.json.gz", table_of(rows[::-1]), meta={"b": 2, "a": 1})
    assert first == second
    assert write_detections(tmp_path / "c.json.gz", table_of(rows[1:]), meta={"a": 1, "b": 2}) != first


def test_no_rows(tmp_path: Path) -> None:
    write_detections(tmp_path / "none.json.gz", table_of([]), meta={})
    back, meta = read_detections(tmp_path / "none.json.gz")
    assert (list(back.rows()), meta) == ([], {})


def test_plain_results_list_is_read(tmp_path: Path) -> None:
    rows = some_rows(3)
    (tmp_path / "plain.json").write_text(json.dumps(rows))
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    for name in ("plain.json", "packed.json.gz"):
        back, meta = read_detections(tmp_path / name)
        assert (list(back.rows()), meta) == (rows, {})


@pytest.mark.slow
def test_published_numbers_are_repeated_from_the_file(tmp_path: Path, shared: Path) -> None:
    folder = shared / "reference/coco_eval/cocoapi_val2014_100"
    rows = json.loads((folder / "dt_bbox.json").read_text())
    write_detections(tmp_path / "d.json.gz", table_of(rows), meta={})
    found = evaluate(folder / "gt.json", read_detections(tmp_path / "d.json.gz")[0], iou_types=["bbox"])
    assert found.numbers["bbox_mAP"] == pytest.approx(0.5045806987249628, abs=1e-10)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:30], lambda data: b"\x00" + data])
def test_damaged_files_are_refused(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "d.json.gz"
    write_detections(path, table_of(some_rows()), meta={})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"d\.json\.gz: damaged"):
        read_detections(path)


def test_flipped_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.json.gz"
    write_detections(path, table_of(some_rows()), meta={})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_detections(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"images": []}', "expected detections"), ("3", "expected detections"), ("not json", "damaged")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_detections(tmp_path / "other.json")
    with pytest.raises(UserError, match="no such file"):
        read_detections(tmp_path / "gone.json")


def test_later_versions_are_refused(tmp_path: Path) -> None:
    content = {"format": "maskrcnn-detections", "version": 2, "meta": {}, "results": []}
    (tmp_path / "later.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="version 2, this harness reads 1"):
        read_detections(tmp_path / "later.json")


def test_to_results() -> None:
    mask = mask_api.encode(np.asfortranarray(np.eye(4, dtype=np.uint8)))
    detections = Detections(
        boxes=torch.tensor([[1.5, 2.0, 11.25, 4.0], [0.0, 0.0, 1 / 3, 1.0]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
        masks=[mask, mask],
    )
    first, second = to_results(42, detections, [18, 20])
    assert first["bbox"] == [1.5, 2.0, 9.75, 2.0]  # x, y, 11.25 - 1.5, 4 - 2
    assert second["bbox"] == [0.0, 0.0, 0.3333, 1.0]
    assert (first["image_id"], first["category_id"], second["category_id"]) == (42, 20, 18)
    assert (first["score"], second["score"]) == (0.899999976, 0.100000001)  # float32 0.9 and 0.1 to 9 digits
    assert torch.tensor([first["score"], second["score"]]).equal(detections.scores)
    assert first["segmentation"] == mask
