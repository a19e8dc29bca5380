"""The tables of tested published checkpoints: published, tested, difference, and what is known of the number."""

from pathlib import Path

import pytest

from harness.launching.published import published_experiment
from harness.matrix import load_experiment
from harness.reporting.check import check_report
from harness.reporting.comparison import comparison_tables
from harness.reporting.markdown import result_table
from harness.reporting.page import write_report
from harness.reporting.rows import match
from reporting.conftest import Load, finished, unfinished

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
    single, multi = comparison_tables(experiment, match(experiment, records)[0])
    assert single.columns == (
        "Backbone", "Style", "Lr schd", "box AP published", "box AP tested", "box AP difference",
        "mask AP published", "mask AP tested", "mask AP difference", "Inf time (fps)", "Download",
    )  # fmt: skip
    assert single.rows[1].cells[:-1] == (
        "R-50-FPN", "pytorch", "1x", "38.2", "38.2", "+0.0", "34.7", "34.7", "+0.0", "16.1"
    )  # fmt: skip
    assert single.rows[0].cells[3:10] == ("38.0", "-", "-", "34.4", "-", "-", "-")
    assert single.rows[0].marks == ("failed: no room",)
    (row,) = (row for row in multi.rows if row.name == ODD)
    assert row.cells[3:10] == ("44.3", "40.4", "-3.9", "39.5", "35.9", "-3.6", "-")
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
    assert "tested minus published" in page and "Mem (GB)" not in page
    assert [path.name for path in paths.plots] == ["tradeoff.svg"]  # no learning curves
    assert check_report(experiment, Path("out")) == []
