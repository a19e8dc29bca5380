"""Mask R-CNN (He et al. 2017) with a feature pyramid: losses in training, detections in testing."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.detection.fpn import FPN
from harness.detection.inference import Instances, NmsFrame, select_instances
from harness.detection.mask_head import of_class
from harness.detection.mask_paste import paste_rles
from harness.detection.resnet import ResNet
from harness.detection.roi_head import RoIHead
from harness.detection.rpn import Proposals, RPNHead
from harness.structures import Batch, Detections, Polygons


class MaskRCNN(nn.Module):
    """Backbone, neck, region proposals, region heads.

    score_threshold: least class probability of a detection (exclusive); nms_iou: suppression within a class;
    max_detections: of an image; mask_threshold: least mask probability of a pixel (inclusive);
    nms_frame: see inference.select_instances.
    fast_kernels: features in channels-last format, and of the backbone's batch norm in testing none but what is folded
    into its convolutions. Changes results by rounding alone.
    """

    def __init__(
        self,
        *,
        backbone: ResNet,
        neck: FPN,
        rpn_head: RPNHead,
        roi_head: RoIHead,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int = 100,
        mask_threshold: float = 0.5,
        nms_frame: NmsFrame = "original",
        fast_kernels: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.mask_threshold, self.nms_frame = mask_threshold, nms_frame
        self.fast_kernels = fast_kernels

    def init_weights(self) -> None:
        """Every part's own initialisation; a pretrained backbone is loaded after it."""
        self.backbone.init_weights()
        self.neck.init_weights()
        self.rpn_head.init_weights()
        self.roi_head.init_weights()

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """P2 .. P6 of images (B x 3 x H x W)."""
        if self.fast_kernels:
            images = images.to(memory_format=torch.channels_last)
        pyramid: tuple[Tensor, ...] = self.neck(self.backbone(images, fold=self.fast_kernels and not self.training))
        return pyramid

    def forward(self, batch: Batch, *, proposals: Proposals | None = None) -> dict[str, Tensor]:
        """Losses of a batch as 0-d tensors under their published names; `loss` is their sum, `acc` (percent) is none.

        All are normalised over this batch. Nothing here waits for the device but the one suppression of proposals.

        proposals: take these instead of the network's own (benchmarks on equal work).
        """
        batch = _with_a_slot(batch)
        features = self.features(batch.images)
        # Before the proposals: under autocast, weights that were first used without gradients would have none.
        losses: dict[str, Tensor] = self.rpn_head.losses(
            features, gt_boxes=batch.boxes, gt_valid=batch.labels >= 0, sizes=batch.sizes, seeds=batch.seeds
        )
        if proposals is None:
            with torch.no_grad():
                proposals = self.rpn_head.proposals(*self.rpn_head(features), sizes=batch.sizes)
        losses.update(self.roi_head.losses(features, proposals, batch))
        losses["loss"] = torch.stack([value for name, value in losses.items() if name != "acc"]).sum()
        return losses

    @torch.inference_mode()
    def detect(self, images: Tensor, sizes: Tensor, original_sizes: Tensor, scale_factors: Tensor) -> list[Detections]:
        """Detections of each image, on the CPU.

        images: B x 3 x H x W, normalised and padded; sizes, original_sizes: B x 2 (height, width) of the resized
        images without padding and of the original ones; scale_factors: B x 2 (w, h), resized / original.
        """
        features = self.features(images)
        proposals = self.rpn_head.proposals(*self.rpn_head(features), sizes=sizes)
        instances = self.instances(features, proposals, sizes, scale_factors)
        probabilities = self.mask_logits(features, instances).sigmoid().cpu()
        counts = [len(found.scores) for found in instances]
        return [
            self._detections(found, masks, height=height, width=width)
            for found, masks, (height, width) in zip(
                instances, probabilities.split_with_sizes(counts), original_sizes.tolist(), strict=True
            )
        ]

    def instances(
        self, features: Sequence[Tensor], proposals: Proposals, sizes: Tensor, scale_factors: Tensor
    ) -> list[Instances]:
        """The box head's detections of each image."""
        images, slots = proposals.valid.nonzero().unbind(1)
        boxes = proposals.boxes[images, slots]
        logits, deltas = self.roi_head.bbox_head(self.roi_head.box_features(features, boxes, images))
        counts = proposals.valid.sum(dim=1).tolist()
        parts = [part.split_with_sizes(counts) for part in (logits.float().softmax(dim=1), deltas.float(), boxes)]
        return [
            select_instances(
                *image,
                stds=self.roi_head.bbox_head.stds,
                size=size,
                scale_factor=scale_factor,
                score_threshold=self.score_threshold,
                nms_iou=self.nms_iou,
                max_detections=self.max_detections,
                nms_frame=self.nms_frame,
            )
            for *image, size, scale_factor in zip(*parts, sizes, scale_factors, strict=True)
        ]

    def mask_logits(self, features: Sequence[Tensor], instances: Sequence[Instances]) -> Tensor:
        """Mask logits of all instances' own classes, image after image: D x h x w float32."""
        boxes = torch.cat([found.resized for found in instances])
        images = torch.cat([torch.full_like(found.labels, index) for index, found in enumerate(instances)])
        logits = self.roi_head.mask_head(self.roi_head.mask_features(features, boxes, images))
        return of_class(logits, torch.cat([found.labels for found in instances])).float()

    def _detections(self, found: Instances, masks: Tensor, *, height: int, width: int) -> Detections:
        boxes = found.original.cpu()
        return Detections(
            boxes=boxes,
            scores=found.scores.cpu(),
            labels=found.labels.cpu(),
            masks=paste_rles(masks, boxes, height=height, width=width, threshold=self.mask_threshold),
        )


def _with_a_slot(batch: Batch) -> Batch:
    """A batch with at least one ground-truth slot, so that nothing has to ask for images without objects."""
    if batch.labels.shape[1]:
        return batch
    masks = batch.masks
    if isinstance(masks, Polygons):
        padded: Tensor | Polygons = Polygons(
            edges=F.pad(masks.edges, (0, 0, 0, 0, 0, 1)), parts=F.pad(masks.parts, (0, 0, 0, 1), value=-1)
        )
    else:
        padded = F.pad(masks, (0, 0, 0, 0, 0, 1))
    return replace(
        batch, boxes=F.pad(batch.boxes, (0, 0, 0, 1)), labels=F.pad(batch.labels, (0, 1), value=-1), masks=padded
    )
