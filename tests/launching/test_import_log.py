"""Logs of mmdetection 2.x become runs: whatever became of the file, the steps are right, and twice is once."""

import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tracking import folders
from training.tiny import changed, prepared_run, session, stop_after

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import read_json, sha256
from harness.imported import minus_published, published_curve
from harness.launching import import_log as importing
from harness.launching.import_log import import_log
from harness.launching.published_log import COCO_ITERATIONS, read_published_log
from harness.launching.status import _minus_published, _read
from harness.published import published_rows
from harness.run_log import merged_rows
from harness.run_paths import RunPaths
from harness.run_spec import Origin, read_spec
from harness.run_state import State, read_state
from harness.shortening import Shortening
from harness.tracking import points
from harness.training.build import build_model
from harness.training.loop import train as train_run

CELL = "mask_rcnn_r50_caffe_fpn_1x_coco"
LOG = published_rows()[CELL].log_file
ENVIRONMENT = {
    "env_info": "sys.platform: linux\nPython: 3.7.7 (default)\nPyTorch: 1.5.0\nMMDetection: 2.0.0+7fc1cf3",
    "seed": 7, "exp_name": f"{CELL}.py", "config": "model = dict()",
}  # fmt: skip


def train(epoch: int, place: int, loss: float = 1.0) -> str:
    """A record as recipes.md has it."""
    row = {"mode": "train", "epoch": epoch, "iter": place, "lr": 0.02, "memory": 4175, "data_time": 0.056, "acc": 85.0}
    return json.dumps(row | {"loss_mask": 0.9, "loss": loss, "time": 0.43})


def val(epoch: int, box: float = 0.0, count: int = 625) -> str:
    """The record of an epoch, with a number of batches for an `iter`."""
    row = {"mode": "val", "epoch": epoch, "iter": count, "lr": 0.02, "bbox_mAP": box or epoch / 40, "bbox_mAP_50": 0.5}
    return json.dumps(row | {"bbox_mAP_copypaste": "0.19 0.38", "segm_mAP": (box or epoch / 40) - 0.03})


def epochs(first: int, last: int, *, iterations: int = 500) -> list[str]:
    """Whole epochs, a record every 50 iterations."""
    places = range(50, iterations + 1, 50)
    return [line for e in range(first, last + 1) for line in (*(train(e, place) for place in places), val(e))]


def write(folder: Path, lines: list[str], name: str = LOG) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def read(folder: Path, lines: list[str], *, expected: int | None = 7330) -> Any:
    return read_published_log(write(folder, lines), expected=expected)


def steps(log: Any, mode: str) -> list[int]:
    return [row["step"] for row in log.of(mode)]


@pytest.mark.parametrize("head", [[json.dumps(ENVIRONMENT)], []])
def test_a_val_records_step_is_epoch_times_iterations(tmp_path: Path, head: list[str]) -> None:
    log = read(tmp_path, [*head, *epochs(1, 3)])
    assert log.iterations == 500
    assert steps(log, "val") == [500, 1000, 1500]
    assert steps(log, "train") == list(range(50, 1501, 50))
    assert {row["iter"] for row in log.of("val")} == {500}
    assert bool(log.environment) == bool(head)


def test_the_last_part_of_an_epoch_that_no_record_shows(tmp_path: Path) -> None:
    """COCO in batches of 16 has 7330 iterations an epoch; logged every 50, 7300 is the last one."""
    lines = [*(train(1, place) for place in range(50, 7301, 50)), val(1, count=5000)]
    assert read(tmp_path, lines).iterations == 7330
    assert read(tmp_path, lines, expected=None).iterations == 7300
    assert steps(read(tmp_path, lines), "val") == [7330]
    assert read(tmp_path, epochs(1, 1, iterations=7250)).iterations == 7250  # another data set


def test_three_passes_an_epoch(tmp_path: Path) -> None:
    """3 x 117,266 = 16 x 21,987 + 6. Where 3a leaves r = 1 ... 5, 3b leaves 6 - r, and 26 images pad the batches:

    21,989. Where it leaves 0, 6 ... 15 it is 10 images: 21,988.
    """
    for a in range(1, 200):
        length = math.ceil(3 * a / 16) + math.ceil(3 * (117_266 - a) / 16)
        assert length == COCO_ITERATIONS[3] + (1 <= 3 * a % 16 <= 5)
    cell = "mask_rcnn_r50_fpn_mstrain-poly_3x_coco"
    lines = [*(train(1, place) for place in range(50, 21_951, 50)), val(1)]
    found = import_log(write(tmp_path, lines, "a.log.json"), tmp_path / "runs", cell=cell)
    assert (found.log.iterations, steps(found.log, "val")) == (21_988, [21_988])
    lines.insert(-1, train(1, 21_989))
    found = import_log(write(tmp_path, lines, "a.log.json"), tmp_path / "runs", cell=cell)
    assert (found.log.iterations, steps(found.log, "val")) == (21_989, [21_989])


def test_repeats_after_a_resume(tmp_path: Path) -> None:
    """Killed in epoch 3 and resumed from epoch 1: what the second attempt says counts."""
    old = [*epochs(1, 2), train(3, 50, loss=9.0)]
    new = [json.dumps(ENVIRONMENT), *(train(2, place, loss=2.0) for place in range(50, 501, 50)), val(2, 0.33)]
    log = read(tmp_path, [*old, *new])
    assert (log.repeated, steps(log, "val")) == (11, [500, 1000])
    assert [row["loss"] for row in log.of("train")] == [1.0] * 10 + [2.0] * 10 + [9.0]
    assert log.of("val")[1]["bbox_mAP"] == 0.33


def test_torn_lines_and_nan(tmp_path: Path) -> None:
    lines = epochs(1, 2)
    lines[3] = lines[3][:40]
    lines[5] = train(1, 300).replace("1.0", "NaN")
    log = read(tmp_path, [*lines, "[1, 2]", '"text"', '{"mode": "train", "epoch": null}', lines[-1][:20]])
    assert (log.skipped, len(log.of("train"))) == (5, 19)
    assert math.isnan(next(row["loss"] for row in log.of("train") if row["step"] == 300))


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000, '{"mode": "train", "epoch": true, "iter": 50}', '{"mode": "val", "epoch": 1' + "0" * 400 + "}",
        f'{{"mode": "train", "epoch": 1, "iter": {2**62}}}', f'{{"mode": "train", "epoch": {10**7}, "iter": 5}}',
    ],
    ids=["deep", "true", "400 digits", "2**62", "10**7"],
)  # fmt: skip
def test_places_that_are_none(tmp_path: Path, line: str) -> None:
    log = read(tmp_path, [*epochs(1, 2), line])
    assert (log.skipped, len(log.rows), log.iterations) == (1, 22, 500)


def test_fields_that_are_no_numbers(tmp_path: Path) -> None:
    """They are left out, and what is left goes to MLflow."""
    odd = {"weird name!$%": 1.0, "loss_a": 10**400, "loss_b": True, "loss_c": [1], "stamp": 10**400, "time": 1e308}
    log = read(tmp_path, [*epochs(1, 1), json.dumps(json.loads(train(2, 50)) | odd)])
    row = log.rows[-1]
    kept = ["mode", "epoch", "iter", "lr", "memory", "data_time", "acc", "loss_mask", "loss", "time", "step", "stamp"]
    assert (log.skipped, list(row), row["stamp"]) == (0, kept, log.rows[-2]["stamp"])
    assert all(math.isfinite(point.value) for row in log.rows for point in points.points(row))


def test_an_environment_that_is_none(tmp_path: Path) -> None:
    head = {"seed": 10**400, "mmdet_version": ["\ud800"], "env_info": [1], "exp_name": {}}
    found = import_log(write(tmp_path, [json.dumps(head), *epochs(1, 12)]), tmp_path / "runs", cell=CELL)
    assert (read_spec(found.paths).seed, read_json(found.paths.result)["versions"]) == (0, {})


def test_stamps_follow_the_name_and_the_times(tmp_path: Path) -> None:
    """2020-05-04 23:18:12 UTC is 1588634292; 1000 iterations of 0.43 s."""
    log = read(tmp_path, epochs(1, 2))
    assert "20200504_231812" in LOG and log.start == 1588634292
    assert log.rows[-1]["stamp"] == pytest.approx(1588634292 + 430)


@pytest.mark.parametrize("lines", [[], ["hello"], [json.dumps(ENVIRONMENT)], [val(1)]])
def test_not_a_log(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(UserError, match=r"holds no training records; expected a \*\.log\.json"):
        read(tmp_path, lines)


def test_an_imported_run(tmp_path: Path) -> None:
    file = write(tmp_path, [json.dumps(ENVIRONMENT), *epochs(1, 12)])
    found = import_log(file, tmp_path / "runs", cell=CELL)
    paths = found.paths
    spec, result = read_spec(paths), read_json(paths.result)
    assert (found.new, found.doubts, found.state) == (True, (), State.FINISHED)
    assert paths.folder.parent == tmp_path / "runs" / "imported"
    assert (spec.origin, spec.full, spec.seed, spec.cell) == (Origin.IMPORTED, False, 7, CELL)
    assert spec.source is not None and spec.source.url == published_rows()[CELL].log_url
    assert (read_state(paths).state, read_state(paths).updated) == (State.FINISHED, found.log.rows[-1]["stamp"])
    assert [row["mode"] for row in merged_rows(paths)].count("val") == 12
    assert result["metrics"] == {"bbox_mAP": 0.3, "bbox_mAP_50": 0.5, "segm_mAP": 0.27}
    assert (result["memory_mb"], result["iterations"], result["hardware"]) == (4175, 6000, None)
    assert result["versions"] == {"python": "3.7.7", "pytorch": "1.5.0", "mmdetection": "2.0.0+7fc1cf3"}
    assert Path(result["files"]["log"]["path"]) == paths.log.resolve()


def test_twice_is_once(tmp_path: Path) -> None:
    file = write(tmp_path, epochs(1, 2))
    first = import_log(file, tmp_path / "runs", cell=CELL)
    state = (first.paths.state.stat().st_ino, first.paths.log.read_bytes())
    second = import_log(write(tmp_path / "again", epochs(1, 2)), tmp_path / "runs", cell=CELL)
    assert (second.new, second.paths) == (False, first.paths)
    assert state == (first.paths.state.stat().st_ino, first.paths.log.read_bytes())
    assert [path.name for path in first.paths.folder.parent.iterdir()] == [first.paths.folder.name]
    assert (first.state, read_state(first.paths).reason) == (State.KILLED, "the log ends in epoch 2 of 12")
    assert not first.paths.result.exists()


def test_two_imports_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found nothing and written their draft when the first one is put in place."""
    file, together = write(tmp_path, epochs(1, 12)), threading.Barrier(2, timeout=60)
    original = importing.merge_log
    monkeypatch.setattr(importing, "merge_log", lambda paths: (original(paths), together.wait()))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: import_log(file, tmp_path / "runs", cell=CELL), range(2)))
    assert sorted(each.new for each in found) == [False, True]
    assert [path.name for path in (tmp_path / "runs" / "imported").iterdir()] == [found[0].paths.folder.name]


@pytest.mark.parametrize(("last", "at_once"), [(12, True), (12, False), (2, True), (2, False)])
def test_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int, at_once: bool) -> None:
    """It is recorded with the log or later, whether the log is whole or not; but another one is not."""
    monkeypatch.setattr(importing, "_checkpoint_doubts", lambda *_: ())  # whether it fits: below
    log, runs = write(tmp_path, epochs(1, last)), tmp_path / "runs"
    own, other = tmp_path / "own.pth", tmp_path / "other.pth"
    own.write_bytes(b"own")
    other.write_bytes(b"other")
    if not at_once:
        assert not import_log(log, runs, cell=CELL).recorded
    first = import_log(log, runs, cell=CELL, checkpoint=own)
    again = import_log(log, runs, cell=CELL, checkpoint=own)
    with pytest.raises(UserError, match=r"other\.pth: another checkpoint of this log was recorded, .*own\.pth"):
        import_log(log, runs, cell=CELL, checkpoint=other)
    assert [(each.new, each.recorded) for each in (first, again)] == [(at_once, True), (False, False)]
    facts = {"path": str(own.resolve()), "size": own.stat().st_size, "sha256": sha256(own)}
    assert read_json(first.paths.folder / "checkpoint.json") == facts
    assert first.paths.result.exists() == (last == 12)
    if last == 12:
        assert read_json(first.paths.result)["files"]["checkpoint"] == facts


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_must_fit(tmp_path: Path) -> None:
    """Otherwise nothing is written; a name of another cell is a doubt."""
    log, file = write(tmp_path, epochs(1, 12)), tmp_path / "mask_rcnn_r50_fpn_2x_coco.pth"
    state = build_model(parse_name(CELL).recipe(), seed=0).state_dict()
    torch.save({"meta": {}, "state_dict": dict(list(state.items())[1:])}, file)
    with pytest.raises(UserError, match=f"does not fit {CELL}; missing: "):
        import_log(log, tmp_path / "runs", cell=CELL, checkpoint=file)
    assert not (tmp_path / "runs").exists()
    torch.save({"meta": {}, "state_dict": state}, file)
    found = import_log(log, tmp_path / "runs", cell=CELL, checkpoint=file)
    assert found.recorded and found.doubts == (f"{file}: its name says mask_rcnn_r50_fpn_2x_coco, not {CELL}",)


def test_a_log_alone_needs_no_torch(tmp_path: Path) -> None:
    """Which takes seconds to import."""
    code = (
        "import sys; from pathlib import Path; from harness.launching.import_log import import_log; "
        "import_log(Path(sys.argv[1]), Path(sys.argv[2]), cell=sys.argv[3]); assert 'torch' not in sys.modules"
    )
    words = (str(write(tmp_path, epochs(1, 1))), str(tmp_path / "runs"), CELL)
    subprocess.run([sys.executable, "-c", code, *words], check=True, timeout=300)
    assert len(list((tmp_path / "runs" / "imported").iterdir())) == 1


def test_the_wrong_cell(tmp_path: Path) -> None:
    other = "mask_rcnn_r50_fpn_2x_coco"
    file = write(tmp_path, [json.dumps(ENVIRONMENT), *epochs(1, 13)])
    with pytest.raises(UserError, match=f"has 13 epochs, {CELL} has 12"):
        import_log(file, tmp_path / "runs", cell=CELL)
    assert not (tmp_path / "runs").exists()
    assert import_log(file, tmp_path / "runs", cell=other).doubts == (
        f"{file}: its name says {CELL}, not {other}", f"{file}: its exp_name says {CELL}, not {other}",
        f"{file}: ends in epoch 13 of 24; the run counts as unfinished",
    )  # fmt: skip
    with pytest.raises(UserError, match="unknown cell"):
        import_log(file, tmp_path / "runs", cell="mask_rcnn")


def trained(root: Path, **changes: Any) -> RunPaths:
    """A run of the same cell after two epochs with box AP 0.1, 0.2 and half of it for masks."""
    paths = folders.folder(root, folders.spec(shortening=Shortening(), **changes))
    folders.write_rows(paths, 1, [folders.attempt_row(1), folders.val_row(1), folders.val_row(2)])
    return paths


def test_held_against_the_imported_curve(tmp_path: Path) -> None:
    """Imported 1/40, 2/40; ours 0.2 and 0.1 after two epochs: 0.15 and 0.08 above."""
    runs = tmp_path / "runs"
    paths = trained(runs)
    assert minus_published(runs, read_spec(paths), 2, {"bbox_mAP": 0.2}) == {}
    assert _minus_published(_read(paths)) is None
    import_log(write(tmp_path, epochs(1, 3)), runs, cell=CELL)
    assert published_curve(runs, CELL)[2] == pytest.approx({"bbox_mAP": 0.05, "segm_mAP": 0.02})
    assert published_curve(runs, "mask_rcnn_r50_fpn_1x_coco") == {}
    spec = read_spec(paths)
    assert minus_published(runs, spec, 2, {"bbox_mAP": 0.2, "segm_mAP": -1.0}) == pytest.approx(
        {"bbox_mAP_minus_published": 0.15}
    )
    assert minus_published(runs, spec, 9, {"bbox_mAP": 0.2}) == {}
    for change in (
        {"shortening": Shortening(epochs=2)}, {"shortening": Shortening(iterations_per_epoch=3)},
        {"suffix": "+lr=0.01"}, {"recipe": replace(spec.recipe, dataset="shapes")}, {"precision": "bf16"},
        {"origin": Origin.PUBLISHED},
    ):  # fmt: skip
        assert minus_published(runs, replace(spec, **change), 2, {"bbox_mAP": 0.2}) == {}
    told = {"bbox_mAP_minus_published": 0.15, "segm_mAP_minus_published": 0.08}
    assert _minus_published(_read(paths)) == pytest.approx(told)


def test_of_several_logs_the_published_one(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    import_log(write(tmp_path, [*epochs(1, 1)]), runs, cell=CELL)
    import_log(write(tmp_path, [train(1, 50), val(1, 0.3)], "mine.log.json"), runs, cell=CELL)
    assert published_curve(runs, CELL)[1]["bbox_mAP"] == 1 / 40


@pytest.mark.slow
def test_in_mlflow_like_a_run_of_ours_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.reporting.tracked_records import from_tracking
    from harness.tracking.shipment import ship

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    lines = [json.dumps(ENVIRONMENT), *epochs(1, 12)]
    lines[4] = lines[4].replace("1.0", "NaN")
    file = write(tmp_path, lines)
    for first in (True, False):
        shipped = ship(import_log(file, tmp_path / "runs", cell=CELL).paths, uri)
        assert (shipped is not None) == first
    (record,) = from_tracking(uri, "imported")
    assert (record.origin, record.full, record.state, record.epoch) == ("imported", False, "FINISHED", 12)
    assert record.metrics["bbox_mAP"] == 0.3 and record.hardware is None
    assert [point.bbox_mAP for point in record.history] == pytest.approx([epoch / 40 for epoch in range(1, 13)])
    assert record.started == 1588634292000
    monkeypatch.setattr(importing, "_checkpoint_doubts", lambda *_: ())
    (tmp_path / "own.pth").write_bytes(b"own")
    ship(import_log(file, tmp_path / "runs", cell=CELL, checkpoint=tmp_path / "own.pth").paths, uri)
    (record,) = from_tracking(uri, "imported")
    assert (sorted(record.files), record.files["checkpoint"].size) == (["checkpoint", "config", "log"], 3)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_trainings_journal_says_how_far_it_is_from_the_published_curve(tmp_path: Path, shapes: Path) -> None:
    """Six iterations an epoch; the data set goes by COCO's name."""
    run = prepared_run(tmp_path, shapes, epochs=12, shorten="")
    full = {"suffix": "", "shortening": Shortening(), "dataset": "coco2017"}
    paths, spec = changed(run, run.paths.folder.with_name("full"), **full)
    assert spec.full
    import_log(write(tmp_path, epochs(1, 12)), tmp_path / "runs", cell=spec.cell)
    train_run(session(paths, spec), stop=stop_after(12))
    first = next(row for row in merged_rows(paths) if row["mode"] == "val")
    assert first["epoch"] == 1
    assert first["bbox_mAP_minus_published"] == pytest.approx(first["bbox_mAP"] - 1 / 40)
    assert first["segm_mAP_minus_published"] == pytest.approx(first["segm_mAP"] + 0.005)
