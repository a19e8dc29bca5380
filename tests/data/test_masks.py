"""Segmentations against the oracle's bitmaps, and outlines against what they outline."""

import lzma
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as rle_api

from harness.data.masks import as_polygons, bitmap, outlines


def test_bitmaps_equal_the_oracle(shared: Path) -> None:
    with lzma.open(shared / "reference/oracle/unit/masks.pt.xz") as file:
        oracle = torch.load(file, weights_only=True)
    bitmaps = [bitmap([part.numpy() for part in parts], *oracle["hw"]) for parts in oracle["polygons"]]
    assert len(bitmaps[1].shape) == 2 and len(oracle["polygons"][1]) == 2  # an instance of two parts among them
    assert np.array_equal(np.stack(bitmaps), oracle["bitmaps"].numpy())


def test_outline_of_two_pixels_runs_along_their_edges() -> None:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 1:3] = 1  # covers x from 1 to 3, y from 1 to 2
    (outline,) = outlines(mask)
    assert {tuple(point) for point in outline.reshape(-1, 2)} == {(1, 1), (3, 1), (3, 2), (1, 2)}


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 1)))
def test_outlines_rasterise_to_the_mask_but_for_filled_holes(mask: np.ndarray) -> None:
    polygons = outlines(mask)
    drawn = bitmap(polygons, *mask.shape) if polygons else np.zeros_like(mask)
    assert np.array_equal(drawn, _without_holes(mask))


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Flood the outside over edges and corners' straight neighbours; what it does not reach is filled."""
    outside = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    outside[0, 0] = True
    free = np.pad(mask == 0, 1, constant_values=True)
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if np.array_equal(grown, outside):
            return (~outside[1:-1, 1:-1]).astype(np.uint8)
        outside = grown


def test_rle_becomes_polygons_of_the_same_pixels() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:11] = 1
    mask[12:18, 20:29] = 1
    polygons = as_polygons(rle_api.encode(np.asfortranarray(mask)), 20, 30)
    assert len(polygons) == 2
    assert np.array_equal(bitmap(polygons, 20, 30), mask)
