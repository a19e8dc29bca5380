"""The one place where a recipe becomes parts: model, optimiser, schedule, augmentation."""

from pathlib import Path

import torch
from torch import nn

from harness.data.transforms import Augmentation
from harness.detection import weights
from harness.detection.box_head import BoxHead
from harness.detection.fpn import FPN
from harness.detection.mask_head import MaskHead
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.resnet import ResNet
from harness.detection.roi_head import RoIHead
from harness.detection.rpn import RPNHead
from harness.errors import UserError
from harness.recipe import FROM_SCRATCH, Recipe
from harness.training.schedule import Schedule


def build_model(recipe: Recipe, *, weights_file: Path | None = None, seed: int = 0) -> MaskRCNN:
    """The recipe's Mask R-CNN on the CPU in training mode, its parameters drawn from `seed`.

    weights_file: the pretrained backbone; without it the backbone has random weights too, as for a checkpoint that is
    loaded next.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(recipe)
    if weights_file is not None:
        weights.load_backbone(model.backbone, weights_file)
    return model


def require_weights(recipe: Recipe, weights_file: Path | None) -> None:
    """Raise UserError where a recipe that starts from pretrained weights has no file of them."""
    if recipe.pretrained != FROM_SCRATCH and weights_file is None:
        raise UserError(f"the recipe starts from {recipe.pretrained}, but no file of these weights was found")


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD (or AdamW) over all trainable parameters, weight decay on all of them; SGD fused on CUDA, AdamW anywhere."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = parameters[0].is_cuda
    if recipe.optimizer == "AdamW":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    optimizer = torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=fused
    )
    if recipe.momentum:  # zeros, as torch leaves what it allocates unset where the first step overflows
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_schedule(recipe: Recipe) -> Schedule:
    """The recipe's learning rates."""
    return Schedule(
        lr=recipe.lr,
        lr_steps=recipe.lr_steps,
        lr_gamma=recipe.lr_gamma,
        warmup_iters=recipe.warmup_iters,
        warmup_ratio=recipe.warmup_ratio,
    )


def build_augmentation(recipe: Recipe) -> Augmentation:
    """How the recipe prepares training images."""
    return Augmentation(
        scales=recipe.train_scales,
        multiscale_mode=recipe.multiscale_mode,
        flip_probability=recipe.flip_probability,
        channel_order=recipe.channel_order,
        mean=recipe.pixel_mean,
        std=recipe.pixel_std,
        mask_format=recipe.mask_format,
        pad_divisor=recipe.pad_divisor,
    )


def _build(recipe: Recipe) -> MaskRCNN:
    backbone = ResNet(
        depth=recipe.depth,
        style=None if recipe.style == "-" else recipe.style,
        groups=recipe.groups,
        base_width=recipe.base_width,
        frozen_stages=recipe.frozen_stages,
        bn_eval=recipe.bn_eval,
        bn_affine_trained=recipe.bn_affine_trained,
    )
    norm = None if recipe.fpn_norm == "none" else recipe.fpn_norm
    neck = FPN(in_channels=backbone.out_channels, out_channels=recipe.fpn_channels, norm=norm)
    model = MaskRCNN(
        backbone=backbone,
        neck=neck,
        rpn_head=_rpn_head(recipe),
        roi_head=_roi_head(recipe),
        score_threshold=recipe.test_score,
        nms_iou=recipe.test_nms_iou,
        max_detections=recipe.test_detections,
        mask_threshold=recipe.test_mask_threshold,
        nms_frame=recipe.test_nms_frame,
        fast_kernels=recipe.kernels == "fast",
    )
    model.init_weights()
    return model


def _rpn_head(recipe: Recipe) -> RPNHead:
    return RPNHead(
        in_channels=recipe.fpn_channels,
        feat_channels=recipe.fpn_channels,
        anchor_scale=recipe.anchor_scale,
        ratios=recipe.anchor_ratios,
        positive_iou=recipe.rpn_pos_iou,
        negative_iou=recipe.rpn_neg_iou,
        min_positive_iou=recipe.rpn_min_pos_iou,
        samples=recipe.rpn_samples,
        positive_fraction=recipe.rpn_pos_fraction,
        nms_pre_train=recipe.rpn_pre_nms_train,
        nms_pre_test=recipe.rpn_pre_nms_test,
        nms_iou=recipe.rpn_nms_iou,
        max_proposals=recipe.rpn_proposals,
        pad_divisor=recipe.pad_divisor,
    )


def _roi_head(recipe: Recipe) -> RoIHead:
    return RoIHead(
        bbox_head=BoxHead(
            in_channels=recipe.fpn_channels,
            size=recipe.box_roi_size,
            fc_width=recipe.box_fc_channels,
            num_classes=recipe.num_classes,
            stds=recipe.box_target_stds,
        ),
        mask_head=MaskHead(
            in_channels=recipe.fpn_channels,
            conv_width=recipe.mask_channels,
            conv_count=recipe.mask_convs,
            num_classes=recipe.num_classes,
        ),
        box_size=recipe.box_roi_size,
        mask_size=recipe.mask_roi_size,
        finest_scale=recipe.roi_finest_scale,
        sampling_ratio=recipe.roi_sampling_ratio,
        positive_iou=recipe.roi_pos_iou,
        negative_iou=recipe.roi_pos_iou,
        min_positive_iou=recipe.roi_pos_iou,
        samples=recipe.roi_samples,
        positive_fraction=recipe.roi_pos_fraction,
    )
