"""The time that named parts of a step take, by CUDA events or the wall clock; and the host's waits for the device."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Mark = Any  # a torch.cuda.Event, or seconds


class Clock:
    """Sums the milliseconds of parts between two reads. On a GPU nothing waits: it is asked when they are read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spans: list[tuple[str, Mark, Mark]] = []

    @contextmanager
    def timing(self, parts: list[tuple[Any, str, str]]) -> Iterator[None]:
        """Time calls of holder.NAME as a part: (holder, NAME, part)."""
        before = [(holder, name, vars(holder).get(name)) for holder, name, _ in parts]
        for holder, name, part in parts:
            setattr(holder, name, self.timed(part, getattr(holder, name)))
        try:
            yield
        finally:
            for holder, name, own in before:
                if own is None:
                    delattr(holder, name)
                else:
                    setattr(holder, name, own)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call of which is a span of the part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = self._mark()
            result = function(*args, **kwargs)
            self.spans.append((part, start, self._mark()))
            return result

        return call

    def read(self) -> dict[str, float]:
        """Milliseconds of each part since the last read."""
        synchronise(self.device)
        total: dict[str, float] = {}
        for part, start, end in self.spans:
            spent = start.elapsed_time(end) if self.device.type == "cuda" else 1000 * (end - start)
            total[part] = total.get(part, 0.0) + spent
        self.spans.clear()
        return total

    def _mark(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def host_waits(run: Callable[[], object], device: torch.device) -> int | None:
    """How often a run makes the host wait for the GPU, by torch's own count; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)
