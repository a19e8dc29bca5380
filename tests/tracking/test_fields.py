import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.recipe import Recipe, Shortening, field_names
from harness.runs import RunState, State
from harness.tracking import fields

from .folders import START, TRAIN_VALUES, VAL_VALUES, spec, train_row, val_row

RUNNING = RunState(state=State.RUNNING, attempt=2, host="node7", progress="epoch 1/2")


def test_params_are_the_executed_recipe_the_axes_and_the_seed():
    found = fields.params(spec(shortening=Shortening(epochs=6, image_scale=0.5), precision="bf16"))
    assert set(field_names()) <= set(found)
    assert found["epochs"] == "6"
    assert found["lr_steps"] == "[4,6]"  # 8 and 11 of 12 epochs, on 6: round(8 / 2), round(5.5) = 6 (ties to even)
    assert found["train_scales"] == "[[666,400]]"  # 1333 / 2 = 666.5, to even
    assert found["lr"] == "0.02"
    assert found["style"] == "caffe"
    assert found["axis.backbone"] == "R-50"
    assert found["axis.fp16"] == "false"
    assert (found["seed"], found["executed_precision"], found["precision"]) == ("0", "bf16", "fp32")


def test_a_param_that_mlflow_would_cut_says_where_it_is_whole():
    scales = tuple((1333, side) for side in range(1000))
    found = fields.params(spec(recipe=Recipe(style="caffe", train_scales=scales)))["train_scales"]
    # "[" + 1000 pairs + "]": [1333,N] has 7 characters and N's digits (10 x 1, 90 x 2, 900 x 3); 999 commas between.
    assert found == f"in config.json ({2 + 7000 + 10 + 180 + 2700 + 999} characters)"


def test_tags_of_a_running_run():
    env = {"versions": {"torch": "2.6.0"}, "git": {"commit": "c0ffee", "dirty": True}}
    found = fields.tags(spec(), RUNNING, env, None)
    expected = {
        "axis.style": "caffe",
        "axis.multiscale": "false",
        "harness.full": "false",
        "harness.published": "true",
        "harness.shortening": "epochs=2",
        "harness.state": "RUNNING",
        "harness.attempt": "2",
        "harness.host": "node7",
        "harness.progress": "epoch 1/2",
        "harness.git_commit": "c0ffee",
        "harness.git_dirty": "true",
        "harness.version.torch": "2.6.0",
        "mlflow.source.git.commit": "c0ffee",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "Shortened (epochs=2): not a result of the full recipe." in found["mlflow.note.content"]
    assert "harness.result" not in found


def test_any_axis_becomes_a_tag_and_a_param():
    run = spec(axes={"backbone": "R-50", "neck_norm": "GN"})
    assert fields.tags(run, RUNNING, {}, None)["axis.neck_norm"] == "GN"
    assert fields.params(run)["axis.neck_norm"] == "GN"


@settings(max_examples=25)
@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_split_and_joined_are_inverse(value):
    value = {"value": value, "long": "x" * 12_000}
    found = fields.split("harness.result", value)
    assert len(found) >= 3
    assert all(len(piece) <= 5000 for piece in found.values())
    assert fields.joined("harness.result", found) == value


def test_joined_without_such_a_tag():
    assert fields.joined("harness.result", {"harness.resulting": "1"}) is None


def test_points_of_a_train_row():
    found = {point.key: point for point in fields.points(train_row(20))}
    assert len(found) == TRAIN_VALUES
    assert found["train/loss"] == ("train/loss", 0.05, int(1000 * (START + 20)), 20)
    assert found["epoch"].value == 1
    assert not {"train/iter", "train/step", "train/stamp", "train/mode", "train/epoch"} & set(found)


def test_points_of_a_val_row_leave_texts_out():
    found = {point.key: point.value for point in fields.points(val_row(2))}
    assert found == {"val/bbox_mAP": 0.2, "val/segm_mAP": 0.1, "val/lr": 0.02, "val/epoch": 2}
    assert len(found) == VAL_VALUES


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_nan(value):
    row = json.loads(json.dumps(train_row(1, loss=value)))
    assert math.isnan(next(point.value for point in fields.points(row) if point.key == "train/loss"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, (1, 1)), (599, (1, 599)), (600, (2, 300)), (1199, (2, 599)), (1200, (4, 300)), (90_000, (256, 351))],
)
def test_windows_by_hand(step, expected):
    assert fields.window(step) == expected  # 90000 / 300 = 300: width 256; 90000 // 256 = 351


@given(st.integers(1, 1_000_000))
def test_windows_are_never_wider_than_a_300th_of_the_step(step):
    width, number = fields.window(step)
    assert width == 1 or width <= step / 300 < 2 * width
    assert number * width <= step < (number + 1) * width


@pytest.mark.parametrize(("steps", "interval"), [(90_000, 50), (264_000, 50), (264_000, 1), (1_000_000, 10)])
def test_a_full_run_stays_below_50000_points(steps, interval):
    kept = {fields.row_key({"mode": "train", "step": step}) for step in range(interval, steps + 1, interval)}
    evaluations = 36 * (24 + 2)  # 36 epochs: 24 numbers, lr and epoch
    assert len(kept) * TRAIN_VALUES + evaluations + 5 < 50_000
    assert len(kept) >= 600 or len(kept) == steps // interval


def test_rows_that_are_no_measurement_have_no_key():
    assert fields.row_key({"mode": "attempt", "step": 0}) is None


def test_result_points_leave_out_what_was_not_measured():
    result = {"memory_mb": 4096, "fps": None, "images_per_second": 16.0, "train_seconds": 200.0, "iterations": 200}
    found = fields.result_points(result, 5)
    assert found == [("memory_gb", 4.0, 5, 200), ("images_per_second", 16.0, 5, 200), ("train_seconds", 200.0, 5, 200)]


def test_per_class_table():
    classes = [
        {"id": 1, "name": "person", "instances": 12, "bbox": 0.25, "segm": 0.125},
        {"id": 2, "name": "bicycle, red", "instances": 0, "bbox": None, "segm": None},
    ]
    expected = 'id,name,instances,bbox,segm\n1,person,12,0.25,0.125\n2,"bicycle, red",0,-,-\n'
    assert fields.per_class_table(classes) == expected


def test_a_data_set_digest_fits():
    found = fields.dataset("coco2017", "val", spec().val)
    assert (found["name"], found["digest"]) == ("coco2017-val", "b" * 36)
    assert json.loads(found["profile"]) == {"annotations_digest": "b" * 64}
