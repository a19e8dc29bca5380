"""Trials that end early: pruned, or given up; and those given up that are tried again."""

from dataclasses import replace

from harness.failures import Failure
from harness.launching.cancel import cancel
from harness.launching.local_queue import Home
from harness.launching.restarts import stuck
from harness.launching.retries import failure_of
from harness.launching.standings import Standing
from harness.run_log import merge_log
from harness.run_paths import RunPaths, last_attempt
from harness.run_state import RunState, State, read_state, write_state
from harness.settings import Settings
from harness.trial_file import TrialFile, read_trial, write_trial
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial, judge

HOPELESS = (Failure.BUG, Failure.MISTAKE)
"""What would end a trial the same way again."""


def prune(study: Study, paths: RunPaths, mark: TrialFile, values: dict[int, float]) -> TrialFile:
    """Decide that a trial with these values is to end early. From now on that holds, whoever controls the study."""
    objective = study.objectives[0]
    at = "epoch" if objective.mode == "val" else "iteration"
    last = max(values)
    reason = f"pruned after {at} {last}: {objective.metric} {objective.shown(values[last])}, by {study.pruner.kind}"
    mark = replace(mark, pruned=reason)
    write_trial(paths, mark)
    return mark


def end_pruned(study: Study, settings: Settings, paths: RunPaths, mark: TrialFile, standing: Standing) -> Trial:
    """End a run that is pruned: it saves and leaves, and when it has left, it has finished."""
    if not standing.state.state.ended:
        cancel([paths], Home(settings.run_root))
    else:
        write_state(paths, State.FINISHED, attempt=standing.state.attempt, reason=mark.pruned)
        merge_log(paths)
    return judge(study, paths, mark, read_state(paths))


def give_up_hopeless(paths: RunPaths, mark: TrialFile, state: RunState) -> TrialFile:
    """Give a trial up whose run would die the same way again; its mark, changed or not."""
    if mark.pruned or mark.failed or state.state not in (State.FAILED, State.KILLED):
        return mark
    kind = failure_of(paths, state)
    if kind == Failure.CANCELLED:  # by somebody, who wants it to go on now
        return mark
    why = f"{kind}: {state.reason}" if kind in HOPELESS else stuck(paths)
    return give_up(paths, mark, why) if why else mark


def give_up(paths: RunPaths, mark: TrialFile, why: str) -> TrialFile:
    """Decide that a trial has failed; its new mark."""
    mark = replace(mark, failed=why)
    write_trial(paths, mark)
    return mark


def forgive(paths: RunPaths) -> None:
    """Let the run of a trial that was given up go on, as one that somebody has cancelled."""
    if mark := read_trial(paths):
        write_trial(paths, replace(mark, failed=""))
        reason = "its trial is asked again"
        write_state(paths, State.KILLED, attempt=last_attempt(paths), reason=reason, kind=Failure.CANCELLED)
