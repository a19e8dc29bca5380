"""Matrix files: what they expand to, and how their mistakes are told."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matrices import R50, R101, load, names

from harness import axes
from harness.errors import UserError
from harness.matrix import load_experiment

AXES = "axes: {backbone: [R-50]}\n"


# ---- the matrix files of the project


def test_full_is_the_product_without_x101_in_caffe_style() -> None:
    """5 backbones x 2 styles x 3 schedules x 2 x 2 = 120, less 3 x 1 x 3 x 2 x 2 = 36."""
    found = load_experiment(ROOT / "experiments/full.yaml")
    assert len(set(names(found))) == len(found.cells) == 84
    assert sum(planned.cell.published for planned in found.cells) == 21
    assert all(planned.full and not planned.suffix for planned in found.cells)


def test_zoo_has_the_published_tables_in_their_order(shared: Path) -> None:
    with (shared / "reference/published.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    published = {table: tuple(r["name"] for r in rows if r["table"] == table) for table in ("results", "pretrained")}
    assert [len(part) for part in published.values()] == [12, 9]
    found = load_experiment(ROOT / "experiments/zoo.yaml")
    assert tuple(table.rows for table in found.tables) == tuple(published.values())
    assert [table.title for table in found.tables] == [
        "Results and Models",
        "Pre-trained Models",
    ]
    assert len(found.cells) == 21


def test_zoo_and_published_agree_on_the_axes(shared: Path) -> None:
    zoo = load_experiment(ROOT / "experiments/zoo.yaml")
    with (shared / "reference/published.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            cell = zoo.find(row["name"]).cell
            expected = (row["style"], row["schedule"], row["fp16"] == "True", row["multiscale"] == "True")
            assert tuple(cell[name] for name in ("style", "schedule", "fp16", "multiscale")) == expected


# ---- recipes, resources, seeds, tables


def test_overrides_show_in_the_name_and_cannot_stand_for_the_cell(tmp_path: Path) -> None:
    (planned,) = load(tmp_path, AXES + "recipe: {lr: 0.01, train_scales: [[96, 64]]}\n").cells
    assert planned.name == f"{R50}+lr=0.01+train_scales=96x64"
    assert (planned.recipe.lr, planned.recipe.train_scales, planned.full) == (0.01, ((96, 64),), False)


@pytest.mark.parametrize(
    ("blocks", "suffix", "lr"),
    [
        ("recipe: {lr: 0.02}", "", 0.02),
        ("recipe: {label: demo}", "", 0.02),
        ("recipe: {label: demo, lr: 0.01}", "+demo", 0.01),
        ("recipe: {lr: 0.01}\noverrides: [{cells: '*', recipe: {lr: 0.04}}]", "+lr=0.04", 0.04),
        ("recipe: {lr: 0.01}\noverrides: [{cells: '*', recipe: {lr: 0.02}}]", "", 0.02),
        ("recipe: {lr: 0.01}\noverrides: [{cells: 'other*'}, {cells: '*r50*', recipe: {batch: 8}}]", None, None),
        ("recipe: {lr: 0.01}\noverrides: [{cells: '*r50*', recipe: {batch: 8}}]", "+lr=0.01+batch=8", 0.01),
        ("recipe: {label: a, lr: 0.01}\noverrides: [{cells: '*', recipe: {label: b, batch: 8}}]", "+a+b", 0.01),
        ("recipe: {label: a, lr: 0.01}\noverrides: [{cells: '*', recipe: {label: a, batch: 8}}]", "+a", 0.01),
        ("shorten: {epochs: 1}", "", 0.02),
    ],
)
def test_the_suffix_tells_what_differs_in_the_end(
    tmp_path: Path, blocks: str, suffix: str | None, lr: float | None
) -> None:
    if suffix is None:
        with pytest.raises(UserError, match="this pattern matches no cell"):
            load(tmp_path, AXES + blocks)
        return
    (planned,) = load(tmp_path, AXES + blocks).cells
    assert (planned.suffix, planned.recipe.lr) == (suffix, lr)
    assert planned.full == (not suffix and "shorten" not in blocks)


def test_a_shortened_cell_keeps_its_recipe(tmp_path: Path) -> None:
    (planned,) = load(tmp_path, AXES + "shorten: {epochs: 3, iterations_per_epoch: 7, image_scale: 0.1}\n").cells
    assert planned.recipe == planned.cell.recipe()
    assert (planned.executed.epochs, planned.executed.test_scale) == (3, (133, 80))
    assert planned.shortening.describe() == "epochs=3, iterations_per_epoch=7, image_scale=0.1"
    assert not planned.full


def test_resources_are_changed_by_pattern_key_by_key(tmp_path: Path) -> None:
    text = (
        "axes: {backbone: [R-50, R-101]}\nresources: {gpus_per_node: 4, minutes: 60}\n"
        "overrides:\n  - {cells: ['*r101*'], resources: {minutes: 90}}\n"
        "  - {cells: '*', resources: {workers: 0}}\n"
    )
    one, other = load(tmp_path, text).cells
    assert one.resources.model_dump() == {
        "nodes": 1,
        "gpus_per_node": 4,
        "cpus_per_gpu": 5,
        "memory_gb": None,
        "minutes": 60,
        "workers": 0,
    }
    assert (other.resources.minutes, other.resources.gpus_per_node) == (90, 4)
    assert other.full  # resources change no result


def test_names_seeds_and_find(tmp_path: Path) -> None:
    found = load(tmp_path, "seeds: [3, 0]\naxes: {backbone: R-50, style: caffe}\nrecipe: {lr: 0.01}\n")
    assert (found.name, found.seeds) == ("m", (3, 0))
    assert found.find("mask_rcnn_r50_caffe_fpn_1x_coco") is found.cells[0]
    assert found.find("mask_rcnn_r50_caffe_fpn_1x_coco+lr=0.01") is found.cells[0]
    with pytest.raises(UserError, match=r"has no cell 'mask_rcnn_r50_fpn_1x_coco', did you mean 'mask_rcnn_r50_caffe"):
        found.find(R50)


def test_tables_by_axes_by_pattern_and_by_list(tmp_path: Path) -> None:
    text = "axes: {backbone: [R-50, R-101]}\ntables:\n"
    text += "  - {title: a, cells: {backbone: [R-101]}}\n  - {title: b, cells: '*'}\n"
    text += f"  - {{title: c, cells: ['*r101*', {R50}, '*']}}\n"
    assert [table.rows for table in load(tmp_path, text).tables] == [(R101,), (R50, R101), (R101, R50)]


def test_aliases_and_merges_are_read(tmp_path: Path) -> None:
    text = "include:\n  - &a {backbone: R-50, fp16: &yes true}\n"
    text += "  - {<<: *a, schedule: 2x}\n  - {fp16: *yes, style: caffe}\n"
    assert names(load(tmp_path, text)) == [
        "mask_rcnn_r50_fpn_fp16_1x_coco",
        "mask_rcnn_r50_fpn_fp16_2x_coco",
        "mask_rcnn_r50_caffe_fpn_fp16_1x_coco",
    ]


# ---- mistakes: ^ stands before the place that the message must name

BACKBONES = "'R-50', 'R-101', 'X-101-32x4d', 'X-101-64x4d', 'X-101-32x8d' or 'R-18'"
AXIS_NAMES = "'backbone', 'style', 'fp16', 'multiscale' or 'schedule'"
TOP = (
    "'name', 'description', 'seeds', 'axes', 'paired', 'include', 'exclude', 'recipe', 'shorten', 'resources', "
    "'overrides' or 'tables'"
)
RESOURCES = "'nodes', 'gpus_per_node', 'cpus_per_gpu', 'memory_gb', 'minutes' or 'workers'"

MISTAKES = [
    ("axes: {backbone: [^R-52]}", f"unknown backbone 'R-52', did you mean 'R-50'?; expected {BACKBONES}"),
    ("axes: {backbone: ^R-52}", f"unknown backbone 'R-52', did you mean 'R-50'?; expected {BACKBONES}"),
    ("axes:\n  schedule:\n    - 1x\n    - ^4y", "unknown schedule '4y'; expected '1x', '2x' or '3x'"),
    ("axes: {schedule: ^1}", "unknown schedule 1, did you mean '1x'?; expected '1x', '2x' or '3x'"),
    ("axes: {fp16: ^yes}", "unknown fp16 'yes'; expected false or true"),
    ("axes: {fp16: [^0]}", "unknown fp16 0; expected false or true"),
    ("axes: {^backbones: [R-50]}", f"unknown axis 'backbones', did you mean 'backbone'?; expected {AXIS_NAMES}"),
    ("axes: {backbone: ^[R-50, R-50]}", "axis 'backbone' has 'R-50' twice"),
    ("axes: {backbone: ^[]}", "axis 'backbone' has no values"),
    (
        "axes: {^backbone: }",
        "axes.backbone is nothing, expected true or false, a whole number, a number, a text or a list",
    ),
    (
        "axes: {backbone: [^null, R-50]}",
        "axes.backbone is nothing, expected true or false, a whole number, a number or a text",
    ),
    ("axes: ^[backbone]", "axes is ['backbone'], expected a mapping"),
    ("axes: ^R-50", "axes is 'R-50', expected a mapping"),
    ("name: t\n^axes:", "axes is nothing, expected a mapping"),
    (f"{AXES}name: ^12", "name is 12, expected a text"),
    (f"{AXES}name: ^a/b", "name 'a/b' must be letters, digits, '.', '_' or '-', at most 64"),
    (f"{AXES}name: ^../up", "name '../up' must be letters, digits, '.', '_' or '-', at most 64"),
    (f"{AXES}^nmae: t", f"unknown key 'nmae', did you mean 'name'?; expected {TOP}"),
    (f"{AXES}^12: t", "key 12 is no text; put it in quotes, or mend it"),
    (f"{AXES}^true: t", "key true is no text; put it in quotes, or mend it"),
    (f"{AXES}seeds: [0, ^-1]", "seeds is -1, expected at least 0"),
    (f"{AXES}seeds: [^4294967296]", "seeds is 4294967296, expected at most 4294967295"),
    (f"{AXES}seeds: [^true]", "seeds is true, expected a whole number"),
    (f"{AXES}seeds: [^1.5]", "seeds is 1.5, expected a whole number"),
    (f"{AXES}seeds: ^3", "seeds is 3, expected a list"),
    (f"{AXES}seeds: ^[]", "seeds is [], expected at least 1 entry"),
    (f"{AXES}seeds: ^[0, 1, 0]", "seeds [0, 1, 0] repeat"),
    (f"{AXES}recipe: {{lr: ^fast}}", "lr is 'fast', expected a number above 0"),
    (f"{AXES}recipe: {{lr: ^.inf}}", "lr is inf, expected a number above 0"),
    (f"{AXES}recipe: {{lr: ^.nan}}", "lr is nan, expected a number above 0"),
    (f"{AXES}recipe: {{lr: ^1e400}}", "lr is inf, expected a number above 0"),
    (f"{AXES}recipe: {{^lr: }}", "lr is nothing, expected a number above 0"),
    (f"{AXES}recipe: {{batch: ^0}}", "batch is 0, expected a whole number from 1"),
    (f"{AXES}recipe: {{micro_batch: ^0}}", "micro_batch is 0, expected a whole number from 1"),
    (f"{AXES}recipe: ^{{batch: 15}}", f"batch 15 is no multiple of micro_batch 2 ({R50})"),
    (
        f"{AXES}recipe: {{^momentumm: 1}}",
        "unknown recipe field 'momentumm', did you mean 'momentum'? (harness show CELL lists them)",
    ),
    (f"{AXES}recipe: {{label: ^a b, lr: 1}}", "label 'a b' must be letters, digits, '.', '_' or '-'"),
    (
        f"{AXES}recipe: {{lr: ^2020-01-01}}",
        "expected a text, a number, true or false, found a date or a tagged value; quote a text",
    ),
    (f"{AXES}shorten: {{epochs: ^0}}", "shorten.epochs is 0, expected at least 1"),
    (f"{AXES}shorten: {{image_scale: ^2}}", "shorten.image_scale is 2, expected at most 1.0"),
    (
        f"{AXES}shorten: {{^epoch: 1}}",
        "unknown key 'epoch', did you mean 'epochs'?; expected 'epochs', 'iterations_per_epoch', 'image_scale' "
        "or 'eval_images'",
    ),
    (f"{AXES}resources: {{nodes: ^two}}", "resources.nodes is 'two', expected a whole number"),
    (f"{AXES}resources: {{^nods: 1}}", f"unknown key 'nods', did you mean 'nodes'?; expected {RESOURCES}"),
    (
        "paired:\n  - ^backbone: [R-50, R-101]\n    schedule: [1x]",
        "paired axes need lists of equal length: backbone has 2, schedule has 1",
    ),
    ("paired:\n  - backbone: ^R-50", "paired.backbone is 'R-50', expected a list"),
    (
        "exclude: [{backbone: ^{a: 1}}]",
        "exclude.backbone is a mapping, expected true or false, a whole number, a number, a text or a list",
    ),
    ("paired: ^{backbone: [R-50]}", "paired is a mapping, expected a list"),
    ("paired: [^{}]", "a paired block needs at least one axis"),
    (f"{AXES}paired:\n  - {{^backbone: [R-101], schedule: [2x]}}", "axis 'backbone' is declared twice"),
    ("include: [^R-50]", "include is 'R-50', expected a mapping"),
    (
        "include:\n  - backbone: R-50\n  - ^backbone: R-18\n    style: caffe",
        "R-18 has no bottleneck, so it has no style: leave style out (add an exclude entry, or drop the value)",
    ),
    (
        "include:\n  - ^{backbone: X-101-32x4d, style: caffe, schedule: [1x, 2x]}",
        "no pretrained weights exist for this cell: exclude it, or override pretrained: none "
        "(mask_rcnn_x101_32x4d_caffe_fpn_1x_coco and 1 more)",
    ),
    (f"{AXES}exclude:\n  - ^backbone: R-101", "this exclude entry matches no cell"),
    (f"{AXES}exclude: [^{{because: x}}]", "an exclude entry needs at least one axis"),
    (f"{AXES}overrides:\n  - cells: ^'*r101*'", "this pattern matches no cell of the matrix"),
    (f"{AXES}overrides:\n  - cells: ['*r50*', ^'*r101*']", "this pattern matches no cell of the matrix"),
    (f"{AXES}overrides:\n  - cells: ^[]", "expected a pattern that matches cells, found an empty list"),
    (f"{AXES}overrides: ^{{cells: '*'}}", "overrides is a mapping, expected a list"),
    (f"{AXES}overrides: [^{{recipe: {{lr: 1}}}}]", "key 'cells' is missing"),
    (
        f"{AXES}overrides: [{{cells: '*', ^recip: {{lr: 1}}}}]",
        "unknown key 'recip', did you mean 'recipe'?; expected 'cells', 'recipe' or 'resources'",
    ),
    (f"{AXES}overrides: [{{cells: '*', recipe: {{lr: ^x}}}}]", "lr is 'x', expected a number above 0"),
    (
        f"{AXES}overrides: [{{cells: '*', recipe: ^{{batch: 15}}}}]",
        f"batch 15 is no multiple of micro_batch 2 ({R50})",
    ),
    (
        f"{AXES}overrides: [{{cells: '*', resources: {{nodes: ^0}}}}]",
        "overrides.resources.nodes is 0, expected at least 1",
    ),
    (f"{AXES}tables: [{{title: x, cells: ^{{schedule: 2x}}}}]", "table 'x' selects no cell of the matrix"),
    (f"{AXES}tables: [{{title: x, cells: ^'foo*'}}]", "table 'x' selects no cell of the matrix"),
    (f"{AXES}tables: [{{title: x, cells: ['*r50*', ^'foo*']}}]", "this pattern matches no cell of the matrix"),
    (f"{AXES}tables: [{{title: x, cells: {{^foo: 1}}}}]", f"unknown axis 'foo'; expected {AXIS_NAMES}"),
    (f"{AXES}tables: [{{title: x, cells: ^3}}]", "tables.cells is 3, expected a mapping, a list or a text"),
    (f"{AXES}tables: [{{title: ^'', cells: '*'}}]", "tables.title is '', expected at least 1 character"),
    ("^name: t", "the matrix has no cells: give axes, paired or include"),
    (f"^{AXES}exclude: [{{backbone: R-50}}]", "the matrix has no cells: everything is excluded"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[str(index) for index in range(len(MISTAKES))])
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    before, after = text.split("^")
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    with pytest.raises(UserError) as caught:
        load(tmp_path, before + after)
    assert str(caught.value) == f"{tmp_path / 'm.yaml'}:{line}:{column}: {message}"


def test_all_mistakes_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Places counted by hand."""
    text = (
        "nmae: t\n"
        "axes:\n"
        "  backbone: [R-50, R-52]\n"
        "  schedul: [1x]\n"
        "seeds: [-1]\n"
        "recipe: {lr: fast, momentumm: 1}\n"
        "overrides:\n"
        "  - {cells: '*', recipe: {epochs: 0}, resources: {nods: 1}}\n"
        "tables:\n"
        "  - {title: x, cells: {foo: 1}}\n"
    )
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    places = [line.removeprefix(f"{tmp_path / 'm.yaml'}:").split(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["1:1", "3:20", "4:3", "5:9", "6:14", "6:20", "8:35", "8:51", "10:24"]


def test_one_mistake_of_many_cells_is_one_line(tmp_path: Path) -> None:
    text = "axes: {schedule: [1x, 2x, 3x], fp16: [false, true]}\nrecipe: {batch: 15}\n"
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert str(caught.value).endswith(f"m.yaml:2:9: batch 15 is no multiple of micro_batch 2 ({R50} and 5 more)")
    assert "\n" not in str(caught.value)


def test_consequences_of_a_mistake_are_not_told(tmp_path: Path) -> None:
    text = "axes: {backbone: [R-52]}\nexclude: [{backbone: R-101}]\noverrides: [{cells: '*r50*'}]\n"
    text += "tables: [{title: x, cells: '*r50*'}]\n"
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1


NODES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["R-50", "1x", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["name", "description", "seeds", "axes", "paired", "include", "exclude", "recipe", "shorten", "resources"]
KEYS += ["overrides", "tables", *(axis.name for axis in axes.AXES)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(tree={"axes": {"\r": None}})
@given(tree=st.dictionaries(st.sampled_from(KEYS), NODES | st.dictionaries(st.sampled_from(KEYS), NODES), max_size=5))
def test_whatever_the_file_holds_there_is_no_traceback(tree: dict[str, Any], tmp_path: Path) -> None:
    try:
        load(tmp_path, json.dumps(tree))
    except UserError as error:
        assert all(line.startswith(f"{tmp_path / 'm.yaml'}") for line in str(error).splitlines())
