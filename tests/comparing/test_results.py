"""What the gate is given: by name and kind, and published rows only for full results."""

from dataclasses import replace
from pathlib import Path

import pytest
from reporting.conftest import Load, finished, load, on_cpu, unfinished

from harness.comparing.results import Result, against_published, against_results, of_experiment, of_records
from harness.reporting.page import write_report

__all__ = ["load"]


def result(
    name: str, box: float, mask: float, *, kind: str = "whole recipe, fp32", full: bool = True, seed: int = 0
) -> Result:
    return Result(name=name, seed=seed, kind=kind, full=full, numbers={"box AP": box, "mask AP": mask})


def test_full_results_stand_against_their_published_rows() -> None:
    """R-50 pytorch 1x is published with 38.2 and 34.7."""
    short = result("mask_rcnn_r101_fpn_1x_coco", 1.0, 1.0, kind="epochs=1, fp32", full=False)
    runs = [result("mask_rcnn_r50_fpn_1x_coco", 38.0, 34.5, seed=seed) for seed in (0, 1)]
    numbers, left_out = against_published([*runs, short, result("mask_rcnn_r18_fpn_1x_coco", 30.0, 28.0)])
    assert [(n.row, n.metric, n.now, n.before) for n in numbers] == [
        ("mask_rcnn_r50_fpn_1x_coco", "box AP", (38.0, 38.0), (38.2,)),
        ("mask_rcnn_r50_fpn_1x_coco", "mask AP", (34.5, 34.5), (34.7,)),
    ]
    assert left_out == [
        "mask_rcnn_r101_fpn_1x_coco: no full result of a GPU (epochs=1, fp32)",
        "mask_rcnn_r18_fpn_1x_coco: no published row",
    ]


def test_runs_stand_against_runs_of_one_kind() -> None:
    now = [result("a", 10.0, 9.0, kind="epochs=1, fp32"), result("b", 10.0, 9.0)]
    before = [result("a", 11.0, 9.5, kind="epochs=1, fp32"), result("b", 10.0, 9.0, kind="whole recipe, bf16")]
    numbers, left_out = against_results(now, before)
    assert [(n.row, n.now, n.before) for n in numbers] == [("a", (10.0,), (11.0,)), ("a", (9.0,), (9.5,))]
    assert left_out == ["b (whole recipe, fp32): nothing of this cell and kind to hold it against"]


def test_what_has_not_finished_is_left_out_with_its_state(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three cells one finished on a CPU, one failed, and one was never begun."""
    experiment = load("include: [{backbone: R-50, schedule: [1x, 2x]}, {backbone: R-101}]\n")
    one, two, _ = experiment.cells
    stored = [on_cpu(finished(one)), unfinished(two, "FAILED", reason="no memory")]
    monkeypatch.setattr("harness.reporting.tracked_records.from_tracking", lambda uri, name: stored)
    results = of_experiment(experiment.path, "sqlite:///x.db")
    assert [run.failed for run in results] == [False, True, False]
    assert against_published(results) == (
        [],
        [
            "mask_rcnn_r50_fpn_1x_coco: no full result of a GPU (whole recipe, fp32)",
            "mask_rcnn_r50_fpn_2x_coco: failed: no memory",
            "mask_rcnn_r101_fpn_1x_coco: no run is recorded yet",
        ],
    )
    assert against_results(results, [])[1][0] == "mask_rcnn_r50_fpn_2x_coco: failed: no memory"


def test_of_two_runs_of_a_seed_the_newest_counts(load: Load) -> None:
    """Records hold an older run of seed 0, and one of seed 1 that was trained with other data."""
    experiment = load("seeds: [0, 1]\ninclude: [{backbone: R-50}]\n")
    newest = finished(experiment.cells[0], box=0.38, started=2)
    old = replace(newest, run_id="old", started=1, metrics={"bbox_mAP": 0.1, "segm_mAP": 0.1})
    other = finished(experiment.cells[0], 1, identity="other data", started=1)
    records = write_report(experiment, [old, newest, other], Path("out")).records
    assert [(run.seed, run.numbers["box AP"]) for run in of_records(records)] == [(0, pytest.approx(38.0))]


def test_seeds_that_have_not_finished_are_counted(load: Load) -> None:
    """One of three: the number that the gate shows is of two of three."""
    experiment = load("seeds: [0, 1, 2]\ninclude: [{backbone: R-50}]\n")
    (cell,) = experiment.cells
    stored = [finished(cell), finished(cell, 1), unfinished(cell, "FAILED", 2, reason="no memory")]
    results = of_records(write_report(experiment, stored, Path("out")).records)
    assert {number.missing for number in against_results(results, results[:1])[0]} == {(1, 1)}
    assert {number.missing for number in against_published(results)[0]} == {(1, 0)}
