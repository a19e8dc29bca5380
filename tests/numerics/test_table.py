"""Each check finds what it is there for: one thing is broken on purpose, and shows in its rows and columns alone."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from harness import axes, cell
from harness.data import batches
from harness.detection import anchors, boxes, inference, mask_targets, matcher, resnet, roi_align, rpn
from harness.detection.box_head import BoxHead
from harness.detection.sampler import sample
from harness.detection.weights import SOURCES
from harness.numerics import recipes
from harness.numerics.table import CHECKS, check_rows, published_rows
from harness.recipe import Recipe
from harness.training import schedule

PLAIN, CAFFE = "mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco"
Found = dict[str, dict[str, list[str]]]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Found]:
    """broken() is what differs in the two rows: row -> column -> lines."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))

    def run() -> Found:
        results = {result.name: result for result in check_rows([PLAIN, CAFFE], tmp_path)}
        assert all(set(result.columns) == set(CHECKS) for result in results.values())
        return {
            name: {column: lines for column, lines in result.columns.items() if lines}
            for name, result in results.items()
        }

    return run


def columns(found: Found) -> dict[str, set[str]]:
    return {name: set(lines) for name, lines in found.items()}


def both(*names: str) -> dict[str, set[str]]:
    return {PLAIN: set(names), CAFFE: set(names)}


def test_the_rows_are_the_published_cells() -> None:
    assert set(published_rows()) == cell.PUBLISHED


@pytest.mark.slow
def test_nothing_differs_and_missing_weights_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    (result,) = check_rows(["mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco"], tmp_path)
    assert result.columns == {column: None if column == "weights" else [] for column in CHECKS}
    assert (result.shown("forward"), result.shown("weights")) == ("ok", "not checked")


@pytest.mark.slow
def test_a_wrong_rate_step_of_one_row(broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "PUBLISHED_EXCEPTIONS", {})  # its second step is then 22 instead of 23
    found = broken()
    assert columns(found) == {PLAIN: set(), CAFFE: {"recipe", "rates"}}
    assert found[CAFFE]["recipe"] == ["lr_steps is [16, 22], expected [16, 23]"]
    assert found[CAFFE]["rates"] == ["rate in epoch 22, iteration 0 is 0.0002, expected 0.002"]


@pytest.mark.slow
def test_wrong_numbers_in_a_recipe(broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(axes._DISCRETE, "train_scales", ((1333, 640), (1333, 800)))
    monkeypatch.setitem(axes._CAFFE_INPUT, "pixel_std", (1.0, 1.0, 1.01))
    found = broken()
    assert columns(found) == {PLAIN: set(), CAFFE: {"recipe", "input"}}
    assert len(found[CAFFE]["recipe"]) == 2
    assert "never draws the scale (1333, 672)" in found[CAFFE]["input"]
    assert found[CAFFE]["input"][-1].startswith("normalised pixels: 35 of 105 differ")


@pytest.mark.slow
def test_a_narrower_head(broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    original = axes.resolve

    def resolve(point: axes.Point, name: str) -> Recipe:
        return replace(original(point, name), mask_convs=3, loss_scale=256.0)

    monkeypatch.setattr(axes, "resolve", resolve)
    found = broken()
    assert columns(found) == both("recipe", "keys", "forward")
    assert found[PLAIN]["keys"] == [
        "roi_head.mask_head.convs.3.conv.bias is missing",
        "roi_head.mask_head.convs.3.conv.weight is missing",
        "number of parameters is 43806256, expected 44396336",  # 256 x 256 x 3 x 3 + 256 fewer
    ]


def plus_one(first: Tensor, second: Tensor) -> Tensor:
    """Overlap by the old rule, in which a box is a pixel wider."""
    grown = torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes.pairwise_iou(first + grown, second + grown)


def not_aligned(features: Tensor, rois: Tensor, size: int, scale: float, **named: Any) -> Tensor:
    """RoIAlign as it was before the half-pixel correction."""
    found: Tensor = torchvision.ops.roi_align(features, rois, size, scale, **{**named, "aligned": False})
    return found


def no_pixel(edges: Tensor, parts: Tensor, *, height: int, width: int) -> Tensor:
    return torch.zeros(len(edges), height, width, dtype=torch.bool)


def trains_batch_norm(self: resnet.ResNet, mode: bool = True) -> resnet.ResNet:
    nn.Module.train(self, mode)
    return self


def other_style(self: nn.Module, *given: Any, style: str, **named: Any) -> None:
    bottleneck(self, *given, style="caffe" if style == "pytorch" else "pytorch", **named)


bottleneck = resnet.Bottleneck.__init__


def cut_off(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """The resize rule without its rounding."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return int(size[0] * factor), int(size[1] * factor)


BREAKS: dict[str, tuple[Any, str, Any, dict[str, set[str]]]] = {
    "clamp of the coder": (boxes, "MAX_LOG_RATIO", 4.0, both("coder")),
    "anchors of no size": (anchors, "_base_anchors", lambda **_: torch.zeros(5, 3, 4), both("anchors", "losses")),
    "overlap": (matcher, "pairwise_iou", plus_one, both("assigner", "losses")),
    "levels": (roi_align, "area", lambda found: boxes.area(found) + 400, both("pooling")),
    "classes are not set apart": (inference, "offset_boxes", lambda found, *_: found, both("nms")),
    "bitmap targets": (mask_targets, "roi_align", not_aligned, {PLAIN: {"masks"}, CAFFE: set()}),
    "polygon targets": (mask_targets, "rasterize", no_pixel, {PLAIN: set(), CAFFE: {"masks"}}),
    "steps of the rate": (schedule, "bisect_right", bisect_left, both("rates")),
    "batch norm in training": (resnet.ResNet, "train", trains_batch_norm, both("frozen")),
    "the other style": (resnet.Bottleneck, "__init__", other_style, both("forward")),
    "rounding of sizes": (recipes, "rescale_size", cut_off, both("input")),
}
"""Module or class, attribute, what it becomes, what that must change."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_block(name: str, broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, value, expected = BREAKS[name]
    monkeypatch.setattr(owner, attribute, value)
    assert columns(broken()) == expected


@pytest.mark.slow
def test_losses_over_other_numbers(broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes averaged over all coordinates of the regions, and half as many anchors sampled."""
    original = BoxHead.losses

    def losses(self: BoxHead, *given: Tensor, **named: Tensor) -> dict[str, Tensor]:
        found = original(self, *given, **named)
        return {**found, "loss_bbox": found["loss_bbox"] / 4}

    monkeypatch.setattr(BoxHead, "losses", losses)
    monkeypatch.setattr(rpn, "sample", lambda *given, number, **named: sample(*given, number=number // 2, **named))
    found = broken()
    assert columns(found) == both("losses")
    assert [line.split(",")[0] for line in found[PLAIN]["losses"]] == [
        "loss_rpn_bbox: 1 of 1 differ",
        "loss_bbox: 1 of 1 differ",
    ]
    assert "(0.000976562" in found[PLAIN]["losses"][0]  # 0.125 / 128


@pytest.mark.slow
def test_groups_filled_up_together(broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "padded", lambda length, divisor: length // divisor * divisor)
    found = broken()
    assert found[PLAIN]["length"] == ["iterations an epoch is 1, expected 3"]  # only the 16 of 21 in full batches


@pytest.mark.slow
def test_a_check_that_cannot_be_carried_out_differs(
    broken: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(boxes, "encode")
    found = broken()
    assert found[PLAIN]["coder"][0].startswith("fails with AttributeError")


@pytest.mark.slow
def test_a_wrong_pretrained_file(broken: Callable[[], Found], tmp_path: Path) -> None:
    path = tmp_path / "weights" / SOURCES["torchvision://resnet50"].file
    path.parent.mkdir()
    path.write_bytes(b"something else")
    found = broken()
    assert columns(found) == {PLAIN: {"weights"}, CAFFE: set()}
    assert "sha256" in found[PLAIN]["weights"][0]
