"""What the runs of a row measured, as the tables write it: AP, memory, speed, and on which hardware."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

from harness.intervals import LEVEL, MEASURED, PRIOR, over_seeds
from harness.reporting.records import Hardware
from harness.reporting.rows import Row

ABSENT = "-"
"""What stands for a number that was not measured."""
PUBLISHED_DEVICE = "V100"
"""On which all published memory and speed was measured: the columns without the name of a device are of it alone."""
MEMORY, SPEED, HOURS = "Mem (GB)", "Inf time (fps)", "GPU-hours"

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


def gpu_hours(row: Row) -> list[float]:
    """GPU-hours of each run on GPUs."""
    return [run.gpu_hours for run in row.finished if run.gpu_hours]


def percentages(row: Row, metric: str) -> list[float]:
    """The finished runs' values in percent; COCO's -1 (nothing of the kind in the data) is not a value."""
    values = (record.metrics.get(metric, math.nan) for record in row.finished)
    return [100 * value for value in values if value >= 0]


ASSUMED = f"fewer than {MEASURED} seeds: the {LEVEL:.0%} interval assumes that AP scatters by {PRIOR} over seeds"
"""The note of a row whose intervals rest on the prior."""


def interval_notes(row: Row) -> list[str]:
    """What is to be said of the intervals in a row of several seeds."""
    few = any(0 < len(percentages(row, metric)) < MEASURED for metric in ("bbox_mAP", "segm_mAP"))
    return [ASSUMED] if few and len(row.runs) > 1 else []


def average_precision(row: Row, metric: str) -> str:
    """A metric in percent, as over_runs."""
    return over_runs(percentages(row, metric), len(row.runs), decimals=1, prior=True)


def over_runs(values: Sequence[float], runs: int, *, decimals: int | None = None, prior: bool = False) -> str:
    """The values of those of a cell's `runs` that have finished: of one seed "38.3", of several mean, sample standard

    deviation, interval and how many they are: "38.3 ± 0.3 [37.6, 38.9] (n=3 of 4)". decimals: None for one as
    published, and below 1 for two digits. prior: whether fewer than three seeds have an interval, too.
    """
    if not values:
        return ABSENT
    found = over_seeds(values, prior=prior)
    digits = _decimals(found.mean) if decimals is None else decimals
    if runs == 1:
        return f"{found.mean:.{digits}f}"
    spread = "" if found.deviation is None else f" ± {found.deviation:.{digits}f}"
    bounds = "" if found.bounds is None else " [{}, {}]".format(*(f"{bound:.{digits}f}" for bound in found.bounds))
    missing = f" of {runs}" if found.count < runs else ""
    return f"{found.mean:.{digits}f}{spread}{bounds} (n={found.count}{missing})"


def _decimals(value: float) -> int:
    return 1 if value >= 1 or value <= 0 else 1 - math.floor(math.log10(value))


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
    hours = [over_runs(gpu_hours(row), len(row.runs)) for row in rows]
    return [*found, *([(HOURS, hours)] if set(hours) != {ABSENT} else [])]


def _column(title: str, values: Callable[[Row, str], list[float]], name: str, rows: Sequence[Row]) -> Column:
    return on_device(title, name), [over_runs(values(row, name), len(row.runs)) for row in rows]
