"""The plots show what was measured, the same way every time."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from harness.errors import UserError
from harness.matrix import Experiment
from harness.reporting import plots, svg
from harness.reporting.axis_effects import effects
from harness.reporting.figures import figures, files
from harness.reporting.html_page import index_html
from harness.reporting.learning import check_choice, choose, curves
from harness.reporting.pareto import SPEED, points
from harness.reporting.records import EpochAP, Hardware, Record
from harness.reporting.rows import Row, match
from harness.reporting.site import Site
from harness.reporting.tables import result_tables
from reporting.conftest import Load, finished, on_cpu, unfinished

TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"
MANY = "axes: {backbone: [R-50, R-101], schedule: [1x, 2x, 3x], fp16: [false, true]}\n"


def rows(experiment: Experiment, *records: Record) -> list[Row]:
    return match(experiment, records)[0]


def texts(chart: str) -> list[str]:
    """The texts of a plot, in order."""
    return [element.text or "" for element in ElementTree.fromstring(chart).iter() if element.tag.endswith("text")]


def test_a_cell_of_several_seeds_has_its_interval_and_its_neighbours_theirs(load: Load) -> None:
    """38.0, 38.4, 38.5: 38.3 +- .657 (tests/test_intervals.py). Three seeds of 37.0 beside them: 1.3 less, the error

    .264575 / sqrt(3) with two degrees of freedom: again +- .657.
    """
    experiment = load("seeds: [0, 1, 2]\n" + TWO)
    one, two = experiment.cells
    found = rows(
        experiment,
        *(finished(one, seed, box=box) for seed, box in enumerate((0.380, 0.384, 0.385))),
        *(finished(two, seed, box=0.37) for seed in range(3)),
    )
    drawn = points(found, SPEED)["H100"]
    assert drawn[0].bounds == pytest.approx((37.6428, 38.9572), abs=1e-4)
    assert "95% interval over seeds" in texts(plots.tradeoff({"H100": drawn}, SPEED))
    page = index_html(site(found))
    assert "box AP 38.3 ± 0.3 [37.6, 39.0] (n=3), mask AP 34.0" in page
    assert "box AP -1.3 [-2.0, -0.6], mask AP +0.0 [+0.0, +0.0]" in page


def site(found: list[Row]) -> Site:
    """A page of these rows and nothing else."""
    return Site(
        title="x", paragraphs=[], tables=[], rows=found, plots=[], notes=[], pictures={}, published={}, run_root=None,
        server=None, command="x",
    )  # fmt: skip


def test_each_device_has_its_panel_and_marked_rows_a_star(load: Load) -> None:
    experiment = load(TWO + "shorten: {epochs: 2}\n")
    measured = finished(experiment.cells[0]), on_cpu(finished(experiment.cells[1]))
    found = texts(plots.tradeoff(points(rows(experiment, *measured), SPEED), SPEED))
    cpu, gpu = (found.index(f"Box AP against speed, on {place}") for place in ("AMD EPYC", "H100"))
    assert cpu < found.index("1  r50_fpn_2x *") < gpu < found.index("1  r50_fpn_1x *")
    assert "* has a mark in the table: no full result" in found


def test_what_nothing_was_measured_of_is_not_drawn(load: Load) -> None:
    experiment = load(TWO + "shorten: {epochs: 2}\n")
    bare = [
        finished(experiment.cells[0], fps=None, memory_gb=None, history=()), unfinished(experiment.cells[1], "RUNNING")
    ]  # fmt: skip
    members = rows(experiment, *bare)
    assert figures(members, result_tables(experiment, members, None), published={}) == {}


def test_a_curve_for_each_run_and_a_name_for_each_row(load: Load) -> None:
    experiment = load("seeds: [0, 1]\nrecipe: {lr: 0.01}\n" + TWO)
    history = (EpochAP(epoch=1, bbox_mAP=0.1, segm_mAP=None), EpochAP(epoch=2, bbox_mAP=0.2, segm_mAP=-1.0))
    runs = [finished(cell, seed, history=history) for cell in experiment.cells for seed in (0, 1)]
    chart = plots.learning_curves(curves(rows(experiment, *runs), {}))
    names = ["r50_fpn_1x+lr=0.01 *", "r50_fpn_2x+lr=0.01 *"]
    assert [text for text in texts(chart) if text.startswith("r50")] == names
    assert chart.count("<polyline") == 4  # box AP of each run; of mask AP there is no value
    assert chart == plots.learning_curves(curves(rows(experiment, *reversed(runs)), {}))


def test_each_seed_has_a_line_of_its_own_in_every_row(load: Load) -> None:
    """The first seed of the second cell has not begun: its second one is dotted, as that of the first cell."""
    experiment = load("seeds: [3, 5]\n" + TWO)
    one, two = experiment.cells
    chart = plots.learning_curves(
        curves(rows(experiment, finished(one, 3), finished(one, 5), unfinished(two, "QUEUED", 3), finished(two, 5)), {})
    )
    lines = re.findall(r"<title>([^<]*)</title><polyline class=\"line ?(\w*) s(\d)\"", chart)
    assert lines[:3] == [
        ("r50_fpn_1x, seed 3", "", "0"), ("r50_fpn_1x, seed 5", "dotted", "0"), ("r50_fpn_2x *, seed 5", "dotted", "1")
    ]  # fmt: skip
    legend = [text for text in texts(chart) if text.startswith(("r50", "seed"))]
    assert legend == [
        "r50_fpn_1x", "r50_fpn_1x, published, last epoch", "r50_fpn_2x *", "r50_fpn_2x, published, last epoch",
        "seed 3", "seed 5",
    ]  # fmt: skip


def test_without_an_imported_curve_the_published_ap_stands_at_the_last_epoch(load: Load) -> None:
    """R-50 pytorch 2x is published with 39.2 and 35.4; nothing stands beside a shortened run or where none has run."""
    full, short = load(TWO), load(TWO + "shorten: {epochs: 2}\n")
    _, found = curves(rows(full, finished(full.cells[1])), {})
    assert found.values == {"bbox_mAP": [(24.0, pytest.approx(39.2))], "segm_mAP": [(24.0, pytest.approx(35.4))]}
    assert (found.label, found.published) == ("r50_fpn_2x, published, last epoch", True)
    assert [curve.published for curve in curves(rows(short, finished(short.cells[1])), {})] == [False]


def test_the_published_curve_is_dashed_beside_full_results_alone(load: Load) -> None:
    theirs = {"mask_rcnn_r50_fpn_1x_coco": (EpochAP(epoch=12, bbox_mAP=0.382, segm_mAP=0.347),)}
    full = load(TWO)
    _, published = curves(rows(full, finished(full.cells[0]))[:1], theirs)
    assert published.values == {"bbox_mAP": [(12.0, pytest.approx(38.2))], "segm_mAP": [(12.0, pytest.approx(34.7))]}
    assert (published.label, published.published, published.series) == ("r50_fpn_1x, published", True, 0)
    short = load(TWO + "shorten: {epochs: 2}\n")
    assert len(curves(rows(short, finished(short.cells[0]))[:1], theirs)) == 1


def test_epochs_count_as_often_as_they_repeat_the_data(load: Load) -> None:
    """A 3x schedule is 12 epochs of 3 passes."""
    experiment = load("include: [{backbone: R-101, schedule: 3x}]\n")
    (curve,) = curves(rows(experiment, finished(experiment.cells[0])), {})
    assert [x for x, _ in curve.values["bbox_mAP"]] == [3.0 * epoch for epoch in range(1, 13)]


def test_of_many_rows_the_best_eight_are_drawn_and_the_plot_says_so(load: Load) -> None:
    experiment = load(MANY)
    runs = [finished(cell, box=0.30 + 0.01 * index) for index, cell in enumerate(experiment.cells)]
    members = rows(experiment, *runs)
    assert [row.planned.name for row in choose(members, [])] == [cell.name for cell in experiment.cells[4:]]
    drawn = figures(members, result_tables(experiment, members, None), published={})
    assert "the 8 with the best box AP of 12 cells; index.html has the curves of every cell" in texts(
        drawn["plots/curves-1.svg"][1]
    )


def test_curves_are_chosen_by_name_or_pattern(load: Load) -> None:
    experiment = load(MANY)
    members = rows(experiment, *map(finished, experiment.cells))
    chosen = choose(members, ["mask_rcnn_r50_fpn_1x_coco", "*r101*_2x_*"])
    assert [row.planned.name for row in chosen] == [
        "mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r101_fpn_2x_coco", "mask_rcnn_r101_fpn_fp16_2x_coco"
    ]  # fmt: skip
    with pytest.raises(UserError, match="--curves r52: no cell of the experiment is called so"):
        check_choice(members, ["*_1x_*", "r52"])


def test_a_label_tells_what_is_no_full_result(load: Load) -> None:
    experiment = load(TWO + "recipe: {label: demo, lr: 0.01}\n")
    (curve,) = curves(rows(experiment, finished(experiment.cells[0])), {})
    assert curve.label == "r50_fpn_1x+demo *"
    plain = load(TWO)
    both = curves(rows(plain, finished(plain.cells[0]), replace(finished(plain.cells[1]), epoch=20)), {})
    assert [curve.label for curve in both if not curve.published] == ["r50_fpn_1x", "r50_fpn_2x *"]


def test_an_effect_is_drawn_with_its_number_of_pairs(load: Load) -> None:
    experiment = load(MANY)
    runs = [finished(cell, box=0.40 if cell.cell["schedule"] == "2x" else 0.38) for cell in experiment.cells]
    found = texts(plots.axis_effects(effects(rows(experiment, *runs))))
    assert "schedule: 1x to 2x (4 pairs)" in found and "fp16: no to yes (6 pairs)" in found
    assert found.count("+2.0") == 1 and "-2.0" in found  # box AP of 1x to 2x, and of 2x to 3x


def test_a_file_is_wellformed_themed_and_names_no_other(load: Load) -> None:
    experiment = load(TWO)
    odd = Hardware(kind="cuda", device="<b>&", count=1)
    members = rows(experiment, *(finished(cell, hardware=odd) for cell in experiment.cells))
    drawn = files(figures(members, result_tables(experiment, members, None), published={}))
    assert list(drawn) == ["plots/speed.svg", "plots/memory.svg", "plots/axes.svg", "plots/curves-1.svg"]
    for text in drawn.values():
        assert ElementTree.fromstring(text).get("aria-label")
        assert "prefers-color-scheme:dark" in text and "href" not in text and "<b>" not in text


@pytest.mark.parametrize("paper", [0, 1])
def test_the_colours_stand_out_on_their_paper(paper: int) -> None:
    """Contrast as WCAG 2.1 defines it: 4.5 for text, 3 for what is drawn."""

    def luminance(colour: str) -> float:
        parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    behind = luminance(svg.PALETTE["paper"][paper])
    for name, pair in svg.PALETTE.items():
        low, high = sorted((behind, luminance(pair[paper])))
        contrast = (high + 0.05) / (low + 0.05)
        if name not in ("paper", "faint"):
            assert contrast >= (4.5 if name in ("ink", "muted") or re.match("series-[01]", name) else 3), name


def test_ticks_of_hand_worked_spans() -> None:
    assert svg.ticks(37.7, 43.1) == [38, 39, 40, 41, 42, 43]
    assert svg.ticks(0, 12.36) == [0, 5, 10]
    assert svg.ticks(-1.2, 0.05) == [-1.0, -0.5, 0.0]
    assert svg.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_value_lies_where_its_axis_says() -> None:
    panel = svg.Panel(left=10, top=20, width=100, height=50, x=(0, 4), y=(30, 40))
    assert panel.at(1, 40) == (35, 20)
    assert panel.at(4, 30) == (110, 70)
    assert [svg.number(value) for value in (0, -0.04, 12.25, 3.0, -1.25)] == ["0", "0", "12.2", "3", "-1.2"]
