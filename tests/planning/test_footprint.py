"""Parameters counted from the recipe, against the published counts and against models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cell import parse_name
from harness.planning.footprint import checkpoint_bytes, parameters, run_bytes
from harness.recipe import Recipe, with_overrides


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ("mask_rcnn_r50_fpn_1x_coco", 44_396_336),
        ("mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco", 44_396_336),
        ("mask_rcnn_r101_fpn_1x_coco", 63_388_464),
        ("mask_rcnn_x101_32x4d_fpn_1x_coco", 63_017_008),
        ("mask_rcnn_x101_64x4d_fpn_2x_coco", 102_294_576),
        ("mask_rcnn_x101_32x8d_fpn_1x_coco", 107_630_640),
    ],
)
def test_the_published_counts(cell: str, count: int) -> None:
    """Reference: recipes.md, section 3 (state-dict key layout)."""
    frozen, trained, _ = parameters(parse_name(cell).recipe())
    assert frozen + trained == count


@pytest.mark.parametrize(
    ("cell", "changes"),
    [
        ("mask_rcnn_r18_fpn_1x_coco", {"pretrained": "none", "mask_convs": 1, "fpn_channels": 32, "num_classes": 3}),
        ("mask_rcnn_r50_caffe_fpn_1x_coco", {"fpn_norm": "GN", "mask_convs": 0, "frozen_stages": 2}),
        ("mask_rcnn_x101_32x8d_fpn_1x_coco", {"box_roi_size": 5, "anchor_ratios": (0.5, 2.0)}),
    ],
)
def test_against_models(cell: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from harness.detection.mask_rcnn import MaskRCNN
    from harness.training.build import build_model

    monkeypatch.setattr(MaskRCNN, "init_weights", lambda self: None)
    recipe = with_overrides(parse_name(cell).recipe(), changes)
    with torch.device("meta"):
        model = build_model(recipe)
    frozen, trained = (
        sum(p.numel() for p in model.parameters() if p.requires_grad == wanted) for wanted in (False, True)
    )
    statistics = sum(buffer.numel() for name, buffer in model.named_buffers() if "running" in name)
    assert parameters(recipe) == (frozen, trained, statistics)


def test_bytes_of_a_checkpoint_and_of_a_run() -> None:
    """R-50: 225,344 frozen, 44,170,992 trained, 53,120 statistics; SGD keeps one number of each trained one:

    4 x (225,344 + 2 x 44,170,992 + 53,120) = 354,481,792 bytes; AdamW two, 4 x 44,170,992 = 176,683,968 more.
    A run of 12 x 7330 iterations: 3 checkpoints; 5000 x 100 detections of 100 bytes; 2 x 450 bytes for each of
    87,960 // 50 + 24 = 1783 rows; 2 MB of pictures.
    """
    recipe = Recipe()
    assert checkpoint_bytes(recipe) == 354_481_792
    assert checkpoint_bytes(replace(recipe, optimizer="AdamW")) == 354_481_792 + 176_683_968
    expected = 3 * 354_481_792 + 50_000_000 + 2 * 450 * 1783 + 2_000_000
    assert run_bytes(recipe, iterations=87_960, images=5000) == expected


@pytest.mark.slow
def test_a_real_checkpoint(tmp_path: Path) -> None:
    """Within 2 % of what torch writes of weights and optimiser."""
    import torch

    from harness.training.build import build_model, build_optimizer

    cell = parse_name("mask_rcnn_r18_fpn_1x_coco")
    small = {"pretrained": "none", "fpn_channels": 32, "box_fc_channels": 64, "mask_channels": 32, "num_classes": 3}
    recipe = with_overrides(cell.recipe(), {**small, "optimizer": "AdamW"})
    model = build_model(recipe)
    optimizer = build_optimizer(recipe, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.save({"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size == pytest.approx(checkpoint_bytes(recipe), rel=0.02)
