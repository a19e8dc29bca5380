"""Preparing images: the oracle's pixels and numbers, and hand-worked boxes and polygons."""

import functools
import io
import json
import lzma
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_api

from harness.cell import parse_name
from harness.data.coco import GroundTruth
from harness.data.transforms import (
    Augmentation,
    _nearest,
    _resized,
    augment,
    choose_scale,
    decode,
    normalise,
    padded,
    rescale_size,
    resize,
)
from harness.errors import UserError
from harness.training.build import build_augmentation

PLAIN = Augmentation(
    scales=((60, 40),),
    multiscale_mode="fixed",
    flip_probability=0.0,
    channel_order="bgr",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    mask_format="polygon",
)
BITMAP = replace(PLAIN, mask_format="bitmap")
TRUTH = GroundTruth(
    boxes=np.array([[2, 4, 12, 10], [10, 2, 40, 8]], np.float32),
    labels=np.array([3, 0]),
    segmentations=[[np.array([2, 4, 12, 4, 12, 10.0])], [np.array([10, 2, 40, 2, 40, 8.0])]],
)


@functools.cache
def _oracle(shared: Path, name: str) -> Any:
    packed = (shared / f"reference/oracle/unit/{name}.pt.xz").read_bytes()
    return torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_sizes_of_the_oracle(shared: Path) -> None:
    rows = json.loads((shared / "reference/oracle/unit/resize_rule.json").read_text())
    assert len(rows) == 128
    for row in rows:
        width, height = rescale_size((row["w"], row["h"]), tuple(row["scale"]))
        assert (width, height) == (row["new_w"], row["new_h"])
        assert (width / row["w"], height / row["h"]) == (row["w_scale"], row["h_scale"])
        assert (padded(width, 32), padded(height, 32)) == (row["pad_w"], row["pad_h"])


@given(st.integers(32, 2000), st.integers(32, 2000))
def test_sizes_fit_the_limits_and_one_is_reached(width: int, height: int) -> None:
    new = rescale_size((width, height), (1333, 800))
    assert max(new) <= 1333 and min(new) <= 800
    assert max(new) == 1333 or min(new) == 800


def test_pixels_of_the_oracle(shared: Path) -> None:
    oracle = _oracle(shared, "preprocess")
    image = decode(shared / "reference/oracle/image_a.png")
    assert np.array_equal(image, oracle["bgr"].numpy())
    for size, expected in oracle["resized"].items():
        width, height = map(int, size.split("x"))
        assert np.array_equal(resize(image, (width, height)), expected.numpy())


@pytest.mark.parametrize(
    "cell", ["mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_caffe_fpn_1x_coco", "mask_rcnn_x101_32x8d_fpn_1x_coco"]
)
def test_the_three_normalisations_of_the_oracle(shared: Path, cell: str) -> None:
    oracle, recipe = _oracle(shared, "preprocess"), parse_name(cell).recipe()
    expected = oracle["normalised"][cell]
    assert torch.equal(torch.tensor(recipe.pixel_mean), torch.tensor(expected["mean"]))
    assert torch.equal(torch.tensor(recipe.pixel_std), torch.tensor(expected["std"]))
    assert recipe.channel_order == ("rgb" if expected["channel_conversion"] else "bgr")
    height, width = oracle["crop_hw"]
    out = torch.zeros(3, 64, 64)
    normalise(
        oracle["bgr"].numpy()[:height, :width],
        out[:, :height, :width],
        channel_order=recipe.channel_order,
        mean=recipe.pixel_mean,
        std=recipe.pixel_std,
    )
    assert torch.equal(out[None], expected["out"])


@pytest.mark.parametrize("flip", [False, True])
def test_bitmaps_of_the_oracle(shared: Path, flip: bool) -> None:
    masks, oracle = _oracle(shared, "masks"), _oracle(shared, "mask_rescale")
    parts = [[part.numpy() for part in instance] for instance in masks["polygons"]]
    truth = GroundTruth(boxes=np.zeros((7, 4), np.float32), labels=np.zeros(7, np.int64), segmentations=[*parts])
    image = decode(shared / "reference/oracle/image_a.png")
    augmentation = replace(BITMAP, scales=(oracle["scale"],), flip_probability=float(flip))
    sample = augment(image, truth, augmentation, _random())
    bitmaps = [patch.within(*sample.image.shape[:2]) for patch in sample.bitmaps]
    assert np.array_equal(np.stack(bitmaps), oracle["flipped" if flip else "bitmap_rescaled"].numpy())
    assert sample.polygons == []


def test_boxes_and_polygons_by_hand() -> None:
    # 30 x 20 to 60 x 40: everything doubles, and the second box ends at the image's right side.
    sample = augment(np.zeros((20, 30, 3), np.uint8), TRUTH, PLAIN, _random())
    assert sample.image.shape == (40, 60, 3)
    assert sample.boxes.tolist() == [[4, 8, 24, 20], [20, 4, 60, 16]]
    assert sample.labels.tolist() == [3, 0]
    assert sample.polygons[0][0].tolist() == [4, 8, 24, 8, 24, 20]
    assert sample.bitmaps == []


def test_flipped_boxes_and_polygons_by_hand() -> None:
    # x becomes 60 - x, and left and right change places in boxes.
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 0] = 200
    sample = augment(image, TRUTH, replace(PLAIN, flip_probability=1.0), _random())
    assert sample.boxes.tolist() == [[36, 8, 56, 20], [0, 4, 40, 16]]
    assert sample.polygons[0][0].tolist() == [56, 8, 36, 8, 36, 20]
    assert (sample.image[:, -1] == 200).all() and (sample.image[:, 0] == 0).all()


def test_boxes_are_clipped_before_they_are_mirrored() -> None:
    # Twice the size makes 60 x 40: (-4, 2, 70, 50) is clipped to (0, 2, 60, 40), (50, -6, 64, 8) to (50, 0, 60, 8),
    # which lies at 0 .. 10 from the right. Polygons are not clipped: 35 becomes 70, and 60 - 70 = -10.
    truth = GroundTruth(
        boxes=np.array([[-2, 1, 35, 25], [25, -3, 32, 4]], np.float32),
        labels=np.array([0, 0]),
        segmentations=[[np.array([-2.0, 1, 35, 1, 35, 25])], [np.array([25.0, -3, 32, -3, 32, 4])]],
    )
    image = np.zeros((20, 30, 3), np.uint8)
    straight = augment(image, truth, PLAIN, _random())
    assert straight.boxes.tolist() == [[0, 2, 60, 40], [50, 0, 60, 8]]
    flipped = augment(image, truth, replace(PLAIN, flip_probability=1.0), _random())
    assert flipped.boxes.tolist() == [[0, 2, 60, 40], [0, 0, 10, 8]]
    assert flipped.polygons[0][0].tolist() == [64, 2, -10, 2, -10, 50]


def test_width_and_height_have_their_own_factors() -> None:
    # 30 x 21 to (60, 40): factor 40 / 21, so 57 x 40, and x times 57 / 30 = 1.9, y times 40 / 21.
    sample = augment(np.zeros((21, 30, 3), np.uint8), replace(TRUTH, segmentations=[]), PLAIN, _random())
    assert sample.image.shape == (40, 57, 3)
    np.testing.assert_allclose(sample.boxes[0], [3.8, 160 / 21, 22.8, 400 / 21], rtol=1e-6)


def test_rle_in_both_mask_formats() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 10:26] = 1
    rle = rle_api.encode(np.asfortranarray(mask))
    truth = GroundTruth(boxes=TRUTH.boxes[1:], labels=TRUTH.labels[1:], segmentations=[rle])
    image = np.zeros((20, 30, 3), np.uint8)
    (patch,) = augment(image, truth, BITMAP, _random()).bitmaps
    doubled = patch.within(40, 60)
    assert doubled[4:16, 20:52].all() and doubled.sum() == 12 * 32
    ((part,),) = augment(image, truth, PLAIN, _random()).polygons
    assert {tuple(point) for point in part.reshape(-1, 2)} == {(20, 4), (52, 4), (52, 16), (20, 16)}


@pytest.mark.parametrize(
    ("cell", "choices", "limit"),
    [
        # A chi-square exceeds its limit once in a thousand: 20.5 with 5 degrees of freedom, 220.0 with 160.
        ("mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco", [640, 672, 704, 736, 768, 800], 20.5),
        ("mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco", list(range(640, 801)), 220.0),
    ],
)
def test_scales_are_drawn_uniformly(cell: str, choices: list[int], limit: float) -> None:
    """As published: one of six short sides, or any whole one from 640 to 800, both included; the long side stays."""
    augmentation, random = build_augmentation(parse_name(cell).recipe()), _random()
    drawn = [choose_scale(augmentation, random) for _ in range(16_100)]
    assert {long for long, _ in drawn} == {1333}
    counts = Counter(short for _, short in drawn)
    assert sorted(counts) == choices
    expected = len(drawn) / len(choices)
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < limit


def test_the_range_may_be_of_both_sides_in_any_order() -> None:
    ranged = replace(PLAIN, scales=((12, 20), (10, 22)), multiscale_mode="range")  # long 20..22, short 10..12
    random = _random()
    expected = {(long, short) for long in (20, 21, 22) for short in (10, 11, 12)}
    assert {choose_scale(ranged, random) for _ in range(300)} == expected


def test_flip_probability() -> None:
    random = _random()
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 0] = 200
    empty = GroundTruth(boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), segmentations=[])
    half = replace(PLAIN, flip_probability=0.5)
    flips = sum(bool(augment(image, empty, half, random).image[0, -1, 0]) for _ in range(400))
    assert 160 < flips < 240  # 4 standard deviations of 10


def test_decode_turns_upright(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))
    orientation_6 = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # a quarter turn
    segment = b"\xff\xe1" + (len(orientation_6) + 2).to_bytes(2, "big") + orientation_6
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded.tobytes()[:2] + segment + encoded.tobytes()[2:])
    assert decode(path).shape == (30, 20, 3)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_unreadable_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken.jpg: not a readable image; expected a photo"):
        decode(path)
    with pytest.raises(UserError, match=r"missing.jpg: No such file or directory; name photos"):
        decode(tmp_path / "missing.jpg")


@given(st.integers(1, 700), st.integers(1, 700), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_patch_is_what_cv2_makes_of_the_whole_mask(old: int, new: int, flip: bool, seed: int) -> None:
    """Of a random rectangle of noise, resized to (new, new + 3) by nearest neighbour, and mirrored."""
    random = np.random.default_rng(seed)
    mask = np.zeros((old, 300), np.uint8, order="F")
    (top, bottom), (left, right) = (sorted(random.integers(0, side + 1, 2)) for side in mask.shape)
    mask[top:bottom, left:right] = random.integers(0, 2, (bottom - top, right - left))
    rows, columns = _nearest(old, new), _nearest(300, new + 3)
    found = _resized(mask, rows, columns[::-1] if flip else columns).within(new, new + 3)
    whole = cv2.resize(np.ascontiguousarray(mask), (new + 3, new), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(found, whole[:, ::-1] if flip else whole)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["rgb", "bgr"]), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_normalised_is_the_value_less_the_mean_by_the_deviation(height: int, width: int, order: Any, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    out = torch.full((3, height + 2, width + 3), 7.0)
    normalise(image, out[:, :height, :width], channel_order=order, mean=mean, std=std)
    channels = torch.from_numpy(image[..., ::-1].copy() if order == "rgb" else image).permute(2, 0, 1).float()
    expected = (channels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(out[:, :height, :width], expected)
    assert (out[:, height:] == 7).all() and (out[:, :, width:] == 7).all()
