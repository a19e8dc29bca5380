"""How far a difference may be chance: of the images, and of training. The two are never mixed. All AP in percent."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def training_interval(one: Seeds, two: Seeds) -> Interval:
    """Of the difference of two recipes, two minus one, each trained with several seeds (Welch's t).

    A side with fewer than three seeds is taken to scatter with the prior of 0.3 AP.
    """
    return mean_interval([(one, two)])


def mean_interval(pairs: Sequence[tuple[Seeds, Seeds]]) -> Interval:
    """Of the mean over pairs of recipes of their difference, two minus one: what training them all again may change.

    No recipe may stand in two of the pairs. Priors as in training_interval.
    """
    error, freedom = _error(pairs)
    width = _quantile((1 + LEVEL) / 2, freedom) * error
    difference = statistics.fmean(statistics.fmean(two) - statistics.fmean(one) for one, two in pairs)
    assumed = any(len(seeds) < MEASURED for pair in pairs for seeds in pair)
    return Interval(difference, difference - width, difference + width, assumed=assumed)


def chance_of_drop(before: Seeds, now: Seeds) -> float:
    """The probability of a drop at least this large, if the two recipes were equally good (one-sided)."""
    error, freedom = _error([(before, now)])
    drop = statistics.fmean(before) - statistics.fmean(now)
    if error == 0:
        return 0.5 if drop == 0 else float(drop < 0)
    if math.isinf(freedom):
        return 1 - statistics.NormalDist().cdf(drop / error)
    from scipy.stats import t

    return float(t.sf(drop / error, freedom))


def _error(pairs: Sequence[tuple[Seeds, Seeds]]) -> tuple[float, float]:
    """Standard error of the mean difference, and its degrees of freedom (Welch and Satterthwaite)."""
    sides = [seeds for pair in pairs for seeds in pair]
    parts = [(_variance(seeds) / len(seeds) / len(pairs) ** 2, len(seeds)) for seeds in sides]
    total = sum(part for part, _ in parts)
    below = sum(part**2 / (count - 1) for part, count in parts if count >= MEASURED)
    return math.sqrt(total), total**2 / below if below else math.inf


def _variance(values: Seeds) -> float:
    return statistics.variance(values) if len(values) >= MEASURED else PRIOR**2


def _quantile(probability: float, freedom: float) -> float:
    if math.isinf(freedom):
        return statistics.NormalDist().inv_cdf(probability)
    from scipy.stats import t

    return float(t.ppf(probability, freedom))


def holm(chances: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which of several hypotheses fall, so that none falls wrongly but with this probability (Holm 1979)."""
    fallen = [False] * len(chances)
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[index] > level / (len(chances) - rank):
            break
        fallen[index] = True
    return fallen
