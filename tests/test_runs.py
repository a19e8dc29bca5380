"""Run folders: specification, state, attempts, journal."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness import runs
from harness.cell import parse_name
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.recipe import Shortening
from harness.runs import RunPaths, RunSpec, RunState, SplitSpec, State

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
    runs.write_spec(paths, spec)
    assert runs.read_spec(paths) == spec
    assert read_json(paths.spec)["key"] == spec.key
    shown = read_json(paths.config)
    assert (shown["cell"], shown["seed"], shown["shortened"]) == (NAME, 0, "epochs=2, image_scale=0.5")
    # 2 of 36 epochs: the steps 28 and 34 fall at 1.56 and 1.89, both rounded to 2.
    assert (shown["recipe"]["epochs"], shown["recipe"]["lr_steps"]) == (2, [2])


@pytest.mark.parametrize("content", [{"schema": 99}, [], {"schema": None}])
def test_a_specification_of_another_schema(paths: RunPaths, content: Any) -> None:
    write_json(paths.spec, content)
    with pytest.raises(UserError, match=r"run\.json: not a run of this harness"):
        runs.read_spec(paths)


def test_a_missing_specification(paths: RunPaths) -> None:
    with pytest.raises(UserError, match=r"run\.json: no such file"):
        runs.read_spec(paths)


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


def test_the_state_of_a_run_that_nobody_started_is_queued(paths: RunPaths) -> None:
    assert runs.read_state(paths) == RunState(state=State.QUEUED)


@pytest.mark.parametrize("state", list(State))
def test_a_state_survives_its_file(paths: RunPaths, state: State) -> None:
    runs.write_state(paths, state, attempt=2, reason="why", progress="epoch 3/12")
    found = runs.read_state(paths)
    assert (found.state, found.attempt, found.reason, found.progress) == (state, 2, "why", "epoch 3/12")
    assert found.pid == os.getpid()
    assert state.ended == (state in ("FINISHED", "FAILED", "KILLED"))


def test_a_running_run_whose_process_is_gone_has_failed(paths: RunPaths) -> None:
    script = (
        "import sys, os; from pathlib import Path; from harness.runs import *\n"
        "write_state(RunPaths(Path(sys.argv[1])), State.RUNNING, attempt=1, progress='epoch 1/12'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, paths.folder]).returncode == 9
    found = runs.read_state(paths)
    assert (found.state, found.attempt, found.progress) == (State.FAILED, 1, "epoch 1/12")
    assert "died without a word" in found.reason


def test_a_reused_process_number_is_not_mistaken(paths: RunPaths) -> None:
    runs.write_state(paths, State.RUNNING, attempt=1)
    assert runs.read_state(paths).state == State.RUNNING
    plain = read_json(paths.state)
    write_json(paths.state, plain | {"started": plain["started"] - 100})
    assert runs.read_state(paths).state == State.FAILED
    write_json(paths.state, plain | {"started": plain["started"] - 100, "host": "another-host"})
    assert runs.read_state(paths).state == State.RUNNING  # of other hosts nothing is known


def test_attempts_are_claimed_once_each(paths: RunPaths) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: runs.next_attempt(paths), range(24)))
    assert sorted(numbers) == list(range(1, 25))
    assert runs.next_attempt(paths) == 25
    assert paths.segment(3) == paths.folder / "attempts/0003/log.json"


def test_the_last_attempt(paths: RunPaths) -> None:
    assert runs.last_attempt(paths) == 0
    assert [runs.next_attempt(paths) for _ in range(3)] == [1, 2, 3]
    assert runs.last_attempt(paths) == 3


def test_the_runs_of_an_experiment(tmp_path: Path) -> None:
    for seed in (1, 0):
        spec = replace(SPEC, seed=seed)
        runs.write_spec(RunPaths(tmp_path / "zoo" / spec.folder_name), spec)
    (tmp_path / "zoo/not-a-run").mkdir()
    found = [runs.read_spec(paths).seed for paths in runs.experiment_runs(tmp_path, "zoo")]
    assert found == [0, 1]
    assert not list(runs.experiment_runs(tmp_path, "other"))


def test_a_run_keeps_each_file_in_its_own_place() -> None:
    paths = RunPaths(Path("r"))
    names = "spec config state log checkpoints detections evaluation predictions curves result tracking".split()
    assert len({getattr(paths, name) for name in names}) == len(names)
    assert asdict(paths) == {"folder": Path("r")}
