"""R-50 on a CPU, alternately ours and torchvision's: python tests/benchmarks/bench_vs_torchvision.py > TABLE.md.

Training: 2 images of 512 x 512 with 8 objects each, forward, backward and SGD. Inference: an image of 800 x 1333, 100
detections, masks to COCO RLE. Both sides do the whole work, their own proposals included, but the second stage is then
given the same boxes: 512 an image of which 32 are positive, or 1000 of which 100 are found. Preparing images (resizing,
normalising) is in neither time. Ours comes with each of the recipe's `kernels`, and with torchvision's sampling_ratio.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, box_iou

from harness.detection.rpn import Proposals
from harness.public import recipe_for
from harness.recipe import Recipe
from harness.structures import Batch
from harness.training.build import build_model, build_optimizer

THREADS = 2
ROUNDS = 5
OBJECTS, POSITIVES, REGIONS = 8, 32, 512
TRAIN_SIZE, TEST_SIZE = (512, 512), (800, 1333)
CANDIDATES, DETECTIONS = 1000, 100
CLASSES = 80

Run = Callable[[], object]
Made = Callable[[], tuple[Run, dict[str, int]]]
Kernels = Literal["reference", "fast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Images with objects, and the boxes that the second stage is given."""

    images: Tensor  # B x 3 x H x W
    boxes: list[Tensor]  # OBJECTS x 4 an image
    labels: list[Tensor]
    masks: list[Tensor]  # OBJECTS x H x W uint8: ellipses
    proposals: list[Tensor]


def scene(images: int, size: tuple[int, int], *, proposals: int, positives: int) -> Scene:
    """Drawn from a fixed seed: per image `proposals` boxes, of which `positives` lie on objects (IoU above 0.5)."""
    draw = torch.Generator().manual_seed(0)
    gt = [_spread(OBJECTS, size, low=60, high=250, draw=draw) for _ in range(images)]
    near = [_jittered(boxes, positives, draw) for boxes in gt]
    far = [_away(boxes, proposals - positives, size, draw) for boxes in gt]
    return Scene(
        images=torch.randn(images, 3, *size, generator=draw),
        boxes=gt,
        labels=[torch.randint(CLASSES, (OBJECTS,), generator=draw) for _ in gt],
        masks=[_ellipses(boxes, size) for boxes in gt],
        proposals=[torch.cat(parts) for parts in zip(near, far, strict=True)],
    )


def _spread(number: int, size: tuple[int, int], *, low: float, high: float, draw: torch.Generator) -> Tensor:
    """Boxes with log-uniform sides (pixels), within the image."""
    extent = torch.tensor([size[1], size[0]], dtype=torch.float32)
    sides = low * (high / low) ** torch.rand(number, 2, generator=draw)
    corner = torch.rand(number, 2, generator=draw) * (extent - sides)
    return torch.cat([corner, corner + sides], dim=1)


def _jittered(boxes: Tensor, number: int, draw: torch.Generator) -> Tensor:
    chosen = boxes[torch.arange(number) % len(boxes)]
    sides = (chosen[:, 2:] - chosen[:, :2]).repeat(1, 2)
    return chosen + sides * (torch.rand(number, 4, generator=draw) - 0.5) * 0.2


def _away(boxes: Tensor, number: int, size: tuple[int, int], draw: torch.Generator) -> Tensor:
    found = _spread(4 * number, size, low=16, high=400, draw=draw)
    return found[box_iou(found, boxes).amax(dim=1) < 0.45][:number]


def _ellipses(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    y = torch.arange(size[0])[:, None] + 0.5
    x = torch.arange(size[1]) + 0.5
    center, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    right = (x - center[:, 0, None, None]) / radius[:, 0, None, None]
    down = (y - center[:, 1, None, None]) / radius[:, 1, None, None]
    return (right**2 + down**2 <= 1).to(torch.uint8)


def training_scene() -> Scene:
    """The objects themselves are candidates too, on both sides."""
    return scene(2, TRAIN_SIZE, proposals=REGIONS - OBJECTS, positives=POSITIVES - OBJECTS)


def testing_scene() -> tuple[Scene, Tensor, Tensor]:
    """With the class of each candidate (CLASSES: background) and its score: more than 100 survive suppression."""
    made = scene(1, TEST_SIZE, proposals=CANDIDATES, positives=0)
    draw = torch.Generator().manual_seed(1)
    labels = torch.full((CANDIDATES,), CLASSES)
    labels[: 2 * DETECTIONS] = torch.randint(CLASSES, (2 * DETECTIONS,), generator=draw)
    return made, labels, torch.rand(CANDIDATES, generator=draw) * 0.5 + 0.4


def our_training(kernels: Kernels, sampling_ratio: int) -> tuple[Run, dict[str, int]]:
    """A step, and what it works on."""
    recipe = _recipe(kernels, sampling_ratio)
    model = build_model(recipe).train()
    optimizer = build_optimizer(recipe, model)
    drawn = training_scene()
    batch = Batch(
        images=drawn.images,
        sizes=torch.tensor([TRAIN_SIZE] * len(drawn.images)),
        boxes=torch.stack(drawn.boxes),
        labels=torch.stack(drawn.labels),
        masks=torch.stack(drawn.masks),
        seeds=torch.arange(len(drawn.images)),
    )
    given = Proposals.of(drawn.proposals)
    regions = model.roi_head.sample(given, batch)
    _then(model.rpn_head, "proposals", given)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(batch)["loss"].backward()
        optimizer.step()

    return step, {
        "RoIs": int(regions.valid.sum()),
        "positives": int(regions.positive.sum()),
        "trained parameters": _trained(model),
    }


def their_training() -> tuple[Run, dict[str, int]]:
    """The same of torchvision."""
    model = _theirs(TRAIN_SIZE).train()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9, weight_decay=1e-4
    )
    drawn = training_scene()
    targets = [
        {"boxes": boxes, "labels": labels + 1, "masks": masks}
        for boxes, labels, masks in zip(drawn.boxes, drawn.labels, drawn.masks, strict=True)
    ]
    images = ImageList(drawn.images, [TRAIN_SIZE] * len(drawn.images))
    _, _, labels, _ = model.roi_heads.select_training_samples(list(drawn.proposals), targets)
    _then(model.rpn, "filter_proposals", lambda: (list(drawn.proposals), None))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        features = model.backbone(images.tensors)
        proposals, losses = model.rpn(images, features, targets)
        losses |= model.roi_heads(features, proposals, images.image_sizes, targets)[1]
        sum(losses.values()).backward()
        optimizer.step()

    return step, {
        "RoIs": sum(map(len, labels)),
        "positives": sum(int((image > 0).sum()) for image in labels),
        "trained parameters": _trained(model),
    }


def our_inference(kernels: Kernels, sampling_ratio: int) -> tuple[Run, dict[str, int]]:
    """The detections of an image, and what there are."""
    model = build_model(_recipe(kernels, sampling_ratio)).eval()
    drawn, labels, scores = testing_scene()
    _then(model.rpn_head, "proposals", Proposals.of(drawn.proposals))
    head = _logits(labels, scores), torch.zeros(CANDIDATES, 4 * CLASSES)
    model.roi_head.bbox_head.register_forward_hook(lambda *_: head)
    size, scale = torch.tensor([TEST_SIZE]), torch.ones(1, 2)
    images = torch.nn.functional.pad(drawn.images, (0, -TEST_SIZE[1] % 32, 0, -TEST_SIZE[0] % 32))

    def detect() -> Any:
        return model.detect(images, size, size, scale)[0]

    return detect, _found(detect().masks)


def their_inference() -> tuple[Run, dict[str, int]]:
    """The same of torchvision, whose masks are pasted into the image and encoded as its evaluation does it."""
    model = _theirs(TEST_SIZE).eval()
    drawn, labels, scores = testing_scene()
    _then(model.rpn, "filter_proposals", lambda: (list(drawn.proposals), None))
    logits = _logits(labels, scores).roll(1, dims=1)  # their background is the first class
    head = logits, torch.zeros(CANDIDATES, 4 * (CLASSES + 1))
    model.roi_heads.box_predictor.register_forward_hook(lambda *_: head)
    images = ImageList(
        torch.nn.functional.pad(drawn.images, (0, -TEST_SIZE[1] % 32, 0, -TEST_SIZE[0] % 32)), [TEST_SIZE]
    )

    @torch.inference_mode()
    def detect() -> list[Any]:
        features = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, features)
        found, _ = model.roi_heads(features, proposals, images.image_sizes)
        (found,) = model.transform.postprocess(found, images.image_sizes, [TEST_SIZE])
        masks = found["masks"] > 0.5
        return [coco_mask.encode(np.array(mask[0, :, :, np.newaxis], dtype=np.uint8, order="F"))[0] for mask in masks]

    return detect, _found(detect())


def _recipe(kernels: Kernels, sampling_ratio: int) -> Recipe:
    """As torchvision has it: no batch norm is trained."""
    recipe = recipe_for("mask_rcnn_r50_fpn_1x_coco")
    return replace(recipe, bn_affine_trained=False, kernels=kernels, roi_sampling_ratio=sampling_ratio)


def _found(masks: list[Any]) -> dict[str, int]:
    return {"RoIs": CANDIDATES, "detections": len(masks), "mask area": int(coco_mask.area(masks).sum())}


def _theirs(size: tuple[int, int]) -> MaskRCNN:
    """maskrcnn_resnet50_fpn as it is with pretrained weights: its stem, layer1 and every batch norm frozen.

    Its RoIAlign takes two samples a bin and axis; it has no other.
    """
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    return MaskRCNN(backbone, num_classes=CLASSES + 1, min_size=min(size), max_size=max(size))


def _then(holder: Any, name: str, result: Any) -> None:
    """Let a method do its work, and give `result` instead of its own."""
    method = getattr(holder, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        method(*args, **kwargs)
        return result() if callable(result) else result

    object.__setattr__(holder, name, replaced)


def _logits(labels: Tensor, scores: Tensor) -> Tensor:
    """Logits (background last) whose softmax gives each candidate's class that score."""
    probabilities = (1 - scores)[:, None].expand(-1, CLASSES + 1) / CLASSES
    return probabilities.scatter(1, labels[:, None], scores[:, None]).log()


def _trained(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One line of a table."""

    name: str
    make: Made
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of all threads together


def _contenders(theirs: Made, ours: Callable[[Kernels, int], tuple[Run, dict[str, int]]]) -> tuple[Contender, ...]:
    return (
        Contender(name="torchvision", make=theirs),
        Contender(name="harness", make=partial(ours, "reference", 0)),
        Contender(name="harness, sampling_ratio 2", make=partial(ours, "reference", 2)),
        Contender(name="harness, kernels: fast", make=partial(ours, "fast", 0)),
        Contender(name="harness, kernels: fast, sampling_ratio 2", make=partial(ours, "fast", 2)),
    )


TASKS = {
    "training": _contenders(their_training, our_training),
    "inference": _contenders(their_inference, our_inference),
}


def measure(task: str) -> None:
    """Print the table of a task."""
    contenders = TASKS[task]
    made = [contender.make() for contender in contenders]
    flops = [_flops(run) for run, _ in made]
    for _ in range(ROUNDS):
        for contender, (run, _) in zip(contenders, made, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            contender.wall.append(time.perf_counter() - wall)
            contender.cpu.append(time.process_time() - cpu)
    names = list(made[0][1])
    heads = ["", "s, median", "least .. most", "CPU s", "ratio", "least .. most", "peak MiB", "GFLOP", *names]
    print(f"### {task.capitalize()}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    base = contenders[0]
    for contender, (_, counts), flop in zip(contenders, made, flops, strict=True):
        ratios = [ours / theirs for ours, theirs in zip(contender.wall, base.wall, strict=True)]
        cells = [
            contender.name,
            f"{statistics.median(contender.wall):.2f}",
            f"{min(contender.wall):.2f} .. {max(contender.wall):.2f}",
            f"{statistics.median(contender.cpu):.2f}",
            f"{statistics.median(contender.wall) / statistics.median(base.wall):.2f}",
            f"{min(ratios):.2f} .. {max(ratios):.2f}",
            f"{_peak(task, contenders.index(contender)):.0f}",
            f"{flop / 1e9:.0f}",
            *(str(counts[name]) for name in names),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def _flops(run: Run) -> int:
    """Of convolutions and matrix products, both ways; this run is the warm-up, too."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _peak(task: str, index: int) -> float:
    """MiB of a process that does nothing else, imports included."""
    command = [sys.executable, __file__, "--peak", task, str(index)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak(task: str, index: int) -> None:
    """Print the greatest resident memory of this process after two runs."""
    contender = TASKS[task][index]
    run, _ = contender.make()
    for _ in range(2):
        run()
    status = Path("/proc/self/status").read_text()  # getrusage would tell of the process that this one was forked from
    print(int(status.split("VmHWM:")[1].split()[0]) / 2**10)


def main() -> None:
    """Print the tables, with the machine and the versions."""
    torch.set_num_threads(THREADS)
    if sys.argv[1:2] == ["--peak"]:
        return peak(sys.argv[2], int(sys.argv[3]))
    print(
        f"{_processor()}, {THREADS} threads of {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}; fp32; "
        f"{ROUNDS} rounds, alternately in one process; peaks each in a process of its own.\n"
    )
    for task in sys.argv[1:] or TASKS:
        measure(task)
    return None


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
