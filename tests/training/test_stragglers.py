"""Which rank is slow, worked by hand, and what is measured of a forward pass."""

import time

import pytest
import torch
from torch import Tensor, nn

from harness.training.stragglers import Pace, Slow, slow_ranks


def test_data_and_forward_are_compared_apart() -> None:
    """Medians: data 0.2, forward 0.4. Rank 3 loads for 0.62 s (3.1 x), rank 1 computes for 0.7 s (1.75 x)."""
    table = [[0.2, 0.4], [0.2, 0.7], [0.2, 0.4], [0.62, 0.4], [0.2, 0.4]]
    assert slow_ranks(table) == [
        Slow(rank=3, phase="data", factor=pytest.approx(3.1), seconds=0.62),
        Slow(rank=1, phase="forward", factor=pytest.approx(1.75), seconds=0.7),
    ]
    assert str(slow_ranks(table)[0]) == "data takes 3.1 x the median (0.62 s a step)"


def test_one_and_a_half_times_is_not_slow() -> None:
    assert slow_ranks([[0.0, 1.0], [0.0, 1.5], [0.0, 1.0]]) == []


def test_milliseconds_are_not_slow() -> None:
    assert slow_ranks([[0.001, 0.0], [0.04, 0.0]]) == []


def test_of_two_ranks_the_slower_one() -> None:
    (slow,) = slow_ranks([[0.0, 1.0], [0.0, 2.0]])
    assert (slow.rank, slow.factor) == (1, 2.0)


def test_a_rank_alone_is_never_slow() -> None:
    assert slow_ranks([[9.0, 9.0]]) == []


class Sleeper(nn.Module):
    def forward(self, seconds: Tensor) -> Tensor:
        time.sleep(float(seconds))
        return seconds


def test_forward_passes_of_the_training_are_timed() -> None:
    pace, model = Pace(), Sleeper()
    pace.measure(model, torch.device("cpu"))
    pace.steps = 2
    for _ in range(2):
        model(torch.tensor(0.05))
    model.eval()
    model(torch.tensor(0.5))
    data, forward = pace.take()
    assert data == 0.0
    assert 0.05 <= forward < 0.5
