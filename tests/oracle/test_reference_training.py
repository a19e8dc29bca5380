"""A training step of R-50 against the reference's losses, gradients and update."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.detection.mask_rcnn import MaskRCNN
from harness.structures import Batch, Polygons

pytestmark = pytest.mark.slow

EVERYTHING = 10**6  # more samples than there are candidates: no choice is left


@pytest.fixture(scope="module")
def reference(oracle: Callable[[str], Any]) -> dict[str, Any]:
    return oracle("r50_fpn/train")


def strided(candidates: Tensor, counts: Tensor, slots: int, keys: Tensor) -> Tensor:
    """The reference's stand-in for a random choice: gallery[(arange(n) * len(gallery)) // n]."""
    chosen = torch.zeros(len(candidates), slots, dtype=torch.long)
    for row, (mask, count) in enumerate(zip(candidates, counts.tolist(), strict=True)):
        gallery = mask.nonzero().squeeze(1)
        chosen[row, :count] = gallery[torch.arange(count) * len(gallery) // max(count, 1)]
    return chosen


def padded(values: list[Tensor], fill: float = 0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)


def batch_of(
    reference: dict[str, Any], variant: str, as_edges: Callable[[list[list[Tensor]]], tuple[Tensor, Tensor]]
) -> Batch:
    case = reference[variant]
    masks: Tensor | Polygons = padded(reference["all_bitmap"]["gt_masks"])
    if not case["poly2mask"]:
        counts = [len(image) for image in case["gt_polygons"]]
        edges, parts = as_edges([instance for image in case["gt_polygons"] for instance in image])
        masks = Polygons(edges=padded(list(edges.split(counts))), parts=padded(list(parts.split(counts)), -1))
    return Batch(
        images=reference["all_bitmap"]["inputs"],
        sizes=torch.tensor([meta["img_shape"] for meta in case["metas"]]),
        boxes=padded(case["gt_bboxes"]),
        labels=padded(case["gt_labels"], -1),
        masks=masks,
        seeds=torch.tensor([1, 2]),
    )


@pytest.mark.parametrize("variant", ["all_bitmap", "strided_bitmap", "strided_polygon"])
def test_training_step(
    reference: dict[str, Any],
    reference_model: Callable[..., MaskRCNN],
    as_edges: Callable[[list[list[Tensor]]], tuple[Tensor, Tensor]],
    variant: str,
) -> None:
    case = reference[variant]
    rpn: dict[str, Any] = {"choose": strided}
    roi: dict[str, Any] = {"choose": strided}
    if variant == "all_bitmap":
        rpn, roi = {"samples": EVERYTHING}, {"samples": EVERYTHING}
    model = reference_model(rpn=rpn, roi=roi).train()
    losses = model(batch_of(reference, variant, as_edges))
    expected = {name: sum(value) if isinstance(value, list) else value for name, value in case["losses"].items()}
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(
        {**expected, "loss": case["total_loss"]}, rel=1e-5
    )

    losses["loss"].backward()
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = {name: value.grad for name, value in parameters.items() if value.grad is not None}
    assert gradients.keys() == parameters.keys()
    norms = {name: value.double().norm().item() for name, value in gradients.items()}
    assert norms == pytest.approx(case["grad_norms"], rel=1e-4, abs=1e-9)
    for name, theirs in case["grads"].items():
        ours = gradients[name.split("[")[0]]
        ours = ours[:4, :16] if "[" in name else ours
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)

    if "after_step_delta_norm" in case:
        before = {name: value.detach().clone() for name, value in parameters.items()}
        torch.optim.SGD(parameters.values(), lr=0.02, momentum=0.9, weight_decay=1e-4).step()
        moved = {name: (value - before[name]).double().norm().item() for name, value in parameters.items()}
        assert moved == pytest.approx(case["after_step_delta_norm"], rel=1e-4)


def test_sampled_regions(
    reference: dict[str, Any],
    reference_model: Callable[..., MaskRCNN],
    as_edges: Callable[[list[list[Tensor]]], tuple[Tensor, Tensor]],
) -> None:
    model = reference_model(rpn={"choose": strided}, roi={"choose": strided}).train()
    batch = batch_of(reference, "strided_bitmap", as_edges)
    with torch.no_grad():
        logits, deltas = model.rpn_head(model.features(batch.images))
        proposals = model.rpn_head.proposals(logits, deltas, sizes=batch.sizes)
        regions = model.roi_head.sample(proposals, batch)
    for image, theirs in enumerate(reference["all_bitmap"]["proposals"]):
        ours = torch.tensor(sorted(proposals.boxes[image][proposals.valid[image]].tolist()))
        torch.testing.assert_close(ours, torch.tensor(sorted(theirs.tolist())), rtol=0, atol=1e-3)
    for image, theirs in enumerate(reference["strided_bitmap"]["sampling"]):
        positive = regions.positive[image]
        assert (positive.sum().item(), regions.valid[image].sum().item()) == (
            theirs["n_pos"],
            theirs["n_pos"] + theirs["n_neg"],
        )
        torch.testing.assert_close(regions.boxes[image, positive], theirs["pos_priors"], rtol=0, atol=1e-3)
        assert torch.equal(regions.gt_slots[image, positive], theirs["pos_assigned_gt_inds"])
