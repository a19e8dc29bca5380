"""Weights and images by a formula: the same numbers on every machine, with no random generator in between."""

import math
import zlib
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

LENGTH = 2**24  # no tensor of these models has more elements


@cache
def table() -> Tensor:
    """LENGTH float32 numbers in [-1, 1): bits 40 to 63 of a i^2 + b i in 64-bit integers (a, b: Knuth's MMIX)."""
    i = np.arange(LENGTH, dtype=np.uint64)
    bits = (i * i * np.uint64(6364136223846793005) + i * np.uint64(1442695040888963407)) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) / 2**23 - 1)


def numbers(name: str, shape: Iterable[int]) -> Tensor:
    """Numbers in [-1, 1) of the given shape: a piece of the table that begins where the name's CRC-32 says."""
    shape = tuple(shape)
    count = math.prod(shape)
    start = zlib.crc32(name.encode()) % (LENGTH - count)
    return table()[start : start + count].view(shape)


def value(name: str, shape: Iterable[int]) -> Tensor:
    """The tensor of a state_dict key.

    Matrices and kernels have a variance of 2 / fan-in; batch norm is near the identity, a fifth of it at the end of a
    block, so that features keep their size through all depths.
    """
    shape = tuple(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    drawn = numbers(name, shape)
    if len(shape) > 1:
        return drawn * math.sqrt(6 / math.prod(shape[1:]))
    if name.endswith((".bias", ".running_mean")):
        return drawn * 0.1
    return (1 + drawn * 0.5) * (0.2 if name.endswith("bn3.weight") else 1)


def fill(model: nn.Module) -> None:
    """Give every parameter and buffer of the state_dict its value."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(value(name, tensor.shape))


IMAGE = (1, 3, 128, 160)
REGIONS = ((2.0, 3.0, 40.0, 50.0), (10.5, 20.25, 90.0, 60.75), (0.0, 0.0, 159.0, 127.0))
"""Boxes (x1, y1, x2, y2) in that image; the last one is pooled from the second level of the pyramid."""


def image() -> Tensor:
    """A normalised image, B x 3 x H x W."""
    return numbers("image", IMAGE) * 2


def fingerprint(tensor: Tensor) -> Tensor:
    """18 float64 numbers: mean, standard deviation, and 16 elements evenly spread."""
    flat = tensor.detach().double().flatten()
    spread = torch.arange(16) * len(flat) // 16
    return torch.cat([torch.stack([flat.mean(), flat.std()]), flat[spread]])
