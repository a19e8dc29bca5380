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


def training_interval(one: Sequence[float], two: Sequence[float]) -> Interval:
    """Of the difference of two recipes, two minus one, each trained with several seeds (Welch's t).

    A side with fewer than three seeds is taken to scatter with the prior of 0.3 AP.
    """
    error, freedom = _error(one, two)
    width = _quantile((1 + LEVEL) / 2, freedom) * error
    difference = statistics.fmean(two) - statistics.fmean(one)
    return Interval(difference, difference - width, difference + width, assumed=min(len(one), len(two)) < MEASURED)


def chance_of_drop(before: Sequence[float], now: Sequence[float]) -> float:
    """The probability of a drop at least this large, if the two recipes were equally good (one-sided)."""
    error, freedom = _error(before, now)
    drop = statistics.fmean(before) - statistics.fmean(now)
    if error == 0:
        return 0.5 if drop == 0 else float(drop < 0)
    if math.isinf(freedom):
        return 1 - statistics.NormalDist().cdf(drop / error)
    from scipy.stats import t

    return float(t.sf(drop / error, freedom))


def _error(one: Sequence[float], two: Sequence[float]) -> tuple[float, float]:
    """Standard error of the difference of the means, and its degrees of freedom (Welch and Satterthwaite)."""
    parts = [(_variance(values) / len(values), len(values)) for values in (one, two)]
    total = sum(part for part, _ in parts)
    below = sum(part**2 / (count - 1) for part, count in parts if count >= MEASURED)
    return math.sqrt(total), total**2 / below if below else math.inf


def _variance(values: Sequence[float]) -> float:
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
