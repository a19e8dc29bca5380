"""A recipe: every number that training and testing of one cell use, flat; its values from files; its differences.

The defaults are the published mask_rcnn_r50_fpn_1x_coco (mmdetection 2.x). No torch is imported here.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter

from harness.errors import UserError
from harness.wording import shown

Depth = Literal[18, 50, 101]

# The description is what a user is told to give.
Count = Annotated[int, Field(ge=1, description="a whole number from 1")]
CountOrNone = Annotated[int, Field(ge=0, description="a whole number from 0")]
Stages = Annotated[int, Field(ge=-1, le=4, description="a whole number from -1 to 4")]
Positive = Annotated[float, Field(gt=0, description="a number above 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number from 0")]
Fraction = Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")]
Scale = tuple[Count, Count]

_CONFIG = ConfigDict(allow_inf_nan=False, extra="forbid")
FROM_SCRATCH = "none"
"""The value of `pretrained` that starts a backbone from random weights."""


def _f(default: Any, section: str, text: str, *, identity: bool = True) -> Any:
    return field(default=default, metadata={"section": section, "text": text, "identity": identity})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every number of a cell. Scales are (long side limit, short side) in pixels; colours are on the 0..255 scale."""

    __pydantic_config__ = _CONFIG

    dataset: str = _f(
        "coco2017", "data", "name of the data set in harness.toml (its digests are the identity)", identity=False
    )
    num_classes: Count = _f(80, "data", "foreground classes; the background is class `num_classes`")
    min_image_size: CountOrNone = _f(32, "data", "training images with a shorter side are dropped")
    channel_order: Literal["rgb", "bgr"] = _f("rgb", "data", "order of the colour channels the backbone expects")
    pixel_mean: tuple[float, float, float] = _f((123.675, 116.28, 103.53), "data", "subtracted, in channel order")
    pixel_std: tuple[Positive, Positive, Positive] = _f((58.395, 57.12, 57.375), "data", "divided by, in channel order")
    train_scales: tuple[Scale, ...] = _f(((1333, 800),), "data", "(long, short) of training images")
    multiscale_mode: Literal["fixed", "value", "range"] = _f(
        "fixed", "data", "value: one of the scales; range: short side uniform between the first and the last, inclusive"
    )
    test_scale: Scale = _f((1333, 800), "data", "(long, short) of test images")
    flip_probability: Fraction = _f(0.5, "data", "horizontal flip in training")
    mask_format: Literal["bitmap", "polygon"] = _f("bitmap", "data", "form of the ground-truth masks for mask targets")
    pad_divisor: Count = _f(32, "data", "images are zero-padded right and bottom to multiples of this")

    depth: Depth = _f(50, "backbone", "layers of the residual network")
    groups: Count = _f(1, "backbone", "groups of the 3x3 convolutions (ResNeXt cardinality)")
    base_width: Count = _f(64, "backbone", "width of a group at 64 channels (ResNeXt)")
    style: Literal["pytorch", "caffe", "-"] = _f(
        "pytorch", "backbone", "stride 2 in the 3x3 (pytorch) or the first 1x1 (caffe)"
    )
    pretrained: str = _f(
        "torchvision://resnet50",
        "backbone",
        "source of the pretrained weights, or none (its digest is the identity)",
        identity=False,
    )
    frozen_stages: Stages = _f(1, "backbone", "stem and stages 1..n are frozen; 0: the stem; -1: nothing")
    bn_eval: bool = _f(True, "backbone", "every batch norm uses its running statistics")
    bn_affine_trained: bool = _f(True, "backbone", "batch norm weights and biases outside frozen stages are trained")

    fpn_channels: Count = _f(256, "neck", "channels of every pyramid level, and of the RPN's convolution")
    fpn_norm: Literal["none", "GN"] = _f("none", "neck", "normalisation after the FPN's convolutions (GN: 32 groups)")

    anchor_scale: Count = _f(8, "rpn", "anchor base size in strides")
    anchor_ratios: tuple[Positive, ...] = _f((0.5, 1.0, 2.0), "rpn", "anchor height / width")
    rpn_pos_iou: Fraction = _f(0.7, "rpn", "anchors at or above are positive")
    rpn_neg_iou: Fraction = _f(0.3, "rpn", "anchors below are negative")
    rpn_min_pos_iou: Fraction = _f(0.3, "rpn", "a ground truth's best anchors are positive from here")
    rpn_samples: Count = _f(256, "rpn", "sampled anchors an image")
    rpn_pos_fraction: Fraction = _f(0.5, "rpn", "of them positive, at most")
    rpn_nms_iou: Fraction = _f(0.7, "rpn", "NMS of proposals, per level")
    rpn_pre_nms_train: Count = _f(2000, "rpn", "proposals a level before NMS, training")
    rpn_pre_nms_test: Count = _f(1000, "rpn", "proposals a level before NMS, testing")
    rpn_proposals: Count = _f(1000, "rpn", "proposals an image after NMS")

    roi_pos_iou: Fraction = _f(0.5, "roi", "proposals at or above are positive, below negative")
    roi_samples: Count = _f(512, "roi", "sampled RoIs an image")
    roi_pos_fraction: Fraction = _f(0.25, "roi", "of them positive, at most")
    roi_finest_scale: Count = _f(56, "roi", "RoIs below twice this size are pooled from the finest level")
    roi_sampling_ratio: CountOrNone = _f(0, "roi", "RoIAlign samples a bin and side; 0: adaptive")
    box_roi_size: Count = _f(7, "roi", "RoIAlign output for boxes")
    box_fc_channels: Count = _f(1024, "roi", "width of the two shared layers of the box head")
    box_target_stds: tuple[Positive, Positive, Positive, Positive] = _f(
        (0.1, 0.1, 0.2, 0.2), "roi", "of the box deltas"
    )
    mask_roi_size: Count = _f(14, "roi", "RoIAlign output for masks; predicted at twice this")
    mask_channels: Count = _f(256, "roi", "width of the mask head's convolutions")
    mask_convs: CountOrNone = _f(4, "roi", "convolutions of the mask head")

    test_score: Fraction = _f(0.05, "test", "detections above this score are kept")
    test_nms_iou: Fraction = _f(0.5, "test", "NMS of detections, per class")
    test_nms_frame: Literal["original", "resized"] = _f(
        "original", "test", "image in whose coordinates that NMS runs (2.x: original)"
    )
    test_detections: Count = _f(100, "test", "detections an image")
    test_mask_threshold: Fraction = _f(0.5, "test", "mask probability at or above is foreground")

    optimizer: Literal["SGD", "AdamW"] = _f("SGD", "optimiser", "")
    lr: Positive = _f(0.02, "optimiser", "learning rate for the total batch")
    momentum: Fraction = _f(0.9, "optimiser", "of SGD; AdamW uses its own betas (0.9, 0.999)")
    weight_decay: NotNegative = _f(1e-4, "optimiser", "of all trainable parameters")
    batch: Count = _f(16, "optimiser", "images an iteration, over all processes and accumulation steps")
    micro_batch: Count = _f(2, "optimiser", "images a forward pass; losses are normalised within it")

    epochs: Count = _f(12, "schedule", "")
    repeats: Count = _f(1, "schedule", "passes over the data an epoch")
    lr_steps: tuple[Count, ...] = _f((8, 11), "schedule", "epochs (counted from 0) at whose start the rate falls")
    lr_gamma: Positive = _f(0.1, "schedule", "factor of that fall")
    warmup_iters: CountOrNone = _f(500, "schedule", "iterations of linear warm-up")
    warmup_ratio: Fraction = _f(0.001, "schedule", "of the rate at which the warm-up starts")

    precision: Literal["fp32", "fp16"] = _f(
        "fp32", "precision", "fp16: mixed precision (bf16 where there is only a CPU)"
    )
    loss_scale: Positive | Literal["dynamic"] = _f(512.0, "precision", "static loss scale under fp16, or dynamic")
    kernels: Literal["reference", "fast"] = _f(
        "reference", "precision", "fast: channels last, batch norm folded in testing; differs by rounding alone"
    )


def field_names() -> list[str]:
    """The names of all recipe fields, in their order."""
    return [entry.name for entry in fields(Recipe)]


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Recipe, include_extras=True)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints()[name], config=_CONFIG)


@cache
def _switches() -> frozenset[str]:
    return frozenset(name for name, hint in _hints().items() if hint is bool)


@cache
def _whole() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def parse_value(name: str, value: Any) -> Any:
    """`value`, as read from YAML or a command line, as the recipe field `name` wants it.

    Raises ValueError saying what was expected (KeyError for an unknown field).
    """
    hint = _hints()[name]
    try:
        if isinstance(value, bool) and hint is not bool:  # pydantic would take true for 1
            raise ValueError
        return _adapter(name).validate_python(value)
    except ValueError:  # a ValidationError is one
        raise ValueError(f"{name} is {shown(value)}, expected {describe_type(hint)}") from None


def describe_type(hint: Any) -> str:
    """A type in a user's words: "one of 'rgb', 'bgr'", "a number above 0", "a list, each a whole number from 1"."""
    plain = {float: "a number", str: "a text", bool: "true or false"}
    if hint in plain:
        return plain[hint]
    if get_origin(hint) is Annotated:
        return str(hint.__metadata__[0].description)
    arguments = [argument for argument in get_args(hint) if argument is not Ellipsis]
    if get_origin(hint) is Literal:
        return f"{'one of ' if len(arguments) > 1 else ''}{', '.join(map(repr, arguments))}"
    if get_origin(hint) is tuple:
        size = "" if Ellipsis in get_args(hint) else f" of {len(arguments)}"
        return f"a list{size}, each {describe_type(arguments[0])}"
    return " or ".join(describe_type(argument) for argument in arguments)


def with_overrides(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with parsed overrides applied. Training from scratch implies that nothing is frozen and BN is trained,

    unless the overrides say otherwise.
    """
    scratch = {"frozen_stages": -1, "bn_eval": False, "bn_affine_trained": True}
    implied = scratch if overrides.get("pretrained") == FROM_SCRATCH else {}
    changed = replace(recipe, **{**implied, **overrides})
    check(changed)
    return changed


def check(recipe: Recipe) -> None:
    """Raise UserError where the numbers of a recipe contradict each other."""
    for broken, text in (
        (
            recipe.batch % recipe.micro_batch != 0,
            f"batch {recipe.batch} is no multiple of micro_batch {recipe.micro_batch}",
        ),
        (list(recipe.lr_steps) != sorted(set(recipe.lr_steps)), f"lr_steps {list(recipe.lr_steps)} must ascend"),
        (recipe.depth == 18 and recipe.style != "-", "a backbone of depth 18 has no bottleneck, so style must be '-'"),
        (
            recipe.depth != 18 and recipe.style == "-",
            f"a backbone of depth {recipe.depth} needs style pytorch or caffe",
        ),
        (
            recipe.fpn_norm == "GN" and recipe.fpn_channels % 32 != 0,
            "fpn_norm GN needs fpn_channels in multiples of 32",
        ),
        (not recipe.train_scales, "train_scales is empty"),
        (not recipe.anchor_ratios, "anchor_ratios is empty"),
        (
            recipe.pretrained == FROM_SCRATCH and recipe.frozen_stages >= 0,
            "random weights (pretrained: none) must not be frozen",
        ),
    ):
        if broken:
            raise UserError(text)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """All fields as plain data, ready for JSON (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe of `to_dict`; a field that is not given takes its default.

    Raises UserError for an unknown field or a wrong value.
    """
    with suppress(ValueError):  # all at once, as there are many runs; what is wrong is told one by one
        if {name for name, value in values.items() if isinstance(value, bool)} <= _switches():
            return _whole().validate_python(dict(values))
    try:
        return Recipe(**{name: parse_value(name, value) for name, value in values.items()})
    except KeyError as error:
        raise UserError(f"unknown recipe field {error}") from None
    except ValueError as error:
        raise UserError(str(error)) from None


def diff(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes differ: name -> (one's value, other's value)."""
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in field_names())
    return {name: (a, b) for name, a, b in pairs if a != b}
