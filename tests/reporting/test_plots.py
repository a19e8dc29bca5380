"""The plots show what was measured, the same way every time."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from harness.matrix import Experiment
from harness.reporting.plots import Point, label, learning_curves, pareto, tradeoff
from harness.reporting.records import EpochAP, Record
from harness.reporting.rows import Row, match
from reporting.conftest import Load, finished, on_cpu, unfinished

TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"


def rows(experiment: Experiment, *records: Record) -> list[Row]:
    return match(experiment, records)[0]


def texts(svg: str | None) -> list[str]:
    """The texts of the plot, which matplotlib repeats as comments."""
    assert svg is not None
    return re.findall(r"<!-- (.*?) -->", svg)


def test_front_of_a_hand_worked_case() -> None:
    slow, fast, beaten, twin = (8.0, 44.0, "slow"), (20.0, 38.0, "fast"), (7.0, 43.0, "beaten"), (8.0, 44.0, "twin")
    assert pareto([beaten, slow, fast, twin]) == [fast, slow]
    assert pareto([]) == []


@given(st.lists(st.tuples(st.floats(1, 50), st.floats(0, 60), st.text(max_size=2)), max_size=12))
def test_front_is_what_nothing_beats(points: list[Point]) -> None:
    def beaten(one: Point, by: Point) -> bool:
        return by[0] >= one[0] and by[1] >= one[1] and by[:2] != one[:2]

    wanted = {point[:2] for point in points if not any(beaten(point, other) for other in points)}
    assert {point[:2] for point in pareto(points)} == wanted


def test_each_device_has_its_panel_and_marked_rows_a_star(load: Load) -> None:
    experiment = load(TWO)
    drawn = tradeoff(rows(experiment, finished(experiment.cells[0]), on_cpu(finished(experiment.cells[1]))))
    found = texts(drawn)
    assert found.index("on AMD EPYC") < found.index("1  r50_fpn_2x *") < found.index("on NVIDIA H100")
    assert found.index("on NVIDIA H100") < found.index("1  r50_fpn_1x")
    assert "* has a mark in the table" in found


def test_nothing_timed_or_evaluated_draws_nothing(load: Load) -> None:
    experiment = load(TWO)
    bare = [finished(experiment.cells[0], fps=None, history=()), unfinished(experiment.cells[1], "RUNNING")]
    assert tradeoff(rows(experiment, *bare)) is None
    assert learning_curves(rows(experiment, *bare)) is None


def test_a_curve_for_each_run_and_a_name_for_each_row(load: Load) -> None:
    experiment = load("seeds: [0, 1]\n" + TWO)
    history = (EpochAP(epoch=1, bbox_mAP=0.1, segm_mAP=None), EpochAP(epoch=2, bbox_mAP=0.2, segm_mAP=-1.0))
    runs = [finished(cell, seed, history=history) for cell in experiment.cells for seed in (0, 1)]
    svg = learning_curves(rows(experiment, *runs))
    found = texts(svg)
    assert [text for text in found if text.startswith("r50")] == ["r50_fpn_1x", "r50_fpn_2x"]
    assert svg is not None
    assert svg == learning_curves(rows(experiment, *reversed(runs)))
    assert "date" not in svg and "matplotlib.org" not in svg


def test_a_label_tells_what_is_no_full_result(load: Load) -> None:
    experiment = load(TWO + "recipe: {label: demo, lr: 0.01}\n")
    first, _ = rows(experiment, finished(experiment.cells[0]))
    assert label(first) == "r50_fpn_1x+demo *"
    plain = load(TWO)
    first, second = rows(plain, finished(plain.cells[0]), replace(finished(plain.cells[1]), epoch=20))
    assert (label(first), label(second)) == ("r50_fpn_1x", "r50_fpn_2x *")
