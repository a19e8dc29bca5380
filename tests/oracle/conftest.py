"""The reference numbers, and a model with the reference's weights."""

import io
import lzma
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.cell import parse_name
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.sampler import Choice, random_choice
from harness.training.build import build_model


def read(shared: Path, name: str) -> Any:
    """The content of a file of the reference."""
    packed = (shared / f"reference/oracle/{name}.pt.xz").read_bytes()
    return torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)


def read_weights(shared: Path) -> dict[str, Tensor]:
    """The state_dict that the reference's R-50 ran with."""
    rebuild = runpy.run_path(str(shared / "reference/oracle/rebuild_weights.py"))["rebuild"]
    return {key: torch.as_tensor(value) for key, value in rebuild("r50_fpn").items()}


def build(
    weights: dict[str, Tensor],
    *,
    choose: Choice = random_choice,
    compact: bool | None = None,
    listed: bool | None = None,
    **fields: Any,
) -> MaskRCNN:
    """The published R-50 recipe's model with those fields changed, and the reference's weights."""
    model = build_model(replace(parse_name("mask_rcnn_r50_fpn_1x_coco").recipe(), **fields))
    model.load_state_dict(weights, strict=True)
    for head in (model.rpn_head, model.roi_head):
        head.choose, head.compact = choose, compact
    model.roi_head.listed = listed
    return model


@pytest.fixture(scope="session")
def oracle(shared: Path) -> Callable[[str], Any]:
    """oracle("unit/anchors") is the content of that file."""
    return partial(read, shared)


@pytest.fixture(scope="session")
def reference_weights(shared: Path) -> dict[str, Tensor]:
    """See read_weights."""
    return read_weights(shared)


@pytest.fixture
def reference_model(reference_weights: dict[str, Tensor]) -> Callable[..., MaskRCNN]:
    """reference_model(choose=..., compact=..., listed=..., **fields): see build."""
    return partial(build, reference_weights)


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
