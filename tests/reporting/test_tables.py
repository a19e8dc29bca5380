"""Columns, seeds, marks and refusals of the tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import axes
from harness.errors import UserError
from harness.matrix import Experiment, load_experiment
from harness.reporting.measures import ASSUMED, device
from harness.reporting.records import Hardware, Record
from harness.reporting.rows import match
from harness.reporting.tables import ResultTable, result_tables
from reporting.conftest import V100, Load, finished, on_cpu, unfinished

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"
SEEDS = "seeds: [0, 1, 2]\ninclude: [{backbone: R-50}]\n"
SHORT = "shorten: {epochs: 2, image_scale: 0.5}\ninclude: [{backbone: R-50}]\n"
FP16 = "include: [{backbone: R-50, fp16: true}]\n"


def tables(experiment: Experiment, records: list[Record]) -> list[ResultTable]:
    return result_tables(experiment, match(experiment, records)[0], None)


def shown(experiment: Experiment, *records: Record, row: int = 0) -> dict[str, Any]:
    """A row of the first table by column, and its marks."""
    table = tables(experiment, list(records))[0]
    return dict(zip(table.columns, table.rows[row].cells, strict=True)) | {"marks": list(table.rows[row].marks)}


def test_the_published_columns_and_first_cells() -> None:
    first, second = tables(load_experiment(ZOO), [])
    assert first.title == "Results and Models"
    assert first.columns == (
        "Backbone", "Style", "Lr schd", "Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download"
    )  # fmt: skip
    assert [row.cells[:3] for row in first.rows][:4] == [
        ("R-50-FPN", "caffe", "1x"),
        ("R-50-FPN", "pytorch", "1x"),
        ("R-50-FPN (FP16)", "pytorch", "1x"),
        ("R-50-FPN", "pytorch", "2x"),
    ]
    assert second.columns == first.columns
    assert (len(first.rows), len(second.rows)) == (12, 9)
    assert second.rows[-1].cells[:3] == ("X-101-64x4d-FPN", "pytorch", "3x")


def test_the_backbone_style_and_schedule_are_those_of_the_published_rows(shared: Path) -> None:
    import csv

    with (shared / "reference" / "published.csv").open(encoding="utf-8", newline="") as file:
        published = list(csv.DictReader(file))
    rows = [row for table in tables(load_experiment(ZOO), []) for row in table.rows]
    assert [row.name for row in rows] == [row["name"] for row in published]
    for row, wanted in zip(rows, published, strict=True):
        text = wanted["backbone"].removeprefix("[").split("]")[0]  # linked in the second table
        assert row.cells[0] == text.replace("x101", "X-101")  # so written in one published row
        assert row.cells[1:3] == (wanted["style"], wanted["schedule"])


def test_a_full_result_on_gpus_has_no_mark(load: Load) -> None:
    experiment = load(TWO)
    row = shown(experiment, finished(experiment.cells[0], box=0.3825001, mask=0.34749, hardware=V100))
    assert row["marks"] == []
    assert (row["Mem (GB)"], row["Inf time (fps)"], row["box AP"], row["mask AP"]) == ("4.4", "16.1", "38.3", "34.7")
    assert [link.text for link in row["Download"]] == ["model", "log"]


def test_what_was_not_measured_is_a_dash(load: Load) -> None:
    experiment = load(TWO)
    bare = replace(finished(experiment.cells[0]), fps=None, memory_gb=None, files={}, metrics={"bbox_mAP": -1.0})
    row = shown(experiment, bare)
    assert {name: row[name] for name in ("Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download")} == (
        dict.fromkeys(("Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download"), "-")
    )
    assert all(cell for table in tables(experiment, []) for row in table.rows for cell in row.cells)


@pytest.mark.slow
def test_seeds_show_mean_deviation_and_number(load: Load) -> None:
    # 38.0, 38.4, 38.5: mean 38.3; squares .09 + .01 + .04 = .14, over n - 1 = 2: .07, its root .2646;
    # t(0.975, 2) = 4.3027, x .2646 / sqrt 3 = .657
    cell = (experiment := load(SEEDS)).cells[0]
    found = [finished(cell, seed, box=box) for seed, box in enumerate((0.380, 0.384, 0.385))]
    row = shown(experiment, *found)
    assert row["box AP"] == "38.3 ± 0.3 [37.6, 39.0] (n=3)"
    assert row["mask AP"] == "34.0 ± 0.0 [34.0, 34.0] (n=3)"
    assert row["Inf time (fps) on H100"] == "16.1 ± 0.0 [16.1, 16.1] (n=3)"
    assert row["marks"] == []
    # without the last: mean 38.2, deviation .4 / sqrt 2 = .2828; assumed .3 / sqrt 2 x 1.96 = .416
    row = shown(experiment, *found[:2], unfinished(cell, "FAILED", 2, reason="out of memory"))
    assert row["box AP"] == "38.2 ± 0.3 [37.8, 38.6] (n=2 of 3)"
    assert row["Inf time (fps) on H100"] == "16.1 ± 0.0 (n=2 of 3)"  # nothing is assumed of speed
    assert row["marks"] == ["seed 2: failed: out of memory", ASSUMED]
    row = shown(experiment, found[0])
    assert row["box AP"] == "38.0 [37.4, 38.6] (n=1 of 3)"
    assert row["marks"] == ["seed 1, 2: no run is recorded yet", ASSUMED]


@pytest.mark.parametrize(
    ("state", "changes", "mark"),
    [
        ("QUEUED", {}, "queued"),
        ("RUNNING", {"epoch": 3}, "running, epoch 3/12"),
        ("FAILED", {"reason": "no space left"}, "failed: no space left"),
        ("KILLED", {}, "killed"),
    ],
)
def test_an_unfinished_run_shows_its_state_and_no_number(
    load: Load, state: str, changes: dict[str, Any], mark: str
) -> None:
    experiment = load(TWO)
    half = unfinished(experiment.cells[0], state, metrics={"bbox_mAP": 0.2}, memory_gb=4.0, fps=3.0, **changes)
    row = shown(experiment, half)
    assert row["marks"] == [mark]
    assert {row[name] for name in ("Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download")} == {"-"}


@pytest.mark.parametrize(
    ("matrix", "changes", "mark"),
    [
        (SHORT, {}, "shortened, not a full result: epochs=2, image_scale=0.5"),
        (TWO, {"epoch": 10}, "partial, not a full result: evaluated after epoch 10 of 12"),
        (TWO, {"hardware": None}, "trained on hardware that was not recorded"),
        (TWO, {"codes": ("abc", "def")}, "trained by two codes: abc, def"),
        (TWO, {"dirty": True}, "the code had changes that its commit 1234567890 lacks"),
    ],
)
def test_what_is_no_full_result_is_marked(load: Load, matrix: str, changes: dict[str, Any], mark: str) -> None:
    experiment = load(matrix)
    assert shown(experiment, finished(experiment.cells[0], **changes))["marks"] == [mark]


def test_an_override_stands_in_the_first_cell_and_is_spelled_out(load: Load) -> None:
    experiment = load(TWO + "recipe: {lr: 0.01, bn_eval: false}\n")
    row = shown(experiment, finished(experiment.cells[0]))
    assert row["Backbone"] == "R-50-FPN +lr=0.01+bn_eval=False"
    assert row["marks"] == ["+lr=0.01+bn_eval=False, not the cell's own recipe: bn_eval=false, lr=0.01"]


def test_memory_and_speed_of_a_cpu_stand_in_its_own_columns(load: Load) -> None:
    experiment = load(TWO)
    records = on_cpu(finished(experiment.cells[0])), finished(experiment.cells[1], hardware=V100)
    columns = ("Mem (GB)", "Inf time (fps)", "Mem (GB) on CPU", "Inf time (fps) on CPU")
    cpu, gpu = (shown(experiment, *records, row=index) for index in (0, 1))
    assert [cpu[name] for name in columns] == ["-", "-", "7.3", "0.52"]
    assert [gpu[name] for name in columns] == ["4.4", "16.1", "-", "-"]
    assert cpu["marks"] == ["trained on a CPU (AMD EPYC), not on a GPU"]
    assert "Mem (GB) on CPU" not in shown(experiment, records[1])


def test_gpu_hours_stand_beside_ap_where_gpus_were_used(load: Load) -> None:
    experiment = load(TWO)
    first, second = finished(experiment.cells[0], gpu_hours=41.26), finished(experiment.cells[1], gpu_hours=0.034)
    columns = tables(experiment, [first, second])[0].columns
    assert columns[columns.index("mask AP") + 1] == "GPU-hours"
    found = [shown(experiment, first, second, row=row)["GPU-hours"] for row in (0, 1)]
    assert found == ["41.3", "0.034"]
    assert "GPU-hours" not in shown(experiment, replace(on_cpu(first), gpu_hours=0.0))


def test_the_processs_memory_never_fills_the_gpu_column(load: Load) -> None:
    experiment = load(TWO)
    row = shown(experiment, finished(experiment.cells[0], memory_kind="rss", hardware=V100))
    assert (row["Mem (GB)"], row["Inf time (fps)"]) == ("-", "16.1")


def test_other_gpus_have_columns_of_their_own(load: Load) -> None:
    experiment = load(TWO)
    columns = ("Mem (GB)", "Inf time (fps)", "Mem (GB) on H100", "Inf time (fps) on H100")
    records = finished(experiment.cells[0]), finished(experiment.cells[1], hardware=V100, fps=12.0)
    first, second = (shown(experiment, *records, row=index) for index in (0, 1))
    assert [first[name] for name in columns] == ["-", "-", "4.4", "16.1"]
    assert [second[name] for name in columns] == ["4.4", "12.0", "-", "-"]
    assert (first["marks"], second["marks"]) == ([], [])


def test_kinds_of_one_gpu_say_which(load: Load) -> None:
    experiment = load(TWO)
    twin = finished(experiment.cells[1], hardware=Hardware(kind="cuda", device="NVIDIA H100 80GB HBM3", count=8))
    first, second = (shown(experiment, finished(experiment.cells[0]), twin, row=index) for index in (0, 1))
    assert (first["marks"], second["marks"]) == (["on NVIDIA H100"], ["on NVIDIA H100 80GB HBM3"])
    assert first["Mem (GB) on H100"] == second["Mem (GB) on H100"] == "4.4"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Tesla V100-SXM2-32GB", "V100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIE"),  # it runs at other clocks
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
    ],
)
def test_short_names_of_gpus(name: str, short: str) -> None:
    assert device(Hardware(kind="cuda", device=name, count=1)) == short


def test_without_named_tables_there_is_one_for_each_multi_scale_value(load: Load) -> None:
    experiment = load("axes: {backbone: [R-50, R-101], multiscale: [true, false]}\n")
    assert [(table.title, len(table.rows)) for table in tables(experiment, [])] == [
        ("Multi-scale: no", 2),
        ("Multi-scale: yes", 2),
    ]
    assert [table.title for table in tables(load(TWO), [])] == ["Results"]


def test_a_table_that_mixes_a_splitting_axis_shows_it(load: Load) -> None:
    experiment = load(
        "axes: {backbone: [R-50], multiscale: [true, false]}\ntables: [{title: All, cells: '*'}]\n",
    )
    (table,) = tables(experiment, [])
    assert table.columns[:4] == ("Backbone", "Style", "Multi-scale", "Lr schd")
    assert [row.cells[2] for row in table.rows] == ["yes", "no"]


GROUP_NORM = axes.Axis(
    name="neck",
    column="Neck",
    values=(
        axes.Value(key="plain"),
        axes.Value(key="GN", piece="_gn-neck", label="GN", edit=lambda recipe, point: replace(recipe, fpn_norm="GN")),
    ),
)


def test_a_sixth_axis_has_its_column_where_it_says_something(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "AXES", (*axes.AXES, GROUP_NORM))
    experiment = load("axes: {backbone: [R-50], neck: [plain, GN]}\n")
    (table,) = tables(experiment, [finished(experiment.cells[1])])
    assert table.columns[:5] == ("Backbone", "Style", "Lr schd", "Neck", "Mem (GB)")
    assert [row.cells[3] for row in table.rows] == ["-", "GN"]
    assert [len(row.marks) for row in table.rows] == [1, 0]
    assert "Neck" not in tables(load_experiment(ZOO), [])[0].columns


def test_two_rows_with_the_same_axis_cells_are_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(GROUP_NORM, values=tuple(replace(value, label="") for value in GROUP_NORM.values))
    monkeypatch.setattr(axes, "AXES", (*axes.AXES, silent))
    experiment = load("axes: {backbone: [R-50], neck: [plain, GN]}\n")
    with pytest.raises(UserError, match=r"'Results': .*fpn_1x_coco and .*gn-neck.* would both show 'R-50-FPN \| pyt"):
        tables(experiment, [])
