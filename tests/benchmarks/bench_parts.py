"""Training and inference by part, over cells, precisions, kernels, torch.compile and batches, on this machine's device.

python tests/benchmarks/bench_parts.py [--output TABLE.md] [--cells ...] [--precisions ...] [--kernels ...]
[--modes ...] [--batches ...]. With --output, TABLE.json keeps every row as soon as it is measured, and what it has of
this device and code is not measured again. Shapes are given: 800 x 1333 in 800 x 1344 on a GPU; on a CPU all is small,
which shows that the code runs, and nothing of a GPU's speed. The second stage is given the same boxes everywhere; the
network's own proposals are computed, and then replaced.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bench_vs_torchvision import scene
from parts_clock import Clock, host_waits, synchronise
from parts_table import page
from torch import Tensor

from harness.detection import mask_rcnn, roi_head
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.rpn import Proposals
from harness.errors import UserError
from harness.evaluation.speed import peak_memory_mb
from harness.files import find_json, write_json, write_text
from harness.own_process import in_own_process
from harness.provenance import running_code
from harness.public import recipe_for
from harness.recipe import Recipe
from harness.structures import Batch
from harness.training.build import build_model, build_optimizer
from harness.training.device_state import device_state
from harness.training.distributed import Ranks
from harness.training.environment import environment
from harness.training.precision import LossScaler, autocast
from harness.training.step import iterate

CELLS = {"cuda": ("r50", "r101", "x101_64x4d"), "cpu": ("r18",)}
BATCHES = {"cuda": (2, 4, 8, 16), "cpu": (2,)}
PRECISIONS = {"cuda": ("fp32", "fp16", "bf16"), "cpu": ("fp32", "bf16")}
KERNELS, MODES = ("reference", "fast"), ("eager", "compiled")
SIZE, SHRINK = {"cuda": (800, 1333), "cpu": (768, 1152)}, {"cuda": 1, "cpu": 6}
ROUNDS, STEPS, WARMUP = {"cuda": 7, "cpu": 3}, {"cuda": 10, "cpu": 1}, {"cuda": 5, "cpu": 1}
BOXES = {
    "cuda": {"objects": 8, "positives": 32, "regions": 512, "candidates": 1000, "detections": 100},
    "cpu": {"objects": 8, "positives": 8, "regions": 32, "candidates": 100, "detections": 10},
}
"""In training an image's objects, and the regions sampled of it with the positives among them; in inference the

candidates of the box head, and the detections.
"""
CLASSES = 80
INFERENCE = 0
"""Instead of a batch of the training: detection, an image at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is compared, but for the batch."""

    cell: str
    precision: str
    kernels: str
    mode: str


def main() -> None:
    """Measure what is not known yet, and print or write the page."""
    device = _device()
    chosen = _arguments(device.type)
    file = chosen.output and chosen.output.with_suffix(".json")
    content = in_own_process(protocol)
    known = find_json(file, {}) if file else {}
    same = known.get("protocol", {}).get("key") == content["key"]
    content = {"protocol": content, "rows": known.get("rows", []) if same else []}
    for kind in _kinds(chosen):
        have = {row["batch"] for row in content["rows"] if row["kind"] == asdict(kind)}
        for batch in (number for number in (*chosen.batches, INFERENCE) if number not in have):
            content["rows"].append({"kind": asdict(kind), "batch": batch, **_row(kind, batch)})
            if file:
                write_json(file, content)
    if chosen.output:
        write_text(chosen.output, page(content))
    else:
        print(page(content))


def _arguments(device: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    for name, values in (
        ("cells", CELLS[device]),
        ("precisions", PRECISIONS[device]),
        ("kernels", KERNELS),
        ("modes", MODES),
    ):
        parser.add_argument(f"--{name}", nargs="+", default=values)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES[device])
    return parser.parse_args()


def _kinds(chosen: argparse.Namespace) -> list[Kind]:
    return [
        Kind(cell=f"mask_rcnn_{cell}_fpn_1x_coco", precision=precision, kernels=kernels, mode=mode)
        for cell in chosen.cells
        for precision in chosen.precisions
        for kernels in chosen.kernels
        for mode in chosen.modes
    ]


def protocol() -> dict[str, Any]:
    """What all rows have in common; "key" is what makes them comparable."""
    device = _device()
    found = environment(device, 1)
    hardware = {name: value for name, value in found["hardware"].items() if name != "host"}
    images = {"size": SIZE[device.type], "shrink": SHRINK[device.type], "boxes": BOXES[device.type]}
    rounds = {"rounds": ROUNDS[device.type], "steps": STEPS[device.type], "warmup": WARMUP[device.type]}
    code = asdict(running_code())
    said = {"hardware": hardware, "versions": found["versions"], **images, **rounds}
    return {"key": str([said, code["digest"]]), **said, "code": code}


def _row(kind: Kind, batch: int) -> dict[str, Any]:
    """Measured in a process of its own, so that no row has the memory, the compiled code or the faults of another."""
    try:
        return in_own_process(measure, kind, batch)
    except UserError as error:
        return {"fault": str(error)}


def measure(kind: Kind, batch: int) -> dict[str, Any]:
    """A row: training on batches of this size, or inference.

    Raises UserError where the device has too little memory, or cannot compile or execute it.
    """
    device = _device()
    try:
        found = inference(kind, device) if batch == INFERENCE else training(kind, batch, device)
    except torch.OutOfMemoryError:
        raise UserError("out of memory") from None
    except RuntimeError as error:  # no compiler, no such kernel; dynamo's and inductor's are of this kind, too
        raise UserError(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from None
    return {**found, "state": device_state(device)}


def training(kind: Kind, batch: int, device: torch.device) -> dict[str, Any]:
    """Of whole iterations: images/s, memory, waits; then, by itself, the time by part."""
    boxes = BOXES[device.type]
    recipe = replace(recipe_for(kind.cell), kernels=kind.kernels, roi_samples=boxes["regions"])
    model = _model(recipe, kind.mode, device).train()
    optimizer = build_optimizer(replace(recipe, lr=1e-6), model)
    scaler = LossScaler(kind.precision, recipe.loss_scale, device)
    own = boxes["objects"]  # are candidates, too
    drawn = _drawn(batch, device, proposals=boxes["regions"] - own, positives=boxes["positives"] - own)
    images = drawn.batch.pin_memory() if device.type == "cuda" else drawn.batch
    _give(model, drawn.given)

    def step() -> None:
        iterate(
            model, [images], optimizer, scaler, precision=kind.precision, micro_batches=1, ranks=Ranks(device=device)
        )

    head = model.roi_head
    parts = [
        *_first_stage(model),
        (model.rpn_head, "losses", "RPN loss"),
        (head, "sample", "sampling"),
        (head, "box_features", "box RoIAlign"),
        (head.bbox_head, "forward", "box head"),
        (head.bbox_head, "losses", "box loss"),
        (head, "mask_features", "mask RoIAlign"),
        (head.mask_head, "forward", "mask head"),
        (roi_head, "mask_targets", "mask targets"),
        (head.mask_head, "loss", "mask loss"),
        (scaler, "backward", "backward"),
        (scaler, "step", "optimiser"),
    ]
    whole = _whole(step, device)
    return {**whole, "waits": host_waits(step, device), "parts": _by_part(step, parts, device)}


def inference(kind: Kind, device: torch.device) -> dict[str, Any]:
    """Of whole images, from the image on the device to masks as RLE; then the time by part."""
    boxes = BOXES[device.type]
    recipe = replace(recipe_for(kind.cell), kernels=kind.kernels, test_detections=boxes["detections"])
    model = _model(recipe, kind.mode, device).eval()
    drawn = _drawn(1, device, proposals=boxes["candidates"], positives=0)
    _give(model, drawn.given)
    outputs = _box_outputs(boxes["candidates"], 2 * boxes["detections"], device)
    model.roi_head.bbox_head.register_forward_hook(lambda *_: outputs)
    images, sizes = drawn.batch.images.to(device), drawn.batch.sizes.to(device)
    scale = torch.ones(1, 2, device=device)

    def detect() -> Any:
        with autocast(kind.precision, device.type):
            return model.detect(images, sizes, sizes, scale)[0]

    parts = [
        *_first_stage(model),
        (model.roi_head, "box_features", "box RoIAlign"),
        (model.roi_head.bbox_head, "forward", "box head"),
        (mask_rcnn, "select_instances", "suppression"),
        (model.roi_head, "mask_features", "mask RoIAlign"),
        (model.roi_head.mask_head, "forward", "mask head"),
        (mask_rcnn, "paste_rles", "masks to RLE"),
    ]
    whole = _whole(detect, device)
    return {**whole, "detections": len(detect().scores), "parts": _by_part(detect, parts, device)}


def _first_stage(model: MaskRCNN) -> list[tuple[Any, str, str]]:
    return [
        (model.backbone, "forward", "backbone"),
        (model.neck, "forward", "neck"),
        (model.rpn_head, "forward", "RPN head"),
        (model.rpn_head, "proposals", "proposals"),
    ]


def _whole(run: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Milliseconds of a run in each round, with no wait for the device within it, and the peak of the memory."""
    for _ in range(WARMUP[device.type]):
        run()
    _forget_peak(device)
    rounds = []
    for _ in range(ROUNDS[device.type]):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(STEPS[device.type]):
            run()
        synchronise(device)
        rounds.append(1000 * (time.perf_counter() - start) / STEPS[device.type])
    return {"ms": sorted(rounds), "memory_mb": peak_memory_mb(device)}


def _by_part(run: Callable[[], object], parts: list[tuple[Any, str, str]], device: torch.device) -> dict[str, float]:
    """The median milliseconds of each part over the rounds, a run each; "rest" is what is in none."""
    clock, rounds = Clock(device), []
    whole = clock.timed("whole", run)
    with clock.timing(parts):
        for _ in range(ROUNDS[device.type]):
            whole()
            spent = clock.read()
            rounds.append({**spent, "rest": 2 * spent["whole"] - sum(spent.values())})
    names = [*(part for _, _, part in parts), "rest", "whole"]
    return {part: statistics.median(one[part] for one in rounds) for part in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Images with objects, and what the second stage is given."""

    batch: Batch  # on the CPU
    given: Proposals  # on the device


def _drawn(images: int, device: torch.device, *, proposals: int, positives: int) -> Drawn:
    """The scene of the comparison with torchvision at this device's size, padded to multiples of 32."""
    size, shrink = SIZE[device.type], SHRINK[device.type]
    made = scene(images, size, proposals=proposals, positives=positives)
    height, width = (side // shrink for side in size)
    padding = (0, -width % 32, 0, -height % 32)
    batch = Batch(
        images=F.pad(made.images[..., ::shrink, ::shrink], padding),
        sizes=torch.tensor([(height, width)] * images),
        boxes=torch.stack(made.boxes) / shrink,
        labels=torch.stack(made.labels),
        masks=F.pad(torch.stack(made.masks)[..., ::shrink, ::shrink], padding),
        seeds=torch.arange(images),
    )
    return Drawn(batch=batch, given=Proposals.of([boxes.to(device) / shrink for boxes in made.proposals]))


def _give(model: MaskRCNN, given: Proposals) -> None:
    """Let the network make its proposals, and give the second stage others."""
    own = model.rpn_head.proposals

    def proposals(*args: Any, **kwargs: Any) -> Proposals:
        own(*args, **kwargs)
        return given

    model.rpn_head.proposals = proposals


def _box_outputs(candidates: int, objects: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the box head is to say of the candidates: the first are objects, more than survive; the others are none."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.full((candidates,), CLASSES)
    labels[:objects] = torch.randint(CLASSES, (objects,), generator=draw)
    sure = 6 + 4 * torch.rand(candidates, 1, generator=draw)
    logits = torch.zeros(candidates, CLASSES + 1).scatter(1, labels[:, None], sure)
    return logits.to(device), torch.zeros(candidates, 4 * CLASSES, device=device)


def _model(recipe: Recipe, mode: str, device: torch.device) -> MaskRCNN:
    """Compiled are the parts whose shapes do not depend on what they find."""
    model = build_model(recipe).to(device)
    if mode == "compiled":
        for part in (model.backbone, model.neck, model.rpn_head):
            part.forward = torch.compile(part.forward)
    return model


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _forget_peak(device: torch.device) -> None:
    """Let the peak of the memory begin anew: that of torch's allocations, or of the process (proc(5), clear_refs)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
