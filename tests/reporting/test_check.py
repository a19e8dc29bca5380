"""A report is checked against its own records, and its records against the store."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.reporting import check
from harness.reporting.check import changes, check_report
from harness.reporting.page import write_report
from harness.reporting.records import Record
from reporting.conftest import Load, finished, unfinished

TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"
OUT = Path("reports/small")


def quiet(record: Record) -> Record:
    """Without what would draw a plot."""
    return replace(record, history=(), fps=None)


def test_a_report_just_written_is_well(load: Load) -> None:
    experiment = load(TWO)
    write_report(experiment, [finished(experiment.cells[0])], OUT, run_root=Path("runs"))
    assert check_report(experiment, OUT) == []


def test_an_edited_number_is_found_with_its_line(load: Load) -> None:
    experiment = load(TWO)
    paths = write_report(experiment, [quiet(finished(experiment.cells[0], box=0.38))], OUT)
    lines = paths.page.read_text(encoding="utf-8").split("\n")
    number = next(index for index, line in enumerate(lines, start=1) if "| 38.0 |" in line)
    paths.page.write_text(paths.page.read_text(encoding="utf-8").replace("| 38.0 |", "| 39.0 |"), encoding="utf-8")
    (found,) = check_report(experiment, OUT)
    assert found.startswith(f"reports/small/README.md:{number}: is '| R-50-FPN | pytorch | 1x |")


def test_text_outside_the_markers_may_be_edited(load: Load) -> None:
    experiment = load(TWO)
    paths = write_report(experiment, [], OUT)
    paths.page.write_text("Mine.\n" + paths.page.read_text(encoding="utf-8"), encoding="utf-8")
    assert check_report(experiment, OUT) == []


def test_edited_records_are_found(load: Load) -> None:
    experiment = load(TWO)
    paths = write_report(experiment, [quiet(finished(experiment.cells[0], box=0.38))], OUT)
    text = paths.records.read_text(encoding="utf-8")
    paths.records.write_text(text.replace('"bbox_mAP": 0.38,', '"bbox_mAP": 0.48,'), encoding="utf-8")
    found = {line.split(":")[0].removeprefix("reports/small/") for line in check_report(experiment, OUT)}
    assert found == {
        "README.md", "manifest.json", "model-index.yml", "plots/memory.svg", "index.html",
        "tables/1-results.csv", "tables/2-measured-and-published.csv",
    }  # fmt: skip


def test_a_changed_matrix_file_is_found(load: Load) -> None:
    experiment = load(TWO)
    write_report(experiment, [quiet(finished(experiment.cells[0]))], OUT)
    found = check_report(load(TWO + "description: Another one.\n"), OUT)
    assert [line.split(":")[0] for line in found] == ["reports/small/README.md", "reports/small/index.html"]


def test_missing_and_foreign_files_are_found(load: Load) -> None:
    experiment = load(TWO)
    Path("found.png").write_bytes(b"a picture")
    paths = write_report(experiment, [], OUT, picture=Path("found.png"))
    paths.manifest.unlink()
    assert paths.picture is not None
    paths.picture.unlink()
    (OUT / "plots").mkdir()
    (OUT / "plots" / "curves-1.svg").write_text("old")
    assert check_report(experiment, OUT) == [
        "reports/small/manifest.json: missing",
        "reports/small/plots/curves-1.svg: not of these records",
        "reports/small/sample.png: missing",
    ]


def test_an_edited_plot_is_found(load: Load) -> None:
    experiment = load(TWO)
    paths = write_report(experiment, [replace(finished(experiment.cells[0]), history=())], OUT)
    plot = paths.plots[0]
    plot.write_text(plot.read_text(encoding="utf-8") + "<!-- more -->\n", encoding="utf-8")
    (found,) = check_report(experiment, OUT)
    assert found.startswith("reports/small/plots/speed.svg:")


def test_records_of_another_experiment_and_missing_records(load: Load) -> None:
    experiment = load(TWO)
    with pytest.raises(UserError, match=r"records\.json: no such file"):
        check_report(experiment, OUT)
    write_report(experiment, [], OUT)
    assert check_report(load("name: other\n" + TWO), OUT) == [
        "reports/small/records.json: records of 'small', not of 'other'"
    ]


def test_the_store_says_when_records_are_stale(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(TWO)
    run = finished(experiment.cells[0])
    write_report(experiment, [quiet(run)], OUT, run_root=Path("runs"))
    stored = [quiet(run)]
    monkeypatch.setattr(check, "from_tracking", lambda uri, name: stored)
    assert check_report(experiment, OUT, uri="sqlite:///x.db") == []
    stored.append(unfinished(experiment.cells[1], "RUNNING"))
    assert check_report(experiment, OUT, uri="sqlite:///x.db") == [
        "reports/small/records.json: stale: new run mask_rcnn_r50_fpn_2x_coco seed 0, running"
    ]


def test_changes_name_what_changed(load: Load) -> None:
    cell = load(TWO).cells[0]
    before, gone = unfinished(cell, "RUNNING"), finished(cell, seed=1)
    after = replace(finished(cell), history=())
    assert changes([before, gone], [after])[1] == "run mask_rcnn_r50_fpn_1x_coco seed 1 is gone from the store"
    assert changes([before, gone], [after])[0].startswith(
        "run mask_rcnn_r50_fpn_1x_coco seed 0 has changed: state, epoch, metrics"
    )
