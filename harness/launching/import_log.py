"""Others' trainings as runs: a published log becomes a run folder, which is shipped like any other and marked as

imported.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.cell import name_doubts, parse_name
from harness.errors import UserError
from harness.files import file_facts, read_json, sha256, write_json, write_text
from harness.identity import Digests, identity
from harness.imported import EXPERIMENT
from harness.launching.published_log import COCO_ITERATIONS, PublishedLog, read_published_log
from harness.matrix_file import Resources
from harness.published import published_rows
from harness.recipe import Recipe
from harness.run_log import merge_log
from harness.run_paths import RunPaths, experiment_folder
from harness.run_spec import SCHEMA, Origin, RunSpec, SourceSpec, SplitSpec, write_spec
from harness.run_state import RunState, State
from harness.shortening import Shortening
from harness.wording import count

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An imported log."""

    paths: RunPaths
    log: PublishedLog
    state: State
    new: bool  # False: it was there
    recorded: bool  # whether the checkpoint was recorded now
    doubts: tuple[str, ...]  # why the log or the checkpoint may not be the cell's, or not all of it


def import_log(file: Path, run_root: Path, *, cell: str, checkpoint: Path | None = None) -> Imported:
    """Make a run folder of a log, below run_root/imported; the same log twice is one run.

    checkpoint: the weights that the log's training left; they must fit the cell. checkpoint.json says where they are
    and by which sha256 to know them, and so does result.json where the log is whole; they may follow later.
    Raises UserError where the log is none, has more epochs than the cell, or the checkpoint does not fit or is another
    one than was recorded.
    """
    recipe = parse_name(cell).recipe()
    coco_at_16 = (recipe.dataset, recipe.batch) == ("coco2017", 16)
    log = read_published_log(file, expected=COCO_ITERATIONS.get(recipe.repeats) if coco_at_16 else None)
    last = max(row["epoch"] for row in log.rows)
    if last > recipe.epochs:
        raise UserError(
            f"{file}: has {count(last, 'epoch')}, {cell} has {recipe.epochs}: it is the log of another cell"
        )
    spec = _spec(file, log, cell, recipe)
    missing = _missing(log, recipe)
    doubts = [*_doubts(file, log, cell, missing), *(_checkpoint_doubts(checkpoint, cell) if checkpoint else [])]
    paths = RunPaths(experiment_folder(run_root, EXPERIMENT) / spec.folder_name)
    new = not paths.spec.exists() and _write(paths, spec, log, missing)
    recorded = checkpoint is not None and _record(paths, checkpoint)
    state = State.KILLED if missing else State.FINISHED
    return Imported(paths=paths, log=log, state=state, new=new, recorded=recorded, doubts=tuple(doubts))


def _missing(log: PublishedLog, recipe: Recipe) -> str:
    """Where a log ends too early; empty where it holds the last epoch's evaluation."""
    if any(row["epoch"] == recipe.epochs for row in log.of("val")):
        return ""
    last = max(row["epoch"] for row in log.rows)
    return f"ends in epoch {last} of {recipe.epochs}" + (", without its evaluation" if last == recipe.epochs else "")


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
        seed=seed if type(seed) is int and 0 <= seed < 2**32 else 0,
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


def _doubts(file: Path, log: PublishedLog, cell: str, missing: str) -> Iterator[str]:
    yield from name_doubts(file, cell, {"its exp_name": str(log.environment.get("exp_name", ""))})
    if missing:
        yield f"{file}: {missing}; the run counts as unfinished"
    if log.skipped:
        yield f"{file}: lines that cannot be read, and were left out: {log.skipped}"


def _checkpoint_doubts(checkpoint: Path, cell: str) -> tuple[str, ...]:
    from harness.training.restore import restore

    return restore(checkpoint, cell=cell).doubts


def _record(paths: RunPaths, checkpoint: Path) -> bool:
    """Write down which checkpoint the log's training left; whether that is news."""
    facts, record = file_facts(checkpoint), paths.folder / "checkpoint.json"
    if record.exists():
        known = read_json(record)
        if known["sha256"] != facts["sha256"]:
            raise UserError(
                f"{checkpoint}: another checkpoint of this log was recorded, {known['path']} (sha256 "
                f"{known['sha256'][:8]}, not {facts['sha256'][:8]}); to change it delete {record} and repeat this"
            )
        return False
    if paths.result.exists():
        result = read_json(paths.result)
        write_json(paths.result, result | {"files": result["files"] | {"checkpoint": facts}})
    write_json(record, facts)  # last: before it all is done again
    return True


def _write(paths: RunPaths, spec: RunSpec, log: PublishedLog, missing: str) -> bool:
    """The whole folder, or nothing; False where another process has just imported the same log."""
    paths.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing.", dir=paths.folder.parent) as temporary:
        draft = RunPaths(Path(temporary) / paths.folder.name)
        write_spec(draft, spec)
        rows = [_attempt_row(spec, log), *log.rows]
        write_text(draft.segment(1), "".join(f"{json.dumps(row)}\n" for row in rows))
        merge_log(draft)
        if not missing:
            write_json(draft.result, _result(draft, paths, spec, log))
        state, reason = (State.KILLED, f"the log {missing}") if missing else (State.FINISHED, "")
        ended = RunState(state=state, attempt=1, reason=reason, updated=log.rows[-1]["stamp"])
        write_json(draft.state, asdict(ended))
        try:
            draft.folder.rename(paths.folder)
        except OSError:  # the folder is there and not empty: which error that is depends on the file system
            if not paths.spec.exists():
                raise
            return False
    return True


def _attempt_row(spec: RunSpec, log: PublishedLog) -> dict[str, Any]:
    from harness.training.journal import attempt_row

    return attempt_row(
        spec,
        attempt=1,
        time=log.start,
        step=0,
        env_info={"versions": log.versions, "text": log.environment.get("env_info")},
        code=None,
        matrix=None,
        exp_name=log.environment.get("exp_name", spec.name),
        stamp=log.start,
    )


def _result(draft: RunPaths, paths: RunPaths, spec: RunSpec, log: PublishedLog) -> dict[str, Any]:
    """result.json as a training leaves it, as far as the log tells; the files are where `paths` will be."""
    train, val = log.of("train"), log.of("val")[-1]
    seconds = train[-1]["stamp"] - log.start
    memory = [row["memory"] for row in train if "memory" in row]
    images = log.iterations * spec.recipe.epochs * spec.recipe.batch
    files = {"log": draft.log, "config": draft.config}
    facts = {name: file_facts(file) | {"path": str(paths.folder.resolve() / file.name)} for name, file in files.items()}
    return {
        "schema": SCHEMA,
        "metrics": {name: value for name, value in val.items() if name.startswith(("bbox_", "segm_"))},
        "memory_mb": max(memory, default=None),
        "memory_kind": "cuda",
        "fps": None,
        "fps_images": 0,
        "iterations": log.iterations * spec.recipe.epochs,
        "images_per_second": images / seconds if seconds > 0 else None,
        "train_seconds": seconds if seconds > 0 else None,
        "hardware": None,
        "versions": log.versions,
        "code": None,
        "evaluation_library": UNKNOWN,
        "attempts": 1,
        "files": facts,
    }
