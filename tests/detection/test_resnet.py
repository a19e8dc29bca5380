"""ResNet against the published keys, torchvision's ResNets and the oracle's features."""

import json
import lzma
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from harness.detection.resnet import Bottleneck, ResNet

X101_32X4D = {"depth": 101, "style": "pytorch", "groups": 32, "base_width": 4}


def on_meta(**arguments: Any) -> ResNet:
    with torch.device("meta"):
        return ResNet(**arguments)


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        # The published counts of the whole model less the 20,888,304 of neck and heads.
        ({"depth": 50, "style": "pytorch"}, 44_396_336 - 20_888_304),
        ({"depth": 101, "style": "caffe"}, 63_388_464 - 20_888_304),
        (X101_32X4D, 63_017_008 - 20_888_304),
        (X101_32X4D | {"groups": 64}, 102_294_576 - 20_888_304),
        (X101_32X4D | {"base_width": 8}, 107_630_640 - 20_888_304),
        ({"depth": 18, "style": None}, 11_689_512 - 513_000),  # torchvision's resnet18 less its classifier
    ],
)
def test_parameter_counts(arguments: dict[str, Any], parameters: int) -> None:
    assert sum(parameter.numel() for parameter in on_meta(**arguments).parameters()) == parameters


@pytest.mark.parametrize(
    ("cell", "arguments"),
    [
        ("mask_rcnn_r50_fpn_1x_coco", {"depth": 50, "style": "pytorch"}),
        ("mask_rcnn_r101_caffe_fpn_1x_coco", {"depth": 101, "style": "caffe"}),
        ("mask_rcnn_x101_32x4d_fpn_1x_coco", X101_32X4D),
    ],
)
def test_published_keys_and_shapes(shared: Path, cell: str, arguments: dict[str, Any]) -> None:
    published = json.loads((shared / f"reference/oracle/keys/{cell}.json").read_text())
    expected = [(key, shape) for key, shape in published.items() if key.startswith("backbone.")]
    ours = [(f"backbone.{key}", list(value.shape)) for key, value in on_meta(**arguments).state_dict().items()]
    assert ours == expected  # in the same order too


@pytest.mark.parametrize(
    ("cell", "arguments"),
    [
        ("mask_rcnn_r50_fpn_1x_coco", {"style": "pytorch", "bn_affine_trained": True}),
        ("mask_rcnn_r50_caffe_fpn_1x_coco", {"style": "caffe", "bn_affine_trained": False}),
    ],
)
def test_published_trainable_parameters(shared: Path, cell: str, arguments: dict[str, Any]) -> None:
    published = json.loads((shared / f"reference/oracle/trainable/{cell}.json").read_text())
    named = on_meta(depth=50, **arguments).named_parameters()
    trainable = {f"backbone.{name}" for name, parameter in named if parameter.requires_grad}
    assert trainable == {name for name in published["trainable"] if name.startswith("backbone.")}


@pytest.mark.parametrize(
    ("arguments", "frozen"),
    [
        ({"frozen_stages": -1}, set()),
        ({"frozen_stages": 0}, {"conv1", "bn1"}),
        ({"frozen_stages": 2}, {"conv1", "bn1", "layer1", "layer2"}),
    ],
)
def test_frozen_stages(arguments: dict[str, Any], frozen: set[str]) -> None:
    backbone = on_meta(depth=18, style=None, bn_eval=False, **arguments)
    backbone.eval()
    backbone.train()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in frozen), name
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (name.split(".")[0] not in frozen), name


def test_bn_eval_keeps_running_statistics_in_training() -> None:
    torch.manual_seed(0)
    backbone = ResNet(depth=18, style=None, frozen_stages=-1)
    assert backbone.training
    assert not any(module.training for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))[-1].sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_bn_trained_updates_running_statistics_outside_the_frozen_stages() -> None:
    torch.manual_seed(0)
    backbone = ResNet(depth=18, style=None, frozen_stages=1, bn_eval=False)
    backbone(torch.randn(2, 3, 64, 64))
    updated = {
        name.split(".")[0]
        for name, buffer in backbone.named_buffers()
        if name.endswith("tracked") and buffer.item() == 1
    }
    assert updated == {"layer2", "layer3", "layer4"}


def torchvision_features(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    nodes = {f"layer{stage}": str(stage) for stage in range(1, 5)}
    body = torchvision.models._utils.IntermediateLayerGetter(model, nodes)
    return list(body(images).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_caffe", "resnext50_32x4d"])
def test_features_equal_torchvision(name: str) -> None:
    torch.manual_seed(0)
    if name == "resnet18":
        ours = ResNet(depth=18, style=None)
    elif name == "resnext50_32x4d":
        ours = ResNet(depth=50, style="pytorch", groups=32, base_width=4)
    else:
        ours = ResNet(depth=50, style="caffe" if "caffe" in name else "pytorch")
    theirs = torchvision.models.get_model(name.removesuffix("_caffe"), weights=None)
    if "caffe" in name:
        # torchvision has no caffe style: move the stride by hand from the 3x3 to the first 1x1 convolution.
        for layer in (theirs.layer2, theirs.layer3, theirs.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 65, 96)  # odd on purpose: sizes are rounded up
    with torch.no_grad():
        features = ours(images)
        expected = torchvision_features(theirs.eval(), images)
    assert [feature.shape[1] for feature in features] == list(ours.out_channels)
    assert [feature.shape[2:] for feature in features] == [(17, 24), (9, 12), (5, 6), (3, 3)]
    for feature, other in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_style_says_which_convolution_strides(style: str) -> None:
    backbone = on_meta(depth=50, style=style)
    for stage, layer in enumerate((backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)):
        for index, block in enumerate(layer):
            assert isinstance(block, Bottleneck)
            stride = 2 if stage > 0 and index == 0 else 1
            strides = (stride, 1) if style == "caffe" else (1, stride)
            assert (block.conv1.stride[0], block.conv2.stride[0], block.conv3.stride[0]) == (*strides, 1)


def test_frozen_stem_builds_no_graph() -> None:
    backbone = ResNet(depth=18, style=None, frozen_stages=1)
    c2, c3, *_ = backbone(torch.randn(1, 3, 32, 32))
    assert not c2.requires_grad
    assert c3.requires_grad


def test_init_weights_is_kaiming_fan_out_and_identity_blocks() -> None:
    torch.manual_seed(0)
    backbone = ResNet(depth=50, style="pytorch", groups=32, base_width=4, frozen_stages=-1, bn_eval=False)
    for parameter in backbone.parameters():
        nn.init.constant_(parameter, 7.0)
    backbone.init_weights()
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 4:
            # std = sqrt(2 / fan out); fan out = output channels x kernel area, as torch counts it for groups too.
            fan_out = parameter.shape[0] * parameter.shape[2] * parameter.shape[3]
            assert parameter.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.06), name
            assert abs(parameter.mean().item()) < 0.1 * (2 / fan_out) ** 0.5, name
        else:
            expected = 0.0 if name.endswith(("bias", "bn3.weight")) else 1.0
            assert (parameter == expected).all(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18, "style": "caffe"}, "no bottleneck"),
        ({"depth": 18, "style": "pytorch"}, "no bottleneck"),
        ({"depth": 18, "style": None, "groups": 32}, "no bottleneck"),
        ({"depth": 50, "style": None}, "expected 'pytorch' or 'caffe'"),
        ({"depth": 52, "style": "caffe"}, "depth 52: expected one of 18, 50, 101"),
        ({"depth": 50, "style": "caffe", "frozen_stages": 5}, "frozen_stages 5"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(**arguments)


@pytest.mark.slow
def test_oracle_features(shared: Path) -> None:
    oracle = shared / "reference/oracle"
    with lzma.open(oracle / "r50_fpn/test.pt.xz") as file:
        expected = torch.load(file, weights_only=True)
    weights = runpy.run_path(str(oracle / "rebuild_weights.py"))["rebuild"]("r50_fpn")
    backbone = ResNet(depth=50, style="pytorch")
    backbone.load_state_dict(
        {key.removeprefix("backbone."): torch.as_tensor(v) for key, v in weights.items() if key.startswith("backbone.")}
    )
    with torch.no_grad():
        features = backbone(expected["inputs"])
    for feature, level in zip(features, expected["backbone"], strict=True):
        assert list(feature.shape) == level["shape"]
        assert feature.mean().item() == pytest.approx(level["mean"], rel=1e-5)
        assert feature.std().item() == pytest.approx(level["std"], rel=1e-5)
        torch.testing.assert_close(feature[0, :8, :8, :8], level["slice"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_frozen_batch_norm_keeps_less_for_the_same_gradients() -> None:
    """What leads to the same numbers, trained or not: outputs to the bit, gradients but for rounding."""
    outputs, gradients, kept = [], [], []
    for trained in (True, False):
        torch.manual_seed(0)
        model = ResNet(depth=50, style="caffe", base_width=8, frozen_stages=1, bn_affine_trained=trained)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs.append(model(torch.randn(2, 3, 64, 96))[-1])
        kept.append(sum(sizes.values()))
        outputs[-1].square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if "conv" in name})
    assert torch.equal(*outputs)
    for name, own in gradients[1].items():
        torch.testing.assert_close(own, gradients[0][name], rtol=1e-4, atol=1e-5)
    assert sum(own is not None for own in gradients[1].values()) > 30
    assert kept[1] < 0.9 * kept[0]
