"""The identity of a recipe: what it follows, and what it does not."""

import json
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness import identity as module
from harness.cell import PUBLISHED, all_cells, parse_name
from harness.identity import Digests, identity, identity_fields
from harness.recipe import Recipe, field_names, parse_value

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
