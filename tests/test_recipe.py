"""Recipes: values from files, contradictions, differences."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest

from harness.cell import all_cells, parse_name
from harness.errors import UserError
from harness.recipe import Recipe, check, diff, from_dict, parse_value, to_dict, with_overrides


def test_every_recipe_survives_json() -> None:
    for cell in all_cells():
        recipe = cell.recipe()
        assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_every_field_has_a_section_and_a_default_of_its_own_type() -> None:
    for entry in fields(Recipe):
        assert entry.metadata["section"]
        assert parse_value(entry.name, entry.default) == entry.default
        assert type(parse_value(entry.name, entry.default)) is type(entry.default)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", "fast", "lr is 'fast', expected a number above 0"),
        ("lr", math.inf, "lr is inf, expected a number above 0"),
        ("lr", math.nan, "lr is nan, expected a number above 0"),
        ("lr", 0, "lr is 0, expected a number above 0"),
        ("lr", None, "lr is nothing, expected a number above 0"),
        ("lr", True, "lr is true, expected a number above 0"),
        ("batch", 0, "batch is 0, expected a whole number from 1"),
        ("batch", 2.5, "batch is 2.5, expected a whole number from 1"),
        ("frozen_stages", 5, "frozen_stages is 5, expected a whole number from -1 to 4"),
        ("bn_eval", "maybe", "bn_eval is 'maybe', expected true or false"),
        ("momentum", 1.5, "momentum is 1.5, expected a number from 0 to 1"),
        ("depth", 34, "depth is 34, expected one of 18, 50, 101"),
        ("style", "tf", "style is 'tf', expected one of 'pytorch', 'caffe', '-'"),
        ("lr_steps", 8, "lr_steps is 8, expected a list, each a whole number from 1"),
        ("test_scale", [1333], "test_scale is [1333], expected a list of 2, each a whole number from 1"),
        (
            "train_scales",
            [[0, 800]],
            "train_scales is [[0, 800]], expected a list, each a list of 2, each a whole number from 1",
        ),
        ("pixel_std", [1, 1, 0], "pixel_std is [1, 1, 0], expected a list of 3, each a number above 0"),
        ("loss_scale", "static", "loss_scale is 'static', expected a number above 0 or 'dynamic'"),
        ("dataset", ["a"], "dataset is ['a'], expected a text"),
        ("dataset", {"a": 1}, "dataset is a mapping, expected a text"),
    ],
)
def test_wrong_values(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_value(name, value)
    assert str(caught.value) == message
    with pytest.raises(UserError) as told:
        from_dict({name: value})
    assert str(told.value) == message


def test_values_from_a_command_line() -> None:
    assert parse_value("lr", "0.01") == 0.01
    assert parse_value("epochs", "3") == 3
    assert parse_value("loss_scale", 512) == 512.0
    assert parse_value("train_scales", [[96, 64]]) == ((96, 64),)
    with pytest.raises(KeyError):
        parse_value("learning_rate", 1)
    with pytest.raises(UserError, match="unknown recipe field 'learning_rate'"):
        from_dict({"learning_rate": 1})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"batch": 15}, "batch 15 is no multiple of micro_batch 2"),
        ({"lr_steps": (11, 8)}, "lr_steps [11, 8] must ascend"),
        ({"lr_steps": (8, 8)}, "lr_steps [8, 8] must ascend"),
        ({"depth": 18}, "a backbone of depth 18 has no bottleneck, so style must be '-'"),
        ({"style": "-"}, "a backbone of depth 50 needs style pytorch or caffe"),
        ({"fpn_norm": "GN", "fpn_channels": 48}, "fpn_norm GN needs fpn_channels in multiples of 32"),
        ({"train_scales": ()}, "train_scales is empty"),
        ({"anchor_ratios": ()}, "anchor_ratios is empty"),
        ({"pretrained": "none", "frozen_stages": 0}, "random weights (pretrained: none) must not be frozen"),
    ],
)
def test_contradictions(overrides: dict[str, Any], message: str) -> None:
    check(Recipe())
    with pytest.raises(UserError) as caught:
        with_overrides(Recipe(), overrides)
    assert str(caught.value) == message


def test_training_from_scratch_freezes_nothing_unless_told() -> None:
    caffe = parse_name("mask_rcnn_r50_caffe_fpn_1x_coco").recipe()
    scratch = with_overrides(caffe, {"pretrained": "none"})
    assert (scratch.frozen_stages, scratch.bn_eval, scratch.bn_affine_trained) == (-1, False, True)
    told = with_overrides(caffe, {"pretrained": "none", "bn_eval": True})
    assert (told.frozen_stages, told.bn_eval, told.bn_affine_trained) == (-1, True, True)
    assert with_overrides(caffe, {"lr": 0.01}).frozen_stages == 1


def test_diff_names_fields_with_both_values() -> None:
    one, other = parse_name("mask_rcnn_r50_fpn_1x_coco"), parse_name("mask_rcnn_r50_fpn_fp16_2x_coco")
    assert diff(one.recipe(), other.recipe()) == {
        "epochs": (12, 24),
        "lr_steps": ((8, 11), (16, 22)),
        "precision": ("fp32", "fp16"),
    }
