"""Budgets, and room on the disk: what a submit refuses, and what it says."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.planning.bounds import crowded, require_budget, require_room
from harness.planning.disk import Room
from harness.planning.plan import make_plan
from planning.conftest import on_cluster, place


def test_a_budget(tmp_path: Path, shapes: Path) -> None:
    """On 8 GPUs, assumed: 6 iterations of 2 / 16 x 0.265 s; 2 tests of 4 images at 8 x 16.1 a second, with a checkpoint

    of 10 s; 4 images one by one; a start of 120 s. 140.5 s x 8 = 0.312 GPU-hours a run.
    """
    experiment, settings = place(tmp_path, shapes, seeds="[0, 1]")
    plan = make_plan(experiment, on_cluster(settings, tmp_path))
    image = 1 / (8 * 16.1)
    expected = 8 * (6 * 0.265 / 8 + 2 * (4 * image + 10) + 4 * image * 8 + 120) / 3600
    assert [run.estimate.gpu_hours for run in plan.runs] == [pytest.approx(expected)] * 2
    assert (plan.gpu_hours, plan.at_once) == (pytest.approx(2 * expected), None)
    require_budget(plan, 0.63)
    with pytest.raises(UserError, match=r"^2 runs take 0\.62 GPU-hours, the budget is 0\.5: .*nothing was started$"):
        require_budget(plan, 0.5)
    require_budget(make_plan(experiment, settings), 0)  # no GPU on this machine: nothing to count


def test_a_budget_of_what_nobody_knows(tmp_path: Path, shapes: Path) -> None:
    experiment, settings = place(tmp_path, shapes)
    plan = make_plan(experiment, on_cluster(settings, tmp_path))
    unknown = replace(plan.runs[0], estimate=replace(plan.runs[0].estimate, seconds=None, gpu_hours=None))
    with pytest.raises(UserError, match=r"cannot be kept: nothing tells how long .*\+tiny takes; .*--pilot"):
        require_budget(replace(plan, runs=(unknown,)), 100)


def test_room_on_the_disk(tmp_path: Path, shapes: Path) -> None:
    """Two runs of three checkpoints each. Where one checkpoint finds no room, nothing is started; else it is said."""
    plan = make_plan(*place(tmp_path, shapes, seeds="[0, 1]"))
    one = plan.runs[0].checkpoint
    assert plan.size == sum(run.estimate.bytes or 0 for run in plan.runs) > 6 * one
    require_room(replace(plan, room=Room(free=one)))
    assert crowded(replace(plan, room=Room(free=plan.size))) == ""
    said = crowded(replace(plan, room=Room(free=one, limit="the quota of group lab")))
    assert "and the quota of group lab has" in said and "(2)" in said
    with pytest.raises(UserError, match=r"\+tiny: a checkpoint of it takes .* the disk has .* nothing was started$"):
        require_room(replace(plan, room=Room(free=one - 1)))
