"""The bill of a run: where its time went from the start of its first process to the end of the last.

It is computed of what each attempt kept of its times (times.py); what lies between two of them is part of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.training.times import FILE

PARTS = {
    "step": ("step",),
    "data": ("data",),
    "start": ("start", "staging"),
    "evaluation": ("evaluation", "scoring", "waiting"),
    "checkpoint": ("checkpoint",),
    "outcome": ("outcome",),
    "log": ("log",),
}
"""The phases (notes.py) of rank 0 that each part is made of."""
REQUEUE = "requeue"
"""Between two attempts: the way through the queue, and what one that was killed had done since it told of it last."""


def read_times(run: Path) -> list[dict[str, Any]]:
    """What each attempt of a run folder has kept of its times, the first one first."""
    return [read_json(file) for file in sorted((run / "attempts").glob(f"*/{FILE}"))]


def bill(attempts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each part; together they are the wall time of the run.

    attempts: as `read_times` gives them. Empty where none tells when it began.
    """
    told = [attempt for attempt in attempts if attempt.get("began")]
    found = {
        part: sum(attempt["seconds"].get(phase, 0.0) for attempt in told for phase in phases)
        for part, phases in PARTS.items()
    }
    ends = [attempt["began"] + sum(attempt["seconds"].values()) for attempt in told]
    between = sum((max(0.0, after["began"] - end) for end, after in zip(ends, told[1:], strict=False)), 0.0)
    return {**found, REQUEUE: between} if told else {}


def overhead(parts: Mapping[str, float]) -> float:
    """The share of the wall time in which no training step was done."""
    total = sum(parts.values())
    return 1 - parts["step"] / total if total else 0.0


def allocated(gpus: int, seconds: float) -> float:
    """GPU-hours of so many GPUs for so long, at work or not."""
    return gpus * seconds / 3600


def gpu_hours(attempts: Iterable[Mapping[str, Any]]) -> float:
    """Of all attempts; what lies between them costs none."""
    return sum(allocated(attempt.get("gpus", 0), sum(attempt["seconds"].values())) for attempt in attempts)
