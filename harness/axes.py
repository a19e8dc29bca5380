"""The axes of a matrix, one entry each: values, how a value edits the recipe, its piece of the name, its table column.

Nothing else in the package names an axis. To add one, add an entry to AXES; to add a backbone, add a value to its axis
(CONTRIBUTING.md walks through both).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.recipe import FROM_SCRATCH, Depth, Recipe

Point = Mapping[str, str | bool]
"""One value for each axis, by axis name."""

MISSING_WEIGHTS = "missing"
"""`pretrained` of a cell for which no pretrained weights exist: it must be excluded, or set to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of an axis."""

    key: str | bool  # as a matrix file writes it
    piece: str = ""  # its piece of the cell's name
    label: str = ""  # its text in the table column of its axis
    edit: Callable[[Recipe, Point], Recipe] = lambda recipe, point: recipe
    refuse: Callable[[Point], str | None] = lambda point: None  # why it cannot stand with the other values


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis. The first value that goes with the others is the one a matrix file means by leaving the axis out."""

    name: str
    values: tuple[Value, ...]
    after_fpn: bool = True  # where the pieces stand in mask_rcnn..._fpn..._coco
    column: str  # its table column; axes of the same column write into it one after the other
    splits_tables: bool = False  # one table a value; a column only where a table mixes its values

    def value(self, key: str | bool) -> Value:
        """The entry of `key`; KeyError if there is none."""
        return next((value for value in self.values if _same(value.key, key)), None) or _unknown(key)


def _same(one: str | bool, other: object) -> bool:
    return type(one) is type(other) and one == other


def _unknown(key: object) -> Value:
    raise KeyError(key)


# The three kinds of input normalisation (recipes: torchvision, caffe, Facebook's caffe2 ResNeXt).
_CAFFE_INPUT: dict[str, Any] = {
    "channel_order": "bgr",
    "pixel_mean": (103.53, 116.28, 123.675),
    "pixel_std": (1.0, 1.0, 1.0),
}
_FB_INPUT: dict[str, Any] = {**_CAFFE_INPUT, "pixel_std": (57.375, 57.12, 58.395)}

_SHORT_SIDES = (640, 672, 704, 736, 768, 800)
_DISCRETE: dict[str, Any] = {"multiscale_mode": "value", "train_scales": tuple((1333, side) for side in _SHORT_SIDES)}
_RANGED: dict[str, Any] = {"multiscale_mode": "range", "train_scales": ((1333, 640), (1333, 800))}


def _backbone(
    key: str, piece: str, depth: Depth, weights: str, caffe_weights: str = MISSING_WEIGHTS, **fields: Any
) -> Value:
    def edit(recipe: Recipe, point: Point) -> Recipe:
        pretrained = caffe_weights if point["style"] == "caffe" else weights
        return replace(recipe, depth=depth, pretrained=pretrained, **fields)

    return Value(key=key, piece=f"_{piece}", label=f"{key}-FPN", edit=edit)


BACKBONE = Axis(
    name="backbone",
    column="Backbone",
    after_fpn=False,
    values=(
        _backbone("R-50", "r50", 50, "torchvision://resnet50", "open-mmlab://detectron2/resnet50_caffe"),
        _backbone("R-101", "r101", 101, "torchvision://resnet101", "open-mmlab://detectron2/resnet101_caffe"),
        _backbone("X-101-32x4d", "x101_32x4d", 101, "open-mmlab://resnext101_32x4d", groups=32, base_width=4),
        _backbone("X-101-64x4d", "x101_64x4d", 101, "open-mmlab://resnext101_64x4d", groups=64, base_width=4),
        _backbone(
            "X-101-32x8d", "x101_32x8d", 101, "open-mmlab://detectron2/resnext101_32x8d",
            groups=32, base_width=8, bn_affine_trained=False, **_FB_INPUT,
        ),
        _backbone("R-18", "r18", 18, "torchvision://resnet18"),
    ),
)  # fmt: skip


def _no_bottleneck(point: Point) -> str | None:
    return "R-18 has no bottleneck, so it has no style: leave style out" if point["backbone"] == "R-18" else None


def _bottleneck(point: Point) -> str | None:
    return None if point["backbone"] == "R-18" else f"{point['backbone']} needs a style: 'pytorch' or 'caffe'"


STYLE = Axis(
    name="style",
    column="Style",
    after_fpn=False,
    values=(
        Value(key="pytorch", label="pytorch", refuse=_no_bottleneck),
        Value(
            key="caffe",
            piece="_caffe",
            label="caffe",
            refuse=_no_bottleneck,
            edit=lambda recipe, point: replace(recipe, style="caffe", bn_affine_trained=False, **_CAFFE_INPUT),
        ),
        Value(key="-", label="-", refuse=_bottleneck, edit=lambda recipe, point: replace(recipe, style="-")),
    ),
)

FP16 = Axis(
    name="fp16",
    column="Backbone",
    values=(
        Value(key=False),
        Value(
            key=True,
            piece="_fp16",
            label=" (FP16)",
            edit=lambda recipe, point: replace(recipe, precision="fp16", loss_scale=512.0),
        ),
    ),
)


def _multiscale(recipe: Recipe, point: Point) -> Recipe:
    scales = _RANGED if point["schedule"] == "3x" and not _is_r50_caffe(point) else _DISCRETE
    return replace(recipe, mask_format="polygon", **scales)


def _is_r50_caffe(point: Point) -> bool:
    return point["backbone"] == "R-50" and point["style"] == "caffe"


MULTISCALE = Axis(
    name="multiscale",
    column="Multi-scale",
    splits_tables=True,
    values=(
        Value(key=False, label="no"),
        Value(key=True, piece="_mstrain-poly", label="yes", edit=_multiscale),
    ),
)


def _three_times(recipe: Recipe, point: Point) -> Recipe:
    if _is_r50_caffe(point) and point["multiscale"]:
        return replace(recipe, epochs=36, lr_steps=(28, 34))
    return replace(recipe, epochs=12, repeats=3, lr_steps=(9, 11))


SCHEDULE = Axis(
    name="schedule",
    column="Lr schd",
    values=(
        Value(key="1x", piece="_1x", label="1x"),
        Value(
            key="2x", piece="_2x", label="2x", edit=lambda recipe, point: replace(recipe, epochs=24, lr_steps=(16, 22))
        ),
        Value(key="3x", piece="_3x", label="3x", edit=_three_times),
    ),
)

AXES: tuple[Axis, ...] = (BACKBONE, STYLE, FP16, MULTISCALE, SCHEDULE)
"""In the order of their pieces in a name, and of their edits."""

PUBLISHED_EXCEPTIONS: Mapping[str, Mapping[str, Any]] = {
    "mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco": {"lr_steps": (16, 23)},
}
"""What a published row does against the rules, and no other cell does."""

RULES = f"""\
How a cell's recipe follows from its axes (lengths are epochs x passes over the data an epoch):

  schedule  multi-scale  training scales (long, short)        masks     length  rate steps
  1x        no           (1333, 800)                          bitmap    12 x 1  8, 11
  2x        no           (1333, 800)                          bitmap    24 x 1  16, 22
  3x        no           (1333, 800)                          bitmap    12 x 3  9, 11
  1x        yes          one of 6: short side 640, 672 .. 800 polygon   12 x 1  8, 11
  2x        yes          one of 6: short side 640, 672 .. 800 polygon   24 x 1  16, 22  (R-50 caffe, published: 16, 23)
  3x        yes          short side 640..800, any integer     polygon   12 x 3  9, 11
  3x, R-50 caffe   yes   one of 6: short side 640, 672 .. 800 polygon   36 x 1  28, 34

  backbone                 style    input                      BN affine  pretrained weights
  R-50, R-101              pytorch  RGB, torchvision mean/std  trained    torchvision
  R-50, R-101              caffe    BGR, std 1                 frozen     detectron2 (MSRA)
  X-101-32x4d, 64x4d       pytorch  RGB, torchvision mean/std  trained    open-mmlab
  X-101-32x8d              pytorch  BGR, std 57.375 57.12 58.395  frozen  detectron2 (FB)
  X-101, any               caffe    no such weights exist: exclude the cell, or set pretrained: {FROM_SCRATCH}
  R-18                     -        RGB, torchvision mean/std  trained    torchvision

  FP16: mixed precision with the static loss scale 512 (a CPU runs bf16, and says so).
  pretrained: {FROM_SCRATCH} means random weights, nothing frozen, BN trained with batch statistics.
The 21 published cells are marked "published" by `harness show`, all others "derived".
"""


def resolve(point: Point, name: str) -> Recipe:
    """The recipe of cell `name` at `point`: the defaults, each axis's edit in order, then its published exceptions."""
    recipe = Recipe()
    for axis in AXES:
        recipe = axis.value(point[axis.name]).edit(recipe, point)
    return replace(recipe, **PUBLISHED_EXCEPTIONS.get(name, {}))
