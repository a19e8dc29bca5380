"""A published checkpoint, tested as a run: it leaves what a training leaves, but for the training."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.evaluation.speed import Speed
from harness.evaluation.table import DetectionTable
from harness.files import file_facts, read_json, sha256, write_json
from harness.provenance import running_code
from harness.run_log import merge_log, merged_rows, row_key
from harness.run_paths import RunPaths
from harness.run_spec import SCHEMA, RunSpec, SourceSpec
from harness.training import validation
from harness.training.checkpoint import Saved
from harness.training.distributed import Ranks
from harness.training.environment import hardware, own_attempt_row, versions
from harness.training.journal import Journal, repair
from harness.training.pictures import draw_predictions
from harness.training.precision import require_precision
from harness.training.reevaluate import require_classes
from harness.training.restore import Restored, restore
from harness.training.scorer import numbers, score
from harness.training.validation import Validation, run_validation
from harness.training.watch import Watch


def evaluate_published(
    paths: RunPaths,
    spec: RunSpec,
    ranks: Ranks,
    *,
    attempt: int,
    stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[str], None] = lambda text: None,
    watch: Watch | None = None,
) -> bool:
    """Test the run's published checkpoint as its recipe says; every rank calls it. Whether it came to its end, and not

    to a stop: a stopped test begins anew.
    Raises UserError where the file is gone, altered, does not fit the cell, or an image cannot be read.
    """
    source = spec.source
    assert source is not None
    require_precision(spec.precision, ranks.device.type)
    watch = watch or Watch()
    split = run_validation(spec)
    restored = _restored(spec, source, split)
    model = restored.model.to(ranks.device)
    try:
        found = validation.detect(model, split, ranks, validation.between_images(split, ranks, stop, watch))
    except validation.Stopped:
        return False
    watch.phase("scoring" if ranks.main else "waiting", 0)
    if found is not None:
        saved = _place(restored, source, spec)
        _journal(paths, spec, ranks, attempt, split, found, saved)
        on_row(f"epoch {saved.epoch}/{spec.executed.epochs}")
        watch.phase("outcome", 0)
        draw_predictions(paths, split)
        speed = validation.speed(model, split, ranks)
        write_json(paths.result, _result(paths, ranks, attempt, saved, source, speed), durable=True)
    ranks.barrier()
    return True


def _restored(spec: RunSpec, source: SourceSpec, split: Validation) -> Restored:
    file = Path(source.path)
    if not file.is_file() or sha256(file) != source.sha256:
        raise UserError(f"{file}: is not the file that this run was made for (sha256 {source.sha256}); fetch it again")
    restored = restore(file, cell=spec.cell)
    require_classes(restored, split, file)
    return restored


def _place(restored: Restored, source: SourceSpec, spec: RunSpec) -> Saved:
    """The file as a checkpoint of its epoch; one that does not say which is of the last."""
    epoch, step = (restored.meta.get(name) for name in ("epoch", "iter"))
    return Saved(
        path=Path(source.path),
        sha256=source.sha256,
        epoch=epoch if isinstance(epoch, int) else spec.executed.epochs,
        step=step if isinstance(step, int) else 0,
    )


def _journal(
    paths: RunPaths,
    spec: RunSpec,
    ranks: Ranks,
    attempt: int,
    split: Validation,
    found: DetectionTable,
    saved: Saved,
) -> None:
    """Score what was found, and journal it."""
    repair(paths)
    known = {key for row in merged_rows(paths) if (key := row_key(row))}
    with Journal(paths.segment(attempt), known) as journal:
        journal.write(own_attempt_row(paths, spec, ranks, attempt=attempt, step=saved.step))
        meta = {"checkpoint_sha256": saved.sha256, "epoch": saved.epoch, "step": saved.step}
        result = score(found, split.annotations, split.image_ids, paths=paths, meta=meta)
        place = {"mode": "val", "epoch": saved.epoch, "iter": len(split.image_ids), "step": saved.step}
        journal.write({**place, **numbers(result), "checkpoint_sha256": saved.sha256})
    merge_log(paths)


def _result(
    paths: RunPaths, ranks: Ranks, attempt: int, saved: Saved, source: SourceSpec, speed: Speed | None
) -> dict[str, Any]:
    """result.json: as a training leaves it, without what only a training has."""
    evaluation = read_json(paths.evaluation)
    own = {"log": paths.log, "config": paths.config, "detections": paths.detections}
    checkpoint = file_facts(saved.path) | {"path": source.url}
    return {
        "schema": SCHEMA,
        "metrics": evaluation["numbers"],
        "memory_mb": None,
        "memory_kind": None,
        "fps": speed.fps if speed else None,
        "fps_images": speed.images if speed else 0,
        "iterations": saved.step,
        "hardware": hardware(ranks.device, ranks.world),
        "versions": versions(ranks.device),
        "code": asdict(running_code()),
        "evaluation_library": evaluation["library"],
        "attempts": attempt,
        "files": {"checkpoint": checkpoint, **{name: file_facts(path) for name, path in own.items()}},
    }
