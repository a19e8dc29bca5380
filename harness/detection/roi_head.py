"""Second stage: samples the proposals and trains the box and mask heads on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.detection.box_head import BoxHead
from harness.detection.mask_head import MaskHead
from harness.detection.mask_targets import mask_targets
from harness.detection.matcher import IGNORED, match
from harness.detection.roi_align import pyramid_roi_align
from harness.detection.rpn import Proposals
from harness.detection.sampler import Choice, random_choice, sample
from harness.structures import Batch

SAMPLING_SALT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Sampled regions: B x S slots (or K, flattened), an image's positives first, unused slots last."""

    boxes: Tensor  # ... x 4
    images: Tensor  # ... int64
    gt_slots: Tensor  # ... int64: the ground truth that a positive stands for; arbitrary elsewhere
    gt_boxes: Tensor  # ... x 4: its box
    labels: Tensor  # ... int64: its class; the number of classes (background) where not positive
    positive: Tensor  # ... bool
    valid: Tensor  # ... bool

    def flatten(self, chosen: Tensor | None = None) -> "Regions":
        """The same regions in one dimension, or those at the flat indices `chosen`."""
        flat = {name: getattr(self, name).flatten(0, 1) for name in self.__slots__}
        return Regions(**(flat if chosen is None else {name: value[chosen] for name, value in flat.items()}))


class RoIHead(nn.Module):
    """Box and mask heads on RoIAligned features.

    box_size, mask_size: resolution of the features for the box and the mask head.
    strides, finest_scale, sampling_ratio, aligned: see roi_align.pyramid_roi_align; the pyramid's levels that strides
        name are used.
    positive_iou, negative_iou, min_positive_iou, low_quality: see matcher.match.
    samples, positive_fraction: regions an image in the losses, and the most that may be positive.
    add_gt: the ground-truth boxes are candidates too.
    choose: the choice among candidates, random unless a test says otherwise.
    compact: drop unused slots before the heads, which waits for the device; None: on a CPU only. Never changes results.
    listed: see roi_align.pyramid_roi_align; None: on a CPU only. Changes results by rounding alone.
    """

    def __init__(
        self,
        *,
        bbox_head: BoxHead,
        mask_head: MaskHead,
        box_size: int = 7,
        mask_size: int = 14,
        strides: Sequence[int] = (4, 8, 16, 32),
        finest_scale: float = 56,
        sampling_ratio: int = 0,
        aligned: bool = True,
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
        min_positive_iou: float = 0.5,
        low_quality: bool = True,
        samples: int = 512,
        positive_fraction: float = 0.25,
        add_gt: bool = True,
        choose: Choice = random_choice,
        compact: bool | None = None,
        listed: bool | None = None,
    ) -> None:
        super().__init__()
        self.bbox_head = bbox_head
        self.mask_head = mask_head
        self.box_size, self.mask_size = box_size, mask_size
        self.strides, self.finest_scale = tuple(strides), finest_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned
        self.positive_iou, self.negative_iou, self.min_positive_iou = positive_iou, negative_iou, min_positive_iou
        self.low_quality = low_quality
        self.samples, self.positive_fraction = samples, positive_fraction
        self.add_gt, self.choose, self.compact, self.listed = add_gt, choose, compact, listed

    def init_weights(self) -> None:
        """Both heads as the recipes have them."""
        self.bbox_head.init_weights()
        self.mask_head.init_weights()

    def losses(self, features: Sequence[Tensor], proposals: Proposals, batch: Batch) -> dict[str, Tensor]:
        """loss_cls, acc, loss_bbox (see BoxHead.losses) and loss_mask (see MaskHead.loss)."""
        regions = self.sample(proposals, batch)
        return {**self._box_losses(features, regions), **self._mask_loss(features, regions, batch)}

    def sample(self, proposals: Proposals, batch: Batch) -> Regions:
        """The regions of the losses, chosen from [ground truth, proposals] of each image."""
        gt_valid = batch.labels >= 0
        matches = match(
            proposals.boxes,
            proposals.valid,
            batch.boxes,
            gt_valid,
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            min_positive_iou=self.min_positive_iou,
            low_quality=self.low_quality,
        )
        candidates = proposals.boxes
        if self.add_gt:
            own = torch.arange(batch.boxes.shape[1], device=matches.device).expand_as(gt_valid)
            matches = torch.cat([own.masked_fill(~gt_valid, IGNORED), matches], dim=1)
            candidates = torch.cat([batch.boxes, candidates], dim=1)
        samples = sample(
            matches,
            batch.seeds,
            number=self.samples,
            positive_fraction=self.positive_fraction,
            salt=SAMPLING_SALT,
            choose=self.choose,
        )
        gt_slots = matches.gather(1, samples.indices).clamp(min=0)
        rows = torch.arange(len(gt_slots), device=gt_slots.device)[:, None].expand_as(gt_slots)
        return Regions(
            boxes=candidates[rows, samples.indices] * samples.valid[..., None],
            images=rows,
            gt_slots=gt_slots,
            gt_boxes=batch.boxes[rows, gt_slots],
            labels=batch.labels[rows, gt_slots].masked_fill(~samples.positive, self.bbox_head.num_classes),
            positive=samples.positive,
            valid=samples.valid,
        )

    def box_features(self, features: Sequence[Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """RoIAligned features for the box head: K x 4, K -> K x C x box_size x box_size."""
        return self._align(features, boxes, images, self.box_size)

    def mask_features(self, features: Sequence[Tensor], boxes: Tensor, images: Tensor) -> Tensor:
        """RoIAligned features for the mask head: K x 4, K -> K x C x mask_size x mask_size."""
        return self._align(features, boxes, images, self.mask_size)

    def _align(self, features: Sequence[Tensor], boxes: Tensor, images: Tensor, size: int) -> Tensor:
        return pyramid_roi_align(
            features[: len(self.strides)],
            boxes,
            images,
            size=size,
            strides=self.strides,
            finest_scale=self.finest_scale,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            listed=boxes.device.type == "cpu" if self.listed is None else self.listed,
        )

    def _compacts(self, boxes: Tensor) -> bool:
        return boxes.device.type == "cpu" if self.compact is None else self.compact

    def _used(self, regions: Regions, used: Tensor) -> Regions:
        """The regions flattened, without the slots that are not `used` where compaction is on."""
        chosen = used.flatten().nonzero().squeeze(1) if self._compacts(used) else None
        return regions.flatten(chosen)

    def _box_losses(self, features: Sequence[Tensor], regions: Regions) -> dict[str, Tensor]:
        flat = self._used(regions, regions.valid)
        logits, deltas = self.bbox_head(self.box_features(features, flat.boxes, flat.images))
        return self.bbox_head.losses(
            logits, deltas, boxes=flat.boxes, gt_boxes=flat.gt_boxes, labels=flat.labels, valid=flat.valid
        )

    def _mask_loss(self, features: Sequence[Tensor], regions: Regions, batch: Batch) -> dict[str, Tensor]:
        most = int(self.samples * self.positive_fraction)  # positives come first
        first = Regions(**{name: getattr(regions, name)[:, :most] for name in regions.__slots__})
        flat = self._used(first, first.positive)
        logits = self.mask_head(self.mask_features(features, flat.boxes, flat.images))
        targets = mask_targets(
            batch.masks, boxes=flat.boxes, images=flat.images, slots=flat.gt_slots, size=logits.shape[-1]
        )
        loss = self.mask_head.loss(logits, targets=targets, labels=flat.labels, positive=flat.positive)
        return {"loss_mask": loss}
