"""A study of a known function: the last learning rate of tiny trainings. And stand-ins for its runs' processes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from training.tiny import MATRIX, write_place

from harness.failures import Failure
from harness.files import write_json
from harness.launching import decide, submit, supervision, supervisor
from harness.launching.local_queue import Home
from harness.run_paths import RunPaths, next_attempt
from harness.run_state import State, read_state, write_state
from harness.settings import Settings, load_settings
from harness.tuning import controller
from harness.tuning.study_file import Study, load_study

RECIPE = MATRIX.partition("axes:")[2].partition("\n")[2]  # from `recipe:` on
STUDY = "name: tuned\ncell: {backbone: R-18}\n"


CONTROL = """
from harness.settings import load_settings
from harness.tuning.controller import control
from harness.tuning.study_file import load_study
control(load_study("tuned.yaml"), load_settings(), lambda line: print(line, flush=True))
"""
"""A controller in a process of its own; `harness tune` measures the best trial again, too."""


def write_study(
    folder: Path,
    shapes: Path,
    *,
    search: str = "  lr: {low: 0.0001, high: 0.1, log: true}",
    objective: str = "{metric: lr, direction: maximize}",
    budget: str = "{trials: 4, parallel: 2}",
    more: str = "",
    **place: Any,
) -> tuple[Study, Settings]:
    """tuned.yaml and harness.toml in a folder: trainings of 1 epoch of 2 iterations, the rate constant."""
    write_place(folder, shapes, **place)
    recipe = RECIPE.format(batch=2, epochs=1, shorten=", iterations_per_epoch: 2", workers=0, minutes=10)
    recipe = recipe.replace("warmup_iters: 3", "warmup_iters: 0").replace("optimizer: AdamW", "optimizer: SGD")
    text = f"{STUDY}{recipe}search:\n{search}\nobjective: {objective}\nbudget: {budget}\n{more}\n"
    (folder / "tuned.yaml").write_text(text)
    return load_study(folder / "tuned.yaml"), load_settings(folder, {})


@dataclass(slots=True)
class StandIns:
    """What becomes of queued runs: `act(paths)` for each, at every look of the controller; no process is started."""

    act: Callable[[RunPaths], object]
    looks: int = 0
    begun: list[str] = field(default_factory=list)  # names of run folders, each time that one begins

    def look(self, home: Home) -> None:
        """Take up what is queued, and let what works go on."""
        self.looks += 1
        for entry in sorted(home.queue.glob("*.json")):
            paths = RunPaths(Path(json.loads(entry.read_text())["folder"]))
            entry.unlink()
            self.begun.append(paths.folder.name)
            write_state(paths, State.RUNNING, attempt=next_attempt(paths), progress="epoch 1/1")
        for file in sorted(home.run_root.glob("tuned/*/state.json")):
            if read_state(RunPaths(file.parent)).state == State.RUNNING:
                self.act(RunPaths(file.parent))


def stand_in(monkeypatch: pytest.MonkeyPatch, settings: Settings, act: Callable[[RunPaths], object]) -> StandIns:
    """Let stand-ins work while the controller sleeps; no copy of the code is made for them."""
    found = StandIns(act)
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)
    monkeypatch.setattr(submit, "freeze", lambda _: settings.run_root)
    monkeypatch.setattr(supervision, "freeze", lambda _: settings.run_root)
    monkeypatch.setattr(decide, "present_code", lambda: "0123456789ab")
    monkeypatch.setattr(submit, "require_sound", lambda *_: None)
    monkeypatch.setattr(controller, "replace_supervisor", lambda *_: None)
    monkeypatch.setattr(controller, "repair", lambda *_: None)
    monkeypatch.setattr(controller.time, "sleep", lambda _: found.look(Home(settings.run_root)))
    return found


def journal(paths: RunPaths, *rows: dict[str, Any]) -> None:
    """Append rows to the journal of the last attempt."""
    with paths.segment(read_state(paths).attempt).open("a") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def train_row(paths: RunPaths, step: int, **values: float) -> None:
    """Journal iteration `step` with the recipe's rate, or with other values."""
    lr = json.loads(paths.spec.read_text())["recipe"]["lr"]
    journal(paths, {"mode": "train", "epoch": 1, "iter": step, "step": step, "lr": lr, **values})


def finish(paths: RunPaths, *, stamp: float = 0.0, **result: Any) -> None:
    """The run comes to its end."""
    train_row(paths, 2, stamp=stamp)
    write_json(paths.result, {"metrics": {"segm_mAP": 0.3}, "fps": 5.0, "memory_mb": 100} | result)
    write_state(paths, State.FINISHED, attempt=read_state(paths).attempt)


def fail(paths: RunPaths, reason: str, kind: Failure) -> None:
    """The run fails."""
    write_state(paths, State.FAILED, attempt=read_state(paths).attempt, reason=reason, kind=kind)
