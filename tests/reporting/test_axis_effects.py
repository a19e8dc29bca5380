"""What an axis buys, against differences worked out by hand."""

import math

import pytest

from harness.matrix import Experiment
from harness.reporting.axis_effects import effects
from harness.reporting.records import Record
from harness.reporting.rows import Row, match
from reporting.conftest import Load, finished


def rows(experiment: Experiment, *records: Record) -> list[Row]:
    return match(experiment, records)[0]


def test_pairs_differ_in_one_axis_alone(load: Load) -> None:
    """Four cells, AP 38.0, 39.0 (2x), 38.1 (FP16), 39.5 (both): 1x to 2x buys 1.0 and 1.4, FP16 0.1 and 0.5."""
    experiment = load("axes: {backbone: [R-50], schedule: [1x, 2x], fp16: [false, true]}\n")
    ap = {("1x", False): 0.380, ("2x", False): 0.390, ("1x", True): 0.381, ("2x", True): 0.395}
    runs = [finished(cell, box=ap[str(cell.cell["schedule"]), cell.cell["fp16"] is True]) for cell in experiment.cells]
    fp16, schedule = effects(rows(experiment, *runs))
    assert (fp16.name, schedule.name) == ("fp16: no to yes", "schedule: 1x to 2x")
    assert [pair.difference("bbox_mAP") for pair in schedule.pairs] == pytest.approx([1.0, 1.4])
    assert [pair.difference("bbox_mAP") for pair in fp16.pairs] == pytest.approx([0.1, 0.5])
    interval = schedule.intervals["bbox_mAP"]
    assert interval.difference == pytest.approx(1.2)
    # two pairs of one seed a side, 0.3 AP each: 1.959964 x sqrt(4 x 0.3^2) / 2 = 0.58799
    assert interval.high - interval.difference == pytest.approx(0.58799, abs=1e-4)
    assert interval.assumed


def test_three_seeds_speak_for_themselves(load: Load) -> None:
    """Deviations 0.1 and 0.1 of three seeds each: error sqrt(2 x 0.01 / 3), 4 degrees of freedom, t = 2.776445."""
    experiment = load("seeds: [0, 1, 2]\naxes: {backbone: [R-50], schedule: [1x, 2x]}\n")
    one, two = experiment.cells
    values = ((one, (0.379, 0.380, 0.381)), (two, (0.389, 0.390, 0.391)))
    runs = [finished(cell, seed, box=box) for cell, boxes in values for seed, box in enumerate(boxes)]
    (effect,) = effects(rows(experiment, *runs))
    interval = effect.intervals["bbox_mAP"]
    assert not interval.assumed
    assert interval.difference == pytest.approx(1.0)
    assert interval.high - interval.difference == pytest.approx(2.776445 * math.sqrt(2 * 0.01 / 3), rel=1e-5)


def test_an_override_of_one_side_makes_no_pair(load: Load) -> None:
    text = "axes: {backbone: [R-50], schedule: [1x, 2x]}\n"
    other = "overrides: [{cells: '*_2x_*', recipe: {weight_decay: 0.01}}]\n"
    experiment = load(text + other)
    assert effects(rows(experiment, *map(finished, experiment.cells))) == []
    both = load(text + "recipe: {weight_decay: 0.01}\n")
    (effect,) = effects(rows(both, *map(finished, both.cells)))
    assert [pair.marked for pair in effect.pairs] == [True]


def test_full_results_are_not_mixed_with_others(load: Load) -> None:
    """Of the two pairs of 1x and 2x the one with FP16 ended early, so the other stands alone."""
    experiment = load("axes: {backbone: [R-50], schedule: [1x, 2x], fp16: [false, true]}\n")
    runs = [
        finished(cell, epoch=20 if cell.cell["fp16"] and cell.cell["schedule"] == "2x" else cell.recipe.epochs)
        for cell in experiment.cells
    ]
    found = {effect.name: effect for effect in effects(rows(experiment, *runs))}
    assert [pair.one for pair in found["schedule: 1x to 2x"].pairs] == ["mask_rcnn_r50_fpn_1x_coco"]


def test_nothing_is_paired_with_what_has_not_finished(load: Load) -> None:
    experiment = load("axes: {backbone: [R-50], schedule: [1x, 2x]}\n")
    assert effects(rows(experiment, finished(experiment.cells[0]))) == []
