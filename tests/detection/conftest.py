"""A small Mask R-CNN and drawn batches for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.detection.box_head import BoxHead
from harness.detection.fpn import FPN
from harness.detection.mask_head import MaskHead
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.roi_head import RoIHead
from harness.detection.rpn import RPNHead
from harness.structures import Batch, Polygons

CLASSES = 3


class TinyBackbone(nn.Module):
    """Four convolutions of strides 4, 8, 16 and 32: what a model needs of a backbone, in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = (8, 8, 8, 8)
        self.stages = nn.ModuleList(nn.Conv2d(3, 8, 2 * stride, stride, stride // 2) for stride in (4, 8, 16, 32))

    def forward(self, images: Tensor, *, fold: bool) -> tuple[Tensor, ...]:
        return tuple(stage(images).relu() for stage in self.stages)

    def init_weights(self) -> None:
        for stage in self.stages:
            nn.init.kaiming_normal_(stage.weight)


@pytest.fixture
def small_model() -> Callable[..., MaskRCNN]:
    """small_model(rpn={...}, roi={...}, **model): 16 channels, 3 classes, always the same weights."""

    def build(*, rpn: dict[str, Any] | None = None, roi: dict[str, Any] | None = None, **model: Any) -> MaskRCNN:
        torch.manual_seed(0)
        backbone = TinyBackbone()
        built = MaskRCNN(
            backbone=backbone,
            neck=FPN(in_channels=backbone.out_channels, out_channels=16),
            rpn_head=RPNHead(**{"in_channels": 16, "feat_channels": 16, "nms_pre_train": 200, **(rpn or {})}),
            roi_head=RoIHead(
                bbox_head=BoxHead(in_channels=16, fc_width=32, num_classes=CLASSES),
                mask_head=MaskHead(in_channels=16, conv_width=8, conv_count=2, num_classes=CLASSES),
                **{"samples": 32, **(roi or {})},
            ),
            **model,
        )
        built.init_weights()
        return built

    return build


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """make_batch(boxes of each image, polygons=False): 96 x 128 images of noise whose masks are the boxes."""

    def make(images: list[list[tuple[float, float, float, float]]], *, polygons: bool = False) -> Batch:
        slots = max(map(len, images))
        boxes = torch.zeros(len(images), slots, 4)
        labels = torch.full((len(images), slots), -1)
        bitmaps = torch.zeros(len(images), slots, 96, 128, dtype=torch.uint8)
        for image, given in enumerate(images):
            for slot, (x1, y1, x2, y2) in enumerate(given):
                boxes[image, slot] = torch.tensor((x1, y1, x2, y2))
                labels[image, slot] = slot % CLASSES
                bitmaps[image, slot, round(y1) : round(y2), round(x1) : round(x2)] = 1
        return Batch(
            images=torch.randn(len(images), 3, 96, 128, generator=torch.Generator().manual_seed(5)),
            sizes=torch.tensor([[96, 128], [90, 100]]).repeat(len(images), 1)[: len(images)],
            boxes=boxes,
            labels=labels,
            masks=_as_polygons(boxes, labels) if polygons else bitmaps,
            seeds=torch.arange(len(images)) + 7,
        )

    return make


def _as_polygons(boxes: Tensor, labels: Tensor) -> Polygons:
    x1, y1, x2, y2 = boxes.double().unbind(-1)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    edges = [torch.stack([*corners[i], *corners[(i + 1) % 4]], dim=-1) for i in range(4)]
    return Polygons(edges=torch.stack(edges, dim=2), parts=labels.clamp(max=0)[..., None].repeat(1, 1, 4))
