"""How far a number or a difference may be chance: of the images, and of training. The two are never mixed.

All AP in percent.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRIOR = 0.3
"""Standard deviation of a recipe's AP over seeds, assumed where fewer than MEASURED seeds tell it."""
MEASURED = 3
"""Seeds from which their own deviation is used."""
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, the bounds within which it lies at LEVEL, and whether those rest on the prior."""

    difference: float
    low: float
    high: float
    assumed: bool = False

    @property
    def excludes_zero(self) -> bool:
        """Whether it tells the two apart."""
        return self.low > 0 or self.high < 0


def image_interval(difference: float, resampled: "NDArray[np.float64]") -> Interval:
    """Of a difference of checkpoints, from the differences in resampled sets of images (percentile bootstrap)."""
    import numpy as np

    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(difference, float(low), float(high))


Seeds = Sequence[float]
"""The AP of a recipe's seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """A number of a recipe over its seeds; None where these are too few to tell."""

    count: int
    mean: float
    deviation: float | None  # of the sample; None of a single seed
    bounds: tuple[float, float] | None  # within which the recipe's true mean lies at LEVEL (Student's t)
    assumed: bool = False  # the bounds rest on the prior


def over_seeds(seeds: Seeds, *, prior: bool = True) -> OverSeeds:
    """Of at least one seed. prior: fewer than three are taken to scatter with the prior of 0.3 AP; else no bounds."""
    mean, count = statistics.fmean(seeds), len(seeds)
    bounds = None
    if prior or count >= MEASURED:
        width = _width([seeds])
        bounds = mean - width, mean + width
    return OverSeeds(
        count=count,
        mean=mean,
        deviation=statistics.stdev(seeds) if count > 1 else None,
        bounds=bounds,
        assumed=prior and count < MEASURED,
    )


def training_interval(one: Seeds, two: Seeds) -> Interval:
    """Of the difference of two recipes, two minus one, each trained with several seeds (Welch's t).

    A side with fewer than three seeds is taken to scatter with the prior of 0.3 AP.
    """
    return mean_interval([(one, two)])


def mean_interval(pairs: Sequence[tuple[Seeds, Seeds]]) -> Interval:
    """Of the mean over pairs of recipes of their difference, two minus one: what training them all again may change.

    No recipe may stand in two of the pairs. Priors as in training_interval.
    """
    width = _width([seeds for pair in pairs for seeds in pair], len(pairs))
    difference = statistics.fmean(statistics.fmean(two) - statistics.fmean(one) for one, two in pairs)
    assumed = any(len(seeds) < MEASURED for pair in pairs for seeds in pair)
    return Interval(difference, difference - width, difference + width, assumed=assumed)


def chance_of_drop(before: Seeds, now: Seeds) -> float:
    """The probability of a drop at least this large, if the two recipes were equally good (one-sided)."""
    import numpy as np

    return float(chances_of_drop(np.array(before, np.float64), np.array(now, np.float64)))


def chances_of_drop(before: "NDArray[np.float64]", now: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """As chance_of_drop of many pairs at once: ... x seeds, each."""
    import numpy as np
    from scipy.stats import t

    error, freedom = _error([before, now])
    with np.errstate(divide="ignore", invalid="ignore"):
        score = (before.mean(axis=-1) - now.mean(axis=-1)) / error
    chances: NDArray[np.float64] = np.where(np.isnan(score), 0.5, t.sf(score, freedom))
    return chances


def _error(recipes: Sequence[Any], pairs: int = 1) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Standard error of a sum or difference of the recipes' means, divided by `pairs`, and its degrees of freedom

    (Welch and Satterthwaite). recipes: the AP of one's seeds, or of many draws of them: ... x seeds.
    """
    import numpy as np

    seeds = [np.asarray(values, np.float64) for values in recipes]
    parts = [(_variance(values) / values.shape[-1] / pairs**2, values.shape[-1]) for values in seeds]
    total = np.sum([part for part, _ in parts], axis=0)
    below = np.sum([part**2 / (count - 1) if count >= MEASURED else 0 * part for part, count in parts], axis=0)
    freedom = np.divide(total**2, below, out=np.full_like(total, np.inf), where=below > 0)
    return np.sqrt(total), freedom


def _variance(seeds: "NDArray[np.float64]") -> "NDArray[np.float64]":
    import numpy as np

    if seeds.shape[-1] < MEASURED:
        return np.full(seeds.shape[:-1], PRIOR**2)
    own: NDArray[np.float64] = seeds.var(axis=-1, ddof=1)
    return own


def _width(recipes: Sequence[Seeds], pairs: int = 1) -> float:
    """Half of the interval at LEVEL of a mean with this _error."""
    error, freedom = map(float, _error(recipes, pairs))
    if math.isinf(freedom):
        return error * statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
    from scipy.stats import t

    return error * float(t.ppf((1 + LEVEL) / 2, freedom))


def holm(chances: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which of several hypotheses fall, so that none falls wrongly but with this probability (Holm 1979)."""
    fallen = [False] * len(chances)
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[index] > level / (len(chances) - rank):
            break
        fallen[index] = True
    return fallen
