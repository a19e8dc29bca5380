"""Trainings of a second or two: narrow ResNet-18, small pictures of shapes, random weights."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from harness.data.shapes import generate_shapes
from harness.launching.prepare import PreparedRun, prepare, write
from harness.matrix import load_experiment
from harness.run_log import read_log
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec, write_spec
from harness.settings import load_settings
from harness.training import build
from harness.training.checkpoint import load
from harness.training.distributed import Ranks
from harness.training.loop import train
from harness.training.session import Training

MATRIX = """\
name: tiny
seeds: {seeds}
axes: {{backbone: R-18, multiscale: {multiscale}}}
recipe:
  label: tiny
  dataset: shapes
  num_classes: 3
  pretrained: none
  fpn_channels: 32
  box_fc_channels: 64
  mask_channels: 32
  mask_convs: 1
  roi_samples: 16
  rpn_samples: 32
  rpn_pre_nms_train: 100
  rpn_pre_nms_test: 100
  rpn_proposals: 50
  test_detections: 10
  optimizer: AdamW
  lr: 0.001
  batch: {batch}
  micro_batch: 2
  warmup_iters: 3
  epochs: {epochs}
  lr_steps: [1]
shorten: {{image_scale: 0.05{shorten}}}
resources: {{gpus_per_node: 0, workers: {workers}, minutes: {minutes}}}
"""


class TinyBackbone(nn.Module):
    """Four strided convolutions with trained batch norm, for tests that are not about the backbone."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.out_channels = (8, 8, 8, 8)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 8, 2 * stride, stride, stride // 2), nn.BatchNorm2d(8))
            for stride in (4, 8, 16, 32)
        )

    def forward(self, images: Tensor, *, fold: bool) -> tuple[Tensor, ...]:
        return tuple(stage(images).relu() for stage in self.stages)

    def init_weights(self) -> None:
        for stage in self.stages:
            nn.init.kaiming_normal_(stage[0].weight)


@contextmanager
def tiny_backbone(wanted: bool = True) -> Iterator[None]:
    """Build models with TinyBackbone."""
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            patch.setattr(build, "ResNet", TinyBackbone)
        yield


def make_shapes(root: Path, *, train: int = 12, val: int = 4) -> Path:
    """A handful of generated images."""
    generate_shapes(root, train=train, val=val, size=96)
    return root


def write_place(
    folder: Path,
    shapes: Path,
    *,
    multiscale: str = "false",
    seeds: str = "[0]",
    batch: int = 2,
    epochs: int = 2,
    workers: int = 0,
    minutes: int = 10,
    shorten: str = ", iterations_per_epoch: 3",
    settings: str = "",
) -> Path:
    """harness.toml and tiny.yaml in a folder; the matrix file."""
    toml = f'cache_root = "cache"\ntracking_uri = "sqlite:///mlflow.db"\nthreads = 1\n{settings}\n'
    (folder / "harness.toml").write_text(f'{toml}[datasets.shapes]\nroot = "{shapes}"\n')
    matrix = MATRIX.format(
        multiscale=multiscale,
        seeds=seeds,
        batch=batch,
        epochs=epochs,
        workers=workers,
        minutes=minutes,
        shorten=shorten,
    )
    (folder / "tiny.yaml").write_text(matrix)
    return folder / "tiny.yaml"


def prepared_run(folder: Path, shapes: Path, **place: Any) -> PreparedRun:
    """The one run of a tiny matrix, its specification written."""
    matrix = write_place(folder, shapes, **place)
    run = prepare(load_experiment(matrix), load_settings(folder, {}))[0]
    write(run)
    return run


def changed(run: PreparedRun, folder: Path, **fields: Any) -> tuple[RunPaths, RunSpec]:
    """The run with other recipe fields or, by the same name, fields of its specification; in another folder."""
    own = {name: value for name, value in fields.items() if hasattr(run.spec, name)}
    recipe = replace(run.spec.recipe, **{name: value for name, value in fields.items() if name not in own})
    spec = replace(run.spec, recipe=recipe, **own)
    write_spec(RunPaths(folder), spec)
    return RunPaths(folder), spec


def session(paths: RunPaths, spec: RunSpec, *, attempt: int = 1) -> Training:
    """A training on this process's CPU."""
    return Training(paths, spec, Ranks(), attempt=attempt)


def run_to_end(paths: RunPaths, spec: RunSpec, *, attempt: int = 1) -> Training:
    """Train without a stop."""
    training = session(paths, spec, attempt=attempt)
    assert train(training)
    return training


def stop_after(asked: int) -> Callable[[], bool]:
    """A `stop` that says so from the asked-th question on."""
    questions = itertools.count(1)
    return lambda: next(questions) >= asked


def weights(training: Training) -> dict[str, Tensor]:
    """The last checkpoint's state_dict."""
    assert training.saved is not None
    found: dict[str, Tensor] = load(training.saved.path)["state_dict"]
    return found


def journal(paths: RunPaths) -> list[dict[str, Any]]:
    """The journal's rows without what may differ between equal trainings."""
    rows = [row for row in read_log(paths.log) if row["mode"] in ("train", "val")]
    return [{name: value for name, value in row.items() if name not in VARYING} for row in rows]


VARYING = ("time", "data_time", "memory", "stamp")
