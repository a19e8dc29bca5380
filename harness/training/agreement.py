"""On what all ranks agree between two iterations: to stop, or to save a checkpoint."""

import math
import time

from harness.training.distributed import Ranks

AGREE_SECONDS = 2.0
"""About this long lies between two agreements of several ranks, since in each one all wait for the slowest."""


class Agreement:
    """The greatest wish of all ranks, asked for after each iteration (or image of an evaluation).

    Ranks have neither the same clock nor the same speed, but must meet at the same iteration. So each agreement also
    settles at which iteration the next one is, by the slowest rank's time an iteration since the last one.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._interval = self._left = 1
        self._since = time.monotonic()

    def on(self, wish: int) -> int:
        """All ranks' greatest wish, the same on all; 0 between agreements. A single process always gets its own."""
        if self.ranks.world == 1:
            return wish
        self._left -= 1
        if self._left:
            return 0
        now = time.monotonic()
        greatest, pace = self.ranks.maxima([wish, (now - self._since) / self._interval])
        wanted = math.ceil(AGREE_SECONDS / max(pace, 1e-6))
        self._interval = self._left = min(wanted, 2 * self._interval)  # one quick iteration is no pace
        self._since = now
        return round(greatest)
