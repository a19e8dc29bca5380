"""A prepared image and a model whose detections are known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_api
from torch import Tensor, nn

from harness.structures import Detections


@dataclass(frozen=True, kw_only=True)
class Sample:
    image_id: int
    image: Tensor
    size: tuple[int, int] = (30, 50)
    original_size: tuple[int, int] = (60, 100)
    scale_factor: tuple[float, float] = (0.5, 0.5)


class WholeImage(nn.Module):
    """Finds one object that fills the original image; its label is the image's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def detect(self, images: Tensor, sizes: Tensor, original_sizes: Tensor, scale_factors: Tensor) -> list[Detections]:
        modes = (self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        self.calls.append((images.shape, sizes.tolist(), original_sizes.tolist(), scale_factors.tolist(), *modes))
        height, width = original_sizes[0].tolist()
        mask = mask_api.encode(np.ones((height, width), np.uint8, order="F"))
        return [
            Detections(
                boxes=torch.tensor([[0.0, 0.0, width, height]]),
                scores=torch.tensor([0.5]),
                labels=images.mean().long()[None],
                masks=[mask],
            )
        ]
