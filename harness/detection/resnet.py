"""ResNet and ResNeXt backbones in both styles (He et al. 2016, Xie et al. 2017), with the published state_dict keys."""

from typing import Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Style = Literal["pytorch", "caffe"]

STAGE_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGE_PLANES = (64, 128, 256, 512)


class ResNet(nn.Module):
    """A backbone whose forward gives C2..C5 (strides 4, 8, 16, 32) of a normalised image batch.

    depth: 18 (basic blocks) or 50, 101 (bottlenecks).
    style: where a bottleneck halves the resolution, "pytorch" in its 3x3 convolution, "caffe" in its first 1x1; None
        for depth 18, which has no bottleneck.
    groups, base_width: ResNeXt's cardinality and width, e.g. 32 and 4 for 32x4d; a bottleneck of `planes` is
        floor(planes * base_width / 64) * groups wide, so 1 and 64 are the plain ResNet.
    frozen_stages: -1 freezes nothing, 0 the stem, n the stem and layer1..n: no gradients, BN on running statistics.
    bn_eval: every BN uses its running statistics, in train() too.
    bn_affine_trained: whether BN weights and biases outside the frozen stages get gradients.

    Attribute `out_channels`: the channels of C2..C5.
    Raises ValueError for an unknown depth, and for a style or groups that the depth's blocks cannot have.
    """

    def __init__(
        self,
        *,
        depth: int,
        style: Style | None,
        groups: int = 1,
        base_width: int = 64,
        frozen_stages: int = 1,
        bn_eval: bool = True,
        bn_affine_trained: bool = True,
    ) -> None:
        super().__init__()
        _check(depth=depth, style=style, groups=groups, base_width=base_width, frozen_stages=frozen_stages)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (planes, blocks) in enumerate(zip(STAGE_PLANES, STAGE_BLOCKS[depth], strict=True)):
            layer = nn.Sequential()
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                block: BasicBlock | Bottleneck
                if style is None:
                    block = BasicBlock(channels, planes, stride)
                else:
                    width = planes * base_width // 64 * groups
                    block = Bottleneck(channels, planes, stride, width=width, groups=groups, style=style)
                layer.append(block)
                channels = planes * block.expansion
            self.add_module(f"layer{stage + 1}", layer)
        self.out_channels = tuple(planes * block.expansion for planes in STAGE_PLANES)
        self._bn_eval = bn_eval
        self._frozen_stages = frozen_stages
        self._stop_gradients(bn_affine_trained)
        self.train()

    def forward(self, images: Tensor, *, fold: bool = False) -> tuple[Tensor, ...]:
        """C2..C5, each B x C x ceil(H / stride) x ceil(W / stride), of B x 3 x H x W images.

        fold: multiply every BN, which must be on its running statistics, into the convolution before it; changes
        results by rounding alone.
        """
        x = F.relu(_normalised(self.conv1, self.bn1, images, fold=fold), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for layer in self._layers():
            for block in layer:
                x = block(x, fold=fold)
            features.append(x)
        return tuple(features)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, but keep the BN of frozen stages (with bn_eval, every BN) on running statistics."""
        super().train(mode)
        for module in (self,) if self._bn_eval else self._frozen():
            for child in module.modules():
                if isinstance(child, nn.BatchNorm2d):
                    child.eval()
        return self

    def init_weights(self) -> None:
        """Start without pretrained weights: Kaiming-normal (fan out) convolutions, BN 1/0, the last of each block 0/0.

        With its last BN weight 0 a residual block starts as its shortcut alone (Goyal et al. 2017, section 5.1).
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def _layers(self) -> list[nn.Sequential]:
        return [cast(nn.Sequential, self.get_submodule(f"layer{stage}")) for stage in range(1, 5)]

    def _frozen(self) -> list[nn.Module]:
        return [] if self._frozen_stages < 0 else [self.conv1, self.bn1, *self._layers()[: self._frozen_stages]]

    def _stop_gradients(self, bn_affine_trained: bool) -> None:
        for module in self._frozen():
            module.requires_grad_(False)
        if not bn_affine_trained:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first one strides."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(channels, planes, stride)

    def forward(self, x: Tensor, *, fold: bool) -> Tensor:
        out = F.relu(_normalised(self.conv1, self.bn1, x, fold=fold), inplace=True)
        out = _normalised(self.conv2, self.bn2, out, fold=fold)
        out += _shortcut(self.downsample, x, fold=fold)
        return F.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped), 1x1 convolutions around a shortcut; `style` says which of the first two strides."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int, *, width: int, groups: int, style: Style) -> None:
        super().__init__()
        stride1, stride2 = (stride, 1) if style == "caffe" else (1, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, stride=stride1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride2, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = _downsample(channels, planes * self.expansion, stride)

    def forward(self, x: Tensor, *, fold: bool) -> Tensor:
        out = F.relu(_normalised(self.conv1, self.bn1, x, fold=fold), inplace=True)
        out = F.relu(_normalised(self.conv2, self.bn2, out, fold=fold), inplace=True)
        out = _normalised(self.conv3, self.bn3, out, fold=fold)
        out += _shortcut(self.downsample, x, fold=fold)
        return F.relu(out, inplace=True)


def _downsample(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _shortcut(downsample: nn.Sequential | None, x: Tensor, *, fold: bool) -> Tensor:
    if downsample is None:
        return x
    conv, bn = downsample
    return _normalised(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, bn), x, fold=fold)


def _normalised(conv: nn.Conv2d, bn: nn.BatchNorm2d, x: Tensor, *, fold: bool) -> Tensor:
    if not fold:
        x = conv(x)
        frozen = not bn.training and not bn.weight.requires_grad and x.requires_grad
        normalised: Tensor = _FrozenBatchNorm.apply(x, bn) if frozen else bn(x)
        return normalised
    assert bn.running_mean is not None
    scale = _scale(bn)
    weight, bias = conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _scale(bn: nn.BatchNorm2d) -> Tensor:
    assert bn.running_var is not None
    return bn.weight * torch.rsqrt(bn.running_var + bn.eps)


class _FrozenBatchNorm(torch.autograd.Function):
    """A BN of which nothing is trained: its gradient is a factor, so that it need not keep its input for that."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
        ctx.save_for_backward(_scale(bn))
        normalised: Tensor = bn(x)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradients[0] * scale.to(gradients[0].dtype)[:, None, None], None


def _check(*, depth: int, style: str | None, groups: int, base_width: int, frozen_stages: int) -> None:
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"ResNet depth {depth}: expected one of {', '.join(map(str, STAGE_BLOCKS))}")
    if depth == 18 and style is not None:
        raise ValueError(f"ResNet-18 has no bottleneck, so style {style!r} means nothing: expected None")
    if depth == 18 and (groups, base_width) != (1, 64):
        raise ValueError("ResNet-18 has no bottleneck, so it takes neither groups nor base_width")
    if depth != 18 and style not in ("pytorch", "caffe"):
        raise ValueError(f"ResNet-{depth} style {style!r}: expected 'pytorch' or 'caffe'")
    if not -1 <= frozen_stages <= 4:
        raise ValueError(f"frozen_stages {frozen_stages}: expected -1 (none), 0 (stem) or 1 to 4 (stem and layers)")
