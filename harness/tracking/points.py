"""A run's measurements as MLflow metrics: which rows of its files go there, and under which names.

MLflow takes about 0.3 kB a point, so rows are thinned, by the row alone, whatever the attempts and however often a
shipper starts: of a train log the first row of every window of w iterations goes to MLflow, w being the largest power
of two that is at most step / WINDOWS (at least 1). These are all rows at first, then rows that lie 1/200 to 1/400 of
the step apart. Val rows are all kept. System metrics are thinned by the same rule over seconds where they are sampled
(system.py). A run of 270,000 iterations on eight GPUs has so less than 50,000 points; log.json, an artifact of the run,
holds every row.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WINDOWS = 200
UPDATED = "harness/updated"
"""When the run was last heard of, in seconds since 1970: the last point of every batch, so that a reader who finds the

value that it knows has nothing new to read of a run that works.
"""
SETTLED = "harness/settled"
"""When the store was last told anything of a run that has ended, by whatever code: after all else, as `UPDATED`."""


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    timestamp: int  # milliseconds since 1970
    step: int  # optimiser iterations since the start of the run, if not said otherwise


def window(position: int, windows: int = WINDOWS) -> tuple[int, int]:
    """The thinning window (its width and its number) that holds a position, such as a step of the train log."""
    width = 1 << max(0, (position // windows).bit_length() - 1)
    return width, position // width


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What only one row may carry to MLflow: a train row its window, a val row its step, a system row its second;

    None for other rows.
    """
    match row.get("mode"):
        case "train":
            return ("train", *window(int(row["step"])))
        case "val":
            return ("val", int(row["step"]))
        case "system":
            return ("system", row["node"], row["seconds"])
    return None


def points(row: Mapping[str, Any], trained: Mapping[str, Any] | None = None) -> list[Point]:
    """The numbers of a row. What is not finite becomes NaN, as MLflow would draw an infinity as 1.8e308.

    train: train/NAME against the iteration, and the plain epoch, which MLflow's charts can take as their x axis.
    val: val/NAME against the iteration, and by_epoch/NAME against the epoch, there with the losses and the rate of
    `trained`, the last train row before it.
    system: system/NAME, as MLflow's own system metrics, against the seconds since the node's first sample; of several
    nodes system/nodeN/NAME.
    """
    match row["mode"]:
        case "train":
            return _named(row, "train/", int(row["step"]))
        case "val":
            against_epoch = {**_losses(trained or {}), **{k: v for k, v in row.items() if k != "epoch"}}
            by_epoch = _named({**against_epoch, "stamp": row["stamp"]}, "by_epoch/", int(row["epoch"]))
            return _named(row, "val/", int(row["step"])) + by_epoch
        case "system":
            node = f"node{row['node']}/" if row["nodes"] > 1 else ""
            return _named(row["values"] | {"stamp": row["stamp"]}, f"system/{node}", int(row["seconds"]))
    return []


def _losses(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith("loss") or name in ("lr", "acc")}


def _named(row: Mapping[str, Any], prefix: str, step: int) -> list[Point]:
    timestamp = round(row["stamp"] * 1000)
    return [
        Point("epoch" if prefix + name == "train/epoch" else prefix + name, finite(value), timestamp, step)
        for name, value in row.items()
        if name not in ("iter", "step", "stamp") and _is_number(value)
    ]


def updated(stamp: float, start: float) -> Point:
    """The mark that a batch ends with. Its step, milliseconds since the run's start, makes the newest the latest."""
    return Point(UPDATED, stamp, round(stamp * 1000), round((stamp - start) * 1000))


def settled(now: float, start: float) -> Point:
    """The mark that what is told of a run that has ended closes with."""
    return updated(now, start)._replace(key=SETTLED)


def result_points(result: Mapping[str, Any], timestamp: int) -> list[Point]:
    """What a finished run measured: memory_gb, fps, images_per_second, train_seconds, gpu_hours, and the share of the

    time that was no training step; absent where not measured.
    """
    memory = result.get("memory_mb")
    values = {
        "memory_gb": None if memory is None else memory / 1024,
        "fps": result.get("fps"),
        "images_per_second": result.get("images_per_second"),
        "train_seconds": result.get("train_seconds"),
        "gpu_hours": result.get("gpu_hours"),
        "overhead": result.get("overhead"),
    }
    step = int(result["iterations"])
    return [Point(name, finite(value), timestamp, step) for name, value in values.items() if value is not None]


def benchmark_points(found: Mapping[str, Any]) -> list[Point]:
    """What `harness benchmark` measured, as benchmark/NAME, on whatever machine: benchmark.json says which."""
    values = {"memory_gb": found["memory_mb"] / 1024, **{name: found[name] for name in ("fps", "median_s", "p90_s")}}
    timestamp = round(1000 * found["time"])
    return [Point(f"benchmark/{name}", finite(value), timestamp, 0) for name, value in values.items()]


def last_train_row(rows: Iterable[Mapping[str, Any]], step: int) -> Mapping[str, Any] | None:
    """The train row with the largest step up to `step`; of several of one step the first."""
    found = [row for row in rows if row.get("mode") == "train" and int(row["step"]) <= step]
    return max(found, key=lambda row: int(row["step"]), default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: float) -> float:
    """The number, or NaN for an infinity."""
    return float(value) if math.isfinite(value) else math.nan
