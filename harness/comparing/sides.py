"""What is compared: a run, a cell with all its seeds, a checkpoint or kept detections, each as detections on images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import read_json, sha256
from harness.recipe import Recipe
from harness.reporting.link_rules import DIGEST_IN_NAME
from harness.run_paths import RunPaths, experiment_runs
from harness.run_spec import RunSpec, read_spec
from harness.run_state import State, read_state, unreadable
from harness.wording import did_you_mean

if TYPE_CHECKING:
    from harness.data.coco import CocoSplit
    from harness.evaluation.table import DetectionTable
    from harness.training.validation import Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """The detections of one checkpoint, and the images that they were made on."""

    name: str
    seed: int | None  # None: of no run here
    results: "DetectionTable"
    split: "Validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of what is compared: checkpoints of one recipe, a seed each."""

    name: str  # EXPERIMENT/CELL, or the file or folder as it was typed
    recipe: Recipe | None  # None: of detections that say nothing of it
    members: tuple[Member, ...]
    missing: int = 0  # further seeds of the cell that have not finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainings:
    """The finished runs of one recipe, by seed."""

    name: str  # as of Side
    runs: tuple[RunPaths, ...]
    missing: int = 0  # as of Side


def find_side(
    text: str, run_root: Path, *, annotations: Path | None = None, images: Path | None = None, cache: Path | None = None
) -> Side:
    """The side that a word of the command line names: a run's folder, a .pth, detections, or [EXPERIMENT/]CELL.

    annotations, images: of files that are in no run's folder. A model runs only where no detections are kept; what it
    finds is then kept in the folder `cache`.
    Raises UserError where there is no such thing, or a cell has finished runs of several kinds.
    """
    path = Path(text)
    if path.suffix == ".pth" and path.is_file():
        return _checkpoint(path, run_root, annotations, images, cache)
    if path.is_file():
        return _detections(path, annotations, images)
    return _side(find_trainings(text, run_root))


def find_trainings(text: str, run_root: Path) -> Trainings:
    """The run of a folder, or the finished runs of [EXPERIMENT/]CELL.

    Raises UserError where there is no such thing, or a cell has finished runs of several kinds.
    """
    path = Path(text)
    return _of_folder(text, RunPaths(path)) if (path / "run.json").is_file() else _of_cell(text, run_root)


def _of_folder(name: str, paths: RunPaths) -> Trainings:
    return Trainings(name=name, runs=(paths,))


def _side(found: Trainings) -> Side:
    members = tuple(_member(found.name, paths) for paths in found.runs)
    recipe = read_spec(found.runs[0]).executed
    return Side(name=found.name, recipe=recipe, members=members, missing=found.missing)


def _member(name: str, paths: RunPaths) -> Member:
    from harness.evaluation.detections import read_detections
    from harness.training.validation import run_validation

    if not paths.detections.exists():
        state = read_state(paths)
        raise UserError(f"{paths.folder}: has no detections yet ({state.state}); it must have been evaluated once")
    results, _ = read_detections(paths.detections)
    spec = read_spec(paths)
    return Member(name=name, seed=spec.seed, results=results, split=run_validation(spec))


def _checkpoint(path: Path, run_root: Path, annotations: Path | None, images: Path | None, cache: Path | None) -> Side:
    if annotations is None and (paths := _tested(path, run_root)):
        return _side(_of_folder(str(path), paths))
    from harness.training.reevaluate import detections_of_checkpoint

    results, split = detections_of_checkpoint(path, annotations=annotations, images=images, cache=cache)
    member = Member(name=str(path), seed=None, results=results, split=split)
    return Side(name=str(path), recipe=split.recipe, members=(member,))


def _tested(path: Path, run_root: Path) -> RunPaths | None:
    """The run, around a checkpoint or below the run root, that keeps the detections of its weights."""
    digest, log = sha256(path), _log_beside(path)
    folders = [path.resolve().parent.parent, *(file.parent for file in sorted(run_root.glob("*/*/evaluation.json")))]
    for paths in map(RunPaths, folders):
        if not (paths.evaluation.exists() and paths.detections.exists()):
            continue
        if read_json(paths.evaluation)["checkpoint_sha256"] == digest:
            return paths
        if log and paths.result.exists() and read_json(paths.result)["files"]["log"]["sha256"] == log:
            return paths
    return None


def _log_beside(path: Path) -> str | None:
    """Of weights as `harness publish` wrote them the sha256 of the log beside them, which is that of their run."""
    log, named = path.parent / "log.json", DIGEST_IN_NAME.search(path.name)
    return sha256(log) if named and log.is_file() and sha256(path).startswith(named[1]) else None


def _detections(path: Path, annotations: Path | None, images: Path | None) -> Side:
    paths = RunPaths(path.resolve().parent)
    if annotations is None and paths.spec.exists() and path.resolve() == paths.detections.resolve():
        return _side(_of_folder(str(path), paths))
    from harness.data.coco import CocoSplit
    from harness.evaluation.detections import read_detections
    from harness.training.validation import run_validation

    if annotations is not None:
        split, recipe = _whole(CocoSplit(images=images or annotations.parent, annotations=annotations)), None
    elif paths.spec.exists():
        spec = read_spec(paths)
        split, recipe = run_validation(spec), spec.executed
    else:
        raise UserError(f"{path}: is not in a run's folder; name the annotations with --annotations FILE")
    results, _ = read_detections(path)
    return Side(
        name=str(path),
        recipe=recipe,
        members=(Member(name=str(path), seed=None, results=results, split=split),),
    )


def _whole(split: "CocoSplit") -> "Validation":
    """All images of an annotation file."""
    from harness.data.coco import load_index
    from harness.training.validation import Validation

    index = load_index(split)
    return Validation(
        index=index, images=split.images, annotations=split.annotations, recipe=Recipe(), precision="fp32"
    )


def _of_cell(text: str, run_root: Path) -> Trainings:
    experiment, _, name = text.rpartition("/")
    found = list(_finished(run_root, experiment or "*"))
    mine = [(paths, spec) for paths, spec in found if name in (spec.name, spec.cell)]
    if not mine:
        hint = did_you_mean(name, sorted({spec.name for _, spec in found}))
        raise UserError(
            f"{text!r}: no file, no run's folder, and no finished run of such a cell in {run_root}{hint}; "
            "expected RUN_FOLDER, CHECKPOINT.pth, DETECTIONS.json.gz, CELL or EXPERIMENT/CELL"
        )
    kinds = {_kind(spec) for _, spec in mine}
    if len(kinds) > 1:
        folders = "\n  ".join(str(paths.folder) for paths, _ in mine)
        raise UserError(
            f"{text!r}: runs of {len(kinds)} kinds have ended; name EXPERIMENT/CELL or a folder:\n  {folders}"
        )
    finished = {spec.seed: paths for paths, spec in sorted(mine, key=lambda entry: entry[1].seed)}
    first = mine[0][1]
    begun = [read_spec(paths) for paths in experiment_runs(run_root, first.experiment) if not unreadable(paths)]
    seeds = {spec.seed for spec in begun if _kind(spec) == _kind(first)}
    name = f"{first.experiment}/{first.name}"
    return Trainings(name=name, runs=tuple(finished.values()), missing=len(seeds - finished.keys()))


def _kind(spec: RunSpec) -> tuple[object, ...]:
    """What the seeds of one recipe have in common."""
    return spec.experiment, spec.name, spec.identity, spec.shortening, spec.precision


def _finished(run_root: Path, experiment: str) -> Iterator[tuple[RunPaths, RunSpec]]:
    for file in sorted(run_root.glob(f"{experiment}/*/run.json")):
        paths = RunPaths(file.parent)
        if read_state(paths).state == State.FINISHED and paths.detections.exists():
            yield paths, read_spec(paths)
