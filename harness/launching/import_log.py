"""Others' trainings as runs: a published log becomes a run folder, which is shipped like any other and marked as

imported.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import sha256, write_json, write_text
from harness.imported import EXPERIMENT
from harness.launching.published_log import PublishedLog, read_published_log
from harness.matrix_file import Resources
from harness.published import published_rows
from harness.recipe import Digests, Recipe, Shortening, identity, to_dict
from harness.runs import (
    SCHEMA,
    Origin,
    RunPaths,
    RunSpec,
    RunState,
    SourceSpec,
    SplitSpec,
    State,
    experiment_folder,
    merge_log,
    write_spec,
)

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An imported log."""

    paths: RunPaths
    log: PublishedLog
    state: State
    new: bool  # False: it was there
    doubts: tuple[str, ...]  # why the log or the checkpoint may not be the cell's


def import_log(file: Path, run_root: Path, *, cell: str, checkpoint: Path | None = None) -> Imported:
    """Make a run folder of a log, below run_root/imported; the same log twice is one run.

    checkpoint: the weights that the log's training left; they must fit the cell.
    Raises UserError where the log is none, has more epochs than the cell, or the checkpoint does not fit.
    """
    recipe = parse_name(cell).recipe()
    coco_at_16 = (recipe.dataset, recipe.batch, recipe.repeats) == ("coco2017", 16, 1)
    log = read_published_log(file, coco_at_16=coco_at_16)
    last = max(row["epoch"] for row in log.rows)
    if last > recipe.epochs:
        raise UserError(f"{file}: has {last} epochs, {cell} has {recipe.epochs}: it is the log of another cell")
    spec = _spec(file, log, cell, recipe)
    doubts = [*_doubts(file, log, cell), *(_checkpoint_doubts(checkpoint, cell) if checkpoint else [])]
    paths = RunPaths(experiment_folder(run_root, EXPERIMENT) / spec.folder_name)
    ended = any(row["epoch"] == recipe.epochs for row in log.of("val"))
    state = State.FINISHED if ended else State.KILLED
    new = not paths.spec.exists()
    if new:
        _write(paths, spec, log, checkpoint, state)
    return Imported(paths=paths, log=log, state=state, new=new, doubts=tuple(doubts))


def _spec(file: Path, log: PublishedLog, cell: str, recipe: Recipe) -> RunSpec:
    planned = parse_name(cell)
    seed = log.environment.get("seed")
    row = published_rows().get(cell)
    unknown = SplitSpec(images=UNKNOWN, annotations=UNKNOWN, digest=UNKNOWN)
    digests = Digests(train_annotations=UNKNOWN, val_annotations=UNKNOWN, pretrained=UNKNOWN)
    return RunSpec(
        experiment=EXPERIMENT,
        description="Logs of trainings that were not done here",
        name=cell,
        cell=cell,
        axes=planned.point,
        published=planned.published,
        recipe=recipe,
        suffix="",
        shortening=Shortening(),
        seed=seed if isinstance(seed, int) else 0,
        precision=recipe.precision,
        identity=identity(recipe, digests),
        train=unknown,
        val=unknown,
        weights=None,
        resources=Resources(gpus_per_node=0, workers=0).model_dump(),
        origin=Origin.IMPORTED,
        source=SourceSpec(
            path=str(file.resolve()),
            sha256=sha256(file),
            url=row.log_url if row and row.log_file == file.name else "",
        ),
    )


def _doubts(file: Path, log: PublishedLog, cell: str) -> Iterator[str]:
    from harness.training.restore import CELL_NAME

    for source, text in (("its name", file.name), ("its exp_name", str(log.environment.get("exp_name", "")))):
        named = CELL_NAME.match(text)
        if named and named[0] != cell:
            yield f"{file}: {source} says {named[0]}, not {cell}"
    if log.skipped:
        yield f"{file}: lines that cannot be read, and were left out: {log.skipped}"


def _checkpoint_doubts(checkpoint: Path, cell: str) -> tuple[str, ...]:
    from harness.training.restore import restore

    return restore(checkpoint, cell=cell).doubts


def _write(paths: RunPaths, spec: RunSpec, log: PublishedLog, checkpoint: Path | None, state: State) -> None:
    """The whole folder, or nothing."""
    paths.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing.", dir=paths.folder.parent) as temporary:
        draft = RunPaths(Path(temporary) / paths.folder.name)
        write_spec(draft, spec)
        rows = [_attempt_row(spec, log), *log.rows]
        write_text(draft.segment(1), "".join(f"{json.dumps(row)}\n" for row in rows))
        merge_log(draft)
        if state == State.FINISHED:
            write_json(draft.result, _result(draft, paths, spec, log, checkpoint))
        last = max(row["epoch"] for row in log.rows)
        reason = "" if state == State.FINISHED else f"the log ends in epoch {last} of {spec.recipe.epochs}"
        ended = RunState(state=state, attempt=1, reason=reason, updated=log.rows[-1]["stamp"])
        write_json(draft.state, asdict(ended))
        with suppress(FileExistsError):  # another process has just imported the same log
            draft.folder.rename(paths.folder)


def _attempt_row(spec: RunSpec, log: PublishedLog) -> dict[str, Any]:
    return {
        "mode": "attempt",
        "attempt": 1,
        "time": log.start,
        "step": 0,
        "env_info": {"versions": log.versions, "text": log.environment.get("env_info")},
        "seed": spec.seed,
        "exp_name": log.environment.get("exp_name", spec.name),
        "precision": spec.precision,
        "config": json.dumps(to_dict(spec.recipe)),
        "stamp": log.start,
    }


def _result(
    draft: RunPaths, paths: RunPaths, spec: RunSpec, log: PublishedLog, checkpoint: Path | None
) -> dict[str, Any]:
    """result.json as a training leaves it, as far as the log tells; the files are where `paths` will be."""
    train, val = log.of("train"), log.of("val")[-1]
    seconds = train[-1]["stamp"] - log.start
    memory = [row["memory"] for row in train if isinstance(row.get("memory"), int | float)]
    images = log.iterations * spec.recipe.epochs * spec.recipe.batch
    files = {"log": draft.log, "config": draft.config}
    facts = {name: _facts(file) | {"path": str(paths.folder.resolve() / file.name)} for name, file in files.items()}
    return {
        "schema": SCHEMA,
        "metrics": {name: value for name, value in val.items() if _is_metric(name, value)},
        "memory_mb": max(memory, default=None),
        "memory_kind": "cuda",
        "fps": None,
        "fps_images": 0,
        "iterations": log.iterations * spec.recipe.epochs,
        "images_per_second": images / seconds if seconds > 0 else None,
        "train_seconds": seconds if seconds > 0 else None,
        "hardware": None,
        "versions": log.versions,
        "git": None,
        "evaluation_library": UNKNOWN,
        "attempts": 1,
        "files": facts | ({"checkpoint": _facts(checkpoint)} if checkpoint else {}),
    }


def _is_metric(name: str, value: Any) -> bool:
    return name.startswith(("bbox_", "segm_")) and isinstance(value, int | float)


def _facts(file: Path) -> dict[str, Any]:
    """Path, size in bytes and sha256."""
    return {"path": str(file.resolve()), "size": file.stat().st_size, "sha256": sha256(file)}
