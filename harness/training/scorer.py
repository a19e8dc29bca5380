"""What detections score, and the process of scoring.py that finds it out: `python -m harness.training.scorer FOLDER`.

No torch here: the process is beside a training, which needs the memory and the time that importing it takes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.evaluation.coco import Evaluation, evaluate
from harness.evaluation.detections import write_detections
from harness.evaluation.scoring import evaluation_library
from harness.evaluation.table import DetectionTable, load
from harness.files import write_json
from harness.processes import end_with
from harness.run_paths import RunPaths, require_own

USER_ERROR = 2
"""Exit code where a user can mend it: what is printed then has a line that says how."""


def score(
    found: DetectionTable,
    annotations: Path,
    image_ids: Sequence[int],
    *,
    paths: RunPaths,
    meta: Mapping[str, Any],
    before_writing: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate what was found in these images; keep it in the run folder, and the numbers with its digest.

    meta: what checkpoint it is of: checkpoint_sha256, epoch, step. before_writing: called before each of the two files
    is; what it raises leaves the file as it was.
    Raises UserError where the annotations are gone or do not fit, or the disk is full.
    """
    before_writing()
    digest = write_detections(paths.detections, found, meta=dict(meta))
    result = evaluate(annotations, found, image_ids=image_ids)
    before_writing()
    write_json(paths.evaluation, {**meta, **plain(result), "detections_sha256": digest})
    return result


def plain(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as plain data, with the library that made it."""
    return {
        "numbers": evaluation.numbers,
        "per_class": [
            {"id": c.category_id, "name": c.name, "instances": c.instances, "bbox": c.bbox_AP, "segm": c.segm_AP}
            for c in evaluation.per_class
        ],
        "images": evaluation.images,
        "library": evaluation_library(),
    }


def numbers(evaluation: Evaluation) -> dict[str, Any]:
    """The fields of a val row."""
    row: dict[str, Any] = dict(evaluation.numbers)
    for kind in ("bbox", "segm"):
        row[f"{kind}_mAP_copypaste"] = evaluation.copypaste(kind)
    return row


def read_unscored(paths: RunPaths) -> tuple[DetectionTable, dict[str, Any]]:
    """What a test has found that is not scored yet, and the head of its val row.

    Raises UserError where it is damaged.
    """
    try:
        with paths.unscored.open("rb") as file:
            return load(file)
    except ValueError as error:
        raise UserError(f"{paths.unscored}: damaged ({error}); remove it to go on without this evaluation") from None


def score_unscored(paths: RunPaths, attempt: int, annotations: Path, image_ids: Sequence[int]) -> dict[str, Any]:
    """Score what a test in an attempt has found: the fields of its val row.

    Raises UserError as `score` does, and where a later attempt has the run.
    """
    require_own(paths, attempt)  # a later one may have scored it, and removed the file
    found, head = read_unscored(paths)
    meta = {name: head[name] for name in ("checkpoint_sha256", "epoch", "step")}
    result = score(
        found,
        annotations,
        image_ids,
        paths=paths,
        meta=meta,
        before_writing=lambda: require_own(paths, attempt),
    )
    return numbers(result)


def main() -> int:
    """Score what a test of the run in FOLDER has found, as standard input says; print the fields of its val row."""
    parser = argparse.ArgumentParser(prog="python -m harness.training.scorer", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--parent", type=int, required=True, help="leave when this process is gone")
    given = parser.parse_args()
    end_with(given.parent)  # another attempt may score the same
    asked = json.load(sys.stdin)
    try:
        row = score_unscored(RunPaths(given.folder), asked["attempt"], Path(asked["annotations"]), asked["image_ids"])
    except UserError as error:
        sys.stdout.write(json.dumps({"error": str(error), "failure": error.failure}))
        return USER_ERROR
    sys.stdout.write(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
