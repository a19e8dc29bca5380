"""Recipes: values from files, contradictions, shortening, identity."""

import json
import math
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import recipe as module
from harness.cell import PUBLISHED, all_cells, parse_name
from harness.errors import UserError
from harness.recipe import (
    Digests,
    Recipe,
    Shortening,
    check,
    diff,
    field_names,
    from_dict,
    identity,
    identity_fields,
    parse_value,
    shortened,
    to_dict,
    with_overrides,
)

FROZEN = Path(__file__).parent / "frozen/identities.json"
DIGESTS = Digests(train_annotations="a" * 64, val_annotations="b" * 64, pretrained="0676ba61")

# The published starts of the weight files' sha256.
WEIGHTS = {
    "torchvision://resnet50": "0676ba61",
    "torchvision://resnet101": "63fe2227",
    "open-mmlab://detectron2/resnet50_caffe": "5891d200",
    "open-mmlab://detectron2/resnet101_caffe": "6cc46731",
    "open-mmlab://resnext101_32x4d": "a5af3160",
    "open-mmlab://resnext101_64x4d": "ee2c6f71",
    "open-mmlab://detectron2/resnext101_32x8d": "1516f1aa",
}


def test_the_identities_of_the_published_cells_are_frozen() -> None:
    """A difference here makes every finished run a stranger: raise NUMERICS, or give a new field its old behaviour."""
    found = {}
    for name in sorted(PUBLISHED):
        recipe = parse_name(name).recipe()
        digests = Digests(
            train_annotations="coco2017-train", val_annotations="coco2017-val", pretrained=WEIGHTS[recipe.pretrained]
        )
        found[name] = identity(recipe, digests)
    assert found == json.loads(FROZEN.read_text())
    assert len(set(found.values())) == 21


def test_all_cells_have_their_own_identity() -> None:
    cells = [cell.recipe() for cell in all_cells()]
    digests = [replace(DIGESTS, pretrained=recipe.pretrained) for recipe in cells]
    assert len({identity(recipe, digest) for recipe, digest in zip(cells, digests, strict=True)}) == len(cells)


def test_a_new_field_at_its_default_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_name("mask_rcnn_r50_fpn_2x_coco").recipe()
    before = identity(recipe, DIGESTS)
    metadata = {"section": "roi", "text": "", "identity": True}
    wider = make_dataclass(
        "Recipe",
        [("dropout", float, field(default=0.0, metadata=metadata))],
        bases=(Recipe,),
        frozen=True,
        kw_only=True,
    )
    monkeypatch.setattr(module, "Recipe", wider)
    values = {entry.name: getattr(recipe, entry.name) for entry in fields(Recipe)}
    assert [entry.name for entry in fields(wider)][-1] == "dropout"
    assert identity(wider(**values), DIGESTS) == before
    assert identity(wider(**values, dropout=0.1), DIGESTS) != before


def other_value(name: str) -> Any:
    """A valid value of a field other than its default."""
    default = getattr(Recipe(), name)
    choices: list[Any] = ["bgr", "value", "polygon", "caffe", "GN", "resized", "AdamW", "fp16", "fast", 18, "other"]
    if isinstance(default, bool):
        return not default
    if isinstance(default, tuple):
        return [[v + 1 for v in scale] for scale in default] if name == "train_scales" else [v + 1 for v in default]
    if isinstance(default, int | float) and name != "depth":
        return default / 2 if isinstance(default, float) else default + 1
    return next(value for value in choices if value != default and fits(name, value))


def fits(name: str, value: Any) -> bool:
    try:
        parse_value(name, value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", field_names())
def test_identity_follows_every_field_but_the_two_names(name: str) -> None:
    changed = replace(Recipe(), **{name: parse_value(name, other_value(name))})
    assert changed != Recipe()
    same = identity(changed, DIGESTS) == identity(Recipe(), DIGESTS)
    assert same == (name in ("dataset", "pretrained"))


def test_identity_follows_digests_and_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(Recipe(), DIGESTS)
    for name in ("train_annotations", "val_annotations", "pretrained"):
        assert identity(Recipe(), replace(DIGESTS, **{name: "c" * 64})) != before
    monkeypatch.setattr(module, "NUMERICS", module.NUMERICS + 1)
    assert identity(Recipe(), DIGESTS) != before
    assert len(before) == 16
    assert int(before, 16) >= 0


def test_only_what_differs_from_the_defaults_is_hashed() -> None:
    assert identity_fields(Recipe()) == {}
    assert identity_fields(parse_name("mask_rcnn_r101_fpn_2x_coco").recipe()) == {
        "depth": 101,
        "epochs": 24,
        "lr_steps": (16, 22),
    }


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


def test_shortened_moves_the_rate_steps_in_proportion() -> None:
    """3 of 12 epochs: steps 8 and 11 become 2 and 2.75, rounded to 3. A tenth of 1333 x 800: 133.3 x 80."""
    short = shortened(Recipe(), Shortening(epochs=3, image_scale=0.1))
    assert (short.epochs, short.lr_steps) == (3, (2, 3))
    assert (short.train_scales, short.test_scale) == (((133, 80),), (133, 80))
    assert diff(Recipe(), short).keys() == {"epochs", "lr_steps", "train_scales", "test_scale"}


@given(epochs=st.integers(1, 50), cell=st.sampled_from([cell.name for cell in all_cells()]))
def test_shortened_recipes_are_sound(epochs: int, cell: str) -> None:
    short = shortened(parse_name(cell).recipe(), Shortening(epochs=epochs, image_scale=0.0001))
    assert list(short.lr_steps) == sorted(set(short.lr_steps))
    assert all(step >= 1 for step in short.lr_steps)
    assert all(side >= 1 for scale in short.train_scales for side in scale)


def test_a_shortening_says_what_it_does() -> None:
    assert not Shortening()
    assert Shortening(eval_images=0)
    assert Shortening(epochs=2, image_scale=0.12).describe() == "epochs=2, image_scale=0.12"
    assert shortened(Recipe(), Shortening()) == Recipe()
    assert shortened(Recipe(), Shortening(iterations_per_epoch=5, eval_images=9)) == Recipe()


def test_diff_names_fields_with_both_values() -> None:
    one, other = parse_name("mask_rcnn_r50_fpn_1x_coco"), parse_name("mask_rcnn_r50_fpn_fp16_2x_coco")
    assert diff(one.recipe(), other.recipe()) == {
        "epochs": (12, 24),
        "lr_steps": ((8, 11), (16, 22)),
        "precision": ("fp32", "fp16"),
    }
