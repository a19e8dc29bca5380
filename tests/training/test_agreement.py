"""When ranks agree: never sooner than they must, at iterations that all know beforehand, and never apart."""

import threading
import time
from typing import Any

import pytest

from harness.training import agreement as agreement_module
from harness.training.agreement import Agreement
from harness.training.distributed import Ranks


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_one_process_gets_its_own_wish_each_time() -> None:
    agreement = Agreement(Ranks())
    assert [agreement.on(wish) for wish in (0, 1, 2, 0)] == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.25, [1, 3, 7, 15, 23, 31, 39]),  # 8 iterations take 2 s; doubling up to there
        (3.0, [1, 2, 3, 4, 5]),  # each one takes longer than that
        (1.0, [1, 3, 5, 7]),
    ],
)
def test_about_two_seconds_lie_between(monkeypatch: pytest.MonkeyPatch, seconds: float, expected: list[int]) -> None:
    clock, asked = Clock(), []
    monkeypatch.setattr(agreement_module.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(Ranks, "maxima", lambda ranks, values: asked.append(round(clock.now / seconds)) or values)
    agreement = Agreement(Ranks(world=2))
    for _ in range(expected[-1]):
        clock.now += seconds
        agreement.on(0)
    assert asked == expected


def test_ranks_of_different_speed_meet_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads as ranks, one of them ten times as slow between two meetings: both leave at the same iteration."""
    monkeypatch.setattr(agreement_module, "AGREE_SECONDS", 0.1)
    meeting, offers, left = threading.Barrier(2, timeout=60), {}, {}

    def maxima(ranks: Ranks, values: list[float]) -> list[float]:
        offers[ranks.rank] = values
        meeting.wait()
        greatest = [max(pair) for pair in zip(*offers.values(), strict=True)]
        meeting.wait()
        return greatest

    def train(rank: int) -> None:
        agreement: Any = Agreement(Ranks(rank=rank, world=2))
        for step in range(1000):
            time.sleep(0.01 if rank else 0.001)
            if agreement.on(2 if rank == 0 and step > 30 else 0):
                left[rank] = step
                return

    monkeypatch.setattr(Ranks, "maxima", maxima)
    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert left[0] == left[1] > 30
