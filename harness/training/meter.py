"""Averages over a log interval, kept on the device until they are read."""

from typing import Any

import torch
from torch import Tensor

from harness.training.distributed import Ranks


class Meter:
    """Sums losses on the device and times on the host; reading them is the only synchronisation."""

    first_bad: Tensor | None
    """The first iteration (counted from 1) after which this rank's loss was not finite; -1: none."""
    names: list[str]
    sums: Tensor | None
    count: int
    seconds: float
    data_seconds: float

    def __init__(self) -> None:
        self.first_bad = None
        self._clear()

    def add(self, values: dict[str, Tensor], *, step: int, seconds: float, data_seconds: float) -> None:
        """Add iteration `step`: this rank's values (0-d tensors), among them the loss, and its times."""
        self.names = list(values)
        self._notice(values["loss"], step)
        stacked = torch.stack([value.detach().float() for value in values.values()]).double()
        self.sums = stacked if self.sums is None else self.sums + stacked
        self.count += 1
        self.seconds += seconds
        self.data_seconds += data_seconds

    def read(self, ranks: Ranks) -> dict[str, float]:
        """The averages over iterations and ranks since the last reading, which starts anew; times are this rank's.

        Losses have the 7 digits of a float32, so that the order of summation cannot show.
        """
        row = {name: float(f"{value / self.count:.7g}") for name, value in self._means(ranks).items()}
        row |= {"time": self.seconds / self.count, "data_time": self.data_seconds / self.count}
        self._clear()
        return row

    def state_dict(self, ranks: Ranks) -> dict[str, Any]:
        """The partial sums (means over ranks), for a checkpoint."""
        return {
            "sums": self._means(ranks),
            "count": self.count,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
        }

    def load_state_dict(self, state: dict[str, Any], ranks: Ranks) -> None:
        """Go on from `state_dict`, however many ranks there were; called on all ranks."""
        self._clear()
        self.count = int(state["count"])
        self.seconds, self.data_seconds = float(state["seconds"]), float(state["data_seconds"])
        if state["sums"]:
            self.names = list(state["sums"])
            self.sums = torch.tensor(list(state["sums"].values()), dtype=torch.float64, device=ranks.device)

    def _notice(self, loss: Tensor, step: int) -> None:
        first = torch.full_like(loss, -1, dtype=torch.int64) if self.first_bad is None else self.first_bad
        self.first_bad = first.masked_fill((first < 0) & ~loss.detach().isfinite(), step)

    def _clear(self) -> None:
        self.names = []
        self.sums = None
        self.count = 0
        self.seconds = 0.0
        self.data_seconds = 0.0

    def _means(self, ranks: Ranks) -> dict[str, float]:
        if self.sums is None:
            return {}
        means = ranks.sum(self.sums.clone()) / ranks.world
        return dict(zip(self.names, means.tolist(), strict=True))
