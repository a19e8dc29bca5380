"""What a finished run leaves: result.json, learning curves, pictures of predictions."""

from pathlib import Path
from typing import Any

from harness.evaluation.curves import plot_curves
from harness.files import read_json, sha256, write_json
from harness.runs import SCHEMA, merged_rows
from harness.training import validation
from harness.training.environment import git_commit, hardware, versions
from harness.training.loop import Outcome, Training
from harness.training.pictures import draw_predictions


def write_outcome(training: Training, outcome: Outcome) -> dict[str, Any]:
    """Measure the speed, draw curves and predictions, and write result.json, last. Called on rank 0."""
    paths, ranks = training.paths, training.ranks
    speed = validation.speed(training.model, training.validation, ranks)
    evaluation = read_json(paths.evaluation)
    rows = merged_rows(paths)
    plot_curves(paths.curves, rows, training.spec.name)
    draw_predictions(paths, training.validation)
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
