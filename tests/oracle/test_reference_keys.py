"""The whole model's keys, shapes, parameter counts and trainable parameters, as published."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.detection.box_head import BoxHead
from harness.detection.fpn import FPN
from harness.detection.mask_head import MaskHead
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.resnet import ResNet
from harness.detection.roi_head import RoIHead
from harness.detection.rpn import RPNHead

R50 = {"depth": 50, "style": "pytorch"}
R50_CAFFE = {"depth": 50, "style": "caffe", "bn_affine_trained": False}
R101_CAFFE = {"depth": 101, "style": "caffe", "bn_affine_trained": False}
X101_32X4D = {"depth": 101, "style": "pytorch", "groups": 32, "base_width": 4}
X101_64X4D = {"depth": 101, "style": "pytorch", "groups": 64, "base_width": 4}
X101_32X8D = {"depth": 101, "style": "pytorch", "groups": 32, "base_width": 8, "bn_affine_trained": False}


def build(backbone: dict[str, Any]) -> MaskRCNN:
    with torch.device("meta"):
        resnet = ResNet(**backbone)
        return MaskRCNN(
            backbone=resnet,
            neck=FPN(in_channels=resnet.out_channels),
            rpn_head=RPNHead(),
            roi_head=RoIHead(bbox_head=BoxHead(), mask_head=MaskHead()),
        )


@pytest.mark.parametrize(
    ("cell", "backbone"),
    [
        ("mask_rcnn_r50_fpn_1x_coco", R50),
        ("mask_rcnn_r101_caffe_fpn_1x_coco", R101_CAFFE),
        ("mask_rcnn_x101_32x4d_fpn_1x_coco", X101_32X4D),
    ],
)
def test_keys_and_shapes(shared: Path, cell: str, backbone: dict[str, Any]) -> None:
    published = json.loads((shared / f"reference/oracle/keys/{cell}.json").read_text())
    ours = {key: list(value.shape) for key, value in build(backbone).state_dict().items()}
    assert ours == published


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        (R50, 44_396_336),
        (R101_CAFFE, 63_388_464),
        (X101_32X4D, 63_017_008),
        (X101_64X4D, 102_294_576),
        (X101_32X8D, 107_630_640),
    ],
)
def test_parameter_counts(backbone: dict[str, Any], count: int) -> None:
    assert sum(parameter.numel() for parameter in build(backbone).parameters()) == count


@pytest.mark.parametrize(
    ("cell", "backbone"), [("mask_rcnn_r50_fpn_1x_coco", R50), ("mask_rcnn_r50_caffe_fpn_1x_coco", R50_CAFFE)]
)
def test_trainable_parameters(shared: Path, cell: str, backbone: dict[str, Any]) -> None:
    published = json.loads((shared / f"reference/oracle/trainable/{cell}.json").read_text())
    parameters = dict(build(backbone).named_parameters())
    assert sorted(name for name, value in parameters.items() if value.requires_grad) == sorted(published["trainable"])
    assert sorted(name for name, value in parameters.items() if not value.requires_grad) == sorted(published["frozen"])
