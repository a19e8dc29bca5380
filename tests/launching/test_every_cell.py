"""Every cell of the shipped experiments trains: two iterations of the real command on a CPU, killed between them.

The recipes are whole (widths, frozen sets, normalisation, masks, multi-scale, precision, 512 RoIs an image) but for the
size and number of images. `make test` takes a cell of each kind; `make test-every-cell` takes them all.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.tiny import make_shapes

from harness.cell import parse_name
from harness.detection.resnet import ResNet
from harness.detection.weights import SOURCES
from harness.files import read_json, write_json
from harness.matrix import load_experiment
from harness.recipe import Recipe
from harness.reporting.tracked_records import from_tracking
from harness.run_log import merged_rows
from harness.run_paths import RunPaths
from harness.shipped import find_experiment
from harness.training import checkpoint

pytestmark = pytest.mark.slow

CELLS = [
    f"mask_rcnn_{cell}_coco"
    for cell in (
        "r50_fpn_fp16_1x",  # FP16 (bf16 here), bitmaps, one scale, batch norm's affine part trained
        "r101_caffe_fpn_mstrain-poly_3x",  # polygons, a range of scales
        "x101_32x8d_fpn_mstrain-poly_1x",  # Facebook's normalisation, one of six scales
    )
]
"""Each depth, style, mask format and multi-scale mode, and FP16; all cells with HARNESS_TEST_EVERY_CELL."""

if os.environ.get("HARNESS_TEST_EVERY_CELL"):
    CELLS = list(
        dict.fromkeys(
            planned.cell.name
            for name in ("zoo", "full")
            for planned in load_experiment(find_experiment(Path(name))).cells
        )
    )

MATRIX = """\
name: every-cell
axes:
  backbone: [R-50, R-101, X-101-32x4d, X-101-64x4d, X-101-32x8d]
  style: [caffe, pytorch]
  schedule: [1x, 2x, 3x]
  fp16: [false, true]
  multiscale: [false, true]
exclude:
  - {backbone: [X-101-32x4d, X-101-64x4d, X-101-32x8d], style: caffe, because: no pretrained weights}
recipe: {label: brief, batch: 2}
shorten: {epochs: 1, iterations_per_epoch: 2, image_scale: 0.1, eval_images: 2}
resources: {gpus_per_node: 0, workers: 0}
"""

CHILD = """\
from harness.cli import main
from harness.detection import weights
from harness.training import loop
weights.verify_name = lambda path, **_: None  # generated files cannot have the published digests
loop.CHECKPOINT_SECONDS = 0.0
main()
"""
SECONDS = 1800  # for one attempt, on a machine that has much else to do

RATES = [0.02 * 0.001, 0.02 * (1 - (1 - 1 / 500) * 0.999)]
"""Warm-up's first two rates, by the formula of the 2.x recipes."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the matrix and a data set of 80 classes under the name of COCO 2017."""
    folder = tmp_path_factory.mktemp("every_cell")
    shapes = make_shapes(folder / "coco", train=12, val=2)
    for annotations in (shapes / "annotations").glob("*.json"):
        content = read_json(annotations)
        content["categories"] += [{"id": number, "name": f"class {number}"} for number in range(4, 81)]
        write_json(annotations, content)
    (folder / "harness.toml").write_text('cache_root = "cache"\n[datasets.coco2017]\nroot = "coco"\n')
    (folder / "every.yaml").write_text(MATRIX)
    yield folder
    shutil.rmtree(folder)


def write_weights(folder: Path, recipe: Recipe) -> Path:
    """A file of the published name with the published keys; its numbers give features of a trained network's size."""
    path = folder / SOURCES[recipe.pretrained].file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = ResNet(depth=recipe.depth, style="pytorch", groups=recipe.groups, base_width=recipe.base_width)
            backbone.init_weights()
        state = backbone.state_dict()
        for name in state:
            if name.endswith("bn3.weight"):
                state[name] = torch.full_like(state[name], 0.2)
        state["conv1.weight"] *= 30 * recipe.pixel_std[0] / 58
        torch.save(state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    return path


def command(place: Path, *words: str) -> "subprocess.Popen[bytes]":
    """`harness` with these words, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")}
    environment |= {"XDG_CONFIG_HOME": str(place / "none"), "TORCH_HOME": str(place / "none")}
    with (place / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *words], cwd=place, env=environment, stdout=output, stderr=output
        )


def kill_after_an_iteration(place: Path, process: "subprocess.Popen[bytes]", cell: str) -> RunPaths:
    """Wait for the first iteration's checkpoint, and kill -9; the run."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := list((place / "runs/every-cell").glob(f"{cell}+*/checkpoints/latest.json")):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return RunPaths(found[0].parent.parent)
        time.sleep(0.02)
    process.kill()
    raise AssertionError((place / "output").read_text()[-4000:])


def trainable(recipe: Recipe, name: str) -> bool:
    """Whether the recipe trains this parameter (recipes: frozen_stages 1; affine batch norm by row)."""
    if name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")):
        return False
    normalises = name.startswith("backbone.") and (".bn" in name or ".downsample.1." in name)
    return recipe.bn_affine_trained or not normalises


def check_weights(content: dict[str, Any], recipe: Recipe, pretrained: dict[str, Tensor]) -> None:
    """What is frozen is the file's, bit for bit, batch norm's statistics too; what is trained has a momentum."""
    state = content["state_dict"]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [name for name in state if not name.endswith(buffers)]
    trained = [name for name in parameters if trainable(recipe, name)]
    assert len(content["optimizer"]["state"]) == len(trained)
    assert all(torch.isfinite(state[name]).all() for name in trained)
    for name, value in pretrained.items():
        if not name.startswith("fc.") and f"backbone.{name}" not in trained:
            assert name.endswith("num_batches_tracked") or torch.equal(state[f"backbone.{name}"], value), name
    moved = [name for name in trained if name.startswith("backbone.") and name.endswith("conv2.weight")]
    assert all(not torch.equal(state[name], pretrained[name.removeprefix("backbone.")]) for name in moved)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_trains_is_killed_resumes_and_is_evaluated(place: Path, cell: str) -> None:
    recipe = parse_name(cell).recipe()
    weights = write_weights(place / "cache/weights", recipe)
    words = ("train", cell, "--experiment", "every.yaml")
    paths = kill_after_an_iteration(place, command(place, *words), cell)
    assert command(place, *words).wait(timeout=SECONDS) == 0, (place / "output").read_text()[-4000:]

    rows = merged_rows(paths)
    steps = [row for row in rows if row["mode"] == "train"]
    modes = sorted(row["mode"] for row in rows)  # the kill comes after the first iteration, or after the second
    assert modes == ["attempt", "attempt", "times", "train", "train", "val"]
    assert [row["step"] for row in steps] == [1, 2]
    assert [row["lr"] for row in steps] == pytest.approx(RATES)
    assert {row["precision"] for row in rows if row["mode"] == "attempt"} == {
        "bf16" if recipe.precision == "fp16" else "fp32"
    }
    assert read_json(paths.evaluation)["images"] == 2
    assert paths.detections.stat().st_size > 1000  # there were detections, and their masks
    saved = checkpoint.newest(paths.checkpoints)
    assert saved is not None and (saved.epoch, saved.step) == (1, 2)
    check_weights(checkpoint.load(saved.path), recipe, torch.load(weights, weights_only=True))
    shutil.rmtree(paths.checkpoints)  # up to 2 GB


def test_the_report_has_a_marked_row_for_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(place, "report", "every.yaml").wait(timeout=SECONDS) == 0, (place / "output").read_text()[-4000:]
    page = (place / "reports/every-cell/README.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| R-", "| X-")) and "[config]" in line]
    in_bf16 = [name for name in CELLS if parse_name(name).recipe().precision == "fp16"]
    assert len(rows) == len(CELLS) - len(in_bf16)
    assert all("<sup>" in row for row in rows)
    assert page.count("ran in bf16, the recipe says fp16") == len(in_bf16)  # in no FP16 row
    assert "shortened, not a full result: epochs=1, iterations_per_epoch=2" in page
    assert "trained on a CPU" in page

    records = [record for record in from_tracking(f"sqlite:///{place}/mlflow.db", "every-cell") if record.finished]
    assert sorted(record.cell for record in records) == sorted(CELLS)
    with capsys.disabled():
        print("\npeak memory of a cell's training (resident, GB)")
        for record in records:
            print(f"  {record.memory_gb:4.1f}  {record.cell}")
