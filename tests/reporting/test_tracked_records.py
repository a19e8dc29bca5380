"""From a run to its record, by way of MLflow."""

from pathlib import Path

import pytest
from tracking import folders

from harness.identity import NUMERICS
from harness.matrix import load_experiment
from harness.recipe import Recipe, to_dict
from harness.reporting.records import (
    EpochAP,
    FileRecord,
    Hardware,
    Record,
)
from harness.reporting.tracked_records import from_tracking, of_tracked
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, read_spec
from harness.run_state import State
from harness.tracking import fields
from harness.tracking.query import TrackedRun
from harness.tracking.snapshot import look

HISTORY = {
    "val/epoch": [(100, 1.0), (200, 2.0)],
    "val/bbox_mAP": [(100, 0.1), (200, 0.2)],
    "val/segm_mAP": [(200, 0.1)],
}


def tracked(paths: RunPaths, metrics: dict[str, float]) -> TrackedRun:
    """A run folder as MLflow gives it back."""
    spec: RunSpec = read_spec(paths)
    tags = fields.tags(look(paths)) | {"harness.key": spec.key}
    return TrackedRun(
        run_id="r1", name="x", status="FINISHED", tags=tags, params=fields.params(spec), metrics=metrics,
        start=folders.START + 0.25, end=None, history=HISTORY if "val/epoch" in metrics else {},
    )  # fmt: skip


def test_a_finished_run_becomes_its_record(tmp_path: Path) -> None:
    spec = folders.spec(recipe=Recipe(style="caffe", lr_steps=(8, 11, 13), loss_scale="dynamic", pretrained="none"))
    paths = folders.finished(tmp_path, spec)
    metrics = {
        "val/epoch": 2.0, "val/bbox_mAP": 0.2, "val/segm_mAP": 0.1, "val/bbox_mAP_s": float("nan"), "val/lr": 0.02,
        "epoch": 2.0, "train/loss": 0.5, "memory_gb": 4.0, "gpu_hours": 0.5, "overhead": 0.04,
    }  # fmt: skip
    record = of_tracked(tracked(paths, metrics))
    assert record == Record(
        cell=spec.cell,
        name=spec.name,
        axes=spec.axes,
        seed=0,
        key=spec.key,
        identity="0123456789abcdef",
        numerics=NUMERICS,
        run_id="r1",
        started=1_700_000_000_250,
        state="FINISHED",
        full=False,
        shortening="epochs=2",
        precision="fp32",
        recipe_precision="fp32",
        recipe=to_dict(spec.executed),
        epoch=2,
        epochs=2,
        metrics={"bbox_mAP": 0.2, "segm_mAP": 0.1},
        history=(EpochAP(epoch=1, bbox_mAP=0.1, segm_mAP=None), EpochAP(epoch=2, bbox_mAP=0.2, segm_mAP=0.1)),
        memory_gb=4.0,
        memory_kind="cuda",
        gpu_hours=0.5,
        overhead=0.04,
        hardware=Hardware(kind="cuda", device="NVIDIA H100", count=8),
        versions={"python": "3.11.9", "torch": "2.6.0", "cuda": "12.4"},
        commit="c0ffee",
        codes=("abc",),
        evaluation_library="pycocotools 2.0.11",
        annotations={"train": "a" * 64, "val": "b" * 64},
        files={"checkpoint": FileRecord(path="/runs/epoch_2.pth", size=7, sha256="e" * 64)},
    )
    assert {type(value) for value in record.axes.values()} == {str, bool}


def test_a_running_run_has_the_epoch_it_is_in(tmp_path: Path) -> None:
    paths = folders.folder(tmp_path)
    folders.write_rows(paths, 1, [folders.attempt_row(1)])
    folders.set_state(paths, State.RUNNING)
    record = of_tracked(tracked(paths, {"epoch": 2.0, "val/epoch": 1.0, "val/bbox_mAP": 0.1}))
    assert (record.state, record.epoch, record.epochs, record.dirty) == ("RUNNING", 2, 2, True)
    assert (record.memory_gb, record.hardware, record.files) == (None, None, {})


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    paths = folders.folder(tmp_path)
    folders.set_state(paths, State.FAILED, reason="out of memory")
    record = of_tracked(tracked(paths, {}))
    assert (record.state, record.reason, record.epoch, record.history) == ("FAILED", "out of memory", 0, ())


@pytest.mark.slow
def test_records_come_from_a_real_store(tmp_path: Path) -> None:
    from harness.tracking.shipment import ship

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    planned = load_experiment(_matrix(tmp_path)).cells[0]
    spec = folders.spec(
        experiment="small", recipe=planned.recipe, shortening=planned.shortening, axes=planned.cell.point, seed=3
    )
    paths = folders.finished(tmp_path / "runs", spec)
    shipped = ship(paths, uri)
    (record,) = from_tracking(uri, "small")
    assert (record.run_id, record.seed, record.key) == (shipped.run_id, 3, spec.key)
    assert record.recipe == to_dict(planned.executed)
    assert record.axes == planned.cell.point
    assert record.metrics == {"bbox_mAP": 0.2, "segm_mAP": 0.1}
    assert [(point.epoch, point.bbox_mAP) for point in record.history] == [(1, 0.1), (2, 0.2)]
    assert (record.epoch, record.epochs, record.memory_gb) == (2, 2, 4.0)


def _matrix(folder: Path) -> Path:
    path = folder / "small.yaml"
    path.write_text("shorten: {epochs: 2}\nseeds: [3]\ninclude: [{backbone: R-50, style: caffe}]\n")
    return path
