"""A study whose controller and trials are killed, in real processes, comes to the same end as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from harness.run_paths import RunPaths
from harness.run_state import State, last_word, read_state
from harness.settings import Settings, load_settings
from harness.tracking.query import runs as tracked_runs
from harness.trial_file import read_trial
from harness.tuning.study_file import Study, storage_url
from harness.tuning.trials import trials
from tuning.launched import CONTROL, write_study

pytestmark = pytest.mark.slow

TRIALS = 4
KILLS = min(int(os.environ.get("HARNESS_TEST_KILLS", "6")), 10)
"""Of the controller; each trial is killed once besides."""
PATIENCE = 900.0


class Controller:
    """A controller in a process of its own, started again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, self._start(folder)

    def _start(self, folder: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", CONTROL]
        env = {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")}
        with (folder / "controller.log").open("ab") as log:
            return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)

    def kill(self) -> bool:
        """Kill it and start another one; whether it was alive."""
        was_alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.process = self._start(self.folder)
        return was_alive


@pytest.fixture
def place(tmp_path: Path, shapes: Path) -> Iterator[tuple[Study, Settings]]:
    """4 trials at once of 2 epochs; whatever is left at work is killed in the end."""
    budget = f"{{trials: {TRIALS}, parallel: {TRIALS}}}"
    study, settings = write_study(tmp_path, shapes, budget=budget, settings=f"local_jobs = {TRIALS}")
    path = tmp_path / "tuned.yaml"
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))
    yield study, settings
    for state in map(last_word, map(RunPaths, settings.run_root.glob("tuned/*"))):
        if state.state == State.RUNNING and state.pid:
            os.kill(state.pid, signal.SIGKILL)


def killed(settings: Settings, done: set[str]) -> None:
    """Kill each trial that has a checkpoint, once."""
    for paths in map(RunPaths, settings.run_root.glob("tuned/*")):
        state = read_state(paths)
        has_checkpoint = (paths.checkpoints / "latest.json").exists()
        if has_checkpoint and state.state == State.RUNNING and paths.folder.name not in done:
            done.add(paths.folder.name)
            os.kill(state.pid, signal.SIGKILL)


def test_kills_of_trials_and_controller(
    place: tuple[Study, Settings], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The last rate of a run is a tenth of the one that was asked for; the first trial is the base."""
    settings, moments = load_settings(tmp_path, {}), random.Random(8)
    controller, kills, dead = Controller(tmp_path), 0, set[str]()
    next_kill = time.monotonic() + moments.uniform(2, 8)
    deadline = time.monotonic() + PATIENCE
    while controller.process.poll() is None:
        assert time.monotonic() < deadline, (tmp_path / "controller.log").read_text()
        killed(settings, dead)
        if kills < KILLS and time.monotonic() > next_kill:
            kills += controller.kill()
            next_kill = time.monotonic() + moments.uniform(2, 12)
        time.sleep(0.1)
    said = (tmp_path / "controller.log").read_text()
    assert controller.process.returncode == 0, said
    record_property("counts", f"{kills} kills of the controller and {len(dead)} of trials survived")
    told = optuna.load_study(study_name="tuned", storage=storage_url(*place)).trials
    assert [trial.state.name for trial in told] == ["COMPLETE"] * TRIALS, said
    assert told[0].params == {"lr": 0.001}
    assert [trial.value for trial in told] == pytest.approx([trial.params["lr"] / 10 for trial in told])
    found = trials(place[0], settings)
    assert [trial.params for trial in found] == [trial.params for trial in told]
    assert len(list(settings.run_root.glob("tuned/*/run.json"))) == TRIALS
    assert all(read_state(trial.paths).attempt <= 2 for trial in found)
    assert kills >= 2 and len(dead) >= 2
    tracked = tracked_runs(settings.tracking_uri, "tuned")
    assert sorted(int(run.tags["harness.trial"]) for run in tracked) == list(range(TRIALS))
    assert {(run.status, run.tags["harness.study"]) for run in tracked} == {("FINISHED", "tuned")}
    assert all((mark := read_trial(trial.paths)) and not mark.failed and not mark.pruned for trial in found)
