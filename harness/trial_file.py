"""Which trial of which study a run is: trial.json of its folder, written by the study's controller alone."""

from dataclasses import asdict, dataclass
from typing import Any

from harness.files import known_fields, read_json, write_json
from harness.run_paths import RunPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFile:
    """A run's place in a study, and what its controller has decided of it."""

    study: str
    number: int  # the first trial with these parameters; a later one with the same is the same run
    params: dict[str, Any]  # recipe field -> value, as plain data
    pruned: str = ""  # why the run is to end before its end; ignored where it came to its end all the same
    failed: str = ""  # why it is given up


def read_trial(paths: RunPaths) -> TrialFile | None:
    """Which trial the run is; None where it is none."""
    return TrialFile(**known_fields(TrialFile, read_json(paths.trial))) if paths.trial.exists() else None


def write_trial(paths: RunPaths, trial: TrialFile) -> None:
    """Say which trial the run is."""
    write_json(paths.trial, asdict(trial), durable=True)
