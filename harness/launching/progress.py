"""How far a run has come, by what its attempts say: their notes, and the ends of their journals.

Of a journal only the first row and the last rows are read, whatever its length.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import find_json
from harness.run_paths import RunPaths
from harness.run_state import State
from harness.training.notes import Note, read_notes

CHUNK = 32768
"""Bytes of a journal read at a time, from its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one attempt has done."""

    number: int
    job: str | None  # its SLURM job
    node: str | None
    restarts: int  # of the job, before this attempt
    first: dict[str, Any]  # the journal's first row; empty where it has none yet
    train: dict[str, Any]  # its last row of each mode; empty where it has none
    val: dict[str, Any]
    note: Note | None  # of rank 0, while it works

    @property
    def step(self) -> int:
        """Iterations of the run that were done when it was last heard of."""
        told = max(row.get("step", 0) for row in (self.first, self.train, self.val))
        return max(int(told), self.note.step if self.note else 0)

    @property
    def heard(self) -> float:
        """When that was, in seconds since 1970; 0: never."""
        stamps = [row.get("stamp", 0.0) for row in (self.first, self.train, self.val)]
        return float(max(*stamps, self.note.written if self.note else 0.0))

    @property
    def seconds(self) -> float:
        """From its first row on."""
        return max(0.0, self.heard - self.first["time"]) if self.first else 0.0

    @property
    def gpus(self) -> int:
        """A process each."""
        return int(self.first.get("world", 0)) if self.first.get("device") == "cuda" else 0

    @property
    def pace(self) -> float | None:
        """Seconds an iteration, with all that lies between two; None before the first one is done."""
        done = self.step - self.first.get("step", 0)
        return self.seconds / done if done > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    step: int  # iterations that are done; of a run at rest, those that the next attempt need not repeat
    steps: int | None  # in all; None before the first attempt has begun to train
    loss: float | None  # of the last row, as the next one
    iteration_seconds: float | None
    box_ap: float | None  # 0..1
    mask_ap: float | None
    pace: float | None  # seconds an iteration, evaluations and checkpoints included
    heard: float  # when it said something last, in seconds since 1970; 0: never

    @property
    def left(self) -> float | None:
        """Seconds of work that are left; None where nothing tells."""
        return None if self.pace is None or self.steps is None else self.pace * (self.steps - self.step)

    def epoch(self, epochs: int) -> int:
        """The one of so many that it is in, counted from 1; 0 where nothing tells."""
        return min(epochs, self.step * epochs // self.steps + 1) if self.steps else 0


def read_attempts(paths: RunPaths) -> list[Work]:
    """What the attempts of a run have done, the first one first."""
    return [_work(paths, number) for number in _numbers(paths)]


def progress_of(paths: RunPaths, attempts: list[Work], state: State, *, starting: bool = False) -> Progress:
    """How far the run has come that stands so. Of one that works the loss is that of its present attempt.

    starting: that attempt has not come to say anything yet.
    """
    train = next((work.train for work in reversed(attempts) if work.train), {})
    shown = train if state != State.RUNNING else {} if starting or not attempts else attempts[-1].train
    val = next((work.val for work in reversed(attempts) if work.val), {})
    steps = next((work.first["steps"] for work in reversed(attempts) if "steps" in work.first), None)
    result = find_json(paths.result)
    metrics = result["metrics"] if result else val
    at_end = state == State.FINISHED and result is not None  # a trial that was pruned has no result
    return Progress(
        step=steps if at_end and steps else _step(paths, [] if starting else attempts, state),
        steps=steps,
        loss=shown.get("loss"),
        iteration_seconds=shown.get("time"),
        box_ap=metrics.get("bbox_mAP"),
        mask_ap=metrics.get("segm_mAP"),
        pace=next((work.pace for work in reversed(attempts) if work.pace is not None), train.get("time")),
        heard=max((work.heard for work in attempts), default=0.0),
    )


def _numbers(paths: RunPaths) -> list[int]:
    folder = paths.folder / "attempts"
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208
    return sorted(int(name) for name in names if name.isdigit())


def _step(paths: RunPaths, attempts: list[Work], state: State) -> int:
    """That of the newest checkpoint, from which the next attempt goes on; or what the present one has done since."""
    latest = find_json(paths.checkpoints / "latest.json")
    saved = int(latest[-1]["step"]) if latest else None
    done = attempts[-1].step if attempts else 0
    return max(saved or 0, done) if state == State.RUNNING or saved is None else saved


def _work(paths: RunPaths, number: int) -> Work:
    folder = paths.attempt(number)
    job = find_json(folder / "job.json", {})
    rows = journal_ends(folder / "log.json")
    return Work(
        number=number,
        job=job.get("id"),
        node=job.get("node"),
        restarts=job.get("restarts", 0),
        first=rows.get("attempt", {}),
        train=rows.get("train", {}),
        val=rows.get("val", {}),
        note=next(iter(read_notes(folder, [0])), None),
    )


def journal_ends(path: Path) -> dict[str, dict[str, Any]]:
    """The first row of a journal, if it is an attempt's, and its last row of a training and of a validation, by mode.

    Empty where there is none. A torn line is no row.
    """
    found: dict[str, dict[str, Any]] = {}
    with suppress(FileNotFoundError), path.open("rb") as file:
        found["attempt"] = _last_row(file.readline(), "attempt")
        end, rest = file.seek(0, os.SEEK_END), b""
        while end and not (found.get("train") and found.get("val")):
            start = max(0, end - CHUNK)
            file.seek(start)
            text = file.read(end - start) + rest
            if start:  # a line that began before
                rest, _, text = text.partition(b"\n")
            for mode in ("train", "val"):
                found[mode] = found.get(mode) or _last_row(text, mode)
            end = start
    return found


def _last_row(text: bytes, mode: str) -> dict[str, Any]:
    """The last whole row of a mode among these lines; empty where there is none."""
    at, mark = len(text), f'"mode": "{mode}"'.encode()
    while (at := text.rfind(mark, 0, at)) >= 0:
        line = text[text.rfind(b"\n", 0, at) + 1 :].partition(b"\n")[0]
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and row.get("mode") == mode:
                return row
    return {}
