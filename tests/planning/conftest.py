"""Run folders made by hand, and a folder with harness.toml, a tiny matrix and its shapes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training.tiny import make_shapes, write_place

from harness.files import write_json
from harness.launching.prepare import PreparedRun, write
from harness.matrix import Experiment, load_experiment
from harness.run_paths import RunPaths
from harness.run_state import State, write_state
from harness.settings import Settings, load_settings


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 12 to train on, 4 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


def attempt_row(*, name: str = "GPU", device: str = "cpu", world: int = 1) -> dict[str, Any]:
    """The first row of an attempt, as far as it is looked at."""
    hardware = {"device": name, "count": world}
    return {"mode": "attempt", "device": device, "world": world, "env_info": {"hardware": hardware}}


def train_row(step: int, time: float, *, data_time: float = 0.0, memory: int = 100) -> dict[str, Any]:
    """A train row, as far as it is looked at."""
    return {"mode": "train", "step": step, "time": time, "data_time": data_time, "memory": memory}


def write_attempt(
    paths: RunPaths, number: int, rows: Sequence[dict[str, Any]], times: dict[str, Any] | None = None
) -> None:
    """An attempt with this journal and times.json."""
    paths.attempt(number).mkdir(parents=True)
    paths.segment(number).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if times is not None:
        write_json(paths.attempt(number) / "times.json", times)


def finish(run: PreparedRun, seconds: float, *, data_time: float = 0.0, **first: Any) -> None:
    """Make a run that finished, with so many seconds an iteration."""
    write(run)
    rows = [attempt_row(**first), train_row(1, 9.0), train_row(2, seconds, data_time=data_time)]
    write_attempt(run.paths, 1, rows)
    write_json(run.paths.result, {})
    write_state(run.paths, State.FINISHED, attempt=1)


CLUSTER = """\
gpus_per_node: 8
minutes: 600
"""


def place(folder: Path, shapes: Path, **matrix: Any) -> tuple[Experiment, Settings]:
    """A tiny experiment, and settings that know a cluster file."""
    (folder / "here.yaml").write_text(CLUSTER)
    return load_experiment(write_place(folder, shapes, **matrix)), load_settings(folder, {})


def on_cluster(settings: Settings, folder: Path) -> Settings:
    """With the cluster of that file."""
    return replace(settings, cluster=str(folder / "here.yaml"))
