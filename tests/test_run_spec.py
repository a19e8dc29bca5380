"""What a run is to do: its file, its key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, SplitSpec, read_spec, write_spec
from harness.shortening import Shortening

NAME = "mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco"
CELL = parse_name(NAME)
SPEC = RunSpec(
    experiment="zoo",
    description="All rows",
    name=NAME,
    cell=NAME,
    axes=CELL.point,
    published=True,
    recipe=CELL.recipe(),
    suffix="",
    shortening=Shortening(),
    seed=0,
    precision="fp32",
    identity="0123456789abcdef",
    train=SplitSpec(images="/d/train2017", annotations="/d/t.json", digest="a" * 64),
    val=SplitSpec(images="/d/val2017", annotations="/d/v.json", digest="b" * 64),
    weights="/w/resnet50.pth",
    resources={"nodes": 1},
)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def test_a_specification_survives_its_file(paths: RunPaths) -> None:
    spec = replace(SPEC, shortening=Shortening(epochs=2, image_scale=0.5), weights=None)
    write_spec(paths, spec)
    assert read_spec(paths) == spec
    assert read_json(paths.spec)["key"] == spec.key
    shown = read_json(paths.config)
    assert (shown["cell"], shown["seed"], shown["shortened"]) == (NAME, 0, "epochs=2, image_scale=0.5")
    # 2 of 36 epochs: the steps 28 and 34 fall at 1.56 and 1.89, both rounded to 2.
    assert (shown["recipe"]["epochs"], shown["recipe"]["lr_steps"]) == (2, [2])


@pytest.mark.parametrize("content", [{"schema": 99}, [], {"schema": None}])
def test_a_specification_of_another_schema(paths: RunPaths, content: Any) -> None:
    write_json(paths.spec, content)
    with pytest.raises(UserError, match=r"run\.json: not a run of this harness"):
        read_spec(paths)


def test_a_missing_specification(paths: RunPaths) -> None:
    with pytest.raises(UserError, match=r"run\.json: no such file"):
        read_spec(paths)


def test_the_key_follows_what_makes_another_run() -> None:
    others = [
        replace(SPEC, seed=1),
        replace(SPEC, precision="bf16"),
        replace(SPEC, identity="fedcba9876543210"),
        replace(SPEC, shortening=Shortening(epochs=1)),
        replace(SPEC, shortening=Shortening(eval_images=1)),
    ]
    assert len({spec.key for spec in (SPEC, *others)}) == 6
    elsewhere = replace(
        SPEC,
        experiment="other",
        train=replace(SPEC.train, images="/elsewhere", annotations="/elsewhere.json"),
        weights="/elsewhere.pth",
        resources={"nodes": 2},
    )
    assert elsewhere.key == SPEC.key
    assert SPEC.folder_name == f"{NAME}-seed0-{SPEC.key}"
    assert len(SPEC.key) == 10
    assert len(replace(SPEC, name=NAME + "+x" * 200).folder_name) < 200


def test_what_may_stand_for_the_cell() -> None:
    assert SPEC.full
    assert not replace(SPEC, suffix="+lr=0.01").full
    assert not replace(SPEC, shortening=Shortening(epochs=1)).full
    assert not replace(SPEC, precision="bf16").full
    assert replace(SPEC, recipe=replace(SPEC.recipe, precision="fp16"), precision="fp16").full
