"""How long an iteration takes on another number of GPUs, and many runs on a number of nodes."""

import heapq
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.planning.measured import Rates

DOUBLING = 0.965
"""ASSUMPTION, until runs on several numbers of GPUs tell: what each doubling of the GPUs keeps of the ideal speed.

8 GPUs are so 7.2 times as fast as one.
"""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Of data-parallel training: what each doubling of the GPUs keeps of the ideal speed."""

    doubling: float = DOUBLING
    measured: bool = False

    def of(self, before: int, after: int) -> float:
        """The share of the ideal that is left on `after` GPUs of the speed on `before`; above 1 on fewer."""
        return float(self.doubling ** math.log2(after / before))


def efficiency(pairs: Iterable[tuple[int, float, int, float]]) -> Efficiency:
    """By what was measured: (GPUs, seconds an iteration, more GPUs, seconds an iteration of the same work), the median.

    Without a pair, the assumption.
    """
    found = [
        ((before * slow) / (after * fast)) ** (1 / math.log2(after / before)) for before, slow, after, fast in pairs
    ]
    return Efficiency(statistics.median(found), measured=True) if found else Efficiency()


def scaled(rates: Rates, before: int, after: int, keeps: Efficiency) -> Rates:
    """What was measured on `before` GPUs as it would be on `after`, the batch of all together being the same.

    Images of a test are independent of each other: they go at the ideal speed.
    """
    ideal = before / after
    return replace(
        rates,
        iteration_s=rates.iteration_s * ideal / keeps.of(before, after),
        image_s=None if rates.image_s is None else rates.image_s * ideal,
    )


def makespan(jobs: Iterable[tuple[int, float]], places: int) -> float:
    """Seconds until the last of (places, seconds) has ended, where each starts, in this order, when enough are free.

    One that needs more than all places has all of them.
    """
    now, free, ends = 0.0, places, list[tuple[float, int]]()
    for wanted, seconds in jobs:
        width = min(wanted, places)
        while free < width:
            now, given = heapq.heappop(ends)
            free += given
        free -= width
        heapq.heappush(ends, (now + seconds, width))
    return max((end for end, _ in ends), default=now)
