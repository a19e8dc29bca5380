"""What is known of a run: one typed record, from MLflow or from a committed records.json."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from harness import axes
from harness.errors import UserError
from harness.files import read_json

if TYPE_CHECKING:
    import pandas

    from harness.tracking.query import TrackedRun

SCHEMA = 1
HISTORY = ("bbox_mAP", "segm_mAP")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of a run: where it is (relative to the run root in a records.json), bytes, sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a run was trained and timed on."""

    kind: str  # cuda or cpu
    device: str  # such as NVIDIA H100
    count: int  # processes, one a device


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochAP:
    """The validation AP (0..1) after an epoch, counted from 1; None where it was not computed."""

    epoch: int
    bbox_mAP: float | None
    segm_mAP: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run, finished or not: a cell's recipe with a seed, and what came out."""

    cell: str
    name: str  # the cell's name with its overrides, such as mask_rcnn_r18_fpn_1x_coco+demo
    axes: dict[str, str | bool]
    seed: int
    key: str
    identity: str
    run_id: str  # of MLflow
    started: int  # milliseconds since 1970, UTC
    state: str  # harness.runs.State
    reason: str = ""  # of a failure
    full: bool  # nothing overridden or shortened, in the recipe's precision
    shortening: str = ""
    precision: str  # as executed
    recipe_precision: str
    recipe: dict[str, Any]  # as executed, all fields
    epoch: int  # the last one evaluated; of a running run the one it is in
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation: bbox_mAP ..., 0..1
    history: tuple[EpochAP, ...] = ()
    memory_gb: float | None = None
    memory_kind: str | None = None  # cuda: peak allocated on the device; rss: peak of the process
    fps: float | None = None  # images a second, batch 1
    hardware: Hardware | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool = False  # the code had changes that the commit lacks
    evaluation_library: str = ""
    annotations: dict[str, str] = field(default_factory=dict)  # train, val: sha256
    files: dict[str, FileRecord] = field(default_factory=dict)  # checkpoint, log, config, detections

    @property
    def finished(self) -> bool:
        """Whether its numbers are final."""
        return self.state == "FINISHED"

    @property
    def shown(self) -> str:
        """Name and seed."""
        return f"{self.name} seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a report is made of, besides the matrix file: the content of records.json."""

    schema: int = SCHEMA
    experiment: str
    matrix: str  # the matrix file, as the command to regenerate names it
    run_root: str | None  # folder of the runs, relative to the report's; the files' paths are relative to it
    picture: str | None  # a sample prediction beside the page
    matplotlib: str  # version that drew the plots
    records: tuple[Record, ...]


def ordered(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records in the one order in which they are written, whatever order they came in."""
    return tuple(sorted(records, key=lambda record: (record.name, record.seed, record.key, record.run_id)))


def relative_to(records: Iterable[Record], run_root: Path) -> tuple[Record, ...]:
    """The records with the paths below `run_root` made relative to it, so that they name no machine."""
    return tuple(
        replace(record, files={role: _relative(file, run_root) for role, file in sorted(record.files.items())})
        for record in records
    )


def _relative(file: FileRecord, run_root: Path) -> FileRecord:
    path, root = PurePosixPath(file.path), PurePosixPath(run_root.resolve())
    return replace(file, path=str(path.relative_to(root))) if path.is_relative_to(root) else file


def to_json(snapshot: Snapshot) -> str:
    """records.json: readable, the same bytes for the same records."""
    return json.dumps(asdict(snapshot), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_snapshot(path: Path) -> Snapshot:
    """Read a records.json.

    Raises UserError where it is missing, broken, or written by a newer harness.
    """
    plain = read_json(path)
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise UserError(f"{path}: not records of this harness (schema {SCHEMA} expected); run harness report anew")
    try:
        return TypeAdapter(Snapshot).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; run harness report anew") from None


def frame(records: Iterable[Record]) -> "pandas.DataFrame":
    """One row a run: what names it, its axes, its metrics (0..1), and the rest that is one value."""
    import pandas

    nested = ("axes", "metrics", "hardware", "files", "history", "versions", "recipe", "annotations")
    rows = []
    for record in ordered(records):
        plain = asdict(record)
        flat = {name: value for name, value in plain.items() if name not in nested}
        device = plain["hardware"] or {"kind": None, "device": None, "count": None}
        rows.append(flat | plain["axes"] | plain["metrics"] | device)
    return pandas.DataFrame(rows)
