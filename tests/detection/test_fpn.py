"""FPN against the published keys, torchvision's FPN and hand-worked sums."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from harness.detection.fpn import FPN

CHANNELS = (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    "cell", ["mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r101_caffe_fpn_1x_coco", "mask_rcnn_x101_32x4d_fpn_1x_coco"]
)
def test_published_keys_and_shapes(shared: Path, cell: str) -> None:
    published = json.loads((shared / f"reference/oracle/keys/{cell}.json").read_text())
    with torch.device("meta"):
        neck = FPN(in_channels=CHANNELS)
    ours = [(f"neck.{key}", list(value.shape)) for key, value in neck.state_dict().items()]
    assert ours == [(key, shape) for key, shape in published.items() if key.startswith("neck.")]


def test_outputs_equal_torchvision() -> None:
    torch.manual_seed(0)
    channels = (8, 16, 24)
    ours = FPN(in_channels=channels, out_channels=6, outputs=4)
    theirs = FeaturePyramidNetwork(list(channels), 6, extra_blocks=LastLevelMaxPool())
    theirs.load_state_dict(
        {
            key.replace("lateral_convs.", "inner_blocks.")
            .replace("fpn_convs.", "layer_blocks.")
            .replace("conv.", "0."): v
            for key, v in ours.state_dict().items()
        }
    )
    # Odd sizes: the coarser map is stretched to 13 x 9, not doubled to 14 x 10.
    features = (torch.randn(2, 8, 13, 9), torch.randn(2, 16, 7, 5), torch.randn(2, 24, 4, 3))
    expected = theirs(dict(enumerate(features)))
    outputs = ours(features)
    assert [output.shape[2:] for output in outputs] == [(13, 9), (7, 5), (4, 3), (2, 2)]
    for output, other in zip(outputs, expected.values(), strict=True):
        torch.testing.assert_close(output, other, rtol=1e-6, atol=1e-6)


def test_top_down_sums_by_hand() -> None:
    neck = FPN(in_channels=(1, 1), out_channels=1, outputs=3)
    for name, parameter in neck.named_parameters():
        nn.init.zeros_(parameter)
        if name.endswith("weight"):
            parameter.data[0, 0, parameter.shape[2] // 2, parameter.shape[3] // 2] = 1  # every convolution the identity
    fine = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    coarse = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    p2, p3, p4 = neck((fine, coarse))
    # Nearest from 2 to 3 pixels takes floor(index * 2 / 3) = 0, 0, 1.
    assert p2[0, 0].tolist() == [[11.0, 12.0, 23.0], [14.0, 15.0, 26.0], [37.0, 38.0, 49.0]]
    assert p3[0, 0].tolist() == [[10.0, 20.0], [30.0, 40.0]]
    assert p4[0, 0].tolist() == [[10.0]]  # every second pixel of the coarsest


def test_inputs_are_not_changed_and_get_gradients() -> None:
    neck = FPN(in_channels=(4, 4), out_channels=4)
    features = tuple(torch.randn(1, 4, size, size, requires_grad=True) for size in (8, 4))
    before = [feature.detach().clone() for feature in features]
    sum(output.sum() for output in neck(features)).backward()
    for feature, old in zip(features, before, strict=True):
        assert torch.equal(feature, old)
        assert feature.grad is not None


def test_group_normalisation() -> None:
    torch.manual_seed(0)
    neck = FPN(in_channels=(8, 16), out_channels=64, norm="GN", outputs=2)
    # mmcv's ConvModule: the norm is called gn, and a convolution before a norm has no bias.
    assert set(neck.state_dict()) == {
        f"{convs}.{i}.{key}"
        for convs in ("lateral_convs", "fpn_convs")
        for i in (0, 1)
        for key in ("conv.weight", "gn.weight", "gn.bias")
    }
    outputs = neck((torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)))
    for output in outputs:
        grouped = output.detach().reshape(2, 32, -1)  # 32 groups of 2 channels
        torch.testing.assert_close(grouped.mean(dim=-1), torch.zeros(2, 32), rtol=0, atol=1e-5)
        torch.testing.assert_close(grouped.var(dim=-1, correction=0), torch.ones(2, 32), rtol=1e-2, atol=0)


@pytest.mark.parametrize("norm", [None, "GN"])
def test_init_weights_is_xavier_uniform(norm: str | None) -> None:
    torch.manual_seed(0)
    neck = FPN(in_channels=(64, 128), out_channels=64, norm=norm)
    for parameter in neck.parameters():
        nn.init.constant_(parameter, 7.0)
    neck.init_weights()
    for name, parameter in neck.named_parameters():
        if name.endswith("conv.weight"):
            area = parameter.shape[2] * parameter.shape[3]
            bound = (6 / ((parameter.shape[0] + parameter.shape[1]) * area)) ** 0.5
            assert 0.99 * bound < parameter.abs().max().item() <= bound
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)  # of a uniform distribution
        else:
            assert (parameter == (1.0 if name.endswith("gn.weight") else 0.0)).all(), name


def test_impossible_arguments() -> None:
    with pytest.raises(ValueError, match="48 channels: expected a multiple of 32"):
        FPN(in_channels=(8,), out_channels=48, norm="GN")
    with pytest.raises(ValueError, match="3 outputs of 4 inputs"):
        FPN(in_channels=CHANNELS, outputs=3)
