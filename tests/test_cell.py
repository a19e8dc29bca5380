"""Cells and their names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import axes
from harness.cell import all_cells, form, make_cell, parse_name
from harness.errors import UserError

CELLS = all_cells()


def test_every_name_parses_back_to_its_cell() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS) == 132
    for cell in CELLS:
        assert parse_name(cell.name) == cell
        assert make_cell(cell.point) == cell


@given(
    st.fixed_dictionaries({}, optional={axis.name: st.sampled_from([v.key for v in axis.values]) for axis in axes.AXES})
)
def test_a_cell_has_the_given_values_or_a_reason(values: dict[str, str | bool]) -> None:
    try:
        cell = make_cell(values)
    except ValueError as error:
        # Only a style can be refused: R-18 takes "-" alone, and no other backbone takes it.
        assert (values.get("backbone", "R-50") == "R-18") != (values["style"] == "-")
        assert "style" in str(error)
    else:
        assert {name: cell[name] for name in values} == values
        assert parse_name(cell.name) == cell


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CELLS), st.integers(0, 60), st.characters(codec="ascii"))
def test_a_name_with_one_more_letter_is_another_cell_or_none(cell, position: int, letter: str) -> None:
    changed = cell.name[:position] + letter + cell.name[position:]
    try:
        found = parse_name(changed)
    except UserError as error:
        assert "unknown cell" in str(error)
    else:
        assert found.name == changed


def test_defaults_are_the_first_values_that_go_together() -> None:
    assert make_cell({}).name == "mask_rcnn_r50_fpn_1x_coco"
    assert make_cell({"backbone": "R-18"}).name == "mask_rcnn_r18_fpn_1x_coco"
    assert make_cell({"backbone": "R-18"})["style"] == "-"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"style": "caffe", "multiscale": True, "schedule": "3x"}, "mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco"),
        ({"fp16": True}, "mask_rcnn_r50_fpn_fp16_1x_coco"),
        (
            {"backbone": "X-101-64x4d", "fp16": True, "multiscale": True, "schedule": "2x"},
            "mask_rcnn_x101_64x4d_fpn_fp16_mstrain-poly_2x_coco",
        ),
    ],
)
def test_pieces_stand_in_the_published_order(values: dict[str, str | bool], name: str) -> None:
    assert make_cell(values).name == name


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"backbone": "R-18", "style": "caffe"}, "R-18 has no bottleneck"),
        ({"backbone": "R-18", "style": "pytorch"}, "R-18 has no bottleneck"),
        ({"backbone": "R-50", "style": "-"}, "R-50 needs a style"),
        ({"style": "-", "backbone": "X-101-32x4d"}, "X-101-32x4d needs a style"),
    ],
)
def test_values_that_do_not_go_together(values: dict[str, str | bool], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make_cell(values)


def test_an_unknown_name_is_answered_with_the_nearest_and_the_form() -> None:
    with pytest.raises(UserError) as caught:
        parse_name("mask_rcnn_r50_fpn_4x_coco")
    assert str(caught.value) == (
        f"unknown cell 'mask_rcnn_r50_fpn_4x_coco', did you mean 'mask_rcnn_r50_fpn_3x_coco'?; the form is {form()}"
    )
    assert form() == (
        "mask_rcnn_{r50|r101|x101_32x4d|x101_64x4d|x101_32x8d|r18}[_caffe]_fpn[_fp16][_mstrain-poly]_{1x|2x|3x}_coco"
    )
