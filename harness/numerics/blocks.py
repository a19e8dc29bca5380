"""Checks of the model's blocks, with the numbers that the row's recipe gave them."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from harness.data.batches import collate
from harness.data.transforms import Patch, Sample
from harness.detection import boxes as box_ops
from harness.detection.inference import suppress_by_class
from harness.detection.mask_paste import paste_rles
from harness.detection.mask_targets import mask_targets
from harness.detection.matcher import match
from harness.detection.nms import batched_nms
from harness.detection.roi_align import pyramid_roi_align, roi_levels
from harness.numerics.compare import differs, far
from harness.numerics.expected import Row, expected, golden
from harness.training.build import build_augmentation

CODER_IMAGE = torch.tensor([300, 400])  # (height, width) that the coder's numbers are clipped to
POOL_STRIDE = 8


def check_anchors(row: Row) -> list[str]:
    """Anchors around a position, over a pyramid, and which of them lie on the padded image."""
    case, anchors = golden()["anchors"], row.model.rpn_head.anchors
    shapes = [(height, width) for height, width in case["sizes"]]
    return [
        *far("anchors at position (0, 0)", anchors.base, torch.stack(case["base_anchors"])),
        *far("anchors of a pyramid", torch.cat(anchors(shapes)), case["grid"]),
        *far("anchors on the image", anchors.valid(shapes, torch.tensor([case["pad_shape"]]))[0], case["valid_flags"]),
    ]


def check_coder(row: Row) -> list[str]:
    """Boxes to deltas and back, in both stages."""
    lines = []
    for stage, stds in (("rpn", None), ("rcnn", row.model.roi_head.bbox_head.stds)):
        case = golden()["coder"][stage]
        decoded = box_ops.decode(case["rois"], case["deltas"], stds=stds)
        clipped = box_ops.clip(decoded, CODER_IMAGE)
        lines += [
            *far(
                f"{stage}: deltas",
                box_ops.encode(case["rois"], case["gts"], stds=stds),
                case["encoded"],
                tolerance=1e-5,
            ),
            *far(f"{stage}: boxes", decoded, case["decoded"], tolerance=1e-3),
            *far(f"{stage}: clipped boxes", clipped, case["decoded_clip"], tolerance=1e-3),
        ]
    return lines


def check_assigner(row: Row) -> list[str]:
    """Which ground truth each prior stands for, with low-quality matches and ties."""
    rpn, roi = row.model.rpn_head, row.model.roi_head
    stages: dict[str, dict[str, Any]] = {
        "rpn": {
            "positive_iou": rpn.positive_iou,
            "negative_iou": rpn.negative_iou,
            "min_positive_iou": rpn.min_positive_iou,
        },
        "rcnn": {
            "positive_iou": roi.positive_iou,
            "negative_iou": roi.negative_iou,
            "min_positive_iou": roi.min_positive_iou,
            "low_quality": roi.low_quality,
        },
    }
    lines = []
    for stage, rule in stages.items():
        case = golden()["assigner"][stage]
        usable, real = (torch.ones(1, len(case[name]), dtype=torch.bool) for name in ("priors", "gt"))
        found = match(case["priors"], usable, case["gt"][None], real, **rule)[0]
        # Theirs: -1 ignored, 0 background, index + 1; ours: -2, -1, index.
        lines += far(f"{stage}: assigned", found + 1, case["gt_inds"])
    return lines


def check_pooling(row: Row) -> list[str]:
    """Pyramid levels; RoIAlign for boxes with its gradient, and for masks."""
    roi, case, levels = row.model.roi_head, golden()["pool"], golden()["levels"]
    found = roi_levels(levels["rois"], finest_scale=roi.finest_scale, levels=len(roi.strides))
    lines = far("levels", found, levels["levels"])
    x = case["x"].clone().requires_grad_()
    for name, size in (("y7", roi.box_size), ("y14", roi.mask_size)):
        wanted = case[name]
        rois = case["rois"][: len(wanted)]
        y = pyramid_roi_align(
            [x],
            rois[:, 1:],
            rois[:, 0].long(),
            size=size,
            strides=[POOL_STRIDE],
            finest_scale=roi.finest_scale,
            sampling_ratio=roi.sampling_ratio,
            aligned=roi.aligned,
            listed=True,
        )
        lines += far(f"pooled to {size}", y, wanted, tolerance=1e-4)
        if name == "y7" and y.shape == wanted.shape:
            (gradient,) = torch.autograd.grad((y * case["weight7"]).sum(), x, retain_graph=True)
            lines += far("gradient of pooling", gradient, case["grad7"], tolerance=1e-3)
    return lines


def check_suppression(row: Row) -> list[str]:
    """Suppression of proposals within a level and of detections within a class."""
    case = golden()["nms"]
    boxes, scores, ids = case["boxes"], case["scores"], case["ids"].long()
    every = torch.ones(1, len(boxes), dtype=torch.bool)
    iou = row.model.rpn_head.nms_iou
    lines = []
    for one_call in (False, True):
        kept = batched_nms(boxes[None], scores[None], every, level_sizes=[len(boxes)], iou=iou, one_call=one_call)
        lines += differs("proposals kept", set(kept[0].nonzero().flatten().tolist()), set(case["keep07"].tolist()))
    kept = suppress_by_class(boxes, scores, ids, iou=row.model.nms_iou)
    return [*lines, *far("detections kept", kept, case["keep05_by_class"])]


def check_losses(row: Row) -> list[str]:
    """The five losses of a case worked by hand (expected.json says how): targets, own classes, what they are over."""
    found = {**_rpn_losses(row), **_box_losses(row), "loss_mask": _mask_loss(row)}
    wanted = expected()["losses"]["values"]
    return [
        line
        for name, value in wanted.items()
        for line in far(name, found[name], torch.tensor(value), tolerance=1e-5 * value)
    ]


def _rpn_losses(row: Row) -> dict[str, Tensor]:
    shapes = ((32, 40), (16, 20), (8, 10), (4, 5), (2, 3))  # of a 128 x 160 image
    head = deepcopy(row.model.rpn_head).requires_grad_(False)
    for parameter in head.parameters():
        parameter.zero_()  # so that all logits and deltas are 0
    return head.losses(
        [torch.zeros(1, head.rpn_conv.in_channels, *shape) for shape in shapes],
        gt_boxes=torch.tensor([[[26.0, 24.0, 58.0, 56.0]]]),
        gt_valid=torch.ones(1, 1, dtype=torch.bool),
        sizes=torch.tensor([[128, 160]]),
        seeds=torch.zeros(1, dtype=torch.long),
    )


def _box_losses(row: Row) -> dict[str, Tensor]:
    """Five slots: a positive of class 7, three of the background, one unused."""
    classes = row.recipe.num_classes
    deltas = torch.zeros(5, classes, 4)
    deltas[:, 8] = 9.0
    return row.model.roi_head.bbox_head.losses(
        torch.zeros(5, classes + 1),
        deltas.flatten(1),
        boxes=torch.tensor([[0.0, 0.0, 10.0, 20.0]]).expand(5, 4),
        gt_boxes=torch.tensor([[1.0, 2.0, 11.0, 22.0]]).expand(5, 4),
        labels=torch.tensor([7, classes, classes, classes, classes]),
        valid=torch.arange(5) < 4,
    )


def _mask_loss(row: Row) -> Tensor:
    """Four slots: positives of classes 3 and 5, two unused."""
    size = 2 * row.model.roi_head.mask_size
    logits = torch.full((4, row.recipe.num_classes, size, size), 9.0)
    targets = torch.arange(size).expand(4, size, size) % 2
    logits[0, 3], logits[1, 5] = 0.0, torch.where(targets[1] == 1, 50.0, -50.0)
    return row.model.roi_head.mask_head.loss(
        logits, targets=targets, labels=torch.tensor([3, 5, 0, 0]), positive=torch.arange(4) < 2
    )


def check_masks(row: Row) -> list[str]:
    """Mask targets of the row's form of ground truth; predicted masks pasted into the image."""
    case, paste = golden()["masks"], golden()["paste"]
    height, width = paste["size"]
    size = 2 * row.model.roi_head.mask_size
    rles = paste_rles(
        paste["probabilities"],
        paste["boxes"],
        height=height,
        width=width,
        threshold=row.model.mask_threshold,
    )
    pasted = torch.from_numpy(coco_mask.decode(rles))
    return [
        *far("mask targets", _targets(row, size), _decoded(case[row.expected["recipe"]["mask_format"]], size, size)),
        *far("pasted masks", pasted, _decoded(paste["pasted"], height, width).permute(1, 2, 0)),
    ]


def _targets(row: Row, size: int) -> Tensor:
    """From the ground truth of a sample through the batch to the targets of the golden proposals."""
    case = golden()["masks"]
    height, width = case["size"]
    count = len(case["polygons"])
    sample = Sample(
        image=np.zeros((height, width, 3), np.uint8),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.zeros(count, np.int64),
        bitmaps=[Patch(0, 0, mask) for mask in _decoded(case["bitmaps"], height, width).numpy()],
        polygons=[[part.numpy() for part in parts] for parts in case["polygons"]],
    )
    batch = collate([sample], torch.zeros(1, dtype=torch.long), build_augmentation(row.recipe))
    images = torch.zeros(len(case["inds"]), dtype=torch.long)
    return mask_targets(batch.masks, boxes=case["proposals"], images=images, slots=case["inds"], size=size)


def _decoded(counts: list[str], height: int, width: int) -> Tensor:
    """N x height x width of 0 and 1."""
    rles = [{"size": [height, width], "counts": text.encode()} for text in counts]
    return torch.from_numpy(np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1)))
