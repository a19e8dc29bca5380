"""Records go through records.json unchanged, and into a frame."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.reporting.records import (
    FileRecord,
    Record,
    Snapshot,
    frame,
    ordered,
    read_snapshot,
    relative_to,
    to_json,
)
from reporting.conftest import Load, finished, unfinished


def snapshot(*records: Record) -> Snapshot:
    return Snapshot(
        experiment="small", matrix="experiments/small.yaml", run_root="../../runs", picture=None,
        records=ordered(records),
    )  # fmt: skip


def test_records_json_gives_the_same_records_and_bytes(load: Load, tmp_path: Path) -> None:
    first, second = load("include: [{backbone: R-50, fp16: [true, false]}]\n").cells
    before = snapshot(finished(first), unfinished(second, "FAILED", reason='a "ü"'), finished(first, seed=1))
    path = tmp_path / "records.json"
    path.write_text(to_json(before), encoding="utf-8")
    after = read_snapshot(path)
    assert after == before
    assert to_json(after) == to_json(before)
    assert [record.seed for record in after.records] == [0, 0, 1]


def test_broken_records_are_answered_in_a_line(load: Load, tmp_path: Path) -> None:
    planned = load("include: [{backbone: R-50}]\n").cells[0]
    path = tmp_path / "records.json"
    plain = json.loads(to_json(snapshot(finished(planned))))
    path.write_text(json.dumps(plain | {"schema": 2}))
    with pytest.raises(UserError, match=r"records\.json: not records of this harness \(schema 1 expected\)"):
        read_snapshot(path)
    plain["records"][0]["seed"] = "many"
    path.write_text(json.dumps(plain))
    with pytest.raises(UserError, match=r"records\.json: records\.0\.seed: .* valid integer"):
        read_snapshot(path)


def test_paths_below_the_run_root_become_relative_to_it(load: Load) -> None:
    record = finished(load("include: [{backbone: R-50}]\n").cells[0])
    elsewhere = FileRecord(path="/elsewhere/log.json", size=1, sha256="c" * 64)
    (moved,) = relative_to([replace(record, files=record.files | {"log": elsewhere})], Path("runs"))
    assert moved.files["config"].path == "small/mask_rcnn_r50_fpn_1x_coco-seed0/config.json"
    assert moved.files["log"] == elsewhere
    assert relative_to([moved], Path("runs")) == (moved,)


def test_the_frame_has_a_row_a_run(load: Load) -> None:
    first, second = load("include: [{backbone: R-50, fp16: [true, false]}]\n").cells
    found = frame([finished(second, box=0.4), unfinished(first, "RUNNING")])
    assert list(found["name"]) == [second.name, first.name]
    assert list(found["fp16"]) == [False, True]
    assert (found["device"][0], found["bbox_mAP"][0]) == ("NVIDIA H100", 0.4)
    assert list(found[["device", "bbox_mAP"]].isna().loc[1]) == [True, True]
