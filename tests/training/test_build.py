"""Every number of a recipe reaches a part; the published rows have the published parameters."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.cell import parse_name
from harness.errors import UserError
from harness.launching.prepare import PreparedRun
from harness.recipe import Recipe, field_names, with_overrides
from harness.training.build import build_augmentation, build_model, build_optimizer, build_schedule, require_weights
from harness.training.precision import LossScaler
from training.tiny import changed, session

# Another value for each field that the model, optimiser, schedule, augmentation or loss scaling is built from.
PARTS: dict[str, Any] = {
    "num_classes": 5, "channel_order": "bgr", "pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (1.0, 2.0, 3.0),
    "train_scales": ((64, 48),), "multiscale_mode": "range", "flip_probability": 0.25, "mask_format": "polygon",
    "pad_divisor": 64, "depth": 101, "groups": 32, "base_width": 4, "style": "caffe", "frozen_stages": 2,
    "bn_eval": False, "bn_affine_trained": False, "fpn_channels": 64, "fpn_norm": "GN", "anchor_scale": 4,
    "anchor_ratios": (0.5, 1.0, 3.0), "rpn_pos_iou": 0.6, "rpn_neg_iou": 0.2, "rpn_min_pos_iou": 0.2,
    "rpn_samples": 8, "rpn_pos_fraction": 0.3, "rpn_nms_iou": 0.6, "rpn_pre_nms_train": 9, "rpn_pre_nms_test": 8,
    "rpn_proposals": 7, "roi_pos_iou": 0.6, "roi_samples": 9, "roi_pos_fraction": 0.3, "roi_finest_scale": 28,
    "roi_sampling_ratio": 2, "box_roi_size": 5, "box_fc_channels": 16, "box_target_stds": (0.1, 0.1, 0.3, 0.3),
    "mask_roi_size": 12, "mask_channels": 16, "mask_convs": 2, "test_score": 0.1, "test_nms_iou": 0.4,
    "test_nms_frame": "resized", "test_detections": 50, "test_mask_threshold": 0.4, "optimizer": "AdamW",
    "lr": 0.01, "momentum": 0.8, "weight_decay": 0.0, "lr_steps": (1,), "lr_gamma": 0.2, "warmup_iters": 7,
    "warmup_ratio": 0.5, "precision": "fp16", "loss_scale": 8.0, "kernels": "fast",
}  # fmt: skip
# Fields that a run uses elsewhere: below, in test_fields_of_a_run.
RUN = {"dataset", "min_image_size", "test_scale", "pretrained", "batch", "micro_batch", "epochs", "repeats"}
NARROW = Recipe(
    base_width=8, fpn_channels=32, box_fc_channels=32, mask_channels=8, mask_convs=1, num_classes=3, box_roi_size=3,
    precision="fp32", pretrained="none", frozen_stages=-1,
)  # fmt: skip


def plain(value: Any) -> Any:
    """A part's attribute as something that can be compared, however deep."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.flatten()[:64].tolist() if value.numel() < 100 else None, value.requires_grad
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items() if "hook" not in str(key)}
    if callable(value) or value is None or isinstance(value, bool | int | float | str):
        return str(value).split(" at 0x")[0]
    return type(value).__name__, plain(vars(value)) if hasattr(value, "__dict__") else str(value)


def fingerprint(recipe: Recipe) -> str:
    """Everything that the parts are made of, but for the random weights."""
    model = build_model(recipe)
    bare = {name: (tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()}
    settings = {name: plain({**vars(module), "_parameters": {}, "_modules": {}}) for name, module in named(model)}
    optimizer = build_optimizer(recipe, model)
    scaler = LossScaler("fp16" if recipe.precision == "fp16" else "fp32", recipe.loss_scale, torch.device("cpu"))
    rest = (build_schedule(recipe), build_augmentation(recipe), optimizer.defaults, type(optimizer), scaler.static)
    return repr((bare, settings, rest, scaler.scaler.is_enabled()))


def named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(f"{name}: {type(module).__name__}", module) for name, module in model.named_modules()]


@pytest.fixture(scope="module")
def original() -> str:
    return fingerprint(NARROW)


def test_fingerprint_repeats(original: str) -> None:
    assert fingerprint(replace(NARROW, epochs=3)) == original


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PARTS))
def test_field_reaches_a_part(name: str, original: str) -> None:
    assert fingerprint(replace(NARROW, **{name: PARTS[name]})) != original


def test_every_field_is_covered() -> None:
    assert set(PARTS) | RUN == set(field_names())
    assert {entry.name for entry in fields(Recipe)} == set(field_names())


@pytest.mark.slow
def test_fields_of_a_run(run: PreparedRun, tmp_path: Path) -> None:
    """A larger batch makes fewer iterations of 12 images, twice the data more; test images are of twice the size."""
    base = session(run.paths, run.spec)

    def with_(name: str, **other: Any) -> Any:
        return session(*changed(run, tmp_path / name, shortening=replace(run.spec.shortening, **EVERY), **other))

    assert (base.images.iterations, base.total) == (3, 6)
    full = with_("full").images.iterations
    assert with_("batch", batch=4).images.iterations < full
    assert with_("repeats", repeats=2).images.iterations > full
    micro = with_("micro", micro_batch=1)
    assert [len(batch.images) for batch in next(micro.images.epoch(0, micro.ranks, start=0))] == [1, 1]
    assert with_("epochs", epochs=5).total == 5 * full
    assert len(base.images.kept) > len(with_("dropped", min_image_size=70).images.kept)
    sizes = [next(t.validation.samples(t.ranks)).size for t in (base, with_("scale", test_scale=(2666, 1600)))]
    assert sizes[1] == pytest.approx([2 * side for side in sizes[0]], abs=1)


EVERY = {"iterations_per_epoch": None}

COUNTS = [
    ("mask_rcnn_r50_fpn_1x_coco", 44_396_336),
    ("mask_rcnn_r101_fpn_1x_coco", 63_388_464),
    ("mask_rcnn_x101_32x4d_fpn_1x_coco", 63_017_008),
    ("mask_rcnn_x101_64x4d_fpn_1x_coco", 102_294_576),
    ("mask_rcnn_x101_32x8d_fpn_1x_coco", 107_630_640),
]


@pytest.mark.parametrize(("name", "count"), COUNTS)
def test_published_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = build_model(parse_name(name).recipe())
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("name", ["mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_caffe_fpn_1x_coco"])
def test_published_trainable_parameters(shared: Path, name: str) -> None:
    published = json.loads((shared / f"reference/oracle/trainable/{name}.json").read_text())
    with torch.device("meta"):
        model = build_model(parse_name(name).recipe())
        optimizer = build_optimizer(parse_name(name).recipe(), model)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == set(published["trainable"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4]  # on all of them


@pytest.mark.parametrize("name", [
    "mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r101_caffe_fpn_1x_coco", "mask_rcnn_x101_32x4d_fpn_1x_coco",
])  # fmt: skip
def test_published_keys(shared: Path, name: str) -> None:
    published = json.loads((shared / f"reference/oracle/keys/{name}.json").read_text())
    with torch.device("meta"):
        model = build_model(parse_name(name).recipe())
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == published


def test_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_model(NARROW, seed=3).state_dict()
    before = torch.get_rng_state()
    second = build_model(NARROW, seed=3).state_dict()
    other = build_model(NARROW, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["rpn_head.rpn_conv.weight"], other["rpn_head.rpn_conv.weight"])


def test_from_scratch() -> None:
    """Of a row that freezes all it can: nothing is frozen, BN is trained, and each block starts as its shortcut."""
    caffe = replace(parse_name("mask_rcnn_r50_caffe_fpn_1x_coco").recipe(), base_width=8, fpn_channels=32, mask_convs=1)
    recipe = with_overrides(replace(caffe, box_fc_channels=32), {"pretrained": "none"})
    model = build_model(recipe).train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == 53
    for name, norm in norms.items():
        assert norm.training
        assert (norm.weight == (0 if name.endswith(".bn3") else 1)).all() and not norm.bias.any(), name
    conv = model.backbone.get_submodule("layer3.2.conv2").weight  # fan out: 32 channels of 3 x 3
    assert conv.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)


def test_missing_weights_are_refused() -> None:
    with pytest.raises(UserError, match="starts from torchvision://resnet50"):
        require_weights(Recipe(), None)
    require_weights(NARROW, None)
