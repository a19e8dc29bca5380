"""What is known of a run: one typed record; many of them as a committed records.json, and as a frame."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError
from harness.files import read_json

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
HISTORY = ("bbox_mAP", "segm_mAP")
"""The metrics of which a record has the value after every epoch."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of a run: where it is (a URL, or a path, relative to the run root in a records.json), bytes, sha256.

    Of a published file the size is not known, and of its sha256 at most the first digits.
    """

    path: str
    size: int | None
    sha256: str | None


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
    numerics: int  # see harness.identity.NUMERICS
    run_id: str  # of MLflow
    started: int  # milliseconds since 1970, UTC
    state: str  # harness.run_state.State
    reason: str = ""  # of a failure
    origin: str = "trained"  # harness.run_spec.Origin
    full: bool  # trained here, nothing overridden or shortened, in the recipe's precision
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
    fps_images: int | None = None  # how many were timed
    gpu_hours: float | None = None  # allocated, of all attempts; 0 on a CPU
    overhead: float | None = None  # share of the wall time in which no training step was done (training/bill.py)
    hardware: Hardware | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool = False  # the code had changes that the commit lacks
    codes: tuple[str, ...] = ()  # digests of the codes that trained it, in order; more than one: no full result
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
    server: str | None = None  # the address of MLflow's pages, where the store is a server
    curves: tuple[str, ...] = ()  # cells, by name or pattern, whose learning curves were chosen
    published: dict[str, tuple[EpochAP, ...]] = field(default_factory=dict)  # of a cell the imported published curve
    records: tuple[Record, ...]


def ordered(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records in the one order in which they are written, whatever order they came in."""
    return tuple(sorted(records, key=order))


def order(record: Record) -> tuple[str, int, str, str]:
    """What `ordered` sorts by."""
    return record.name, record.seed, record.key, record.run_id


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
    plain = TypeAdapter(Snapshot).dump_python(snapshot, warnings=False)  # as asdict, in a twentieth of the time
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_snapshot(path: Path) -> Snapshot:
    """Read a records.json.

    Raises UserError where it is missing, broken, or written by a newer harness.
    """
    return read_plain(path, Snapshot, "records")


def read_plain(path: Path, kind: type[Value], what: str) -> Value:
    """Read a JSON file of this schema that holds a `kind`, a dataclass; `what` names it in messages.

    Raises UserError where it is missing, broken, or of another schema.
    """
    plain = read_json(path)
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise UserError(f"{path}: not {what} of this harness (schema {SCHEMA} expected); run harness report anew")
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; run harness report anew") from None


def frame(records: Iterable[Record]) -> "pandas.DataFrame":
    """One row a run: what names it, its axes, its metrics (0..1), and the rest that is one value."""
    import pandas

    nested = ("codes", "axes", "metrics", "hardware", "files", "history", "versions", "recipe", "annotations")
    rows = []
    for record in ordered(records):
        plain = asdict(record)
        flat = {name: value for name, value in plain.items() if name not in nested}
        device = plain["hardware"] or {"kind": None, "device": None, "count": None}
        rows.append(flat | plain["axes"] | plain["metrics"] | device)
    return pandas.DataFrame(rows)
