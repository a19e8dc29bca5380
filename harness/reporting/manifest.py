"""The manifest: for every finished run of a row, what files it left and by which sha256 to know them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.published import PublishedRow
from harness.reporting.published_records import published_records
from harness.reporting.records import SCHEMA, FileRecord, Record, read_plain
from harness.reporting.rows import Row

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run of a row: what names it, its AP (0..1), and its files by role: checkpoint, config, log, detections.

    Of a published row nobody knows run, seed and code; its linked backbone name is a file of it, too.
    """

    name: str
    seed: int | None
    full: bool
    run_id: str
    key: str
    identity: str
    commit: str
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json. run_root: where paths start, relative to the manifest's folder."""

    schema: int = SCHEMA
    experiment: str
    run_root: str | None
    rows: tuple[Entry, ...]


def manifest(experiment: str, rows: Iterable[Row], run_root: str | None) -> Manifest:
    """Of the finished runs in the rows."""
    entries = tuple(_entry(record) for row in rows for record in row.finished)
    return Manifest(experiment=experiment, run_root=run_root, rows=entries)


def published_manifest(rows: Iterable[PublishedRow]) -> Manifest:
    """Of what others published, as they linked it."""
    return Manifest(experiment="published", run_root=None, rows=tuple(map(_published, rows)))


def to_json(shown: Manifest) -> str:
    """manifest.json: readable, the same bytes for the same manifest."""
    return json.dumps(asdict(shown), indent=2, ensure_ascii=False) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.json.

    Raises UserError where it is missing, broken, or written by a newer harness.
    """
    return read_plain(path, Manifest, "a manifest")


def _entry(record: Record) -> Entry:
    return Entry(
        name=record.name,
        seed=record.seed,
        full=record.full,
        run_id=record.run_id,
        key=record.key,
        identity=record.identity,
        commit=record.commit,
        metrics={name: record.metrics[name] for name in ("bbox_mAP", "segm_mAP") if name in record.metrics},
        files=dict(sorted(record.files.items())),
    )


def _published(row: PublishedRow) -> Entry:
    (record,) = published_records([row])
    linked = row.linked_backbone
    backbone = {"backbone": FileRecord(path=linked[1], size=None, sha256=None)} if linked else {}
    return Entry(
        name=record.name,
        seed=None,
        full=record.full,
        run_id="",
        key="",
        identity="",
        commit="",
        metrics=record.metrics,
        files=backbone | record.files,
    )
