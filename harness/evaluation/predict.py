"""Run a model over a split, one image at a time, and bring the detections of all ranks together."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from harness.evaluation.detections import to_results
from harness.evaluation.table import Builder, DetectionTable, concatenated, from_bytes, to_bytes
from harness.structures import Detections

Autocast = Callable[[], AbstractContextManager[Any]]


class Detector(Protocol):
    """A torch module that detects: images B x 3 x H x W, sizes B x 2 (height, width), scale factors B x 2 (x, y)."""

    training: bool

    def detect(
        self, images: Tensor, sizes: Tensor, original_sizes: Tensor, scale_factors: Tensor
    ) -> list[Detections]: ...

    def train(self, mode: bool = True) -> Self: ...


class PreparedImage(Protocol):
    """One prepared image, as harness.data.evaluation_images yields them."""

    @property
    def image_id(self) -> int: ...
    @property
    def image(self) -> Tensor: ...  # 1 x 3 x H x W
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def original_size(self) -> tuple[int, int]: ...
    @property
    def scale_factor(self) -> tuple[float, float]: ...


@contextmanager
def testing(model: Detector) -> Iterator[None]:
    """The model in evaluation mode and without gradients; its mode is put back afterwards."""
    before = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(before)


def detect_image(
    model: Detector, sample: PreparedImage, device: torch.device | str, autocast: Autocast = nullcontext
) -> Detections:
    """The detections of one image; within `testing`."""
    sizes = [torch.tensor([pair], device=device) for pair in (sample.size, sample.original_size, sample.scale_factor)]
    with autocast():
        return model.detect(sample.image.to(device, non_blocking=True), *sizes)[0]


def predict_split(
    model: Detector,
    images: Iterable[PreparedImage],
    category_ids: list[int],
    *,
    device: torch.device | str,
    autocast: Autocast = nullcontext,
    progress: Callable[[int], object] | None = None,
) -> DetectionTable:
    """What is found in all images.

    category_ids: the data set's category id of each label. progress: called with the number of images done so far.
    """
    found = Builder()
    with testing(model):
        for done, sample in enumerate(images, 1):
            for row in to_results(sample.image_id, detect_image(model, sample, device, autocast), category_ids):
                found.add(row)
            if progress is not None:
                progress(done)
    return found.built()


def gather_results(found: DetectionTable, rank: int, world: int) -> DetectionTable | None:
    """What all ranks found on rank 0, None on the others; every rank of the default process group calls it.

    An image that several ranks tested (to share a split evenly) counts once, as the lowest rank did it.
    """
    if world == 1:
        return found
    shares = _gather_bytes(to_bytes(found), rank, world)
    if rank != 0:
        return None
    gathered = from_bytes(shares[0])
    for share in map(from_bytes, shares[1:]):
        fresh = share.take(~np.isin(share.image_ids, gathered.image_ids))
        gathered = concatenated([gathered, fresh])
    return gathered


def _gather_bytes(data: bytes, rank: int, world: int) -> list[bytes]:
    """Each rank's bytes on rank 0, nothing on the others: lengths first, then everything padded to the longest."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
    dist.all_gather(lengths, torch.tensor([len(data)], device=device))
    sizes = [int(length) for length in lengths]
    sent = torch.zeros(max(sizes), dtype=torch.uint8)
    sent[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    received = [torch.empty(max(sizes), dtype=torch.uint8, device=device) for _ in range(world)] if rank == 0 else None
    dist.gather(sent.to(device), received, dst=0)
    return [part.cpu().numpy()[:size].tobytes() for part, size in zip(received or [], sizes, strict=False)]
