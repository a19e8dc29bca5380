"""Repeating the COCO numbers of a checkpoint, or of kept detections without a model."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from harness.data.coco import CocoSplit, load_index
from harness.errors import UserError
from harness.evaluation.coco import Evaluation, evaluate
from harness.evaluation.detections import read_detections
from harness.files import read_json, sha256
from harness.runs import RunPaths, RunSpec, read_spec
from harness.training import validation
from harness.training.distributed import Ranks
from harness.training.restore import restore
from harness.training.validation import Validation, run_validation


class Verdict(StrEnum):
    """How repeated numbers stand to what the file's run recorded."""

    EQUAL = "equal to what the run recorded"
    DIFFERENT = "DIFFERENT from what the run recorded"
    ALTERED = "the file is NOT the one that the run evaluated: damaged, altered, or of another epoch"
    UNKNOWN = "no record of this file to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reevaluation:
    """Numbers computed now, and those recorded."""

    evaluation: Evaluation
    recorded: dict[str, float | None] | None  # of the run in whose folder the file is
    verdict: Verdict


def reevaluate(
    file: Path, *, annotations: Path | None = None, images: Path | None = None, cell: str | None = None
) -> Reevaluation:
    """Evaluate a checkpoint (.pth) or a detections file, and compare with what its run recorded of it.

    annotations (and for a checkpoint images): where the file is not in a run's folder, or to test on another split,
    with which no record is compared. cell: see restore.
    Raises UserError where something is missing or broken.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; name a checkpoint (.pth) or detections (.json, .json.gz)")
    spec, paths = _run_of(file)
    if file.suffix == ".pth":
        result = _from_checkpoint(file, spec, annotations, images, cell)
    else:
        result = _from_detections(file, spec, annotations)
    if paths is None or annotations is not None or not paths.evaluation.exists():
        return Reevaluation(evaluation=result, recorded=None, verdict=Verdict.UNKNOWN)
    record = read_json(paths.evaluation)
    verdict = Verdict.EQUAL if record["numbers"] == result.numbers else Verdict.DIFFERENT
    if sha256(file) not in (record["checkpoint_sha256"], record["detections_sha256"]):
        verdict = Verdict.ALTERED
    return Reevaluation(evaluation=result, recorded=record["numbers"], verdict=verdict)


def _run_of(file: Path) -> tuple[RunSpec | None, RunPaths | None]:
    for folder in (file.resolve().parent, file.resolve().parent.parent):
        paths = RunPaths(folder)
        if paths.spec.exists():
            return read_spec(paths), paths
    return None, None


def _from_detections(file: Path, spec: RunSpec | None, annotations: Path | None) -> Evaluation:
    rows, _ = read_detections(file)
    if annotations is not None:
        return evaluate(annotations, rows)
    if spec is None:
        raise UserError(f"{file}: is not in a run's folder; name the annotations with --annotations FILE")
    split = run_validation(spec)
    return evaluate(split.annotations, rows, image_ids=split.image_ids)


def _from_checkpoint(
    file: Path, spec: RunSpec | None, annotations: Path | None, images: Path | None, cell: str | None
) -> Evaluation:
    restored = restore(file, cell=cell)
    if annotations is not None and images is not None:
        split = Validation(
            index=load_index(CocoSplit(images=images, annotations=annotations)),
            images=images,
            annotations=annotations,
            recipe=restored.recipe,
            precision=str(restored.meta.get("precision", "fp32")),
        )
    elif spec is not None and annotations is None and images is None:
        split = replace(run_validation(spec), recipe=restored.recipe)
    else:
        raise UserError(f"{file}: name both --annotations FILE and --images FOLDER, to say what to test it on")
    classes, categories = restored.recipe.num_classes, len(split.index.category_ids)
    if classes != categories:
        raise UserError(f"{file}: finds {classes} classes, but {split.annotations} has {categories} categories")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[dict[str, Any]] | None = validation.detect(restored.model.to(device), split, Ranks(device=device))
    return evaluate(split.annotations, rows or [], image_ids=split.image_ids)
