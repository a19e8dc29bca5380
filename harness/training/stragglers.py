"""Ranks that are slower than the others, by the time each spends on its own: loading data, and the forward pass.

The rest of a step says nothing: in the backward pass all wait for the slowest.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

FACTOR = 1.5
"""How much slower than the median a rank is when it is named."""
LEAST_SECONDS = 0.05
"""A step, by which it is slower at least: below that it matters to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A rank that is slower than the others."""

    rank: int
    phase: str
    factor: float
    seconds: float  # a step

    def __str__(self) -> str:
        return f"{self.phase} takes {self.factor:.1f} x the median ({self.seconds:.2f} s a step)"


class Pace:
    """What this rank has spent on its own since it was last asked."""

    def __init__(self) -> None:
        self.data = 0.0
        self.steps = 0
        self._forward = 0.0
        self._began: Any = None
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def measure(self, model: nn.Module, device: torch.device) -> None:
        """Time the model's forward passes in training from now on: by events on a GPU, so that nothing waits for it."""
        cuda = device.type == "cuda"

        def begin(module: nn.Module, inputs: object) -> None:
            self._began = _recorded() if cuda else time.monotonic()

        def end(module: nn.Module, inputs: object, outputs: object) -> None:
            if not module.training:
                return
            if cuda:
                self._events.append((self._began, _recorded()))
            else:
                self._forward += time.monotonic() - self._began

        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end)

    def take(self) -> list[float]:
        """Seconds a step of data and of the forward pass; starts anew."""
        for first, last in self._events:
            last.synchronize()  # passed already where a log row has read the losses
            self._forward += first.elapsed_time(last) / 1000
        steps = max(1, self.steps)
        seconds = [self.data / steps, self._forward / steps]
        self.data, self._forward, self.steps = 0.0, 0.0, 0
        self._events.clear()
        return seconds


def _recorded() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def slow_ranks(table: Sequence[Sequence[float]]) -> list[Slow]:
    """Of a row (data, forward: seconds a step) for each rank, the ranks that are slower than the median.

    Of two ranks the faster one counts as the median.
    """
    found = []
    for column, phase in enumerate(("data", "forward")):
        seconds = [row[column] for row in table]
        median = statistics.median_low(seconds)
        for rank, own in enumerate(seconds):
            if own > FACTOR * median and own - median > LEAST_SECONDS:
                found.append(Slow(rank=rank, phase=phase, factor=own / max(median, 1e-3), seconds=own))
    return found
