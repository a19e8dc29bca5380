"""The best trial and the base of a study, each trained again with seeds that no trial had.

The best of many noisy trials looks better than it is; these trainings, which chose nothing, do not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.intervals import MEASURED, Interval, training_interval
from harness.launching.decide import Action
from harness.launching.prepare import PreparedRun
from harness.launching.restarts import stuck
from harness.launching.retries import failure_of
from harness.launching.slurm_ask import QUEUE_SECONDS
from harness.launching.submit import submit
from harness.launching.wait import wait
from harness.matrix import Experiment
from harness.run_paths import RunPaths, experiment_runs
from harness.run_spec import read_spec
from harness.run_state import RunState, State, read_state
from harness.settings import Settings
from harness.tuning.best import cell_of, front
from harness.tuning.objective import Objective
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The base or the trial, trained again: its finished runs' values by objective, and what became of the others."""

    values: tuple[tuple[float, ...], ...]  # of each objective, by seed; AP in percent
    others: tuple[str, ...]  # such as "seed 102 failed: out of memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remeasured:
    """A trial beside the base of its study, on the seeds of neither."""

    trial: Trial
    base: Side
    best: Side


def is_base(study: Study, trial: Trial) -> bool:
    """Whether a trial has the recipe of the base."""
    return cell_of(study, trial).recipe == study.base.recipe


def experiment_of(study: Study, trial: Trial) -> Experiment:
    """The trainings of the base and of a trial: ordinary runs among those of the study, at its length."""
    return replace(study.experiment((study.base, cell_of(study, trial))), seeds=study.confirm_seeds)


def runs_left(study: Study, found: Sequence[Trial], settings: Settings) -> int:
    """How many trainings would measure again what is the best of these trials."""
    best = front(study, found)
    if not best:
        return study.reruns
    again = remeasured(study, best[0], settings)
    return 0 if is_base(study, best[0]) else len(again.base.others) + len(again.best.others)


def measure_again(
    study: Study, trial: Trial, settings: Settings, on_change: Callable[[PreparedRun, RunState], None]
) -> None:
    """Train what of experiment_of has not been, resume what was stopped, retry what had failed, and wait until all have

    ended. What dies without its own fault on the way is resumed; other failures and what somebody cancels stay so until
    the next call. on_change: see harness.launching.wait.wait.
    Raises UserError where anything that the runs need is missing.
    """
    retry, going = True, True
    while going:
        decisions = submit(experiment_of(study, trial), settings, retry=retry)
        runs = [decision.run for decision in decisions if decision.action != Action.LATER]
        states = wait(runs, settings, on_change)
        died = any(_has_died(run.paths, state) for run, state in zip(runs, states, strict=True))
        retry, going = False, died or len(runs) < len(decisions)
        if not runs:  # the user's queue is full
            time.sleep(QUEUE_SECONDS)


def _has_died(paths: RunPaths, state: RunState) -> bool:
    return state.state == State.FAILED and failure_of(paths, state).from_outside and not stuck(paths)


def remeasured(study: Study, trial: Trial, settings: Settings) -> Remeasured:
    """What is known of these trainings, from their run folders."""
    runs = [paths for paths in experiment_runs(settings.run_root, study.name) if not paths.trial.exists()]
    base, best = (_side(study, planned.name, runs) for planned in experiment_of(study, trial).cells)
    return Remeasured(trial=trial, base=base, best=best)


def _side(study: Study, name: str, runs: Sequence[RunPaths]) -> Side:
    found = {spec.seed: paths for paths in runs if (spec := read_spec(paths)).name == name}
    done, others = [], []
    for seed in study.confirm_seeds:
        state = read_state(found[seed]) if seed in found else None
        values = _values(study, found[seed]) if state and state.state == State.FINISHED else None
        if values:
            done.append(values)
        else:
            others.append(f"seed {seed} {_standing(state)}")
    return Side(values=tuple(zip(*done, strict=True)) or ((),) * len(study.objectives), others=tuple(others))


def _values(study: Study, paths: RunPaths) -> tuple[float, ...] | None:
    """One an objective; None where one was not measured."""
    found = [objective.at_the_end(paths) for objective in study.objectives]
    scaled = zip(study.objectives, found, strict=True)
    return None if None in found else tuple(o.scale * value for o, value in scaled if value is not None)


def _standing(state: RunState | None) -> str:
    if state is None:
        return "has not been trained"
    if state.state == State.FINISHED:
        return "lacks an objective's value"
    return f"{state.state.lower()}{f': {state.reason}' if state.reason else ''}"


def difference(found: Remeasured, index: int) -> Interval | None:
    """Of an objective, the trial minus the base, with the interval of training both again; None with fewer than three

    seeds of one, for nothing is assumed of shortened trainings.
    """
    base, best = found.base.values[index], found.best.values[index]
    return training_interval(base, best) if min(len(base), len(best)) >= MEASURED else None


def verdict(objective: Objective, interval: Interval) -> str:
    """What the interval says."""
    if not interval.excludes_zero:
        return "the two are not told apart"
    return "the trial is better" if objective.better(interval.difference, 0.0) else "the trial is worse"
