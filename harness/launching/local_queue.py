"""The queue of the local launcher: an entry a run, on disk, so that nothing is lost whoever is killed.

The supervisor takes from it; a submit queues runs, and an attempt at its time limit queues its own run again.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.files import read_json, write_json
from harness.launching.frozen_code import Submission, write_submission
from harness.run_paths import RunPaths, last_attempt
from harness.run_spec import read_spec
from harness.run_state import State, read_state, write_state


@dataclass(frozen=True, slots=True)
class Home:
    """The supervisor's files in a run root."""

    run_root: Path

    @property
    def folder(self) -> Path:
        """Hidden beside the experiments."""
        return self.run_root / ".supervisor"

    @property
    def lease(self) -> Path:
        """Who is the supervisor."""
        return self.folder / "lease"

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "log.txt"

    @property
    def queue(self) -> Path:
        """An entry a queued run; the names sort in the order of queueing."""
        return self.folder / "queue"

    @property
    def enqueueing(self) -> Path:
        """The lease of whoever decides what to queue."""
        return self.folder / "enqueueing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A queued run."""

    folder: str  # of the run
    minutes: int  # its time limit
    gpus: int  # a process each; 0: one process on the CPU
    attempts: int  # the run had when it was queued


def enqueue(home: Home, paths: RunPaths, submission: Submission, *, minutes: int, gpus: int) -> None:
    """Queue a run, whatever job it had."""
    paths.job.unlink(missing_ok=True)
    paths.cancelled.unlink(missing_ok=True)
    write_submission(paths, submission)
    write_state(paths, State.QUEUED, attempt=read_state(paths).attempt)
    _append(home, Job(folder=str(paths.folder.resolve()), minutes=minutes, gpus=gpus, attempts=last_attempt(paths)))


def start_next(paths: RunPaths, attempt: int) -> None:
    """Queue the run again for when this attempt, which works on it now, has called it QUEUED."""
    gpus, minutes = len(read_json(gpu_file(paths, attempt))), int(read_spec(paths).resources["minutes"])
    home = Home(paths.folder.parent.parent)
    _append(home, Job(folder=str(paths.folder.resolve()), minutes=minutes, gpus=gpus, attempts=attempt - 1))


def _append(home: Home, job: Job) -> None:
    name = f"{time.time_ns():020d}-{Path(job.folder).name[-40:]}.json"
    write_json(home.queue / name, asdict(job))


def queued_folders(home: Home) -> set[str]:
    """The folders of the runs that wait in the queue."""
    return {job.folder for job in map(queued_job, waiting(home)) if job}


def withdraw(home: Home, paths: RunPaths) -> bool:
    """Take a run out of the queue; whether it was there."""
    folder = str(paths.folder.resolve())
    entries = [entry for entry in waiting(home) if (job := queued_job(entry)) and job.folder == folder]
    for entry in entries:
        entry.unlink(missing_ok=True)
    return bool(entries)


def waiting(home: Home) -> list[Path]:
    """The entries of the queue, first the oldest."""
    return sorted(home.queue.glob("*.json"))


def queued_job(entry: Path) -> Job | None:
    """The queued run, or None where the entry has just been taken."""
    try:
        return Job(**json.loads(entry.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def gpu_file(paths: RunPaths, attempt: int) -> Path:
    """The GPUs that an attempt of the local launcher was given; other attempts have no such file."""
    return paths.attempt(attempt) / "gpus.json"


def local_gpus(wanted: int, jobs: int) -> int:
    """GPUs of this machine for one of `jobs` runs at a time; 0 on a machine without."""
    if wanted == 0:
        return 0
    import torch

    return min(wanted, torch.cuda.device_count() // jobs)
