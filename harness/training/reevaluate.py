"""Repeating the COCO numbers of a checkpoint, or of kept detections without a model."""

from pathlib import Path
from typing import Any

import torch

from harness.data.coco import CocoSplit, load_index
from harness.errors import UserError
from harness.evaluation.coco import Evaluation, evaluate, evaluation_library
from harness.evaluation.detections import read_detections
from harness.files import read_json, sha256
from harness.runs import RunPaths, RunSpec, read_spec
from harness.training import validation
from harness.training.distributed import Ranks
from harness.training.restore import restore
from harness.training.validation import Validation, class_rows


def reevaluate(
    file: Path, *, annotations: Path | None = None, images: Path | None = None, cell: str | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The numbers of a checkpoint (.pth) or a detections file, and those that its run recorded of this very file.

    annotations, images: where the file is not in a run's folder. cell: see restore.
    Raises UserError where something is missing or broken.
    """
    spec, paths = _run_of(file)
    if file.suffix == ".pth":
        result = _from_checkpoint(file, spec, annotations, images, cell)
    else:
        result = _from_detections(file, spec, annotations)
    plain = {
        "numbers": result.numbers,
        "per_class": class_rows(result),
        "images": result.images,
        "library": evaluation_library(),
    }
    return plain, _recorded(file, paths)


def _run_of(file: Path) -> tuple[RunSpec | None, RunPaths | None]:
    for folder in (file.resolve().parent, file.resolve().parent.parent):
        paths = RunPaths(folder)
        if paths.spec.exists():
            return read_spec(paths), paths
    return None, None


def _recorded(file: Path, paths: RunPaths | None) -> dict[str, Any] | None:
    if paths is None or not paths.evaluation.exists():
        return None
    evaluation = read_json(paths.evaluation)
    if sha256(file) not in (evaluation["checkpoint_sha256"], evaluation["detections_sha256"]):
        return None
    numbers: dict[str, Any] = evaluation["numbers"]
    return numbers


def _from_detections(file: Path, spec: RunSpec | None, annotations: Path | None) -> Evaluation:
    rows, _ = read_detections(file)
    where = annotations or (Path(spec.val.annotations) if spec else None)
    if where is None:
        raise UserError(f"{file}: is not in a run's folder; name the annotations with --annotations FILE")
    if spec is None or annotations is not None:
        return evaluate(where, rows)
    index = load_index(CocoSplit(images=Path(spec.val.images), annotations=where))
    return evaluate(where, rows, image_ids=[int(n) for n in index.image_ids[: spec.shortening.eval_images]])


def _from_checkpoint(
    file: Path, spec: RunSpec | None, annotations: Path | None, images: Path | None, cell: str | None
) -> Evaluation:
    restored = restore(file, cell=cell)
    if annotations is not None and images is not None:
        split = CocoSplit(images=images, annotations=annotations)
    elif spec is not None:
        split = CocoSplit(images=Path(spec.val.images), annotations=Path(spec.val.annotations))
    else:
        raise UserError(f"{file}: is not in a run's folder; name --annotations FILE and --images FOLDER")
    own = spec is not None and annotations is None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    protocol = Validation(
        index=load_index(split),
        images=split.images,
        annotations=split.annotations,
        recipe=restored.recipe,
        precision=spec.precision if spec else "fp32",
        first=spec.shortening.eval_images if spec and own else None,
    )
    rows = validation.detect(restored.model.to(device), protocol, Ranks(device=device))
    assert rows is not None
    return evaluate(split.annotations, rows, image_ids=protocol.image_ids)
