"""How optuna chooses a study's trials, and which it would end early."""

from hashlib import sha256
from typing import TYPE_CHECKING

from harness.tuning.space import Choice, Dimension, Param
from harness.tuning.study_file import Study

if TYPE_CHECKING:
    import optuna


def suggest(trial: "optuna.Trial", dimension: Dimension) -> Param:
    """The trial's value of a dimension, chosen unless it has been."""
    name = dimension.field
    if isinstance(dimension, Choice):
        chosen: Param = trial.suggest_categorical(name, dimension.params)
        return chosen
    if dimension.whole:
        step = int(dimension.step or 1)
        return int(trial.suggest_int(name, int(dimension.low), int(dimension.high), step=step, log=dimension.log))
    return float(trial.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=dimension.log))


def sampler(study: Study, number: int) -> "optuna.samplers.BaseSampler":
    """The sampler that chooses trial `number`: all that it knows is in the storage, and its random numbers depend on

    the seed and the trial alone, so that a controller that comes back does not choose the same ones again.
    """
    from optuna import samplers

    chosen = study.sampler
    seed = int.from_bytes(sha256(f"{chosen.seed}/{number}".encode()).digest()[:4], "big")
    startup = {} if chosen.startup_trials is None else {"n_startup_trials": chosen.startup_trials}
    match chosen.kind:
        case "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, **startup)
        case "gp":
            return samplers.GPSampler(seed=seed, **startup)
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed)
        case "random":
            return samplers.RandomSampler(seed=seed)


def pruner(study: Study) -> "optuna.pruners.BasePruner":
    """The pruner that judges the values on the way."""
    from optuna import pruners

    chosen = study.pruner
    warmup = chosen.warmup or 0
    startup = 5 if chosen.startup_trials is None else chosen.startup_trials
    match chosen.kind:
        case "none":
            return pruners.NopPruner()
        case "median":
            return pruners.MedianPruner(startup, warmup)
        case "percentile":
            return pruners.PercentilePruner(chosen.percentile or 25.0, startup, warmup)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, warmup))
