"""How many trials a study's budget allows, and how many at the same time."""

from harness.launching.status import status_rows
from harness.run_state import State
from harness.settings import LOCAL, Settings
from harness.tuning.study_file import Study
from harness.tuning.trials import trials_experiment

PARALLEL = 4
"""Trials at the same time on a cluster, if the study does not say."""


def at_once(study: Study, settings: Settings) -> int:
    """How many trials are at work at the same time."""
    return study.budget.parallel or (settings.local_jobs if settings.cluster == LOCAL else PARALLEL)


def room(study: Study, settings: Settings, asked: int, working: int) -> int:
    """How many further trials may begin now, `asked` having begun, of which `working` have not ended."""
    free = min(study.budget.trials - asked, at_once(study, settings) - working)
    if free <= 0:
        return 0
    affordable = _affordable(study, settings)
    return free if affordable is None else min(free, affordable)


def _affordable(study: Study, settings: Settings) -> int | None:
    """How many further trials the GPU-hours suffice for, with the reruns after them; None where they are not

    bounded, or nothing tells.
    """
    bound = study.budget.gpu_hours
    if bound is None:
        return None
    rows = status_rows(trials_experiment(study, settings), settings)
    each = [row.gpu_hours for row in rows if row.state == State.FINISHED]
    going = (State.QUEUED, State.RUNNING)
    used = sum(max(row.gpu_hours, (row.state in going and row.gpu_hours_expected) or 0.0) for row in rows)
    left = bound - used
    if left <= 0:
        return 0
    mean = sum(each) / len(each) if each else 0.0
    reruns = study.reruns - sum(row.seed != study.seed for row in rows)
    return max(0, int(left / mean) - max(0, reruns)) if mean else None
