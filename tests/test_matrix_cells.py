"""What the axes of a matrix file expand to."""

import itertools
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matrices import R50, R101, load, names

from harness.cell import make_cell
from harness.errors import UserError


def test_product_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, "axes: {schedule: [2x, 1x], backbone: [R-101, R-50]}\n")
    assert [(cell.cell["schedule"], cell.cell["backbone"]) for cell in found.cells] == [
        ("2x", "R-101"),
        ("2x", "R-50"),
        ("1x", "R-101"),
        ("1x", "R-50"),
    ]


def test_paired_axes_go_side_by_side(tmp_path: Path) -> None:
    found = load(
        tmp_path, "axes: {fp16: [false, true]}\npaired:\n  - backbone: [R-50, R-101]\n    schedule: [1x, 2x]\n"
    )
    assert names(found) == [
        "mask_rcnn_r50_fpn_1x_coco",
        "mask_rcnn_r101_fpn_2x_coco",
        "mask_rcnn_r50_fpn_fp16_1x_coco",
        "mask_rcnn_r101_fpn_fp16_2x_coco",
    ]


def test_include_comes_after_exclude_and_a_cell_counts_once(tmp_path: Path) -> None:
    text = "axes: {backbone: [R-50, R-101]}\nexclude: [{backbone: R-50, because: slow}]\n"
    assert names(load(tmp_path, text)) == [R101]
    assert names(load(tmp_path, text + "include: [{backbone: R-50}, {backbone: [R-101, R-50]}]\n")) == [R101, R50]


def test_exclude_can_name_a_default_that_axes_leave_out(tmp_path: Path) -> None:
    text = "axes: {backbone: [R-18, R-50]}\nexclude: [{style: pytorch}]\nrecipe: {pretrained: none}\n"
    assert names(load(tmp_path, text)) == ["mask_rcnn_r18_fpn_1x_coco+pretrained=none"]


def test_an_exclude_entry_takes_away_what_cannot_be(tmp_path: Path) -> None:
    text = "axes: {backbone: [R-18, R-50], style: [caffe, pytorch]}\nrecipe: {pretrained: none}\n"
    assert len(load(tmp_path, text + "exclude: [{backbone: R-18}]\n").cells) == 2


VALUES = {
    "backbone": ["R-50", "R-101", "X-101-64x4d"],
    "schedule": ["1x", "2x", "3x"],
    "fp16": [False, True],
    "multiscale": [False, True],
}


def some(name: str, size: int | None = None) -> Any:
    return st.lists(st.sampled_from(VALUES[name]), min_size=size or 1, max_size=size or 3, unique=size is None)


@st.composite
def matrices(draw: Any) -> dict[str, Any]:
    """A matrix of four axes, as a file would have it: each axis in the product, in one pair of two, or left out."""
    order = draw(st.permutations(list(VALUES)))
    matrix: dict[str, Any] = {"axes": {name: draw(some(name)) for name in order[: draw(st.integers(0, 4))]}}
    rest = order[len(matrix["axes"]) :]
    if len(rest) >= 2 and draw(st.booleans()):
        size = draw(st.integers(1, 3))
        matrix["paired"] = [{name: draw(some(name, size)) for name in rest[:2]}]
    entry = st.sampled_from(order).flatmap(lambda name: some(name).map(lambda values: {name: values}))
    matrix["include"] = draw(st.lists(entry, max_size=2))
    matrix["exclude"] = draw(st.lists(entry, max_size=2))
    return matrix


def oracle(matrix: dict[str, Any]) -> set[str]:
    """The cells of a matrix by brute force: every point of the whole space is asked whether it belongs."""
    names = set()
    defaults = {name: values[0] for name, values in VALUES.items()}
    for point in (dict(zip(VALUES, row, strict=True)) for row in itertools.product(*VALUES.values())):
        rows = {name: values for block in matrix.get("paired", []) for name, values in block.items()}
        declared = bool(matrix["axes"] or rows)
        free = all(point[n] == v for n, v in defaults.items() if n not in matrix["axes"] and n not in rows)
        in_axes = all(point[name] in values for name, values in matrix["axes"].items())
        in_rows = not rows or tuple(point[name] for name in rows) in set(zip(*rows.values(), strict=True))
        out = any(all(point[n] in values for n, values in entry.items()) for entry in matrix["exclude"])
        included = any(all(point[n] in entry.get(n, [defaults[n]]) for n in VALUES) for entry in matrix["include"])
        if (declared and free and in_axes and in_rows and not out) or included:
            names.add(make_cell(point).name)
    return names


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(matrix=matrices())
def test_expansion_equals_brute_force(matrix: dict[str, Any], tmp_path: Path) -> None:
    expected = oracle(matrix)
    try:
        found = load(tmp_path, json.dumps(matrix))  # JSON is YAML
    except UserError as error:
        lines = str(error).splitlines()
        assert all("matches no cell" in line or "has no cells" in line for line in lines), error
        # An exclude entry is idle where the matrix without it is the same; no cells where the oracle finds none.
        for line in lines:
            idle = [oracle({**matrix, "include": [], "exclude": [entry]}) for entry in matrix["exclude"]]
            assert oracle({**matrix, "include": [], "exclude": []}) in idle if "matches" in line else not expected
    else:
        assert len(found.cells) == len({planned.name for planned in found.cells})
        assert {planned.name for planned in found.cells} == expected
