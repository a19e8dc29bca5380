"""The recipes of all cells: the published 21 field by field, the derived ones by their rules."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness import axes, cell
from harness.axes import MISSING_WEIGHTS, Axis, Value
from harness.cell import Cell, all_cells, make_cell, parse_name
from harness.recipe import Recipe

# The table of the published configurations, written out by hand. Norm: T torchvision, C caffe, F Facebook's ResNeXt.
# Resize: S fixed, V one of six short sides, R any short side from 640 to 800. Mask: B bitmap, P polygon.
# name                        depth groups width style   pretrained                     BN affine norm resize mask
# epochs x repeats, steps, precision
TABLE = """
r50_caffe_fpn_1x               50  1 64 caffe   open-mmlab://detectron2/resnet50_caffe   no  C S B 12 1  8,11 fp32
r50_fpn_1x                     50  1 64 pytorch torchvision://resnet50                   yes T S B 12 1  8,11 fp32
r50_fpn_fp16_1x                50  1 64 pytorch torchvision://resnet50                   yes T S B 12 1  8,11 fp16
r50_fpn_2x                     50  1 64 pytorch torchvision://resnet50                   yes T S B 24 1 16,22 fp32
r101_caffe_fpn_1x              101 1 64 caffe   open-mmlab://detectron2/resnet101_caffe  no  C S B 12 1  8,11 fp32
r101_fpn_1x                    101 1 64 pytorch torchvision://resnet101                  yes T S B 12 1  8,11 fp32
r101_fpn_2x                    101 1 64 pytorch torchvision://resnet101                  yes T S B 24 1 16,22 fp32
x101_32x4d_fpn_1x              101 32 4 pytorch open-mmlab://resnext101_32x4d            yes T S B 12 1  8,11 fp32
x101_32x4d_fpn_2x              101 32 4 pytorch open-mmlab://resnext101_32x4d            yes T S B 24 1 16,22 fp32
x101_64x4d_fpn_1x              101 64 4 pytorch open-mmlab://resnext101_64x4d            yes T S B 12 1  8,11 fp32
x101_64x4d_fpn_2x              101 64 4 pytorch open-mmlab://resnext101_64x4d            yes T S B 24 1 16,22 fp32
x101_32x8d_fpn_1x              101 32 8 pytorch open-mmlab://detectron2/resnext101_32x8d no  F S B 12 1  8,11 fp32
r50_caffe_fpn_mstrain-poly_2x  50  1 64 caffe   open-mmlab://detectron2/resnet50_caffe   no  C V P 24 1 16,23 fp32
r50_caffe_fpn_mstrain-poly_3x  50  1 64 caffe   open-mmlab://detectron2/resnet50_caffe   no  C V P 36 1 28,34 fp32
r50_fpn_mstrain-poly_3x        50  1 64 pytorch torchvision://resnet50                   yes T R P 12 3  9,11 fp32
r101_caffe_fpn_mstrain-poly_3x 101 1 64 caffe   open-mmlab://detectron2/resnet101_caffe  no  C R P 12 3  9,11 fp32
r101_fpn_mstrain-poly_3x       101 1 64 pytorch torchvision://resnet101                  yes T R P 12 3  9,11 fp32
x101_32x4d_fpn_mstrain-poly_3x 101 32 4 pytorch open-mmlab://resnext101_32x4d            yes T R P 12 3  9,11 fp32
x101_32x8d_fpn_mstrain-poly_1x 101 32 8 pytorch open-mmlab://detectron2/resnext101_32x8d no  F V P 12 1  8,11 fp32
x101_32x8d_fpn_mstrain-poly_3x 101 32 8 pytorch open-mmlab://detectron2/resnext101_32x8d no  F R P 12 3  9,11 fp32
x101_64x4d_fpn_mstrain-poly_3x 101 64 4 pytorch open-mmlab://resnext101_64x4d            yes T R P 12 3  9,11 fp32
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
NAMES = [f"mask_rcnn_{row[0]}_coco" for row in ROWS]

NORMS = {
    "T": ("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "C": ("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)),
    "F": ("bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}
SCALES = {
    "S": ("fixed", ((1333, 800),)),
    "V": ("value", ((1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800))),
    "R": ("range", ((1333, 640), (1333, 800))),
}

# What all 21 rows have in common, from the text on the common part of the configurations.
COMMON = {
    "num_classes": 80,
    "min_image_size": 32,
    "test_scale": (1333, 800),
    "flip_probability": 0.5,
    "pad_divisor": 32,
    "frozen_stages": 1,
    "bn_eval": True,
    "fpn_channels": 256,
    "fpn_norm": "none",
    "anchor_scale": 8,
    "anchor_ratios": (0.5, 1.0, 2.0),
    "rpn_pos_iou": 0.7,
    "rpn_neg_iou": 0.3,
    "rpn_min_pos_iou": 0.3,
    "rpn_samples": 256,
    "rpn_pos_fraction": 0.5,
    "rpn_nms_iou": 0.7,
    "rpn_pre_nms_train": 2000,
    "rpn_pre_nms_test": 1000,
    "rpn_proposals": 1000,
    "roi_pos_iou": 0.5,
    "roi_samples": 512,
    "roi_pos_fraction": 0.25,
    "roi_finest_scale": 56,
    "roi_sampling_ratio": 0,
    "box_roi_size": 7,
    "box_fc_channels": 1024,
    "box_target_stds": (0.1, 0.1, 0.2, 0.2),
    "mask_roi_size": 14,
    "mask_channels": 256,
    "mask_convs": 4,
    "test_score": 0.05,
    "test_nms_iou": 0.5,
    "test_nms_frame": "original",
    "test_detections": 100,
    "test_mask_threshold": 0.5,
    "optimizer": "SGD",
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "batch": 16,
    "micro_batch": 2,
    "lr_gamma": 0.1,
    "warmup_iters": 500,
    "warmup_ratio": 0.001,
    "loss_scale": 512.0,
    "kernels": "reference",
    "dataset": "coco2017",
}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_published_recipes(row: list[str]) -> None:
    _, depth, groups, width, style, pretrained, affine, norm, resize, mask, epochs, repeats, steps, precision = row
    channel_order, mean, std = NORMS[norm]
    mode, scales = SCALES[resize]
    expected = COMMON | {
        "depth": int(depth),
        "groups": int(groups),
        "base_width": int(width),
        "style": style,
        "pretrained": pretrained,
        "bn_affine_trained": affine == "yes",
        "channel_order": channel_order,
        "pixel_mean": mean,
        "pixel_std": std,
        "multiscale_mode": mode,
        "train_scales": scales,
        "mask_format": {"B": "bitmap", "P": "polygon"}[mask],
        "epochs": int(epochs),
        "repeats": int(repeats),
        "lr_steps": tuple(int(step) for step in steps.split(",")),
        "precision": precision,
    }
    found = parse_name(f"mask_rcnn_{row[0]}_coco")
    assert {entry.name: getattr(found.recipe(), entry.name) for entry in fields(Recipe)} == expected
    assert found.published


def test_the_published_cells_are_these() -> None:
    assert len(NAMES) == 21
    assert set(NAMES) == cell.PUBLISHED


def test_rate_steps_equal_those_read_from_the_configurations(shared: Path) -> None:
    oracle = json.loads((shared / "reference/oracle/unit/lr.json").read_text())
    assert set(oracle) == set(NAMES)
    for name, expected in oracle.items():
        recipe = parse_name(name).recipe()
        assert (list(recipe.lr_steps), recipe.epochs) == (expected["steps_2x_branch"], expected["epochs"]), name


def test_the_rules_of_derived_cells() -> None:
    for entry in all_cells():
        if entry.published:
            continue
        recipe, multiscale, schedule = entry.recipe(), entry["multiscale"], entry["schedule"]
        r50_caffe = (entry["backbone"], entry["style"]) == ("R-50", "caffe")
        if schedule != "3x":
            expected = {"1x": (12, 1, (8, 11)), "2x": (24, 1, (16, 22))}[str(schedule)]
        else:
            expected = (36, 1, (28, 34)) if multiscale and r50_caffe else (12, 3, (9, 11))
        assert (recipe.epochs, recipe.repeats, recipe.lr_steps) == expected, entry.name
        resize = "S" if not multiscale else "R" if schedule == "3x" and not r50_caffe else "V"
        assert (recipe.multiscale_mode, recipe.train_scales) == SCALES[resize], entry.name
        assert recipe.mask_format == ("polygon" if multiscale else "bitmap"), entry.name
        assert recipe.precision == ("fp16" if entry["fp16"] else "fp32"), entry.name
        assert recipe.loss_scale == 512.0


def test_only_one_published_row_leaves_the_rules() -> None:
    """R-50 caffe multi-scale 2x falls at 16 and 23; its FP16 twin, which nobody published, at 16 and 22."""
    published = parse_name("mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco").recipe()
    twin = parse_name("mask_rcnn_r50_caffe_fpn_fp16_mstrain-poly_2x_coco").recipe()
    assert published.lr_steps == (16, 23)
    assert twin.lr_steps == (16, 22)
    assert replace(twin, lr_steps=(16, 23), precision="fp32") == published


def test_x101_in_caffe_style_has_no_weights() -> None:
    missing = {entry["backbone"] for entry in all_cells() if entry.recipe().pretrained == MISSING_WEIGHTS}
    assert missing == {"X-101-32x4d", "X-101-64x4d", "X-101-32x8d"}
    assert all(
        (entry.recipe().pretrained == MISSING_WEIGHTS)
        == (str(entry["backbone"]).startswith("X") and entry["style"] == "caffe")
        for entry in all_cells()
    )


def test_x101_32x8d_stays_bgr_with_frozen_affine_in_every_cell() -> None:
    found = [
        entry.recipe() for entry in all_cells() if entry["backbone"] == "X-101-32x8d" and entry["style"] != "caffe"
    ]
    assert len(found) == 12
    for recipe in found:
        assert (recipe.channel_order, recipe.pixel_mean, recipe.pixel_std) == NORMS["F"]
        assert not recipe.bn_affine_trained


def test_the_page_of_rules_has_a_line_for_each_schedule_and_backbone() -> None:
    for axis in (axes.SCHEDULE, axes.BACKBONE):
        for value in axis.values:
            short = str(value.key).removeprefix("X-101-")
            assert short in axes.RULES


def test_value_finds_booleans_apart_from_numbers() -> None:
    assert axes.FP16.value(True).piece == "_fp16"
    for wrong in (1, 0, "true", "yes"):
        with pytest.raises(KeyError):
            axes.FP16.value(wrong)  # type: ignore[arg-type]


def test_an_invented_axis_and_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry makes an axis: its values, its edit of the recipe, its piece of the name."""
    norm = Axis(
        name="norm",
        column="FPN norm",
        values=(
            Value(key="none", label="none"),
            Value(key="GN", piece="_gn", label="GN", edit=lambda recipe, point: replace(recipe, fpn_norm="GN")),
        ),
    )
    wide = axes._backbone("X-50-32x4d", "x50_32x4d", 50, "torchvision://resnext50_32x4d", groups=32, base_width=4)
    backbones = replace(axes.BACKBONE, values=(*axes.BACKBONE.values, wide))
    before = len(all_cells())
    monkeypatch.setattr(axes, "AXES", (backbones, *axes.AXES[1:-1], norm, axes.AXES[-1]))
    found = make_cell({"backbone": "X-50-32x4d", "norm": "GN", "schedule": "2x"})
    assert found.name == "mask_rcnn_x50_32x4d_fpn_gn_2x_coco"
    assert parse_name(found.name) == found
    recipe = found.recipe()
    assert (recipe.fpn_norm, recipe.groups, recipe.base_width, recipe.depth, recipe.epochs) == ("GN", 32, 4, 50, 24)
    # R-18 has 12 cells and each of 5 backbones 24; a sixth backbone adds 24, and the axis doubles all.
    assert before == 5 * 24 + 12
    assert len(all_cells()) == 2 * (before + 24)
    assert isinstance(found, Cell)
