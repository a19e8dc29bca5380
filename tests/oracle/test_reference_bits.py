"""Inference equals the reference to the last bit, each stage fed with the reference's own numbers.

With torchvision's RoIAlign, that is: what a CPU takes instead sums in another order. Two things are none of the
model's: MKL's matrix product and its exp and log round differently from one CPU type to the next. MKL_CBWR makes this
CPU compute them as the reference's did. Left at some 7e-6 are the convolution of P6 (so small that torch gives it to
MKL's matrix product, of another version then) and the mask logits.
"""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.detection import boxes as box_ops
from harness.detection.inference import select_instances
from harness.detection.rpn import RPNHead

from .conftest import build, read, read_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.backends.mkl.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512",
        reason="needs MKL and AVX512, or kernels differ",
    ),
]

Equal = dict[str, bool]


@torch.inference_mode()
def convolutions_and_pooling(shared: Path) -> Equal:
    reference = read(shared, "r50_fpn/test")
    model = build(read_weights(shared), listed=False).eval()
    features = model.backbone(reference["inputs"])
    pyramid = model.neck(features)
    logits, deltas = model.rpn_head(pyramid)
    boxes, found = reference["proposals"], reference["det_bboxes_resized"][:4]
    pooled = model.roi_head.box_features(pyramid, boxes[:8], torch.zeros(8, dtype=torch.long))
    for_masks = model.roi_head.mask_features(pyramid, found, torch.zeros(4, dtype=torch.long))
    levels = [(level["slice"], level["slice"].shape) for level in reference["backbone"]]
    return {
        "C2..C5": all(
            torch.equal(feature[0, : size[0], : size[1], : size[2]], part)
            for feature, (part, size) in zip(features, levels, strict=True)
        ),
        "RPN of P2..P5": all(map(torch.equal, logits[:4] + deltas[:4], _four(reference, "rpn_cls", "rpn_reg"))),
        "RoI features": torch.equal(pooled[:, :16], reference["roi_feat_first8"]),
        "mask features": torch.equal(for_masks[:, :16], reference["mask_feat_first4"]),
    }


def _four(reference: dict[str, Any], *names: str) -> list[Tensor]:
    return [level for name in names for level in reference[name][:4]]


@torch.inference_mode()
def fully_connected(shared: Path) -> Equal:
    reference = read(shared, "r50_fpn/test")
    model = build(read_weights(shared), listed=False).eval()
    boxes = reference["proposals"]
    pyramid = model.features(reference["inputs"])
    logits, deltas = model.roi_head.bbox_head(
        model.roi_head.box_features(pyramid, boxes, torch.zeros(len(boxes), dtype=torch.long))
    )
    return {
        "class logits": torch.equal(logits, reference["cls_score"]),
        "box deltas": torch.equal(deltas, reference["bbox_pred"]),
    }


@torch.inference_mode()
def boxes_and_their_choice(shared: Path) -> Equal:
    reference = read(shared, "r50_fpn/test")
    meta = reference["meta"]
    sizes = torch.tensor([meta["img_shape"]])
    proposals = RPNHead().eval().proposals(reference["rpn_cls"], reference["rpn_reg"], sizes=sizes)
    found = select_instances(
        reference["cls_score"].softmax(dim=1),
        reference["bbox_pred"],
        reference["proposals"],
        stds=torch.tensor([0.1, 0.1, 0.2, 0.2]),
        size=sizes[0],
        scale_factor=torch.tensor(meta["scale_factor"]),
        score_threshold=0.05,
        nms_iou=0.5,
        max_detections=100,
        nms_frame="resized",
    )
    return {
        **_coder(read(shared, "unit/bbox_coder")),
        "proposals": torch.equal(proposals.boxes[0], reference["proposals"]),
        "proposal scores": torch.equal(proposals.scores[0], reference["proposal_scores"]),
        "boxes": torch.equal(found.resized, reference["det_bboxes_resized"]),
        "original boxes": torch.equal(found.original, reference["final_bboxes"]),
        "scores": torch.equal(found.scores, reference["final_scores"]),
        "labels": torch.equal(found.labels, reference["final_labels"]),
    }


def _coder(reference: dict[str, Any]) -> Equal:
    equal = {}
    for stage, stds in (("rpn", [1.0] * 4), ("rcnn", [0.1, 0.1, 0.2, 0.2])):
        case, divisors = reference[stage], torch.tensor(stds)
        by_class = box_ops.decode(case["rois"][:, None], case["deltas_cls"].view(-1, 80, 4), stds=divisors)
        equal |= {
            f"{stage} encoded": torch.equal(box_ops.encode(case["rois"], case["gts"], stds=divisors), case["encoded"]),
            f"{stage} decoded": torch.equal(
                box_ops.decode(case["rois"], case["deltas"], stds=divisors), case["decoded"]
            ),
            f"{stage} decoded by class": torch.equal(
                box_ops.clip(by_class, torch.tensor([300, 400])).flatten(1), case["decoded_cls_clip"]
            ),
        }
    return equal


@pytest.mark.parametrize(
    ("stage", "kernels"),
    [
        (convolutions_and_pooling, "AUTO"),
        (fully_connected, "AVX2,STRICT"),
        (boxes_and_their_choice, "COMPATIBLE"),
    ],
)
def test_stage(shared: Path, monkeypatch: pytest.MonkeyPatch, stage: Callable[[Path], Equal], kernels: str) -> None:
    monkeypatch.setenv("MKL_CBWR", kernels)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # with one, torch takes other convolutions
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # MKL reads its setting when it starts
        equal = pool.apply(stage, (shared,))
    assert equal and all(equal.values()), [name for name, same in equal.items() if not same]
