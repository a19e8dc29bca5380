"""Averages over a log interval, kept on the device until they are read."""

from typing import Any

import torch
from torch import Tensor

from harness.training.distributed import Ranks


class Meter:
    """Sums losses on the device and times on the host; reading the averages is the only synchronisation."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.count = 0
        self.seconds = 0.0
        self.data_seconds = 0.0

    def add(self, values: dict[str, Tensor], *, seconds: float, data_seconds: float) -> None:
        """Add one iteration's values (means over its micro-batches on this rank)."""
        self.names = list(values)
        stacked = torch.stack([value.detach().float() for value in values.values()]).double()
        self.sums = stacked if self.sums is None else self.sums + stacked
        self.count += 1
        self.seconds += seconds
        self.data_seconds += data_seconds

    def read(self, ranks: Ranks) -> dict[str, float]:
        """The averages over iterations and ranks since the last reading, which starts anew."""
        assert self.sums is not None
        means = (ranks.sum(self.sums.clone()) / (self.count * ranks.world)).tolist()
        row = dict(zip(self.names, means, strict=True))
        row |= {"time": self.seconds / self.count, "data_time": self.data_seconds / self.count}
        self.__init__()  # type: ignore[misc]
        return row

    def state_dict(self) -> dict[str, Any]:
        """The partial averages, for a checkpoint."""
        sums = None if self.sums is None else self.sums.tolist()
        return {
            "names": self.names,
            "sums": sums,
            "count": self.count,
            "seconds": self.seconds,
            "data_seconds": self.data_seconds,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from `state_dict`."""
        sums = state["sums"]
        self.names, self.count = list(state["names"]), int(state["count"])
        self.sums = None if sums is None else torch.tensor(sums, dtype=torch.float64, device=device)
        self.seconds, self.data_seconds = float(state["seconds"]), float(state["data_seconds"])
