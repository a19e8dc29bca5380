from colorsys import rgb_to_hls
from pathlib import Path

import pytest

from harness.cell import parse_name
from harness.recipe import Recipe, with_overrides
from harness.run_state import RunState, State
from harness.shortening import Shortening
from harness.tracking.note import Child, colour, experiment_note, note, waiting

from .folders import spec

RUNNING = RunState(state=State.RUNNING, attempt=2, host="node7", progress="epoch 1/2")


CELL = parse_name("mask_rcnn_r50_caffe_fpn_1x_coco").recipe()


def test_the_note_of_a_running_run():
    assert note(spec(recipe=CELL, shortening=Shortening()), RUNNING, None, Path("/runs/zoo/a")).split("\n\n") == [
        "**mask_rcnn_r50_caffe_fpn_1x_coco**, seed 0, published recipe, fp32.",
        "running, attempt 2, epoch 1/2.",
        "- backbone R-50, style caffe, fp16 false, multiscale false, schedule 1x\n"
        "- batch 16, rate 0.02 after 500 iterations of warm-up, falling by 0.1 at epochs 8, 11; 12 epochs\n"
        "- training images 1333x800, test images 1333x800; coco2017, annotations aaaaaaaaaaaa and bbbbbbbbbbbb\n"
        "- all numbers: the parameters, and config.json among the artifacts\n"
        "- run folder: `/runs/zoo/a`\n"
        "- again: `harness train mask_rcnn_r50_caffe_fpn_1x_coco --seed 0`",
    ]


def test_the_command_that_repeats_a_run_names_what_was_overridden():
    changed = with_overrides(CELL, {"lr": 0.01, "lr_steps": [4]})
    found = note(spec(recipe=changed, shortening=Shortening()), RUNNING, None, Path("/a"))
    assert found.endswith("--seed 0 --set 'lr=0.01' --set 'lr_steps=[4]'`")


def test_what_only_the_matrix_file_says_is_repeated_by_it():
    found = note(spec(), RUNNING, None, Path("/a"))
    assert "Shortened (epochs=2): not a result of the full recipe." in found
    assert found.endswith("again: `harness submit` with the matrix file of zoo (a shortened run)")


@pytest.mark.parametrize(
    ("mode", "scales", "expected"),
    [
        ("value", tuple((1333, side) for side in (640, 672, 704, 736)), "one of 1333x640, ..., 1333x736"),
        ("range", ((1333, 640), (1333, 800)), "between 1333x640, 1333x800"),
    ],
)
def test_multi_scale_in_words(mode, scales, expected):
    run = spec(recipe=Recipe(style="caffe", train_scales=scales, multiscale_mode=mode), shortening=Shortening())
    assert f"training images {expected}, test" in note(run, RUNNING, None, Path("/a"))


def test_what_a_queued_run_waits_for():
    assert waiting(RunState(state=State.QUEUED)) == "waits for its first attempt"
    assert waiting(RunState(state=State.QUEUED, attempt=2)) == "stopped in attempt 2, waits to go on"
    assert waiting(RUNNING) == ""


def test_the_note_of_an_experiment():
    runs = [
        Child("b seed 0", "RUNNING", None, None),
        Child("a seed 1", "FINISHED", 0.3825, 0.5),
        Child("a seed 1", "FINISHED", None, None),  # an earlier run of the same name
    ]
    description, links, table = experiment_note("Two cells.", "7", runs).split("\n\n")
    assert description == "Two cells."
    page = "#/experiments/7/runs?workflowType=machine_learning&orderByAsc=false&orderByKey=metrics.%60val/bbox_mAP%60"
    assert links == f"Compare [curves]({page}&compareRunsMode=CHART), [runs by box AP]({page})."
    assert table.split("\n")[2:] == [
        "| a seed 1 | FINISHED | 38.2 | 50.0 |",
        "| a seed 1 | FINISHED | - | - |",
        "| b seed 0 | RUNNING | - | - |",
    ]
    assert experiment_note("Two cells.", "7", []) == "Two cells."


def test_cells_differ_in_hue_and_seeds_in_lightness():
    first, second, other = (colour(spec(**run)) for run in ({}, {"seed": 1}, {"name": "another"}))
    hues, lights = zip(*((hue, light) for hue, light, _ in map(hls, (first, second, other))), strict=True)
    assert hues[0] == pytest.approx(hues[1], abs=0.02) and abs(hues[0] - hues[2]) > 0.02
    assert lights == pytest.approx((0.4, 0.55, 0.4), abs=0.01)


def hls(text):
    return rgb_to_hls(*(int(text[start : start + 2], 16) / 255 for start in (1, 3, 5)))
