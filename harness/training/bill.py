"""The bill of a run: where its time went from the start of its first process to the end of the last.

It is computed of what each attempt kept of its times (times.py), with each checkpoint, and of its last sign of life
(notes.py); what lies between two attempts is part of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.training.notes import read_notes
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
LOST = "lost"
"""What attempts that were killed did after they told of it last: the next one goes on from the checkpoint before."""
REQUEUE = "requeue"
"""Between two attempts: the way through the queue."""


def read_times(run: Path) -> list[dict[str, Any]]:
    """What each attempt of a run folder has kept of its times, the first one first, and the seconds that it LOST."""
    found = []
    for file in sorted((run / "attempts").glob(f"*/{FILE}")):
        times = read_json(file)
        heard = max((note.written for note in read_notes(file.parent, [0])), default=0.0)
        found.append({**times, LOST: max(0.0, heard - _told(times)) if times.get("began") else 0.0})
    return found


def bill(attempts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each part; together they are the wall time of the run.

    attempts: as `read_times` gives them. Empty where none tells when it began.
    Of an attempt that was killed, what was done after its last sign of life (Limits.poll) counts as REQUEUE.
    """
    told = [attempt for attempt in attempts if attempt.get("began")]
    found = {
        part: sum(attempt["seconds"].get(phase, 0.0) for attempt in told for phase in phases)
        for part, phases in PARTS.items()
    }
    lost = sum((attempt[LOST] for attempt in told), 0.0)
    ends = [_told(attempt) + attempt[LOST] for attempt in told]
    between = sum((max(0.0, after["began"] - end) for end, after in zip(ends, told[1:], strict=False)), 0.0)
    return {**found, LOST: lost, REQUEUE: between} if told else {}


def _told(times: Mapping[str, Any]) -> float:
    """The end of what an attempt has told of, in seconds since 1970."""
    return float(times["began"] + sum(times["seconds"].values()))


def overhead(parts: Mapping[str, float]) -> float:
    """The share of the wall time in which no training step was done."""
    total = sum(parts.values())
    return 1 - parts["step"] / total if total else 0.0


def allocated(gpus: int, seconds: float) -> float:
    """GPU-hours of so many GPUs for so long, at work or not."""
    return gpus * seconds / 3600


def gpu_hours(attempts: Iterable[Mapping[str, Any]]) -> float:
    """Of all attempts, as `read_times` gives them; what lies between them costs none."""
    return sum(allocated(own.get("gpus", 0), sum(own["seconds"].values()) + own[LOST]) for own in attempts)
