"""What others published of the 21 cells, as data: numbers, links, and the known faults of both."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from harness.shipped import shipped_file

VAL_IMAGES = 5000
"""Images of COCO 2017 val, on which all published AP were measured."""


_LINK = re.compile(r"\[(.+)\]\((.+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something known about a published row that its table does not say.

    Kinds: file (the published file itself gives `value`), formerly (an earlier table said `value`), metafile (the
    metafile says `value`), link (the right target is `value`), note.
    """

    name: str  # of the row
    kind: Literal["file", "formerly", "metafile", "link", "note"]
    field: str  # of PublishedRow
    value: str  # empty where there is none
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A row of the two published tables, as published. Numbers are None where the table has "-" or nothing."""

    table: Literal["results", "pretrained"]  # single-scale, multi-scale
    name: str  # of the cell
    backbone: str  # as the table writes it: "R-50-FPN (FP16)", or a link in markdown
    style: str
    schedule: str
    fp16: bool
    multiscale: bool
    mem_gb: float | None
    fps: float | None  # images a second on a V100
    box_ap: float  # percent, as all AP here
    mask_ap: float
    config_url: str
    model_url: str
    log_url: str
    faults: tuple[Fault, ...] = ()

    @property
    def linked_backbone(self) -> tuple[str, str] | None:
        """Text and target of the backbone's name, where that is a link."""
        linked = _LINK.fullmatch(self.backbone)
        return (linked[1], linked[2]) if linked else None

    @property
    def model_file(self) -> str:
        """The file name of the weights."""
        return self.model_url.rpartition("/")[2]

    @property
    def log_file(self) -> str:
        """The file name of the log."""
        return self.log_url.rpartition("/")[2]

    @property
    def sha256_prefix(self) -> str:
        """The first 8 digits of the weights' sha256, which end their file name."""
        return self.model_file.removesuffix(".pth")[-8:]

    def explanations(self) -> list[str]:
        """Why the AP of the published file may differ from the table, a text each."""
        known = (fault for fault in self.faults if fault.field in ("box_ap", "mask_ap"))
        return list(dict.fromkeys(fault.text for fault in known if fault.kind in ("file", "formerly")))


@cache
def published_rows() -> Mapping[str, PublishedRow]:
    """The 21 rows by cell name, in the order of the published tables (experiments/published/mask_rcnn.csv)."""
    faults = TypeAdapter(list[Fault]).validate_python(_read("faults.csv"))
    rows: list[dict[str, Any]] = _read("mask_rcnn.csv")
    for row in rows:
        row |= {name: None for name in ("mem_gb", "fps") if row[name] in ("", "-")}
        row["faults"] = tuple(fault for fault in faults if fault.name == row["name"])
    return {row.name: row for row in TypeAdapter(list[PublishedRow]).validate_python(rows)}


def _read(name: str) -> list[dict[str, Any]]:
    with shipped_file(Path("published", name)).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One AP of a published row beside one measured here, in percent to one decimal, as the tables have it."""

    metric: Literal["bbox_mAP", "segm_mAP"]
    now: float | None  # None where it could not be computed
    published: float
    difference: float | None


def compare(row: PublishedRow, numbers: Mapping[str, float | None]) -> list[Comparison]:
    """Both AP of a row beside those measured (0..1; COCO's -1 is no value)."""
    published: list[tuple[Literal["bbox_mAP", "segm_mAP"], float]] = [
        ("bbox_mAP", row.box_ap),
        ("segm_mAP", row.mask_ap),
    ]
    found = []
    for metric, theirs in published:
        value = numbers.get(metric)
        now = None if value is None or value < 0 else round(100 * value, 1)
        difference = None if now is None else round(now - theirs, 1)
        found.append(Comparison(metric=metric, now=now, published=theirs, difference=difference))
    return found
