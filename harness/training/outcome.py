"""What a finished run leaves: result.json, learning curves, pictures of predictions."""

from pathlib import Path
from typing import Any

import cv2

from harness.evaluation.curves import plot_curves
from harness.evaluation.detections import read_detections
from harness.evaluation.draw import contact_sheet, draw, write_image
from harness.files import read_json, sha256, write_json
from harness.runs import SCHEMA, merged_rows
from harness.training import validation
from harness.training.environment import git_commit, hardware, versions
from harness.training.loop import Outcome, Training

PICTURES = 8
"""Validation images of which a finished run keeps a picture."""


def write_outcome(training: Training, outcome: Outcome) -> dict[str, Any]:
    """Measure the speed, draw curves and predictions, and write result.json, last. Called on rank 0."""
    paths, ranks = training.paths, training.ranks
    speed = validation.speed(training.model, training.validation, ranks)
    evaluation = read_json(paths.evaluation)
    rows = merged_rows(paths)
    plot_curves(paths.curves, rows, training.spec.name)
    draw_predictions(training)
    trained = [row for row in rows if row["mode"] == "train"]
    per_second = outcome.iterations * training.recipe.batch / outcome.seconds if outcome.seconds > 0 else None
    assert outcome.checkpoint is not None
    files = {
        "checkpoint": outcome.checkpoint.path,
        "log": paths.log,
        "config": paths.config,
        "detections": paths.detections,
    }
    result = {
        "schema": SCHEMA,
        "metrics": evaluation["numbers"],
        "memory_mb": max([row["memory"] for row in trained], default=round(outcome.memory_mb)),
        "memory_kind": "cuda" if ranks.device.type == "cuda" else "rss",
        "fps": speed.fps if speed else None,
        "fps_images": speed.images if speed else 0,
        "iterations": outcome.position.step,
        "images_per_second": per_second,
        "train_seconds": outcome.seconds,
        "overflows": int(training.scaler.overflows.item()),
        "hardware": hardware(ranks.device, ranks.world),
        "versions": versions(),
        "git": git_commit(),
        "evaluation_library": evaluation["library"],
        "attempts": training.attempt,
        "files": {name: file_facts(path) for name, path in files.items()},
    }
    write_json(paths.result, result, durable=True)
    return result


def file_facts(path: Path) -> dict[str, Any]:
    """Path, size in bytes and sha256."""
    return {"path": str(path.resolve()), "size": path.stat().st_size, "sha256": sha256(path)}


def draw_predictions(training: Training) -> None:
    """Ground truth beside prediction: a picture for each of the first validation images with objects, and a sheet."""
    paths, index = training.paths, training.validation.index
    rows, _ = read_detections(paths.detections)
    label_of = {int(number): label for label, number in enumerate(index.category_ids)}
    names = list(index.category_names)
    pairs: list[Any] = []
    shown = [i for i in range(len(training.validation.image_ids)) if index.first[i + 1] > index.first[i]][:PICTURES]
    for number in shown:
        name = str(index.file_names[number])
        image = cv2.imread(str(training.validation.images / name), cv2.IMREAD_COLOR)
        if image is None:
            continue
        truth = index.ground_truth(number)
        found = [row for row in rows if row["image_id"] == int(index.image_ids[number])]
        boxes = [[row["bbox"][0], row["bbox"][1], sum(row["bbox"][::2]), sum(row["bbox"][1::2])] for row in found]
        labels = [label_of[row["category_id"]] for row in found]
        scores, masks = [row["score"] for row in found], [row["segmentation"] for row in found]
        left = draw(image, truth.boxes, truth.labels, None, truth_masks(truth, image.shape[:2]), names)
        right = draw(image, boxes, labels, scores, masks, names)
        pairs += [left, right]
        write_image(paths.predictions / f"{Path(name).stem}.png", contact_sheet([left, right], columns=2))
    if pairs:
        write_image(paths.predictions / "sheet.png", contact_sheet(pairs, columns=4))


def truth_masks(truth: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The ground truth's masks as RLEs of the image's (height, width)."""
    from pycocotools import mask as mask_api

    height, width = size
    masks = []
    for segmentation in truth.segmentations:
        if isinstance(segmentation, dict):
            masks.append(segmentation)
        else:
            parts = [part.tolist() for part in segmentation]
            masks.append(mask_api.merge(mask_api.frPyObjects(parts, height, width)))
    return masks
