"""The learning rates against the reference's, and a warm-up worked by hand."""

import json
from pathlib import Path

import pytest

from harness.cell import PUBLISHED, parse_name
from harness.training.build import build_schedule
from harness.training.schedule import Schedule


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_rows(shared: Path, name: str) -> None:
    row = json.loads((shared / "reference/oracle/unit/lr.json").read_text())[name]
    recipe = parse_name(name).recipe()
    schedule = build_schedule(recipe)
    assert recipe.epochs == row["epochs"]
    assert list(recipe.lr_steps) == row["steps_2x_branch"]
    for epoch, iteration, rate in row["formula_2x_branch"]:
        step = epoch * row["per_epoch_used"] + iteration
        assert schedule.rate(epoch=epoch, step=step) == pytest.approx(rate, rel=1e-12)


def test_warm_up_that_crosses_a_step() -> None:
    """100 iterations an epoch, warm-up of 200 from a tenth, a fall at epoch 1: at step 150 the regular rate is 0.1,

    and the factor 1 - (1 - 150 / 200) * (1 - 0.1) = 0.775.
    """
    schedule = Schedule(lr=1.0, lr_steps=(1, 3), lr_gamma=0.1, warmup_iters=200, warmup_ratio=0.1)
    found = [schedule.rate(epoch=step // 100, step=step) for step in (0, 99, 100, 150, 199, 200, 299, 300)]
    expected = [0.1, 0.5455, 0.055, 0.0775, 0.09955, 0.1, 0.1, 0.01]
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_warm_up() -> None:
    schedule = Schedule(lr=0.5, lr_steps=(), lr_gamma=0.1, warmup_iters=0, warmup_ratio=0.001)
    assert [schedule.rate(epoch=epoch, step=epoch) for epoch in (0, 100)] == [0.5, 0.5]
