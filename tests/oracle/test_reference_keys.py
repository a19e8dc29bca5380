"""All 21 rows: keys, shapes, parameter counts, trainable parameters and batch norm modes, as published."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.cell import PUBLISHED, parse_name
from harness.detection.mask_rcnn import MaskRCNN
from harness.recipe import Recipe
from harness.training.build import build_model

ROWS = sorted(PUBLISHED)
DATA = ("channel_order", "pixel_mean", "pixel_std", "train_scales", "multiscale_mode", "mask_format")
SCHEDULE = ("epochs", "repeats", "lr_steps")
COUNTS = {
    "r50": 44_396_336,
    "r101": 63_388_464,
    "x101_32x4d": 63_017_008,
    "x101_64x4d": 102_294_576,
    "x101_32x8d": 107_630_640,
}


def build(row: str) -> MaskRCNN:
    """The row's model without storage; rows that differ in data, schedule or precision alone share one."""
    unused: dict[str, Any] = {name: getattr(Recipe(), name) for name in (*DATA, *SCHEDULE, "precision")}
    return build_on_meta(replace(parse_name(row).recipe(), **unused))


@cache
def build_on_meta(recipe: Recipe) -> MaskRCNN:
    with torch.device("meta"):
        return build_model(recipe)


def backbone(row: str) -> str:
    """Such as x101_32x4d."""
    return row.removeprefix("mask_rcnn_").replace("_caffe", "").split("_fpn")[0]


def published(shared: Path, row: str) -> dict[str, list[int]]:
    """The shapes of a row's keys; of the two wider ResNeXts by the rule, from 32x4d's."""
    name = backbone(row)
    files = {"r50": "r50", "r101": "r101_caffe"}
    path = shared / f"reference/oracle/keys/mask_rcnn_{files.get(name, 'x101_32x4d')}_fpn_1x_coco.json"
    shapes: dict[str, list[int]] = json.loads(path.read_text())
    if name not in ("x101_64x4d", "x101_32x8d"):
        return shapes
    # A bottleneck of 64 planes is 32 * 4 = 128 wide in 32x4d, and 64 * 4 = 32 * 8 = 256 wide in both others.
    return {key: wider(key, shape, groups=64 if name == "x101_64x4d" else 32) for key, shape in shapes.items()}


def wider(key: str, shape: list[int], *, groups: int) -> list[int]:
    if not key.startswith("backbone.layer") or not shape:
        return shape
    part = key.split(".")[3]
    if part == "conv2":
        return [2 * shape[0], 2 * shape[0] // groups, 3, 3]
    if part == "conv3":
        return [shape[0], 2 * shape[1], 1, 1]
    return [2 * shape[0], *shape[1:]] if part in ("conv1", "bn1", "bn2") else shape


def trains(name: str, *, affine: bool) -> bool:
    """Whether a parameter is trained: frozen_stages = 1, and the batch norms only where the row has it so."""
    frozen = name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))
    norm = name.startswith("backbone.") and (".bn" in name or ".downsample.1." in name)
    return not frozen and (affine or not norm)


def has_affine(row: str) -> bool:
    """No row in caffe style, and none of X-101-32x8d, trains the batch norms' weights and biases."""
    return "caffe" not in row and "32x8d" not in row


@pytest.mark.parametrize("row", ROWS)
def test_keys_and_shapes(shared: Path, row: str) -> None:
    assert {key: list(value.shape) for key, value in build(row).state_dict().items()} == published(shared, row)


@pytest.mark.parametrize("row", ROWS)
def test_parameter_counts(row: str) -> None:
    assert sum(parameter.numel() for parameter in build(row).parameters()) == COUNTS[backbone(row)]


@pytest.mark.parametrize("row", ["mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_caffe_fpn_1x_coco"])
def test_the_rule_of_trainable_parameters_is_the_published_one(shared: Path, row: str) -> None:
    known = json.loads((shared / f"reference/oracle/trainable/{row}.json").read_text())
    assert all(trains(name, affine=has_affine(row)) for name in known["trainable"])
    assert not any(trains(name, affine=has_affine(row)) for name in known["frozen"])
    assert {name for name, _ in build(row).named_parameters()} == {*known["trainable"], *known["frozen"]}


@pytest.mark.parametrize("row", ROWS)
def test_trainable_parameters_and_norm_modes(row: str) -> None:
    model = build(row).train()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == trains(name, affine=has_affine(row)), name
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == (53 if "r50" in row else 104)
    assert not any(norm.training for norm in norms)  # norm_eval: running statistics in training too
    assert all((norm.eps, norm.momentum, norm.track_running_stats) == (1e-5, 0.1, True) for norm in norms)


@pytest.mark.parametrize("row", ROWS)
def test_strides_follow_the_style(row: str) -> None:
    strides: dict[str, list[tuple[Any, ...]]] = {"conv1": [], "conv2": []}
    for name, module in build(row).backbone.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("layer") and name.split(".")[2] in strides:
            strides[name.split(".")[2]].append(module.stride)
    here, elsewhere = ("conv1", "conv2") if "caffe" in row else ("conv2", "conv1")
    assert strides[here].count((2, 2)) == 3
    assert set(strides[elsewhere]) == {(1, 1)}


@pytest.mark.filterwarnings("ignore:for backbone:UserWarning")  # torch fills absent counters on another device
@pytest.mark.parametrize("counters", [True, False])
def test_a_published_state_loads_strictly(shared: Path, counters: bool) -> None:
    """Files of before torch 0.4.1 have no num_batches_tracked; all published ones do."""
    row = "mask_rcnn_x101_32x8d_fpn_1x_coco"
    shapes = published(shared, row)
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items() if counters or "num_" not in key}
    assert len(state) == (len(shapes) if counters else len(shapes) - 104)
    assert str(build(row).load_state_dict(state, strict=True)) == "<All keys matched successfully>"
