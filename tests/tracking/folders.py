"""Run folders written by hand, as a training leaves them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.files import write_json
from harness.recipe import Recipe
from harness.run_log import merge_log
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, SplitSpec, write_spec
from harness.run_state import RunState, State
from harness.shortening import Shortening

START = 1_700_000_000.0
"""When every run here starts; step s is logged s seconds later."""
CODE = {"digest": "abc", "version": "0.1.0", "commit": "c0ffee", "dirty": False, "frozen": True}
"""Which runs here are trained by."""
LOSSES = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "loss", "acc")
TRAIN_VALUES = len(LOSSES) + 5
"""Numbers of a train row that are metrics: the losses, lr, memory, data_time, time and epoch."""
BY_EPOCH_VALUES = 3 + len(LOSSES)
"""Of a val row against the epoch: bbox_mAP, segm_mAP, lr, and the losses and accuracy of the train row before it."""
VAL_VALUES = 4 + BY_EPOCH_VALUES
"""Points of a val row: bbox_mAP, segm_mAP, lr and epoch against the step, and those against the epoch."""
RESULT = 3
"""Numbers that the end of a run adds: memory_gb, images_per_second and train_seconds (not fps)."""


def spec(**changes: Any) -> RunSpec:
    """A run of the published R-50 caffe 1x cell, shortened to 2 epochs."""
    common: dict[str, Any] = {
        "experiment": "zoo",
        "description": "Two cells.",
        "name": "mask_rcnn_r50_caffe_fpn_1x_coco",
        "cell": "mask_rcnn_r50_caffe_fpn_1x_coco",
        "axes": {"backbone": "R-50", "style": "caffe", "fp16": False, "multiscale": False, "schedule": "1x"},
        "published": True,
        "recipe": Recipe(style="caffe"),
        "suffix": "",
        "shortening": Shortening(epochs=2),
        "seed": 0,
        "precision": "fp32",
        "identity": "0123456789abcdef",
        "train": SplitSpec(images="/coco/train2017", annotations="/coco/train.json", digest="a" * 64),
        "val": SplitSpec(images="/coco/val2017", annotations="/coco/val.json", digest="b" * 64),
        "weights": None,
        "resources": {},
    }
    return RunSpec(**{**common, **changes})


def folder(root: Path, run: RunSpec | None = None) -> RunPaths:
    """A fresh run folder with its specification."""
    run = run or spec()
    paths = RunPaths(root / run.experiment / run.folder_name)
    paths.folder.mkdir(parents=True)
    write_spec(paths, run)
    return paths


def attempt_row(number: int, step: int = 0) -> dict[str, Any]:
    """The first line of an attempt."""
    info = {"versions": {"python": "3.11.9", "torch": "2.6.0"}}
    row = {"mode": "attempt", "attempt": number, "time": START + step, "step": step, "env_info": info, "seed": 0}
    row |= {"code": CODE | {"dirty": True}}
    return row | {"exp_name": "x", "world": 1, "device": "cpu", "precision": "fp32", "stamp": START + step}


def train_row(step: int, **changes: Any) -> dict[str, Any]:
    """The line of a step, in epochs of 100 steps; its loss is 1 / step."""
    losses = dict.fromkeys(LOSSES, 1.0 / step)
    place = {"mode": "train", "epoch": 1 + (step - 1) // 100, "iter": 1 + (step - 1) % 100, "step": step}
    rest = {"lr": 0.02, "memory": 4096, "data_time": 0.01, "time": 1.0, "stamp": START + step}
    return place | losses | rest | changes


def val_row(epoch: int) -> dict[str, Any]:
    """The evaluation after an epoch of 100 steps: box AP 0.1 an epoch, mask AP half of it."""
    place = {"mode": "val", "epoch": epoch, "iter": 50, "step": 100 * epoch, "lr": 0.02}
    scores = {"bbox_mAP": 0.1 * epoch, "bbox_mAP_copypaste": "0.1 -1 -1", "segm_mAP": 0.05 * epoch}
    return place | scores | {"checkpoint_sha256": "d" * 64, "stamp": START + 100 * epoch + 0.5}


def write_rows(paths: RunPaths, attempt: int, rows: list[dict[str, Any]], *, cut: str = "") -> None:
    """Append lines to an attempt's segment, and at the end `cut`, a line without its end."""
    paths.attempt(attempt).mkdir(parents=True, exist_ok=True)
    with paths.segment(attempt).open("a") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows) + cut)


def system_rows(paths: RunPaths, attempt: int, seconds: list[int], *, node: int = 0, nodes: int = 1) -> None:
    """What a node's sampler leaves: CPU use 50 %, one GPU."""
    common = {"mode": "system", "node": node, "nodes": nodes, "host": f"node{7 + node}"}
    values = {"cpu_utilization_percentage": 50.0, "gpu_0_power_usage_watts": 350.0}
    paths.attempt(attempt).mkdir(parents=True, exist_ok=True)
    with (paths.attempt(attempt) / f"system-{node}.json").open("a") as file:
        for second in seconds:
            row = common | {"seconds": second, "values": values, "stamp": START + second}
            file.write(json.dumps(row) + "\n")


def set_state(paths: RunPaths, state: State, **changes: Any) -> None:
    """Say where the run stands, in the name of a process on another host (whose life cannot be looked up)."""
    values = RunState(state=state, attempt=1, host="node7", pid=1, started=START, updated=START + 500)
    write_json(paths.state, asdict(replace(values, **changes)))


def finish(paths: RunPaths, *, attempt: int = 1) -> None:
    """Everything that a finished run leaves."""
    classes = [
        {"id": 1, "name": "person", "instances": 12, "bbox": 0.25, "segm": 0.125},
        {"id": 2, "name": "bicycle, red", "instances": 0, "bbox": None, "segm": None},
    ]
    numbers = {"bbox_mAP": 0.2, "segm_mAP": 0.1}
    write_json(paths.evaluation, {"epoch": 2, "step": 200, "numbers": numbers, "per_class": classes})
    paths.curves.write_text("<svg/>")
    paths.checkpoints.mkdir(exist_ok=True)
    (paths.checkpoints / "epoch_2.pth").write_bytes(b"weights")
    paths.predictions.mkdir()
    (paths.predictions / "sheet.png").write_bytes(b"picture")
    merge_log(paths)
    files = {"checkpoint": {"path": "/runs/epoch_2.pth", "size": 7, "sha256": "e" * 64}}
    result = {
        "schema": 1,
        "metrics": numbers,
        "memory_mb": 4096,
        "memory_kind": "cuda",
        "fps": None,
        "iterations": 200,
        "train_seconds": 200.0,
        "images_per_second": 16.0,
        "hardware": {"kind": "cuda", "device": "NVIDIA H100", "count": 8, "host": "node7"},
        "versions": {"python": "3.11.9", "torch": "2.6.0", "cuda": "12.4"},
        "code": CODE,
        "codes": [CODE["digest"]],
        "evaluation_library": "pycocotools 2.0.11",
        "attempts": attempt,
        "files": files,
    }
    write_json(paths.result, result)
    set_state(paths, State.FINISHED, attempt=attempt)


def finished(root: Path, run: RunSpec | None = None) -> RunPaths:
    """A finished run of 2 epochs of 100 steps, logged every 10."""
    paths = folder(root, run)
    rows = [train_row(step) for step in range(10, 201, 10)]
    write_rows(paths, 1, [attempt_row(1), *rows[:10], val_row(1), *rows[10:], val_row(2)])
    finish(paths)
    return paths
