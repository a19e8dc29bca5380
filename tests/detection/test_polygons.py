"""Rasterisation, pixel for pixel against pycocotools."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torch import Tensor

from harness.detection.polygons import rasterize

Part = list[tuple[float, float]]

inside = st.floats(0, 28)
around = st.floats(-40, 70)
far = st.floats(-3000, 3000)
whole = st.integers(-10, 40).map(float)
fifths = st.integers(-50, 200).map(lambda value: value / 10)  # on and between the steps of the finer grid


def parts_of(coordinate: st.SearchStrategy[float]) -> st.SearchStrategy[list[Part]]:
    """Up to four parts: any order of vertices, so mostly self-intersecting; repeated ones make empty edges."""
    part = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12)
    return st.lists(part | part.map(lambda vertices: [v for v in vertices for _ in range(2)]), min_size=1, max_size=4)


polygons = parts_of(inside) | parts_of(around) | parts_of(far) | parts_of(whole) | parts_of(fifths)


def as_tensors(instances: list[list[Part]]) -> tuple[Tensor, Tensor]:
    edges, numbers = [], []
    for parts in instances:
        vertices = [torch.tensor(part, dtype=torch.float64) for part in parts]
        edges.append(torch.cat([torch.cat([part, part.roll(-1, 0)], dim=1) for part in vertices]))
        numbers.append(torch.cat([torch.full((len(part),), number) for number, part in enumerate(vertices)]))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(edges, batch_first=True), pad(numbers, batch_first=True, padding_value=-1)


def reference(parts: list[Part], height: int, width: int) -> np.ndarray:
    flat = [[value for vertex in part for value in vertex] for part in parts]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width))).astype(bool)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(polygons, min_size=1, max_size=5), st.sampled_from([(28, 28), (17, 40), (1, 3)]))
def test_equal_to_pycocotools(instances: list[list[Part]], shape: tuple[int, int]) -> None:
    height, width = shape
    ours = rasterize(*as_tensors(instances), height=height, width=width).numpy()
    for mask, parts in zip(ours, instances, strict=True):
        assert np.array_equal(mask, reference(parts, height, width))


@pytest.mark.slow
def test_thousands_of_drawn_polygons() -> None:
    generator = np.random.default_rng(0)
    for scale in (3, 14, 60):
        instances = []
        for _ in range(400):
            angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 40)))
            radii = generator.uniform(0.2, 1, len(angles)) * scale
            star = np.stack([14 + radii * np.cos(angles), 14 + radii * np.sin(angles)], axis=1)
            instances.append([[(x, y) for x, y in star.tolist()]])
        ours = rasterize(*as_tensors(instances), height=28, width=28).numpy()
        wrong = [
            not np.array_equal(mask, reference(parts, 28, 28)) for mask, parts in zip(ours, instances, strict=True)
        ]
        assert sum(wrong) == 0


def test_padding_alone_is_empty() -> None:
    edges, parts = torch.zeros(2, 5, 4, dtype=torch.float64), torch.full((2, 5), -1)
    assert not rasterize(edges, parts, height=4, width=4).any()
