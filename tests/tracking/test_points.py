import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tracking.points import last_train_row, points, result_points, row_key, updated, window
from harness.tracking.system import WINDOWS

from .folders import BY_EPOCH_VALUES, RESULT, START, TRAIN_VALUES, VAL_VALUES, train_row, val_row


def test_points_of_a_train_row():
    found = {point.key: point for point in points(train_row(20))}
    assert len(found) == TRAIN_VALUES
    assert found["train/loss"] == ("train/loss", 0.05, int(1000 * (START + 20)), 20)
    assert found["epoch"].value == 1
    assert not {"train/iter", "train/step", "train/stamp", "train/mode", "train/epoch"} & set(found)


def test_points_of_a_val_row_leave_texts_out():
    found = points(val_row(2), train_row(200))
    assert {point.key: point.value for point in found if point.step == 200} == {
        "val/bbox_mAP": 0.2,
        "val/segm_mAP": 0.1,
        "val/lr": 0.02,
        "val/epoch": 2,
    }
    by_epoch = {point.key: point.value for point in found if point.step == 2}
    assert by_epoch["by_epoch/bbox_mAP"] == 0.2
    assert by_epoch["by_epoch/loss_mask"] == 1 / 200
    assert len(by_epoch) == BY_EPOCH_VALUES
    assert len(found) == VAL_VALUES
    assert {point.timestamp for point in found} == {round(1000 * (START + 200.5))}


def test_the_losses_of_an_epoch_are_those_of_its_last_train_row():
    rows = [train_row(150), train_row(200), train_row(200, loss=9.0), train_row(210), val_row(1), {"mode": "attempt"}]
    assert last_train_row(rows, 200) == train_row(200)  # of two the first
    assert last_train_row(rows, 199) == train_row(150)
    assert last_train_row(rows, 100) is None


def test_points_of_a_system_row():
    row = {"mode": "system", "node": 1, "nodes": 1, "host": "a", "seconds": 70, "values": {"x": 5.0}, "stamp": 1.5}
    assert points(row) == [("system/x", 5.0, 1500, 70)]
    assert points(row | {"nodes": 2}) == [("system/node1/x", 5.0, 1500, 70)]


def test_a_later_mark_is_at_a_later_step():
    assert updated(START + 2.5, START) == ("harness/updated", START + 2.5, round(1000 * START) + 2500, 2500)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_nan(value):
    row = json.loads(json.dumps(train_row(1, loss=value)))
    assert math.isnan(next(point.value for point in points(row) if point.key == "train/loss"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, (1, 1)), (399, (1, 399)), (400, (2, 200)), (799, (2, 399)), (800, (4, 200)), (90_000, (256, 351))],
)
def test_windows_by_hand(step, expected):
    assert window(step) == expected  # 90000 / 200 = 450: width 256; 90000 // 256 = 351


@given(st.integers(1, 1_000_000), st.integers(1, 300))
def test_windows_are_never_wider_than_their_share_of_the_step(step, windows):
    width, number = window(step, windows)
    assert width == 1 or width <= step / windows < 2 * width
    assert number * width <= step < (number + 1) * width


@pytest.mark.parametrize(
    ("steps", "interval", "seconds", "gpus", "nodes"),
    [
        (90_000, 50, 12 * 3600, 8, 1),
        (264_000, 50, 36 * 3600, 8, 1),  # 3x
        (264_000, 1, 36 * 3600, 8, 1),
        (264_000, 50, 14 * 24 * 3600, 0, 1),
        (264_000, 50, 14 * 24 * 3600, 8, 16),
        (2_112_000, 50, 14 * 24 * 3600, 1, 1),  # 3x with batch 2
    ],
)
def test_a_full_run_stays_below_50000_points(steps, interval, seconds, gpus, nodes):
    trained = {row_key({"mode": "train", "step": step}) for step in range(interval, steps + 1, interval)}
    values = 6 + 4 * gpus
    sampled = {window(second, max(1, WINDOWS // (values * nodes))) for second in range(1, seconds, 10)}
    evaluations = 36 * (26 + 24 + TRAIN_VALUES)  # 36 epochs: 24 numbers, lr and epoch; against the epoch
    marks = len(trained) + len(sampled)  # at most: a shipment each
    found = len(trained) * TRAIN_VALUES + len(sampled) * values * nodes + evaluations + marks + RESULT
    assert found < 50_000
    assert len(trained) >= 500 or len(trained) == steps // interval


def test_rows_that_are_no_measurement_have_no_key():
    assert row_key({"mode": "attempt", "step": 0}) is None


def test_result_points_leave_out_what_was_not_measured():
    result = {"memory_mb": 4096, "fps": None, "images_per_second": 16.0, "train_seconds": 200.0, "iterations": 200}
    found = result_points(result, 5)
    assert found == [("memory_gb", 4.0, 5, 200), ("images_per_second", 16.0, 5, 200), ("train_seconds", 200.0, 5, 200)]
