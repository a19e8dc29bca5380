"""Runs with detections made from the ground truth: what is right and wrong in them is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.tiny import make_shapes, write_place

from harness.data.coco import CocoSplit, load_index
from harness.evaluation.coco import evaluate
from harness.evaluation.detections import write_detections
from harness.evaluation.table import table_of
from harness.files import sha256, write_json
from harness.launching.prepare import prepare, write
from harness.matrix import load_experiment
from harness.run_paths import RunPaths
from harness.run_state import State, write_state
from harness.settings import load_settings
from harness.training.pictures import truth_masks

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 2 to train on, 12 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes", train=2, val=12)


@pytest.fixture(scope="session")
def perfect(shapes: Path) -> Rows:
    """Every object of the test images, found."""
    index = load_index(CocoSplit(images=shapes / "val", annotations=shapes / "annotations/instances_val.json"))
    rows = []
    for number, image in enumerate(index.image_ids):
        truth = index.ground_truth(number)
        masks = truth_masks(truth, (int(index.sizes[number][0]), int(index.sizes[number][1])))
        for box, label, mask in zip(truth.boxes.tolist(), truth.labels.tolist(), masks, strict=True):
            x1, y1, x2, y2 = box
            counts = mask["counts"].decode() if isinstance(mask["counts"], bytes) else mask["counts"]
            rows.append(
                {
                    "image_id": int(image),
                    "category_id": int(index.category_ids[label]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": 0.9,
                    "segmentation": {"size": list(mask["size"]), "counts": counts},
                }
            )
    return rows


@pytest.fixture
def place(tmp_path: Path, shapes: Path) -> Path:
    """A folder whose matrix has two cells of two seeds."""
    write_place(tmp_path, shapes, multiscale="[false, true]", seeds="[0, 1]", shorten=", iterations_per_epoch: 3")
    return tmp_path


@pytest.fixture
def run_of(place: Path, shapes: Path) -> Callable[[int, int, Rows], RunPaths]:
    """run_of(cell, seed, rows): a finished run of the matrix's cell number `cell` with these detections."""

    def make(cell: int, seed: int, rows: Rows) -> RunPaths:
        run = prepare(load_experiment(place / "tiny.yaml"), load_settings(place, {}))[2 * cell + seed]
        write(run)
        write_detections(run.paths.detections, table_of(rows), meta={})
        numbers = evaluate(shapes / "annotations/instances_val.json", table_of(rows)).numbers
        write_json(run.paths.evaluation, {"numbers": numbers, "checkpoint_sha256": sha256(run.paths.detections)})
        own = {"metrics": numbers, "codes": ["abc"], "hardware": {"kind": "cuda"}, "files": {"log": {"sha256": ""}}}
        write_json(run.paths.result, own)
        write_state(run.paths, State.FINISHED, attempt=1)
        return run.paths

    return make


def without(rows: Rows, part: float, seed: int = 0) -> Rows:
    """The rows but for about that part of them."""
    kept = np.random.default_rng(seed).random(len(rows)) >= part
    return [row for row, keep in zip(rows, kept, strict=True) if keep]
