"""How much of the scatter of an objective each searched field explains, where there are trials enough to say."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.tuning.best import finished
from harness.tuning.space import Choice, Dimension, param_of
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRIALS_PER_FIELD = 10
"""Finished trials for each searched field, below which a share would be noise."""


def silence(study: Study, found: Sequence[Trial]) -> str:
    """Why nothing can be said of what each field matters; "" where something can."""
    values = [values[0] for _, values in finished(found)]
    if len(values) < TRIALS_PER_FIELD * len(study.space):
        return (
            f"too few finished trials ({len(values)}) to say how much each of {len(study.space)} fields matters: it "
            f"takes {TRIALS_PER_FIELD} a field."
        )
    return "All finished trials reached the same." if len(set(values)) == 1 else ""


def importances(study: Study, found: Sequence[Trial]) -> dict[str, float]:
    """Field -> its share of the variance of the first objective over what was searched (fANOVA, Hutter et al. 2014),

    the largest first. The trials that were pruned or failed say nothing. The same trials give the same numbers.
    """
    import optuna

    space = {dimension.field: _distribution(dimension) for dimension in study.space}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        memory = optuna.create_study(direction=study.objectives[0].direction)
        for trial, values in finished(found):
            params = {name: param_of(trial.params[name]) for name in space}
            memory.add_trial(optuna.create_trial(params=params, distributions=space, value=values[0]))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(memory, evaluator=evaluator))


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna import distributions

    if isinstance(dimension, Choice):
        return distributions.CategoricalDistribution(dimension.params)
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return distributions.IntDistribution(low, high, log=dimension.log, step=step)
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
