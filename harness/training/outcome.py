"""What a finished run leaves: result.json, learning curves, pictures of predictions."""

from dataclasses import asdict
from typing import Any

from harness.evaluation.curves import plot_curves
from harness.files import file_facts, read_json, write_json
from harness.provenance import running_code, trained_by
from harness.run_log import merged_rows, segments
from harness.run_spec import SCHEMA
from harness.training import validation
from harness.training.bill import bill, gpu_hours, overhead, read_times
from harness.training.environment import hardware, versions
from harness.training.pictures import draw_predictions
from harness.training.session import Training
from harness.training.watch import Watch


def write_outcome(training: Training, watch: Watch | None = None) -> dict[str, Any]:
    """Measure the speed, draw curves and predictions, and write result.json, last. Called on rank 0 of a finished run.

    watch: what this rank has told of itself; None: nothing, so that the bill ends with the training.
    Raises UserError where the detections or images to draw are gone.
    """
    paths, ranks = training.paths, training.ranks
    assert training.saved is not None
    speed = validation.speed(training.model, training.validation, ranks)
    evaluation = read_json(paths.evaluation)
    rows = merged_rows(paths)
    trained = [row for row in rows if row["mode"] == "train"]
    seconds = train_seconds(trained)
    training.require_own()
    plot_curves(paths.curves, rows, training.spec.name)
    draw_predictions(paths, training.validation)
    times = _times(training, watch)
    parts = bill(times)
    files = {
        "checkpoint": training.saved.path,
        "log": paths.log,
        "config": paths.config,
        "detections": paths.detections,
    }
    result = {
        "schema": SCHEMA,
        "metrics": evaluation["numbers"],
        "memory_mb": max(row["memory"] for row in trained),
        "memory_kind": "cuda" if ranks.device.type == "cuda" else "rss",
        "fps": speed.fps if speed else None,
        "fps_images": speed.images if speed else 0,
        "iterations": training.position.step,
        "images_per_second": training.position.step * training.recipe.batch / seconds,
        "train_seconds": seconds,
        "bill": parts,
        "overhead": overhead(parts),
        "gpu_hours": gpu_hours(times),
        "overflows": int(training.scaler.overflows.item()),
        "hardware": hardware(ranks.device, ranks.world),
        "versions": versions(ranks.device),
        "code": asdict(running_code()),
        "codes": trained_by(segments(paths)),
        "evaluation_library": evaluation["library"],
        "attempts": training.attempt,
        "files": {name: file_facts(path) for name, path in files.items()},
    }
    write_json(paths.result, result, durable=True)
    return result


def _times(training: Training, watch: Watch | None) -> list[dict[str, Any]]:
    """Of all attempts, until now."""
    if watch is not None:
        watch.phase("waiting", training.position.step)  # ends the outcome
        watch.times.write(training.paths.attempt(training.attempt))
    return read_times(training.paths.folder)


def train_seconds(rows: list[dict[str, Any]]) -> float:
    """Seconds spent in iterations: each train row's mean time by the iterations since the row before."""
    steps = [0, *(row["step"] for row in rows)]
    return float(sum(row["time"] * (step - before) for row, step, before in zip(rows, steps[1:], steps, strict=False)))
