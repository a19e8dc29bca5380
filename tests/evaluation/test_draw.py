"""Pictures: what is tinted, what is left out, and that labels keep out of each other's way."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from harness.errors import UserError
from harness.evaluation.draw import contact_sheet, draw, write_image
from harness.evaluation.labels import CROWDED, Label, place_labels

NAMES = ["dog", "cat", "bird"]


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    bitmap = np.zeros((height, width), np.uint8, order="F")
    bitmap[box[1] : box[3], box[0] : box[2]] = 1
    rle: dict[str, Any] = mask_api.encode(bitmap)
    return rle


def grey(height: int = 700, width: int = 900) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), 128, np.uint8)


def test_mask_is_tinted_and_the_rest_untouched() -> None:
    image, box = grey(), (200, 300, 400, 500)
    picture = draw(image, [box], [0], [0.93], [rectangle(700, 900, box)], NAMES)
    assert picture.shape == image.shape
    assert (image == 128).all()
    inside = picture[350, 300].astype(int)
    assert np.ptp(inside) > 40  # a colour, no grey
    assert (picture[550:, :] == 128).all()
    assert (picture[:, 600:] == 128).all()
    assert (picture[270:295, 200:230] != 128).any()  # the plate over the box


def test_min_score_holds_for_detections_and_not_for_ground_truth() -> None:
    image, box = grey(), (200, 300, 400, 500)
    masks = [rectangle(700, 900, box)]
    assert (draw(image, [box], [0], [0.49], masks, NAMES) == image).all()
    assert (draw(image, [box], [0], [0.49], masks, NAMES, min_score=0.4) != image).any()
    assert (draw(image, [box], [0], None, masks, NAMES) != image).any()
    assert (draw(image, np.zeros((0, 4)), [], [], [], NAMES) == image).all()


def test_classes_and_instances_differ_in_colour_and_stay() -> None:
    image = grey()
    boxes = [(50, 100, 200, 300), (250, 100, 400, 300), (450, 100, 600, 300)]
    masks = [rectangle(700, 900, box) for box in boxes]
    picture = draw(image, boxes, [0, 0, 1], [0.9, 0.8, 0.7], masks, NAMES)
    dog, second_dog, cat = (picture[200, x].astype(int) for x in (125, 325, 525))
    assert np.abs(dog - second_dog).max() > 15
    assert min(np.abs(dog - cat).max(), np.abs(second_dog - cat).max()) > 30
    alone = draw(image, boxes[2:], [1], [0.6], masks[2:], NAMES)
    assert (alone[200, 525] == cat).all()


def test_small_objects_lie_over_large_ones() -> None:
    boxes = [(300, 300, 350, 350), (100, 100, 800, 600)]
    masks = [rectangle(700, 900, box) for box in boxes]
    both = draw(grey(), boxes, [0, 1], [0.9, 0.8], masks, NAMES)
    large = draw(grey(), boxes[1:], [1], [0.8], masks[1:], NAMES)
    tint = both[325, 325].astype(int) - large[325, 325].astype(int)
    assert np.abs(tint).max() > 20
    assert (both[500, 500] == large[500, 500]).all()


def test_small_images_are_enlarged_to_a_readable_size() -> None:
    box = (32, 32, 96, 64)
    picture = draw(grey(128, 128), [box], [2], [0.8], [rectangle(128, 128, box)], NAMES)
    assert picture.shape == (640, 640, 3)
    assert np.ptp(picture[240, 320].astype(int)) > 40  # (64, 48) of the small image
    assert (picture[400:, :] == 128).all()


def test_boxes_and_empty_masks_at_the_edge_are_drawn() -> None:
    box = (-20.0, -10.0, 950.0, 720.0)
    picture = draw(grey(), [box], [0], [0.8], [rectangle(700, 900, (0, 0, 0, 0))], NAMES)
    assert (picture[350, 0] != 128).any()
    assert (picture[350, 899] != 128).any()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-20, 280), st.integers(-20, 180), st.integers(1, 200), st.integers(1, 150)), max_size=12
    )
)
def test_plates_stay_inside_and_apart(corners: list[tuple[int, int, int, int]]) -> None:
    canvas = np.zeros((200, 300, 3), np.uint8)
    labels = [Label(text="zebra 0.99", box=(x, y, x + w, y + h), colour=(0, 200, 0)) for x, y, w, h in corners]
    plates = place_labels(canvas, labels)
    assert bool(plates) == bool(labels)
    cover = np.zeros((200, 300), int)
    for left, top, right, bottom in plates:
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 200
        assert cover[top:bottom, left:right].mean() <= CROWDED + 1e-9  # on those laid before
        cover[top:bottom, left:right] += 1


def test_contact_sheet_keeps_proportions_and_order() -> None:
    red, green, blue = (np.full((100, 200, 3), colour, np.uint8) for colour in ((0, 0, 255), (0, 255, 0), (255, 0, 0)))
    tall = np.full((50, 20, 3), 7, np.uint8)
    sheet = contact_sheet([red, green, blue, tall], 2)
    assert sheet.shape == (2 * 100 + 3 * 12, 2 * 200 + 3 * 12, 3)
    for y, x, image in ((62, 112, red), (62, 324, green), (174, 112, blue), (174, 324, tall)):
        assert (sheet[y, x] == image[0, 0]).all()
    assert (sheet == 7).all(axis=2).sum() == 100 * 40  # twice as large, 20 : 50 as before
    titled = contact_sheet([red, green], 2, titles=("ground truth", "prediction"))
    assert (titled[-112:] == contact_sheet([red, green], 2)[-112:]).all()
    heading = titled[12:-124]
    assert (heading[:, :212] < 100).any()  # ink over each of the two columns
    assert (heading[:, 224:] < 100).any()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG"])
def test_write_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep/picture{suffix}"
    write_image(path, grey(20, 30))
    assert (np.abs(cv2.imread(str(path)).astype(int) - 128) <= 1).all()


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.png or \.jpg"):
        write_image(tmp_path / "picture.tiff", grey(4, 4))
