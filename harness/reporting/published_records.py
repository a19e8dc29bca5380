"""The rows of the published tables as records: what others measured, nothing of it here."""

from collections.abc import Iterable

from harness.cell import parse_name
from harness.identity import NUMERICS
from harness.published import PublishedRow
from harness.recipe import to_dict
from harness.reporting.measures import PUBLISHED_DEVICE
from harness.reporting.records import FileRecord, Hardware, Record

ORIGIN = "as published"
"""Of these records: no run of ours has it."""
TIMED = 2000
"""Images that the published speed was timed on (mmdetection 2.x, tools/analysis_tools/benchmark.py)."""


def published_records(rows: Iterable[PublishedRow]) -> list[Record]:
    """A record for each published row, in the same order. Seed 0 stands for the one that nobody wrote down."""
    return [_record(row) for row in rows]


def _record(row: PublishedRow) -> Record:
    cell = parse_name(row.name)
    recipe = cell.recipe()
    return Record(
        cell=row.name,
        name=row.name,
        axes=cell.point,
        seed=0,
        key="",
        identity="",
        numerics=NUMERICS,
        run_id="",
        started=0,
        state="FINISHED",
        origin=ORIGIN,
        full=False,  # nothing of it was trained here
        precision=recipe.precision,
        recipe_precision=recipe.precision,
        recipe=to_dict(recipe),
        epoch=recipe.epochs,
        epochs=recipe.epochs,
        metrics={"bbox_mAP": round(row.box_ap / 100, 3), "segm_mAP": round(row.mask_ap / 100, 3)},
        memory_gb=row.mem_gb,
        memory_kind=None if row.mem_gb is None else "cuda",
        fps=row.fps,
        fps_images=None if row.fps is None else TIMED,
        hardware=Hardware(kind="cuda", device=PUBLISHED_DEVICE, count=8),
        files={
            "checkpoint": FileRecord(path=row.model_url, size=None, sha256=row.sha256_prefix),
            "config": FileRecord(path=row.config_url, size=None, sha256=None),
            "log": FileRecord(path=row.log_url, size=None, sha256=None),
        },
    )
