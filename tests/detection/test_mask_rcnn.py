"""The whole model: padded against compact, what it waits for, extremes, precision, detections."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.rpn import Proposals
from harness.structures import Batch, Polygons
from harness.training.distributed import Ranks
from harness.training.meter import Meter
from harness.training.precision import LossScaler
from harness.training.step import iterate

LOSSES = ["loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss_mask", "loss"]
OBJECTS = [[(10.0, 12, 60, 70), (50.0, 5, 120, 50)], [(5.0, 5, 50, 60)]]

Small = Callable[..., MaskRCNN]
Make = Callable[..., Batch]


def step(model: MaskRCNN, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients, of which every trainable parameter has one."""
    model.zero_grad(set_to_none=True)
    losses = model.train()(batch)
    losses["loss"].backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            gradients[name] = parameter.grad.clone()
    return losses, gradients


def test_losses_have_their_published_names(small_model: Small, make_batch: Make) -> None:
    losses, _ = step(small_model(), make_batch(OBJECTS))
    assert list(losses) == LOSSES
    assert all(value.shape == () for value in losses.values())
    total = sum(losses[name].item() for name in LOSSES if name not in ("acc", "loss"))
    assert losses["loss"].item() == pytest.approx(total, rel=1e-6)
    assert 0 <= losses["acc"].item() <= 100


@pytest.mark.slow
@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("objects", [OBJECTS, [[], OBJECTS[1]], [[], []]])
def test_padded_slots_change_nothing(
    small_model: Small, make_batch: Make, polygons: bool, objects: list[list[tuple[float, float, float, float]]]
) -> None:
    batch = make_batch(objects, polygons=polygons)
    model = small_model(rpn={"max_proposals": 40})
    results = []
    for compact in (True, False):
        model.rpn_head.compact = model.roi_head.compact = model.roi_head.listed = compact
        results.append(step(model, batch))
    for ours, theirs in zip(*results, strict=True):
        for name, value in ours.items():
            torch.testing.assert_close(
                value, theirs[name], rtol=2e-5, atol=1e-6, msg=lambda text, name=name: name + text
            )


class Waits(TorchDispatchMode):
    """Counts operations that would make the host wait for a CUDA device, or copy from the host's pageable memory."""

    WAITING = (
        "nonzero",
        "_local_scalar_dense",
        "masked_select",
        "_unique2",
        "unique_dim",
        "scalar_tensor",
        "lift_fresh",
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        boolean_index = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in self.WAITING or boolean_index or (name == "repeat_interleave" and len(args) == 1):
            self.seen[name] += 1
        if name == "nms":
            self.seen["nms"] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("polygons", [False, True])
def test_a_padded_step_waits_for_one_suppression_only(small_model: Small, make_batch: Make, polygons: bool) -> None:
    model, batch = (
        small_model(rpn={"compact": False}, roi={"compact": False, "listed": False}),
        make_batch(OBJECTS, polygons=polygons),
    )
    with Waits() as waits:
        step(model, batch)
    assert waits.seen == {"nms": 1}

    model.rpn_head.compact = model.roi_head.compact = True
    with Waits() as waits:
        step(model, batch)
    assert waits.seen["nms"] == 2 * 5  # an image and level each
    assert waits.seen["nonzero"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_whole_iteration_waits_no_more_than_its_step(small_model: Small, make_batch: Make, precision: str) -> None:
    """Accumulated over two micro-batches, with the fused optimiser that a GPU has, loss scaling and the averages."""
    model = small_model(rpn={"compact": False}, roi={"compact": False, "listed": False}).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    scaler, meter = LossScaler(precision, 512.0, torch.device("cpu")), Meter()
    batches = [make_batch(OBJECTS), make_batch(OBJECTS, polygons=True)]
    for number in (1, 2):  # the first one makes the optimiser's and the scaler's state
        with Waits() as waits:
            losses = iterate(model, batches, optimizer, scaler, precision=precision, micro_batches=2, ranks=Ranks())
            meter.add(losses, step=number, seconds=1.0, data_seconds=0.0)
    assert waits.seen == {"nms": 2}


def test_given_proposals_replace_the_networks_own(small_model: Small, make_batch: Make) -> None:
    model, batch = small_model(), make_batch(OBJECTS)
    given = Proposals.of([batch.boxes[0], batch.boxes[1, :1]])
    losses = model.train()(batch, proposals=given)
    regions = model.roi_head.sample(given, batch)
    # Ground truth and proposals are the same boxes: all are positive, two of each (a quarter of 32 would be 8).
    assert regions.positive.sum(dim=1).tolist() == [4, 2]
    assert regions.valid.sum(dim=1).tolist() == [4, 2]
    assert torch.isfinite(losses["loss"])


def test_a_seed_decides_the_regions_of_its_image(small_model: Small, make_batch: Make) -> None:
    model, batch = small_model(roi={"samples": 8}), make_batch(OBJECTS)
    corner = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 60
    proposals = Proposals.of([torch.cat([corner, corner + 30], dim=1)] * 2)
    first = model.roi_head.sample(proposals, batch)
    other = model.roi_head.sample(proposals, replace(batch, seeds=batch.seeds + torch.tensor([0, 1])))
    assert torch.equal(first.boxes[0], other.boxes[0])
    assert not torch.equal(first.boxes[1], other.boxes[1])


@pytest.mark.slow
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize(
    "objects",
    [
        [[], []],
        [[(40.0, 40, 41, 41)], [(0.0, 0, 1, 1), (99.0, 89, 100, 90)]],
        [[(float(x), float(y), x + 6.0, y + 6.0) for x in range(0, 120, 6) for y in range(0, 90, 6)], []],
        [[(0.0, 0, 128, 96)], [(0.0, 0, 100, 90)]],
    ],
    ids=["nothing", "one pixel", "300 objects", "whole image"],
)
def test_extremes_are_finite(
    small_model: Small,
    make_batch: Make,
    objects: list[list[tuple[float, float, float, float]]],
    polygons: bool,
    compact: bool,
) -> None:
    model = small_model(rpn={"compact": compact}, roi={"compact": compact})
    losses, gradients = step(model, make_batch(objects, polygons=polygons))
    assert all(torch.isfinite(value) for value in losses.values()), losses
    assert all(torch.isfinite(value).all() for value in gradients.values())
    if not any(objects):
        assert losses["loss_rpn_bbox"] == losses["loss_bbox"] == losses["loss_mask"] == 0


@pytest.mark.parametrize("compact", [True, False])
def test_a_batch_without_slots_or_edges(small_model: Small, make_batch: Make, compact: bool) -> None:
    """As it is collated of images with crowds alone."""
    model = small_model(rpn={"compact": compact}, roi={"compact": compact})
    edges, parts = torch.zeros(2, 0, 0, 4, dtype=torch.float64), torch.zeros(2, 0, 0, dtype=torch.int64)
    losses, _ = step(model, replace(make_batch([[], []]), masks=Polygons(edges=edges, parts=parts)))
    assert all(torch.isfinite(value) for value in losses.values()), losses


@pytest.mark.parametrize("compact", [True, False])
def test_no_proposals_at_all(small_model: Small, make_batch: Make, compact: bool) -> None:
    model = small_model(roi={"compact": compact, "add_gt": False})
    losses = model.train()(make_batch(OBJECTS), proposals=Proposals.of([torch.zeros(1, 4), torch.zeros(0, 4)]))
    assert all(torch.isfinite(value) for value in losses.values())


def test_losses_and_boxes_stay_float32_under_autocast(small_model: Small, make_batch: Make) -> None:
    model, batch = small_model(), make_batch(OBJECTS)
    exact, _ = step(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch)
        logits, deltas = model.rpn_head(model.features(batch.images))
        proposals = model.rpn_head.proposals(logits, deltas, sizes=batch.sizes)
    assert logits[0].dtype == torch.bfloat16
    assert proposals.boxes.dtype == proposals.scores.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in losses.values())
    for name in ("loss_rpn_cls", "loss_cls", "loss_mask"):
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.05)


def test_autocast_leaves_no_parameter_without_gradient(small_model: Small, make_batch: Make) -> None:
    """Its cache of cast weights keeps those that were first used without gradients."""
    model = small_model().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(make_batch(OBJECTS))
    losses["loss"].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


class Precisions(TorchDispatchMode):
    """Which floating-point types each operation is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        floats = {value.dtype for value in args if isinstance(value, Tensor) and value.is_floating_point()}
        self.seen.setdefault(function.overloadpacket.__name__, set()).update(floats)
        return function(*args, **(kwargs or {}))


LAYERS = {"convolution", "conv2d", "conv_transpose2d", "addmm", "linear", "relu", "relu_", "upsample_nearest2d"}
LAYERS |= {"max_pool2d", "max_pool2d_with_indices", "add"}  # FPN's addition
MOVES = {"to", "_to_copy", "detach", "view", "_unsafe_view", "reshape", "flatten", "clone", "t", "permute", "gather"}
MOVES |= {"index", "squeeze", "index_select", "masked_fill", "cat"}


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize(("listed", "pooling"), [(True, "embedding_bag"), (False, "roi_align")])
def test_autocast_reaches_layers_and_nothing_else(
    small_model: Small, make_batch: Make, polygons: bool, listed: bool, pooling: str
) -> None:
    """Scores, boxes, pooling, suppression and losses are computed in float32."""
    model = small_model(score_threshold=0.2, roi={"listed": listed})
    batch = make_batch(OBJECTS, polygons=polygons)
    for run in (lambda: model.train()(batch), lambda: detect(model, batch.images, batch.sizes)):
        with torch.autocast("cpu", dtype=torch.bfloat16), Precisions() as precisions:
            run()
        low = {name for name, seen in precisions.seen.items() if torch.bfloat16 in seen}
        assert low <= LAYERS | MOVES
        assert len(low & LAYERS) >= 5
        pooled = [seen for name, seen in precisions.seen.items() if pooling in name]
        assert [precisions.seen["nms"], *pooled] == [{torch.float32}] * 2


def detect(model: MaskRCNN, images: Tensor, sizes: Tensor) -> Any:
    originals = sizes * 2
    return model.eval().detect(images, sizes, originals, torch.full((len(images), 2), 0.5))


def test_detections_of_a_batch_are_those_of_its_images(small_model: Small, make_batch: Make) -> None:
    model, batch = small_model(score_threshold=0.2, max_detections=20), make_batch(OBJECTS)
    together = detect(model, batch.images, batch.sizes)
    assert len(together) == 2
    for image, found in enumerate(together):
        alone = detect(model, batch.images[image : image + 1], batch.sizes[image : image + 1])[0]
        assert 0 < len(found.scores) <= 20
        assert torch.equal(found.labels, alone.labels)
        torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores, alone.scores)
        assert (found.scores.diff() <= 0).all()
        height, width = (batch.sizes[image] * 2).tolist()
        assert (found.boxes >= 0).all() and (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert len(found.masks) == len(found.scores)
        assert all(rle["size"] == [height, width] for rle in found.masks)


def test_no_detections(small_model: Small, make_batch: Make) -> None:
    batch = make_batch(OBJECTS)
    for found in detect(small_model(score_threshold=1.0), batch.images, batch.sizes):
        assert found.boxes.shape == (0, 4)
        assert len(found.scores) == len(found.labels) == len(found.masks) == 0
