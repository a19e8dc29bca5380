import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.recipe import Recipe, field_names
from harness.run_state import State
from harness.shortening import Shortening
from harness.tracking import fields
from harness.tracking.snapshot import look

from .folders import CODE, attempt_row, folder, set_state, spec, system_rows, train_row, write_rows


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


def test_tags_of_a_running_run(tmp_path):
    paths = folder(tmp_path)
    write_rows(paths, 2, [attempt_row(2)])
    for node in (0, 1):
        system_rows(paths, 2, [1], node=node, nodes=2)
    system_rows(paths, 1, [1], node=2, nodes=3)  # an earlier attempt's
    set_state(paths, State.RUNNING, attempt=2, progress="epoch 1/2")
    found = fields.tags(look(paths))
    expected = {
        "axis.style": "caffe",
        "axis.multiscale": "false",
        "harness.full": "false",
        "harness.published": "true",
        "harness.shortening": "epochs=2",
        "harness.state": "RUNNING",
        "harness.attempt": "2",
        "harness.waiting": "",
        "harness.host": "node7",
        "harness.hosts": "node0: node7, node1: node8",
        "harness.folder": str(paths.folder),
        "harness.progress": "epoch 1/2",
        "harness.git_commit": "c0ffee",
        "harness.git_dirty": "true",
        "harness.version.torch": "2.6.0",
        "mlflow.source.git.commit": "c0ffee",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "Shortened (epochs=2): not a result of the full recipe." in found["mlflow.note.content"]
    assert "harness.result" not in found


def test_a_run_that_two_codes_have_trained_is_not_full(tmp_path):
    paths = folder(tmp_path, spec(shortening=Shortening()))
    write_rows(paths, 1, [attempt_row(1), train_row(10)])
    assert [fields.tags(look(paths))[f"harness.{name}"] for name in ("full", "codes")] == ["true", "abc"]
    write_rows(paths, 2, [attempt_row(2, 10) | {"code": CODE | {"digest": "def"}}, train_row(20)])
    assert [fields.tags(look(paths))[f"harness.{name}"] for name in ("full", "codes")] == ["false", "abc,def"]


def test_a_run_that_was_stopped_waits(tmp_path):
    paths = folder(tmp_path)
    assert fields.tags(look(paths))["harness.waiting"] == "waits for its first attempt"
    set_state(paths, State.QUEUED, attempt=3)
    found = fields.tags(look(paths))
    assert (found["harness.state"], found["harness.waiting"]) == ("QUEUED", "stopped in attempt 3, waits to go on")


def test_any_axis_becomes_a_tag_and_a_param(tmp_path):
    run = spec(axes={"backbone": "R-50", "neck_norm": "GN"})
    assert fields.tags(look(folder(tmp_path, run)))["axis.neck_norm"] == "GN"
    assert fields.params(run)["axis.neck_norm"] == "GN"


@pytest.mark.slow
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
