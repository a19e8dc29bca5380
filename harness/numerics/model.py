"""Checks of a row's whole model: its outputs for weights by a formula, and its pretrained backbone."""

import torch
from torch import Tensor

from harness.detection import weights
from harness.detection.mask_rcnn import MaskRCNN
from harness.errors import UserError
from harness.numerics.compare import differs, far, few
from harness.numerics.expected import Row, golden
from harness.numerics.formula import REGIONS, fingerprint, image

TOLERANCE = 1e-4
"""Of an output's standard deviation. float32 through a hundred layers, against float64, is within 1e-5 of it."""


def check_forward(row: Row) -> list[str]:
    """Pyramid, proposals' and regions' raw outputs of a 128 x 160 image, against a second implementation."""
    with torch.inference_mode():
        found = _outputs(row.model.eval())
    lines = differs("outputs", list(found), golden()["outputs"])
    for (name, output), wanted in zip(found.items(), golden()["forward"][row.expected["architecture"]], strict=True):
        lines += far(name, fingerprint(output), wanted, tolerance=TOLERANCE * float(wanted[1]))
    return few(lines)


def _outputs(model: MaskRCNN) -> dict[str, Tensor]:
    levels = model.features(image())
    found = {f"P{number}": level for number, level in enumerate(levels, start=2)}
    for number, (logits, deltas) in enumerate(zip(*model.rpn_head(levels), strict=True), start=2):
        found[f"rpn_cls {number}"] = logits
        found[f"rpn_reg {number}"] = deltas
    boxes, images = torch.tensor(REGIONS), torch.zeros(len(REGIONS), dtype=torch.long)
    head = model.roi_head
    found["fc_cls"], found["fc_reg"] = head.bbox_head(head.box_features(levels, boxes, images))
    found["mask"] = head.mask_head(head.mask_features(levels, boxes, images))
    return found


def check_weights(row: Row) -> list[str] | None:
    """The pretrained backbone's file: its digest, and that it fits; None where it is not here.

    The model has these weights afterwards.
    """
    try:
        path = weights.find(row.recipe.pretrained, row.cache_root)
        if path is None:
            return None
        weights.verify_name(path, remember=row.cache_root / "digests")
        weights.load_backbone(row.model.backbone, path)
    except UserError as error:
        return [str(error)]
    return []
