"""Averages of an interval."""

import pytest
import torch

from harness.training.distributed import Ranks
from harness.training.meter import Meter


def add(meter: Meter, loss: float, seconds: float) -> None:
    values = {"loss": torch.tensor(loss), "acc": torch.tensor(50.0)}
    meter.add(values, step=1, seconds=seconds, data_seconds=seconds / 4)


def test_averages_start_anew_when_read() -> None:
    meter = Meter()
    add(meter, 1.0, 0.5)
    add(meter, 4.0, 1.5)
    assert meter.read(Ranks()) == {"loss": 2.5, "acc": 50.0, "time": 1.0, "data_time": 0.25}
    add(meter, 7.0, 2.0)
    assert meter.read(Ranks())["loss"] == 7.0


def test_partial_averages_survive() -> None:
    """1 and 4 before, 10 after: 5."""
    meter, second = Meter(), Meter()
    add(meter, 1.0, 1.0)
    add(meter, 4.0, 1.0)
    second.load_state_dict(meter.state_dict(Ranks()), Ranks())
    add(second, 10.0, 4.0)
    assert second.read(Ranks()) == {"loss": 5.0, "acc": 50.0, "time": 2.0, "data_time": 0.5}
    assert meter.read(Ranks())["loss"] == 2.5  # asking for the state changes nothing


def test_the_first_loss_that_is_not_finite_is_remembered() -> None:
    """Also past a reading, and when later ones are finite again."""
    meter = Meter()
    for step, loss in enumerate((1.0, 2.0, float("inf"), 3.0, float("nan")), 1):
        meter.add({"loss": torch.tensor(loss)}, step=step, seconds=1.0, data_seconds=0.0)
        if step == 2:
            assert meter.first_bad is not None and meter.first_bad.item() == -1
            meter.read(Ranks())
    assert meter.first_bad is not None and meter.first_bad.item() == 3


def test_empty_state() -> None:
    meter = Meter()
    meter.load_state_dict(Meter().state_dict(Ranks()), Ranks())
    add(meter, 3.0, 1.0)
    assert meter.read(Ranks())["loss"] == pytest.approx(3.0)
