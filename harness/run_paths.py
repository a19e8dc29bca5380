"""A run folder: every file of it by name, its attempts, and where the runs of an experiment are.

The folder is the truth while the run lives; MLflow mirrors it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Every file of a run, by name."""

    folder: Path

    @property
    def spec(self) -> Path:
        """What is to be done (RunSpec)."""
        return self.folder / "run.json"

    @property
    def config(self) -> Path:
        """The recipe, flat, for people and for the manifest."""
        return self.folder / "config.json"

    @property
    def state(self) -> Path:
        """Where the run stands (RunState)."""
        return self.folder / "state.json"

    @property
    def job(self) -> Path:
        """The batch job that has the run, if one has."""
        return self.folder / "job.json"

    @property
    def submission(self) -> Path:
        """The code and the matrix file that launchers work with, since the first submit."""
        return self.folder / "submission.json"

    @property
    def trial(self) -> Path:
        """Which trial of a study it is, if it is one (trial_file.py)."""
        return self.folder / "trial.json"

    @property
    def cancelled(self) -> Path:
        """There as soon as somebody has cancelled the run, until it is submitted again."""
        return self.folder / "cancelled"

    @property
    def log(self) -> Path:
        """The journal of all attempts, merged: JSON lines in the published field names."""
        return self.folder / "log.json"

    @property
    def checkpoints(self) -> Path:
        """epoch_N.pth, and latest.json that names the newest with its sha256."""
        return self.folder / "checkpoints"

    @property
    def detections(self) -> Path:
        """The last evaluated epoch's detections, compressed."""
        return self.folder / "detections.json.gz"

    @property
    def unscored(self) -> Path:
        """What the last test has found, until its val row is in the journal (training/scoring.py)."""
        return self.folder / "unscored.npz"

    @property
    def evaluation(self) -> Path:
        """The last epoch's numbers, overall and per class."""
        return self.folder / "evaluation.json"

    @property
    def predictions(self) -> Path:
        """Pictures of sample predictions."""
        return self.folder / "predictions"

    @property
    def curves(self) -> Path:
        """Learning curves."""
        return self.folder / "curves.svg"

    @property
    def result(self) -> Path:
        """What came out: written last, and only by a finished run."""
        return self.folder / "result.json"

    @property
    def benchmark(self) -> Path:
        """Memory and frames a second, measured by themselves (harness benchmark)."""
        return self.folder / "benchmark.json"

    @property
    def tracking(self) -> Path:
        """How far the run has been shipped to MLflow."""
        return self.folder / "tracking.json"

    def attempt(self, number: int) -> Path:
        """The folder of one attempt: its own journal segment and output."""
        return self.folder / f"attempts/{number:04d}"

    def segment(self, number: int) -> Path:
        """The journal segment that only this attempt writes."""
        return self.attempt(number) / "log.json"


def last_attempt(paths: RunPaths) -> int:
    """The number of the attempt that was claimed last, which supersedes those before it; 0 where there is none."""
    found = (paths.folder / "attempts").glob("*")
    return max((int(entry.name) for entry in found if entry.name.isdigit()), default=0)


def require_own(paths: RunPaths, attempt: int) -> None:
    """Called right before anything is written that belongs to the run and not to this attempt.

    Raises UserError where a later attempt has the run: this one may have been away for long (a frozen machine).
    """
    if last_attempt(paths) > attempt:
        raise UserError(f"{paths.folder}: attempt {attempt} gives way to a later one")


def next_attempt(paths: RunPaths) -> int:
    """Claim the next attempt number by creating its folder (exclusive, also on a shared file system)."""
    (paths.folder / "attempts").mkdir(parents=True, exist_ok=True)
    number = 1 + last_attempt(paths)
    while True:
        try:
            os.mkdir(paths.attempt(number))  # noqa: PTH102
        except FileExistsError:
            number += 1
        else:
            return number


def experiment_folder(run_root: Path, experiment: str) -> Path:
    """The folder of an experiment's runs."""
    return run_root / experiment


def experiment_runs(run_root: Path, experiment: str) -> Iterator[RunPaths]:
    """The runs of an experiment that have a specification, sorted by folder name."""
    for spec in sorted(experiment_folder(run_root, experiment).glob("*/run.json")):
        yield RunPaths(spec.parent)
