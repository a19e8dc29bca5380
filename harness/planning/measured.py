"""What a run folder tells of the time that a run takes."""

import json
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.run_paths import RunPaths
from harness.training.bill import read_times

CHUNK = 8192
"""Bytes at the end of an attempt's journal that are looked at: about 25 rows of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds that the parts of a run take on the processes that it has; None: not known."""

    iteration_s: float
    image_s: float | None = None  # of a test, scoring included
    start_s: float | None = None  # from the start of the process to the first iteration
    checkpoint_s: float | None = None  # of which the training waits for it
    resume_s: float | None = None  # to go on from a checkpoint; a pilot does so once


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run measured, by its last kind of hardware."""

    rates: Rates
    processes: int
    hardware: str  # such as "8 x NVIDIA H100"
    data_share: float  # of an iteration, waiting for data
    memory_mb: float  # the peak of one process: on its GPU or, of a CPU, all of it
    device: str  # cuda or cpu


def measure(paths: RunPaths) -> Measured | None:
    """What a run that has trained measured; None where it has not written a train row yet.

    An iteration is the median of the last train rows of each attempt (CHUNK), without the first row after each start,
    in which workers and kernels warm up (unless there is no other), and only of attempts on the hardware of the last.
    """
    starts = _starts([row for log in sorted((paths.folder / "attempts").glob("*/log.json")) for row in _recent(log)])
    if not starts:
        return None
    last, _ = starts[-1]
    hardware = last["env_info"]["hardware"]
    kind = (hardware["device"], hardware["count"])
    alike = [rows for first, rows in starts if _device(first) == kind]
    rows = [row for own in alike for row in own[1:]] or [row for own in alike for row in own]
    times = read_times(paths.folder)
    started = [spent for spent in times if spent["seconds"].keys() - {"start", "staging"}]  # and not killed before that
    tested = sum(spent["images"] for spent in times)
    return Measured(
        rates=Rates(
            iteration_s=statistics.median(row["time"] for row in rows),
            image_s=_spent(times, "evaluation", "waiting", "scoring") / tested if tested else None,
            start_s=statistics.median(_started(spent) for spent in started) if started else None,
            checkpoint_s=_each(times, "checkpoint", "checkpoints"),
            resume_s=next((spent["resume"] for spent in times if spent["resume"] is not None), None),
        ),
        processes=int(last["world"]),
        hardware=f"{hardware['count']} x {hardware['device']}",
        data_share=sum(row["data_time"] for row in rows) / sum(row["time"] for row in rows),
        memory_mb=max(row["memory"] for own in alike for row in own),
        device=last["device"],
    )


def _recent(log: Path) -> list[dict[str, Any]]:
    """The first row of a journal, and the last rows. A torn line is no row."""
    with log.open("rb") as file:
        lines = [file.readline()]
        start = max(file.tell(), file.seek(0, os.SEEK_END) - CHUNK)
        file.seek(start)
        lines += file.read().split(b"\n")
    rows = []
    for line in lines:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


def _starts(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(attempt row, train rows after it), where there are any."""
    starts: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for row in rows:
        if row["mode"] == "attempt":
            starts.append((row, []))
        elif row["mode"] == "train" and starts:
            starts[-1][1].append(row)
    return [(first, trained) for first, trained in starts if trained]


def _device(row: dict[str, Any]) -> tuple[str, int]:
    hardware = row["env_info"]["hardware"]
    return hardware["device"], hardware["count"]


def _spent(times: Sequence[dict[str, Any]], *phases: str) -> float:
    return float(sum(spent["seconds"].get(phase, 0.0) for spent in times for phase in phases))


def _started(spent: dict[str, Any]) -> float:
    """A pilot's second start, within the same process, apart."""
    return float(spent["seconds"]["start"] - (spent["resume"] or 0.0))


def _each(times: Sequence[dict[str, Any]], phase: str, counted: str) -> float | None:
    count = sum(spent[counted] for spent in times)
    return _spent(times, phase) / count if count else None
