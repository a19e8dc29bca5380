"""Reading the training logs of mmdetection 2.x (*.log.json), whatever became of them: recipes, "the published logs".

JSON lines: perhaps first a dictionary about the environment; then train records, whose `iter` counts within the epoch,
and a val record an epoch, whose `iter` may be a number of validation batches and is not used.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import UserError

COCO_ITERATIONS = {1: 7330, 3: 21988}
"""Passes over COCO 2017 an epoch -> its iterations at batch 16, of which a log that is written every 50 shows 7300 and

21950. Of the 117,266 images those wider than high, a, and the others, b, are padded to the batch each by themselves:
ceil(n a / 16) + ceil(n b / 16) iterations for n passes. For 3 these are 21,989 where 3 a leaves 1 to 5 when it is
divided by 16, and else 21,988; a is not known here, so that it may be one more.
"""
FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
"""The names that a record's fields may have."""
LARGEST = 10**7
"""Epochs and iterations are below; what is more is no log's."""
LONGEST = 3600.0
"""Seconds; what takes an iteration longer is not believed."""
DATE = re.compile(r"(20\d{6})_(\d{6})")
VERSION = re.compile(r"^(Python|PyTorch|TorchVision|OpenCV|MMCV|MMDetection)\s*:\s*([\w.+-]{1,100})", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLog:
    """A log of mmdetection 2.x in the form of our journal."""

    environment: dict[str, Any]  # its first line; empty where it has none
    iterations: int  # an epoch
    rows: list[dict[str, Any]]  # train and val rows with `step` and `stamp`, by step
    skipped: int  # lines that cannot be read, or say no epoch or iteration that can be
    repeated: int  # records of an iteration or epoch that a later one replaces
    start: float  # seconds since 1970

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version, as far as the first line tells them."""
        found = {name.lower(): version for name, version in VERSION.findall(str(self.environment.get("env_info", "")))}
        own = re.fullmatch(r"[\w.+-]{1,100}", str(self.environment.get("mmdet_version", "")))
        return found | ({"mmdetection": own[0]} if own else {})

    def of(self, mode: str) -> list[dict[str, Any]]:
        """The rows of a mode."""
        return [row for row in self.rows if row["mode"] == mode]


def read_published_log(path: Path, *, expected: int | None) -> PublishedLog:
    """Read a log. Of records that a resumed training repeats the last counts, as its weights are those that went on.

    expected: an epoch's iterations, where they are known, for a log that is without the last, partial interval of an
    epoch and so does not tell them. A step is epoch x iterations + iter; a row's `stamp` is the date in the file's name
    (else the file's) plus the iterations' times. Of a record's fields those are kept that are numbers.
    Raises UserError where the file is missing or holds no training records.
    """
    environment, records, skipped = _records(path)
    train: dict[tuple[int, int], dict[str, Any]] = {}
    val: dict[int, dict[str, Any]] = {}
    repeated = 0
    for record in records:
        if record["mode"] == "train":
            repeated += (record["epoch"], record["iter"]) in train
            train[record["epoch"], record["iter"]] = record
        else:
            repeated += record["epoch"] in val
            val[record["epoch"]] = record
    if not train:
        raise UserError(f"{path}: holds no training records; expected a *.log.json of mmdetection 2.x")
    iterations = _iterations((place for _, place in train), expected)
    rows = [
        *(row | {"step": (epoch - 1) * iterations + place} for (epoch, place), row in train.items()),
        *(row | {"iter": iterations, "step": epoch * iterations} for epoch, row in val.items()),
    ]
    rows.sort(key=lambda row: (row["step"], row["mode"]))
    start = _start(path)
    return PublishedLog(
        environment=environment,
        iterations=iterations,
        rows=list(_stamped(rows, start)),
        skipped=skipped,
        repeated=repeated,
        start=start,
    )


def _records(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The first line about the environment, the train and val records, and the number of lines that are neither."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a *.log.json of mmdetection 2.x") from None
    environment: dict[str, Any] = {}
    records, skipped = [], 0
    for line in filter(str.strip, lines):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if _is_record(value):
            records.append(_clean(value))
        elif isinstance(value, dict) and "mode" not in value:
            environment = environment or value
        else:
            skipped += 1
    return environment, records, skipped


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("mode") not in ("train", "val"):
        return False
    places = [value.get("epoch")] + ([value.get("iter")] if value["mode"] == "train" else [])
    return all(type(place) is int and 0 < place < LARGEST for place in places)


def _clean(record: Mapping[str, Any]) -> dict[str, Any]:
    """The mode and the fields that are numbers under a name."""
    numbers = {name: value for name, value in record.items() if FIELD.fullmatch(name) and _is_number(value)}
    return {"mode": record["mode"], **numbers}


def _is_number(value: Any) -> bool:
    """Whether it is a number of JSON that a float can hold; NaN and infinities are."""
    if type(value) not in (int, float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _iterations(places: Iterable[int], expected: int | None) -> int:
    """An epoch's: the largest iteration seen, or what is expected where the next record would have come after it."""
    found = sorted(set(places))
    interval = min((after - before for before, after in pairwise(found)), default=found[0])
    return expected if expected and found[-1] <= expected < found[-1] + interval else found[-1]


def _start(path: Path) -> float:
    named = DATE.search(path.name)
    if named is None:
        return round(path.stat().st_mtime, 3)
    try:
        return datetime.strptime("".join(named.groups()), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return round(path.stat().st_mtime, 3)


def _stamped(rows: list[dict[str, Any]], start: float) -> Iterable[dict[str, Any]]:
    stamp, before = start, 0
    for row in rows:
        if row["mode"] == "train":
            stamp += (row["step"] - before) * _seconds(row)
            before = row["step"]
        yield row | {"stamp": round(stamp, 3)}


def _seconds(row: Mapping[str, Any]) -> float:
    """The mean time of an iteration; 0 where it is not told."""
    value = float(row.get("time", 0.0))
    return value if 0 < value < LONGEST else 0.0
