"""Feature pyramid network (Lin et al. 2017), with the published state_dict keys."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

NORM_GROUPS = 32


class FPN(nn.Module):
    """Turns C2..C5 into P2..P6, all of `out_channels` channels.

    in_channels: channels of the inputs, finest first.
    norm: None (a bias on every convolution, as in the published recipes) or "GN" (32 groups, no bias).
    outputs: number of outputs; those beyond the inputs halve the coarsest one (P6 is every second pixel of P5).

    Raises ValueError where "GN" meets out_channels that 32 groups do not divide.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        out_channels: int = 256,
        norm: Literal["GN"] | None = None,
        outputs: int = 5,
    ) -> None:
        super().__init__()
        if outputs < len(in_channels):
            raise ValueError(f"FPN with {outputs} outputs of {len(in_channels)} inputs: expected at least one for each")
        if norm == "GN" and out_channels % NORM_GROUPS:
            raise ValueError(
                f"FPN with GN and {out_channels} channels: expected a multiple of {NORM_GROUPS} (its groups)"
            )
        self.lateral_convs = nn.ModuleList(ConvNorm(channels, out_channels, 1, norm=norm) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(ConvNorm(out_channels, out_channels, 3, norm=norm) for _ in in_channels)
        self.out_channels = out_channels
        self._outputs = outputs

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """P2..P6 of C2..C5 (B x C x H x W each, finest first)."""
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True)]
        for finer in reversed(range(len(laterals) - 1)):
            # To the finer map's own size, not twice the coarser: odd sizes stay aligned as in the recipes.
            coarser = F.interpolate(laterals[finer + 1], size=laterals[finer].shape[-2:], mode="nearest")
            laterals[finer] = laterals[finer] + coarser
        outputs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True)]
        while len(outputs) < self._outputs:
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)

    def init_weights(self) -> None:
        """Xavier-uniform convolutions with bias 0; GN 1 and 0."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.xavier_uniform_(module.conv.weight)
                if module.conv.bias is not None:
                    nn.init.zeros_(module.conv.bias)
                if module.gn is not None:
                    module.gn.reset_parameters()


class ConvNorm(nn.Module):
    """A convolution `conv` that keeps the size: with a bias or, if asked for, group normalisation `gn` after it."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, norm: Literal["GN"] | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm is None)
        self.gn = nn.GroupNorm(NORM_GROUPS, out_channels) if norm == "GN" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.gn is None else self.gn(x)
