"""Frames a second as the published tables define them, and the memory a run took."""

import re
import resource
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from harness.errors import UserError
from harness.evaluation.predict import Autocast, Detector, PreparedImage, detect_image, testing
from harness.wording import count


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Seconds an image takes at batch 1; fps = 1 / mean, as published."""

    fps: float
    mean_s: float
    median_s: float
    p90_s: float
    images: int  # timed ones, without the warm-up
    detections: float  # an image, on average: each has a mask to paste
    device: str


def measure_fps(
    model: Detector,
    samples: Iterable[PreparedImage],
    *,
    device: torch.device | str,
    autocast: Autocast = nullcontext,
    warmup: int = 5,
    images: int = 2000,
) -> Speed:
    """Time detection over the first `images` samples, the first `warmup` of them left out (recipes, "Inf time (fps)").

    Within the time: moving the image to the device, forward, post-processing, mask pasting and, unlike in the published
    numbers, the masks' RLE encoding, as pasting and encoding are one here. Not within: loading and preparing. The
    device is synchronised around each call. Raises UserError with no more samples than the warm-up takes.
    """
    device = torch.device(device)
    seconds, found = [], []
    with testing(model):
        for sample in islice(samples, images):
            _synchronise(device)
            start = time.perf_counter()
            detections = detect_image(model, sample, device, autocast)
            _synchronise(device)
            seconds.append(time.perf_counter() - start)
            found.append(len(detections.scores))
    timed = np.array(seconds[warmup:])
    if not timed.size:
        raise UserError(
            f"speed: {count(len(seconds), 'image')}, of which the first {warmup} are warm-up: give more images"
        )
    return Speed(
        fps=float(1 / timed.mean()),
        mean_s=float(timed.mean()),
        median_s=float(np.median(timed)),
        p90_s=float(np.percentile(timed, 90)),
        images=len(timed),
        detections=float(np.mean(found[warmup:])),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    )


def peak_memory_mb(device: torch.device | str) -> float:
    """Peak in MB (2^20 bytes): of torch's allocations on a CUDA device, else of the process's resident memory (Linux).

    Two different quantities: whoever shows the number says which.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    # Not every sandbox tells it. ru_maxrss is that of the process this one was forked from, if larger.
    return (int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**10


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
