"""The reference numbers, and a model with the reference's weights."""

import importlib.util
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.detection.box_head import BoxHead
from harness.detection.fpn import FPN
from harness.detection.mask_head import MaskHead
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.resnet import ResNet
from harness.detection.roi_head import RoIHead
from harness.detection.rpn import RPNHead


@pytest.fixture(scope="session")
def oracle(shared: Path) -> Callable[[str], Any]:
    """oracle("unit/anchors") is the content of that file."""

    def load(name: str) -> Any:
        with lzma.open(shared / f"reference/oracle/{name}.pt.xz") as file:
            return torch.load(file, weights_only=True)

    return load


@pytest.fixture(scope="session")
def reference_weights(shared: Path) -> dict[str, Tensor]:
    """The state_dict that the reference's R-50 ran with."""
    spec = importlib.util.spec_from_file_location("rebuild_weights", shared / "reference/oracle/rebuild_weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {key: torch.as_tensor(value) for key, value in module.rebuild("r50_fpn").items()}


@pytest.fixture
def reference_model(reference_weights: dict[str, Tensor]) -> Callable[..., MaskRCNN]:
    """reference_model(rpn={...}, roi={...}, **model) is the R-50 recipe with those arguments changed."""

    def build(*, rpn: dict[str, Any] | None = None, roi: dict[str, Any] | None = None, **model: Any) -> MaskRCNN:
        backbone = ResNet(depth=50, style="pytorch")
        built = MaskRCNN(
            backbone=backbone,
            neck=FPN(in_channels=backbone.out_channels),
            rpn_head=RPNHead(**(rpn or {})),
            roi_head=RoIHead(bbox_head=BoxHead(), mask_head=MaskHead(), **(roi or {})),
            **model,
        )
        built.load_state_dict(reference_weights, strict=True)
        return built

    return build


@pytest.fixture(scope="session")
def as_edges() -> Callable[[list[list[Tensor]]], tuple[Tensor, Tensor]]:
    """as_edges(polygons of G instances) is their edges (G x V x 4) and parts (G x V), as in structures.Polygons."""

    def convert(instances: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        vertices = [[part.view(-1, 2) for part in parts] for parts in instances]
        edges = [torch.cat([torch.cat([part, part.roll(-1, 0)], dim=1) for part in parts]) for parts in vertices]
        numbers = [torch.cat([torch.full((len(part),), n) for n, part in enumerate(parts)]) for parts in vertices]
        pad = torch.nn.utils.rnn.pad_sequence
        return pad(edges, batch_first=True), pad(numbers, batch_first=True, padding_value=-1)

    return convert


@pytest.fixture(autouse=True, scope="module")
def onednn() -> Iterator[None]:
    """Two threads: with one, torch takes another kernel than the reference did for convolutions of a single image,

    whose sums differ by some 1e-5.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
