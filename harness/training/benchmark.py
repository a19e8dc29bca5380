"""Training memory and frames a second as the published tables define them, measured on this machine by itself."""

import tempfile
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from harness.errors import UserError
from harness.evaluation.speed import Speed, peak_memory_mb
from harness.files import sha256
from harness.provenance import running_code
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec
from harness.training import validation
from harness.training.device_state import device_state, others_share
from harness.training.distributed import Ranks
from harness.training.environment import hardware, versions
from harness.training.restore import restore
from harness.training.session import Training
from harness.training.step import iterate
from harness.wording import count

SCHEMA = 1
ITERATIONS = {"cuda": 50, "cpu": 5}
"""Trained to find the peak of the memory, each of one micro-batch, which is the share of a GPU in a published run."""

WARMUP = 5
"""Images that are not timed."""


def benchmark(spec: RunSpec, checkpoint: Path | None, device: torch.device) -> dict[str, Any]:
    """The content of benchmark.json; spec.precision is what the device executes.

    checkpoint: whose detections are timed; None: those of the weights that the run starts from.
    Memory is the peak that training allocates on one GPU (of a CPU, the peak of the process, imports included); frames
    a second are those of evaluation/speed.py: batch 1, up to 2000 validation images, the first 5 left out.
    Raises UserError where data, weights or checkpoint are missing or broken, or there are too few images.
    """
    split = validation.run_validation(spec)
    if len(split.image_ids) <= WARMUP:
        few = f"{count(len(split.image_ids), 'image')} to time, of which {WARMUP} are left out"
        raise UserError(
            f"{split.annotations}: {few}; expected more: raise shorten.eval_images, or test on a larger set"
        )
    others = others_share(device)
    with tempfile.TemporaryDirectory() as nowhere:
        training = Training(RunPaths(Path(nowhere)), spec, Ranks(device=device), attempt=1)
    trained = _train(training, ITERATIONS[device.type])
    memory = peak_memory_mb(device)
    model = training.model if checkpoint is None else restore(checkpoint, cell=spec.cell).model.to(device)
    del training.optimizer
    speed = validation.speed(model, split, Ranks(device=device))
    assert speed is not None
    return {
        "schema": SCHEMA,
        "time": time.time(),
        "name": spec.name,
        "weights": sha256(checkpoint) if checkpoint else None,
        "precision": spec.precision,
        "others": others,
        "memory_mb": memory,
        "memory_kind": "cuda" if device.type == "cuda" else "rss",
        "memory_images": trained * spec.recipe.micro_batch,
        **_speed(speed),
        "hardware": hardware(device, 1),
        "versions": versions(device),
        "code": asdict(running_code()),
        **device_state(device),
    }


def _speed(speed: Speed) -> dict[str, Any]:
    return {
        "fps": speed.fps,
        "fps_images": speed.images,
        "detections": speed.detections,
        "batch": 1,
        "mean_s": speed.mean_s,
        "median_s": speed.median_s,
        "p90_s": speed.p90_s,
    }


def _train(training: Training, iterations: int) -> int:
    """Iterations as the first GPU of a published run has them; how many there were."""
    recipe, ranks = training.recipe, training.ranks
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ranks.device)
    share = Ranks(world=recipe.batch // recipe.micro_batch, device=ranks.device)
    training.model.train()
    done = 0
    for batches in islice(training.images.epoch(0, share, start=0), iterations):
        training.set_rate()
        iterate(
            training.replica,
            batches,
            training.optimizer,
            training.scaler,
            precision=training.spec.precision,
            micro_batches=len(batches),
            ranks=ranks,
        )
        training.advance()
        done += 1
    return done
