"""The tables beside what others published: tested checkpoints, and trained cells."""

from pathlib import Path

import pytest

from harness.launching.published import published_experiment
from harness.matrix import load_experiment
from harness.reporting.check import check_report
from harness.reporting.comparison import MEASURED, checkpoint_tables, measured_table
from harness.reporting.markdown import result_table
from harness.reporting.measures import ASSUMED
from harness.reporting.page import write_report
from harness.reporting.rows import match
from reporting.conftest import V100, Load, finished, on_cpu, unfinished

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
ODD = "mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco"


def test_published_tested_difference() -> None:
    """38.2 against 0.38249 is 38.2: +0.0; 44.3 against 0.404 is -3.9, and the fault is known."""
    experiment = published_experiment(load_experiment(ZOO))
    r50, odd = (experiment.find(name) for name in ("mask_rcnn_r50_fpn_1x_coco", ODD))
    records = [
        finished(r50, box=0.38249, mask=0.3466, origin="published", memory_gb=None),
        finished(odd, box=0.404, mask=0.359, origin="published", memory_gb=None, fps=None),
        unfinished(experiment.cells[0], "FAILED", reason="no room", origin="published"),
    ]
    single, multi = checkpoint_tables(experiment, match(experiment, records)[0])
    assert single.columns == (
        "Backbone", "Style", "Lr schd", "box AP published", "box AP tested", "box AP difference",
        "mask AP published", "mask AP tested", "mask AP difference",
        "Inf time (fps) published", "Inf time (fps) tested on H100", "Inf time (fps) difference on H100", "Download",
    )  # fmt: skip
    assert single.rows[1].cells[:-1] == (
        "R-50-FPN", "pytorch", "1x", "38.2", "38.2", "+0.0", "34.7", "34.7", "+0.0", "16.1", "16.1", "+0.0"
    )  # fmt: skip
    assert single.rows[0].cells[3:10] == ("38.0", "-", "-", "34.4", "-", "-", "-")
    assert single.rows[0].marks == ("failed: no room",)
    (row,) = (row for row in multi.rows if row.name == ODD)
    assert row.cells[3:-1] == ("44.3", "40.4", "-3.9", "39.5", "35.9", "-3.6")  # none of this table was timed
    assert row.marks[0].startswith("the published file tests at 40.4 / 35.9")
    text = "\n".join(result_table(multi))
    assert f"{ODD}_20210607_161042-8bd2c639.pth)" in text and "issue 8471" in text


@pytest.mark.parametrize("origin", ["published", "imported"])
def test_only_trained_runs_fill_the_rows_of_trained_cells(load: Load, origin: str) -> None:
    experiment = load("include: [{backbone: R-50}]\n")
    rows, others = match(experiment, [finished(experiment.cells[0], origin=origin, full=True)])
    assert not rows[0].finished
    assert [other.why for other in others] == [f"{origin}, where the rows are trained"]
    tests = published_experiment(experiment)
    rows, others = match(tests, [finished(experiment.cells[0])])
    assert not rows[0].finished and others[0].why == "trained, where the rows are published"


def test_the_page_names_its_command_and_checks_itself(load: Load) -> None:
    experiment = published_experiment(load("include: [{backbone: R-50}]\n"))
    record = finished(experiment.cells[0], origin="published", memory_gb=None)
    paths = write_report(experiment, [record], Path("out"), run_root=Path("runs"))
    page = paths.page.read_text()
    assert "harness report experiments/small.yaml --published-checkpoints" in page
    assert "tested minus published" in page and "| Mem (GB)" not in page
    assert [path.name for path in paths.plots] == ["speed.svg", "memory.svg"]  # no learning curves
    assert check_report(experiment, Path("out")) == []


def test_measured_beside_published_with_the_difference(load: Load) -> None:
    """R-50 1x is published at 38.2, 34.7, 4.4 GB, 16.1 fps. Seeds of 38.0 and 38.6 have the mean 38.3, that is +0.1,

    and the deviation .6 / sqrt 2 = .42; 34.0 is -0.7; 4.41 GB is +0.0; 40.06 fps on an H100 is 40.1, +24.0 to a V100.

    Assumed deviations of .3: the mean of two seeds lies within 1.96 x .3 / sqrt 2 = .416, and its difference from
    another training within 1.96 x .3 x sqrt(1 + 1/2) = .720.
    """
    experiment = load("seeds: [0, 1, 2]\ninclude: [{backbone: R-50}, {backbone: R-50, style: caffe}]\n")
    plain, caffe = experiment.cells
    records = [
        finished(plain, 0, box=0.380, fps=40.06),
        finished(plain, 1, box=0.386, fps=40.06),
        unfinished(plain, "FAILED", 2, reason="no room"),
        *(finished(caffe, seed, hardware=V100) for seed in (0, 1, 2)),
    ]
    shown = measured_table(match(experiment, records)[0])
    assert shown is not None
    first, second = (dict(zip(shown.columns, row.cells, strict=True)) for row in shown.rows)
    assert shown.title == MEASURED
    assert shown.columns[3:] == (
        "box AP published", "box AP measured", "box AP difference",
        "mask AP published", "mask AP measured", "mask AP difference",
        "Mem (GB) published", "Mem (GB) measured", "Mem (GB) difference",
        "Mem (GB) measured on H100", "Mem (GB) difference on H100",
        "Inf time (fps) published", "Inf time (fps) measured", "Inf time (fps) difference",
        "Inf time (fps) measured on H100", "Inf time (fps) difference on H100", "Download",
    )  # fmt: skip
    assert list(first.values())[3:9] == [
        "38.2",
        "38.3 ± 0.4 [37.9, 38.7] (n=2 of 3)",
        "+0.1 [-0.6, +0.8]",
        "34.7",
        "34.0 ± 0.0 [33.6, 34.4] (n=2 of 3)",
        "-0.7 [-1.4, +0.0]",
    ]
    assert list(first.values())[9:14] == ["4.4", "-", "-", "4.4 ± 0.0 (n=2 of 3)", "+0.0"]
    assert list(first.values())[14:19] == ["16.1", "-", "-", "40.1 ± 0.0 (n=2 of 3)", "+24.0"]
    assert shown.rows[0].marks == ("seed 2: failed: no room", ASSUMED)
    assert list(second.values())[9:14] == ["4.3", "4.4 ± 0.0 [4.4, 4.4] (n=3)", "+0.1", "-", "-"]
    # its speed was never published
    assert list(second.values())[14:19] == ["-", "16.1 ± 0.0 [16.1, 16.1] (n=3)", "-", "-", "-"]


def test_a_cpus_memory_and_speed_are_not_held_against_a_gpus(load: Load) -> None:
    experiment = load("include: [{backbone: R-50}]\n")
    shown = measured_table(match(experiment, [on_cpu(finished(experiment.cells[0]))])[0])
    assert shown is not None
    assert shown.columns[9:-1] == (
        "Mem (GB) published", "Mem (GB) measured on CPU", "Inf time (fps) published", "Inf time (fps) measured on CPU",
    )  # fmt: skip
    assert shown.rows[0].marks == ("trained on a CPU (AMD EPYC), not on a GPU",)


@pytest.mark.parametrize(
    "matrix",
    [
        "include: [{backbone: R-50}]\nrecipe: {lr: 0.01}\n",
        "include: [{backbone: R-50}]\nshorten: {epochs: 2}\n",
        "include: [{backbone: R-50, schedule: 3x}]\n",
    ],
    ids=["overridden", "shortened", "not published"],
)
def test_what_nobody_published_stands_beside_nothing(load: Load, matrix: str) -> None:
    experiment = load(matrix)
    assert measured_table(match(experiment, [finished(experiment.cells[0])])[0]) is None


def test_the_third_table_is_on_the_page(load: Load) -> None:
    experiment = load("include: [{backbone: R-50}]\n")
    page = write_report(experiment, [finished(experiment.cells[0])], Path("out")).page.read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")][:2] == ["## Results", f"## {MEASURED}"]
    assert "the difference is measured minus published" in page
