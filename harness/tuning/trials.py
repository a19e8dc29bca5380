"""The trials of a study as their run folders have them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from harness.matrix import Experiment
from harness.run_log import merged_rows
from harness.run_paths import RunPaths, experiment_runs
from harness.run_state import RunState, State, read_state
from harness.settings import Settings
from harness.trial_file import TrialFile, read_trial
from harness.tuning.space import Param, param_of
from harness.tuning.study_file import Study


class TrialState(StrEnum):
    """What has become of a trial. A queued, preempted or dead run is RUNNING: it goes on under the same trial."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial: its parameters, its run, and what came out."""

    number: int
    params: dict[str, Any]  # recipe field -> value, as plain data (lists for tuples)
    paths: RunPaths  # of its run
    state: TrialState
    values: tuple[float, ...] | None = None  # one an objective; of a COMPLETE trial alone
    reason: str = ""  # why it was pruned or failed, or where it stands


def trials(study: Study, settings: Settings) -> list[Trial]:
    """The trials of a study that have a run, by number. Neither the storage nor a cluster is asked.

    A trial that repeats the parameters of an earlier one is that one's run, and is not here.
    """
    found = [judge(study, paths, mark, read_state(paths)) for paths, mark in _marked(study, settings)]
    return sorted(found, key=lambda trial: trial.number)


def trials_experiment(study: Study, settings: Settings) -> Experiment:
    """The trials that have a run as an experiment, for all that is done with one."""
    marks = sorted((mark for _, mark in _marked(study, settings)), key=lambda mark: mark.number)
    return study.experiment(tuple(study.cell(mark.number, asked_params(mark.params)) for mark in marks))


def asked_params(params: Mapping[str, Any]) -> dict[str, Param]:
    """A trial's parameters as an optimiser has them."""
    return {name: param_of(value) for name, value in params.items()}


def judge(study: Study, paths: RunPaths, mark: TrialFile, state: RunState) -> Trial:
    """What has become of a trial whose run stands so."""
    trial = Trial(number=mark.number, params=mark.params, paths=paths, state=TrialState.RUNNING, reason=state.reason)
    if state.state == State.FINISHED and paths.result.exists():
        found = {objective.metric: objective.at_the_end(paths) for objective in study.objectives}
        missing = [metric for metric, value in found.items() if value is None]
        if missing:
            return replace(trial, state=TrialState.FAILED, reason=f"it has no {', '.join(missing)}")
        values = tuple(value for value in found.values() if value is not None)
        return replace(trial, state=TrialState.COMPLETE, values=values, reason="")
    if state.state == State.FINISHED:
        return replace(trial, state=TrialState.PRUNED, reason=mark.pruned)
    return replace(trial, state=TrialState.FAILED, reason=mark.failed) if mark.failed else trial


def on_the_way(study: Study, paths: RunPaths) -> dict[int, float]:
    """The intermediate values of a trial: by epoch, or by iteration of what is journaled while training.

    None of a study with several objectives, which is not pruned.
    """
    return study.objectives[0].on_the_way(merged_rows(paths)) if len(study.objectives) == 1 else {}


def _marked(study: Study, settings: Settings) -> list[tuple[RunPaths, TrialFile]]:
    found = ((paths, read_trial(paths)) for paths in experiment_runs(settings.run_root, study.name))
    return [(paths, mark) for paths, mark in found if mark is not None]
