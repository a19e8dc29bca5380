"""Mask branch: a small fully convolutional network on each region (He et al. 2017)."""

from collections import OrderedDict
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class MaskHead(nn.Module):
    """Mask logits of K regions, one map a class, at twice the resolution of the regions' features."""

    def __init__(
        self, *, in_channels: int = 256, conv_width: int = 256, conv_count: int = 4, num_classes: int = 80
    ) -> None:
        super().__init__()
        widths = [in_channels] + [conv_width] * conv_count
        self.convs = nn.ModuleList(
            # The published keys are convs.N.conv.
            nn.Sequential(OrderedDict(conv=nn.Conv2d(before, after, 3, padding=1), relu=nn.ReLU(inplace=True)))
            for before, after in pairwise(widths)
        )
        self.upsample = nn.ConvTranspose2d(widths[-1], conv_width, 2, stride=2)
        self.conv_logits = nn.Conv2d(conv_width, num_classes, 1)

    def init_weights(self) -> None:
        """Kaiming-normal (fan out, ReLU) weights, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """features: K x C x s x s -> logits K x classes x 2s x 2s."""
        for conv in self.convs:
            features = conv(features)
        logits: Tensor = self.conv_logits(F.relu(self.upsample(features), inplace=True))
        return logits

    def loss(self, logits: Tensor, *, targets: Tensor, labels: Tensor, positive: Tensor) -> Tensor:
        """Binary cross-entropy of each positive's own class, mean over all pixels of all positives (0 without any).

        targets: K x 2s x 2s of 0 and 1; labels: K, arbitrary where not positive; positive: K bool.
        """
        own = of_class(logits, labels.clamp(max=logits.shape[1] - 1)).float()
        cross_entropy = F.binary_cross_entropy_with_logits(own, targets.float(), reduction="none")
        pixels = positive.sum().clamp(min=1) * (targets.shape[1] * targets.shape[2])
        return (cross_entropy * positive[:, None, None]).sum() / pixels


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """The map of each region's own class: K x classes x h x w, K -> K x h x w."""
    index = labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return logits.gather(1, index).squeeze(1)
