"""Repeating the COCO numbers of a checkpoint, or of kept detections without a model."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import torch

from harness.cell import parse_name
from harness.data.coco import CocoSplit, load_index
from harness.errors import UserError
from harness.evaluation.coco import Evaluation, evaluate
from harness.evaluation.detections import read_detections, write_detections
from harness.evaluation.table import DetectionTable
from harness.files import read_json, sha256
from harness.identity import NUMERICS, digest
from harness.published import PublishedRow, published_rows
from harness.recipe import to_dict
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, read_spec
from harness.training import validation
from harness.training.distributed import Ranks
from harness.training.precision import executed_precision
from harness.training.restore import Restored, restore
from harness.training.validation import Validation, run_validation
from harness.wording import count


class Verdict(StrEnum):
    """How repeated numbers stand to what the file's run recorded."""

    EQUAL = "equal to what the run recorded"
    DIFFERENT = "DIFFERENT from what the run recorded"
    ALTERED = "the file is NOT the one that the run evaluated: damaged, altered, or of another epoch"
    UNKNOWN = "no record of this file to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reevaluation:
    """Numbers computed now, and those recorded or published."""

    evaluation: Evaluation
    images: int  # of the annotations; a shortened run tests the first of them alone
    recorded: dict[str, float | None] | None = None  # of the run in whose folder the file is
    verdict: Verdict = Verdict.UNKNOWN
    precision: str = ""  # in which a checkpoint was tested
    published: PublishedRow | None = None  # of a checkpoint that is of a published cell, and of no run here
    doubts: tuple[str, ...] = ()  # see Restored


def reevaluate(
    file: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    cell: str | None = None,
    find_split: Callable[[str], CocoSplit] | None = None,
) -> Reevaluation:
    """Evaluate a checkpoint (.pth) or a detections file, and compare with what its run recorded of it.

    annotations (and for a checkpoint images): where the file is not in a run's folder, or to test on another split,
    with which no record is compared. find_split: gives the validation split of a data set's name, for a checkpoint
    that is in no run's folder and for which neither is named; that of a shortened run is tested on as many of its
    images as the run was. cell: see restore.
    Raises UserError where something is missing or broken.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; name a checkpoint (.pth) or detections (.json, .json.gz)")
    spec, paths = _run_of(file)
    if file.suffix == ".pth":
        result = _from_checkpoint(file, spec, annotations, images, cell, find_split)
    else:
        result = _from_detections(file, spec, annotations)
    if paths is None or annotations is not None or not paths.evaluation.exists():
        return result
    record = read_json(paths.evaluation)
    verdict = Verdict.EQUAL if record["numbers"] == result.evaluation.numbers else Verdict.DIFFERENT
    if sha256(file) not in (record["checkpoint_sha256"], record["detections_sha256"]):
        verdict = Verdict.ALTERED
    return replace(result, recorded=record["numbers"], verdict=verdict, published=None)


def _run_of(file: Path) -> tuple[RunSpec | None, RunPaths | None]:
    for folder in (file.resolve().parent, file.resolve().parent.parent):
        paths = RunPaths(folder)
        if paths.spec.exists():
            return read_spec(paths), paths
    return None, None


def _from_detections(file: Path, spec: RunSpec | None, annotations: Path | None) -> Reevaluation:
    found, _ = read_detections(file)
    if annotations is not None:
        evaluation = evaluate(annotations, found)
        return Reevaluation(evaluation=evaluation, images=evaluation.images)
    if spec is None:
        raise UserError(f"{file}: is not in a run's folder; name the annotations with --annotations FILE")
    split = run_validation(spec)
    evaluation = evaluate(split.annotations, found, image_ids=split.image_ids)
    return Reevaluation(evaluation=evaluation, images=len(split.index.image_ids))


def _from_checkpoint(
    file: Path,
    spec: RunSpec | None,
    annotations: Path | None,
    images: Path | None,
    cell: str | None,
    find_split: Callable[[str], CocoSplit] | None,
) -> Reevaluation:
    restored = restore(file, cell=cell)
    split = _split(file, restored, spec, annotations, images, find_split)
    found = _detect(file, restored, split)
    evaluation = evaluate(split.annotations, found, image_ids=split.image_ids)
    published = published_rows().get(restored.cell) if _is_the_cells(restored, cell) else None
    return Reevaluation(
        evaluation=evaluation,
        images=len(split.index.image_ids),
        precision=split.precision,
        published=published,
        doubts=restored.doubts,
    )


def detections_of_checkpoint(
    file: Path, *, annotations: Path | None = None, images: Path | None = None, cache: Path | None = None
) -> tuple[DetectionTable, Validation]:
    """What a checkpoint finds on its run's validation split, or on another one, and that split.

    cache: a folder for what was found, so that the same weights are not tested twice.
    Raises UserError where something is missing or broken.
    """
    spec, _ = _run_of(file)
    restored = restore(file)
    split = _split(file, restored, spec, annotations, images, None)
    images = split.images.resolve()
    place = [str(images), images.stat().st_mtime_ns]
    recipe = digest(to_dict(restored.recipe))
    tested = [sha256(file), sha256(split.annotations), place, recipe, split.first, split.precision, _device().type]
    tested.append(NUMERICS)
    kept = cache / f"{digest(tested)}.json.gz" if cache else None
    if kept:
        with suppress(UserError):  # it is not there, or spoilt
            return read_detections(kept)[0], split
    found = _detect(file, restored, split)
    if kept:
        write_detections(kept, found, meta={"checkpoint_sha256": tested[0]})
    return found, split


def _split(
    file: Path,
    restored: Restored,
    spec: RunSpec | None,
    annotations: Path | None,
    images: Path | None,
    find_split: Callable[[str], CocoSplit] | None,
) -> Validation:
    device = _device()
    if annotations is not None and images is not None:
        return checkpoint_validation(restored, CocoSplit(images=images, annotations=annotations), device)
    if annotations is not None or images is not None or (spec is None and find_split is None):
        raise UserError(f"{file}: name both --annotations FILE and --images FOLDER, to say what to test it on")
    if spec is not None:
        return replace(run_validation(spec), recipe=restored.recipe)
    assert find_split is not None
    found = checkpoint_validation(restored, find_split(restored.recipe.dataset), device)
    return replace(found, first=restored.meta.get("eval_images"))  # as its run did


def _detect(file: Path, restored: Restored, split: Validation) -> DetectionTable:
    require_classes(restored, split, file)
    device = _device()
    found = validation.detect(restored.model.to(device), split, Ranks(device=device))
    assert found is not None  # on the only rank
    return found


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def checkpoint_validation(restored: Restored, split: CocoSplit, device: torch.device) -> Validation:
    """A split, to be tested as the checkpoint's recipe says, in the precision that its training had or the device has.

    Raises UserError where the annotations are missing or broken.
    """
    precision = str(restored.meta.get("precision", restored.recipe.precision))
    return Validation(
        index=load_index(split),
        images=split.images,
        annotations=split.annotations,
        recipe=restored.recipe,
        precision=executed_precision(precision, device.type),
    )


def require_classes(restored: Restored, split: Validation, file: Path) -> None:
    """Raise UserError where the checkpoint knows another number of classes than the annotations."""
    classes, categories = restored.recipe.num_classes, len(split.index.category_ids)
    if classes != categories:
        raise UserError(
            f"{file}: finds {count(classes, 'class')}, but {split.annotations} has {count(categories, 'category')}"
        )


def _is_the_cells(restored: Restored, cell: str | None) -> bool:
    """Whether the result may be held against the published one: the user says so, or the recipe is the published."""
    return cell is not None or ("+" not in restored.cell and restored.recipe == parse_name(restored.cell).recipe())
