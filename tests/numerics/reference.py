"""A second Mask R-CNN, on torchvision's ResNet and plain functions: where the shipped fingerprints come from.

Written from the published recipes and nothing of harness.detection; in float64. test_golden.py shows that with the
weights of the reference oracle it gives the oracle's numbers.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import roi_align

BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}
State = Mapping[str, Tensor]


def backbone(state: State, *, depth: int, style: str, groups: int, width: int) -> ResNet:
    """torchvision's ResNet in eval mode; caffe style has the stride of a stage in its first 1x1 convolution."""
    net = ResNet(Bottleneck, BLOCKS[depth], groups=groups, width_per_group=width)
    if style == "caffe":
        for layer in (net.layer2, net.layer3, net.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    own = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    missing, unexpected = net.load_state_dict(own, strict=False)
    assert missing == ["fc.weight", "fc.bias"] and not unexpected
    return net.double().eval()


def stages(net: ResNet, image: Tensor) -> list[Tensor]:
    """C2 .. C5."""
    x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
    features = []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        features.append(x)
    return features


def conv(state: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double(), padding=padding)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double())


def pyramid(state: State, features: Sequence[Tensor]) -> list[Tensor]:
    """P2 .. P6."""
    laterals = [conv(state, f"neck.lateral_convs.{i}.conv", x) for i, x in enumerate(features)]
    for i in (2, 1, 0):
        laterals[i] = laterals[i] + F.interpolate(laterals[i + 1], size=laterals[i].shape[2:], mode="nearest")
    outputs = [conv(state, f"neck.fpn_convs.{i}.conv", x, padding=1) for i, x in enumerate(laterals)]
    return [*outputs, outputs[3][:, :, ::2, ::2]]


def pool(levels: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
    """RoIAlign of each box of image 0 from its own level."""
    pooled = []
    for box in boxes.double():
        x1, y1, x2, y2 = box.tolist()
        level = min(max(math.floor(math.log2(math.sqrt((x2 - x1) * (y2 - y1)) / 56 + 1e-6)), 0), 3)
        pooled.append(roi_align(levels[level], [box[None]], size, 1 / (4 << level), sampling_ratio=0, aligned=True))
    return torch.cat(pooled)


def outputs(state: State, levels: Sequence[Tensor], boxes: Tensor) -> dict[str, Tensor]:
    """Every head's raw outputs, under the names that the shipped fingerprints have."""
    found = {f"P{i}": x for i, x in enumerate(levels, start=2)}
    for i, x in enumerate(levels, start=2):
        hidden = conv(state, "rpn_head.rpn_conv", x, padding=1).relu()
        found[f"rpn_cls {i}"] = conv(state, "rpn_head.rpn_cls", hidden)
        found[f"rpn_reg {i}"] = conv(state, "rpn_head.rpn_reg", hidden)
    x = pool(levels, boxes, 7).flatten(1)
    for i in (0, 1):
        x = linear(state, f"roi_head.bbox_head.shared_fcs.{i}", x).relu()
    found["fc_cls"] = linear(state, "roi_head.bbox_head.fc_cls", x)
    found["fc_reg"] = linear(state, "roi_head.bbox_head.fc_reg", x)
    x = pool(levels, boxes, 14)
    for i in range(4):
        x = conv(state, f"roi_head.mask_head.convs.{i}.conv", x, padding=1).relu()
    name = "roi_head.mask_head.upsample"
    x = F.conv_transpose2d(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double(), stride=2).relu()
    found["mask"] = conv(state, "roi_head.mask_head.conv_logits", x)
    return found
