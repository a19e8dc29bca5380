"""Make the numbers that the package ships from the reference oracle and the second implementation beside this file.

python tests/numerics/make_golden.py SHARED     writes harness/numerics/golden.pth and keys.json.xz
"""

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.numerics import formula
from numerics import reference

PACKAGE = Path(formula.__file__).parent
ORIGIN = (
    "mmdetection 3.3.0 with mmcv 2.1.0 (torch 2.1.2, fp32, CPU) for all but: rates by the formula of 2.x; keys of "
    "X-101-64x4d and 32x8d by the rule of ResNeXt from those of R-101; forward by a second implementation in float64"
)
ARCHITECTURES = {
    "r50 pytorch": {"depth": 50, "style": "pytorch", "groups": 1, "width": 64},
    "r50 caffe": {"depth": 50, "style": "caffe", "groups": 1, "width": 64},
    "r101 pytorch": {"depth": 101, "style": "pytorch", "groups": 1, "width": 64},
    "r101 caffe": {"depth": 101, "style": "caffe", "groups": 1, "width": 64},
    "x101_32x4d pytorch": {"depth": 101, "style": "pytorch", "groups": 32, "width": 4},
    "x101_64x4d pytorch": {"depth": 101, "style": "pytorch", "groups": 64, "width": 4},
    "x101_32x8d pytorch": {"depth": 101, "style": "pytorch", "groups": 32, "width": 8},
}
Keys = dict[str, list[int]]


def main() -> None:
    oracle = Path(sys.argv[1]) / "reference/oracle"
    keys = all_keys(oracle)
    (PACKAGE / "keys.json.xz").write_bytes(lzma.compress(json.dumps(keys, sort_keys=True).encode(), preset=9))
    torch.save(golden(oracle) | forwards(keys), PACKAGE / "golden.pth")
    for name in ("keys.json.xz", "golden.pth"):
        print(f"{PACKAGE / name}: {(PACKAGE / name).stat().st_size} bytes")


def all_keys(oracle: Path) -> dict[str, Keys]:
    """Backbone -> state_dict key -> shape."""
    found: dict[str, Keys] = {
        name: json.loads((oracle / f"keys/mask_rcnn_{cell}_coco.json").read_text())
        for name, cell in (("r50", "r50_fpn_1x"), ("r101", "r101_caffe_fpn_1x"), ("x101_32x4d", "x101_32x4d_fpn_1x"))
    }
    assert resnext(found["r101"], groups=32, base_width=4) == found["x101_32x4d"]
    found["x101_64x4d"] = resnext(found["r101"], groups=64, base_width=4)
    found["x101_32x8d"] = resnext(found["r101"], groups=32, base_width=8)
    return found


def resnext(plain: Keys, *, groups: int, base_width: int) -> Keys:
    """ResNeXt's shapes from ResNet's: blocks of stage s are 64 * 2^(s-1) * base_width / 64 * groups wide."""
    found = {}
    for key, shape in plain.items():
        new = list(shape)
        if key.startswith("backbone.layer"):
            stage, part = int(key[len("backbone.layer")]), key.split(".")[3]
            width = 2 ** (stage - 1) * base_width * groups
            if part in ("conv1", "conv2", "bn1", "bn2") and shape:
                new[0] = width
            if part == "conv2":
                new[1] = width // groups
            if part == "conv3":
                new[1] = width
        found[key] = new
    return found


def golden(oracle: Path) -> dict[str, Any]:
    """A part of the oracle's unit files, small enough to ship."""

    def unit(name: str) -> Any:
        return torch.load(lzma.open(oracle / f"unit/{name}.pt.xz"), weights_only=True)

    anchors = unit("anchors")
    levels = unit("roi_levels")
    return {
        "origin": ORIGIN,
        "anchors": {**anchors, "grid": torch.cat(anchors["grid"]), "valid_flags": torch.cat(anchors["valid_flags"])},
        "coder": {name: {key: case[key][:16].clone() for key in CODER} for name, case in unit("bbox_coder").items()},
        "assigner": {name: part_of_assigner(case) for name, case in unit("assigner").items()},
        "levels": {"rois": levels["rois"][:, 1:].clone(), "levels": levels["levels"]},
        "pool": part_of_pool(unit("roi_align")),
        "nms": part_of_nms(unit("nms")),
        **part_of_masks(unit("masks")),
        "sizes": sizes(json.loads((oracle / "unit/resize_rule.json").read_text())),
        "normalise": part_of_preprocess(unit("preprocess")),
        "rates": {
            row: torch.tensor(case["formula_2x_branch"], dtype=torch.float64)
            for row, case in json.loads((oracle / "unit/lr.json").read_text()).items()
        },
        "iterations_of_rates": 700,
    }


CODER = ("rois", "gts", "encoded", "deltas", "decoded", "decoded_clip")


def part_of_assigner(case: dict[str, Any]) -> dict[str, Tensor]:
    """Every prior that overlaps something by 0.2, and a tenth of the others: each keeps what it was assigned."""
    overlapping = case["max_overlaps"] >= 0.2
    kept = overlapping | (torch.arange(len(overlapping)) % 10 == 0)
    return {"priors": case["priors"][kept], "gt": case["gt"], "gt_inds": case["gt_inds"][kept].to(torch.int16)}


def part_of_pool(case: dict[str, Any]) -> dict[str, Tensor]:
    """Channel 0, which the other channels do not touch; the gradient is of sum(y * weight)."""
    weight = torch.arange(case["a7"]["y"].numel(), dtype=torch.float32).view_as(case["a7"]["y"]) % 7
    return {
        "x": case["x"][:, :1].clone(),
        "rois": case["rois"],
        "y7": case["a7"]["y"][:, :1].clone(),
        "weight7": weight[:, :1].to(torch.int8).clone(),
        "grad7": case["a7"]["grad"][:, :1].clone(),
        "y14": case["a14"]["y"][:8, :1].clone(),
    }


def part_of_nms(case: dict[str, Any]) -> dict[str, Tensor]:
    """The 250 best boxes: what a suppression keeps of them does not depend on worse ones."""
    best = case["scores"].argsort(descending=True)[:250]
    place = {int(old): new for new, old in enumerate(best)}

    def among(keep: Tensor) -> Tensor:
        return torch.tensor([place[int(index)] for index in keep if int(index) in place], dtype=torch.int16)

    return {
        "boxes": case["boxes"][best],
        "scores": case["scores"][best],
        "ids": case["ids"][best].to(torch.int16),
        "keep07": among(case["nms07"]["keep"]),
        "keep05_by_class": among(case["batched05"]["keep"]),
    }


def part_of_masks(case: dict[str, Any]) -> dict[str, Any]:
    """Masks as RLE; pasted ones of 4 detections."""

    def rles(masks: Tensor) -> list[str]:
        packed = coco_mask.encode(np.asfortranarray(masks.to(torch.uint8).permute(1, 2, 0).numpy()))
        return [rle["counts"].decode() for rle in packed]

    return {
        "masks": {
            "size": case["hw"],
            "bitmaps": rles(case["bitmaps"]),
            "polygons": case["polygons"],
            "proposals": case["proposals"],
            "inds": case["inds"],
            "bitmap": rles(case["target_bitmap"]),
            "polygon": rles(case["target_polygon"]),
        },
        "paste": {
            "size": case["hw"],
            "probabilities": case["paste_probs"][:4, 0].clone(),
            "boxes": case["paste_boxes"][:4].clone(),
            "pasted": rles(case["pasted"][:4]),
        },
    }


def sizes(cases: list[dict[str, Any]]) -> Tensor:
    """width, height, long and short limit, new width, new height, padded width, padded height."""
    columns = ("w", "h", "scale", "new_w", "new_h", "pad_w", "pad_h")
    rows = [[case[name] for name in columns] for case in cases]
    return torch.tensor([[*row[:2], *row[2], *row[3:]] for row in rows])


def part_of_preprocess(case: dict[str, Any]) -> dict[str, Tensor]:
    names = {"T": "r50_fpn_1x", "C": "r50_caffe_fpn_1x", "F": "x101_32x8d_fpn_1x"}
    outs = {kind: case["normalised"][f"mask_rcnn_{cell}_coco"]["out"][0, :, :5, :7] for kind, cell in names.items()}
    return {"bgr": case["bgr"][:5, :7].clone()} | {kind: out.clone() for kind, out in outs.items()}


def forwards(keys: dict[str, Keys]) -> dict[str, Any]:
    """forward: architecture -> fingerprints, outputs x 18; outputs: their names."""
    found: dict[str, Tensor] = {}
    for name, shape in ARCHITECTURES.items():
        state = {key: formula.value(key, size) for key, size in keys[name.split()[0]].items()}
        net = reference.backbone(state, **shape)  # type: ignore[arg-type]
        with torch.inference_mode():
            levels = reference.pyramid(state, reference.stages(net, formula.image().double()))
            outputs = reference.outputs(state, levels, torch.tensor(formula.REGIONS))
        found[name] = torch.stack([formula.fingerprint(value) for value in outputs.values()])
    return {"outputs": list(outputs), "forward": found}


if __name__ == "__main__":
    main()
