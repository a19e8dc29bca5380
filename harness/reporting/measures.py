"""What the runs of a row measured, as the tables write it: AP, memory, speed, and on which hardware."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence

from harness.reporting.records import Hardware
from harness.reporting.rows import Row

ABSENT = "-"
"""What stands for a number that was not measured."""
PUBLISHED_DEVICE = "V100"
"""On which all published memory and speed was measured: the columns without the name of a device are of it alone."""
MEMORY, SPEED = "Mem (GB)", "Inf time (fps)"

_NOT_A_NAME = re.compile(r"\b(NVIDIA|Tesla|GeForce|SXM\d*|HBM\w*|\d+ ?GB)\b")


def device(hardware: Hardware) -> str:
    """The short name of what a run was measured on: V100 for a Tesla V100-SXM2-32GB, CPU for any processor."""
    if hardware.kind != "cuda":
        return hardware.kind.upper()
    return " ".join(_NOT_A_NAME.sub("", hardware.device).replace("-", " ").split()) or hardware.device


def devices(rows: Iterable[Row]) -> list[str]:
    """The short names of all that the rows' runs were measured on, the published device first, a CPU last."""
    found = {device(run.hardware) for row in rows for run in row.finished if run.hardware}
    return sorted(found, key=lambda name: (name != PUBLISHED_DEVICE, name == "CPU", name))


def on_device(column: str, name: str) -> str:
    """The column's title for what was measured on this device."""
    return column if name == PUBLISHED_DEVICE else f"{column} on {name}"


def memory(row: Row, name: str) -> list[float]:
    """Gigabytes of each run on the device: of a GPU what was allocated there, of a CPU what the process took."""
    kind = "rss" if name == "CPU" else "cuda"
    runs = (run for run in row.finished if run.hardware and device(run.hardware) == name)
    return [run.memory_gb for run in runs if run.memory_gb is not None and run.memory_kind == kind]


def speed(row: Row, name: str) -> list[float]:
    """Images a second of each run on the device."""
    runs = (run for run in row.finished if run.hardware and device(run.hardware) == name)
    return [run.fps for run in runs if run.fps is not None]


def percentages(row: Row, metric: str) -> list[float]:
    """The finished runs' values in percent; COCO's -1 (nothing of the kind in the data) is not a value."""
    values = (record.metrics.get(metric, math.nan) for record in row.finished)
    return [100 * value for value in values if value >= 0]


def average_precision(row: Row, metric: str) -> str:
    """A metric in percent; of several seeds the mean, the sample standard deviation and how many they are."""
    values = percentages(row, metric)
    if not values:
        return ABSENT
    if len(row.runs) == 1:
        return f"{values[0]:.1f}"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    missing = f" of {len(row.runs)}" if len(values) < len(row.runs) else ""
    return f"{statistics.fmean(values):.1f}{spread} (n={len(values)}{missing})"


def mean(values: Sequence[float]) -> str:
    """One decimal as published; below 1, two digits."""
    if not values:
        return ABSENT
    found = statistics.fmean(values)
    return f"{found:.1f}" if found >= 1 else f"{found:.2g}"


Column = tuple[str, list[str]]
"""Its title, and its text for each row."""


def measured_columns(rows: Sequence[Row]) -> list[Column]:
    """Everything measured; memory and speed of other than the published hardware in columns of their own."""
    found = [_column(MEMORY, memory, PUBLISHED_DEVICE, rows), _column(SPEED, speed, PUBLISHED_DEVICE, rows)]
    for name in devices(rows):
        if name != PUBLISHED_DEVICE:
            others = (_column(MEMORY, memory, name, rows), _column(SPEED, speed, name, rows))
            found += [(title, texts) for title, texts in others if set(texts) != {ABSENT}]
    for title, metric in (("box AP", "bbox_mAP"), ("mask AP", "segm_mAP")):
        found.append((title, [average_precision(row, metric) for row in rows]))
    return found


def _column(title: str, values: Callable[[Row, str], list[float]], name: str, rows: Sequence[Row]) -> Column:
    return on_device(title, name), [mean(values(row, name)) for row in rows]
