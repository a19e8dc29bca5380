"""What a controller does with trials whose runs end, wait, die and are pruned; the runs' processes are stand-ins."""

import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching.local_queue import Home
from harness.leases import acquire
from harness.run_paths import RunPaths
from harness.run_state import State, read_state, write_state
from harness.settings import Settings
from harness.trial_file import read_trial
from harness.tuning import controller, ending, turn
from harness.tuning.controller import control
from harness.tuning.study_file import Study, storage_url, study_folder
from harness.tuning.trials import TrialState, trials
from harness.tuning.turn import stop
from tuning.launched import fail, finish, journal, stand_in, train_row, write_study

pytestmark = pytest.mark.slow
AP = "segm AP"


@pytest.fixture
def place(tmp_path: Path, shapes: Path) -> tuple[Study, Settings]:
    """4 trials, 2 at a time."""
    return write_study(tmp_path, shapes)


@cache
def read(url: str) -> optuna.Study:
    """The study as anybody else reads it; opened once, as that takes a quarter of a second."""
    return optuna.load_study(study_name="tuned", storage=url)


def told(study: Study, settings: Settings) -> list[optuna.trial.FrozenTrial]:
    """The trials as anybody else reads them from the storage."""
    return read(storage_url(study, settings)).get_trials(deepcopy=False)


def states(study: Study, settings: Settings) -> list[str]:
    return [trial.state.name for trial in told(study, settings)]


def number(paths: RunPaths) -> int:
    mark = read_trial(paths)
    assert mark is not None
    return mark.number


def test_a_study_of_a_known_function(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last rate of a run is the one that was asked for; the first trial is the base, whose rate is 0.001."""
    runs = stand_in(monkeypatch, place[1], finish)
    said: list[str] = []
    control(*place, said.append)
    found = trials(*place)
    assert [trial.number for trial in found] == [0, 1, 2, 3]
    assert [trial.values for trial in found] == [(trial.params["lr"],) for trial in found]
    assert found[0].params == {"lr": 0.001}
    assert [(trial.number, trial.params, trial.values) for trial in told(*place)] == [
        (trial.number, trial.params, list(trial.values or ())) for trial in found
    ]
    assert {trial.intermediate_values[2] for trial in told(*place)} == {trial.params["lr"] for trial in found}
    assert len(runs.begun) == len(set(runs.begun)) == 4
    assert "trial 0 (lr=0.001): COMPLETE lr 0.001000" in said
    control(*place, said.append)  # nothing is left to do
    assert len(runs.begun) == 4 and len(told(*place)) == 4


def test_a_run_that_dies_is_resumed_as_the_same_trial(
    place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a word; told to stop by somebody; and one that waits again, as after a preemption."""
    deaths = {
        0: (State.FAILED, Failure.UNKNOWN), 1: (State.KILLED, Failure.CANCELLED), 2: (State.FAILED, Failure.GPU_MEMORY),
    }  # fmt: skip

    def act(paths: RunPaths) -> None:
        if number(paths) in deaths and read_state(paths).attempt == 1:
            write_json(paths.attempt(1) / "start.json", {"checkpoint": None})
            write_json(paths.checkpoints / "latest.json", [{"step": 1}])  # it got somewhere
            state, kind = deaths[number(paths)]
            write_state(paths, state, attempt=1, reason="why", kind=kind)
        else:
            finish(paths)

    runs = stand_in(monkeypatch, place[1], act)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE"] * 4
    assert sorted(runs.begun.count(name) for name in set(runs.begun)) == [1, 2, 2, 2]
    assert [read_state(trial.paths).attempt for trial in trials(*place)] == [2, 2, 2, 1]


def test_a_preempted_run_is_at_work(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []

    def act(paths: RunPaths) -> None:
        finish(paths)

    runs = stand_in(monkeypatch, place[1], act)
    look = runs.look

    def requeued(home: Any) -> None:
        """Trial 0 waits in the queue of a cluster for five looks."""
        for file in sorted(home.run_root.glob("tuned/*/state.json")):
            paths = RunPaths(file.parent)
            if number(paths) == 0 and len(waited) < 5 and paths.attempt(1).is_dir():
                write_state(paths, State.QUEUED, attempt=1, reason="requeued")
                waited.append(len(told(*place)))
                return
            if number(paths) == 0 and len(waited) == 5:
                waited.append(0)
                write_state(paths, State.RUNNING, attempt=1)
        look(home)

    monkeypatch.setattr(controller.time, "sleep", lambda _: requeued(Home(place[1].run_root)))
    runs.act = lambda paths: None if number(paths) == 0 and len(waited) < 6 else finish(paths)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE"] * 4
    assert len(runs.begun) == 4  # it was not submitted a second time


def test_what_fails_of_itself_is_told_with_its_reason(
    place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug at once; what gets nowhere after two attempts."""

    def act(paths: RunPaths) -> None:
        if number(paths) == 1:
            fail(paths, "KeyError: 'x'", Failure.BUG)
        elif number(paths) == 2:
            write_json(paths.attempt(read_state(paths).attempt) / "start.json", {"checkpoint": None})
            fail(paths, "CUDA out of memory", Failure.GPU_MEMORY)
        else:
            finish(paths)

    runs = stand_in(monkeypatch, place[1], act)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert told(*place)[1].user_attrs["reason"] == "bug: KeyError: 'x'"
    assert told(*place)[2].user_attrs["reason"].startswith("attempts 1 and 2 ended without a newer checkpoint")
    assert [trial.state for trial in trials(*place)][1:3] == [TrialState.FAILED] * 2
    assert len(runs.begun) == 5


def test_a_study_whose_trials_all_fail_ends(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_study(tmp_path, shapes, budget="{trials: 50, parallel: 1}")
    stand_in(monkeypatch, place[1], lambda paths: fail(paths, "no such image", Failure.MISTAKE))
    with pytest.raises(UserError, match=r"^5 trials in a row failed, the last one \(4\) with: mistake: no such image"):
        control(*place, lambda _: None)
    assert states(*place) == ["FAIL"] * 5
    assert [trial.state for trial in trials(*place)] == [TrialState.FAILED] * 5
    assert acquire(study_folder(place[1].run_root, "tuned") / "lease") is not None


def test_trials_that_failed_in_a_row_are_tried_again_once_the_cause_is_mended(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a budget of 6 five fail; the next controller begins with those five, as the same runs, and has a sixth."""
    place = write_study(tmp_path, shapes, budget="{trials: 6, parallel: 1}")
    runs = stand_in(monkeypatch, place[1], lambda paths: fail(paths, "no such image", Failure.MISTAKE))
    with pytest.raises(UserError, match=r"again, which tries 5 of them once more$"):
        control(*place, lambda _: None)
    asked = [trial.params for trial in told(*place)]
    runs.act = finish
    control(*place, lambda _: None)
    assert states(*place) == ["FAIL"] * 5 + ["COMPLETE"] * 6
    assert [trial.params for trial in told(*place)][5:10] == asked
    assert [trial.state for trial in trials(*place)] == [TrialState.COMPLETE] * 6
    assert sorted(runs.begun.count(name) for name in set(runs.begun)) == [1, 2, 2, 2, 2, 2]
    control(*place, lambda _: None)  # nothing is left to do
    assert len(told(*place)) == 11


def test_a_crash_between_asking_and_submitting(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials were asked; the next controller submits those."""
    runs = stand_in(monkeypatch, place[1], finish)
    real = controller.submit

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(controller, "submit", crash)
    with pytest.raises(KeyboardInterrupt):
        control(*place, lambda _: None)
    before = [trial.params for trial in told(*place)]
    assert states(*place) == ["RUNNING"] * 2 and not runs.begun
    monkeypatch.setattr(controller, "submit", real)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE"] * 4
    assert [trial.params for trial in told(*place)][:2] == before
    assert len(runs.begun) == 4


def test_a_crash_before_telling(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = stand_in(monkeypatch, place[1], finish)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(controller.Ledger, "tell_complete", crash)
        with pytest.raises(KeyboardInterrupt):
            control(*place, lambda _: None)
    assert states(*place) == ["RUNNING"] * 2
    control(*place, lambda _: None)
    assert [trial.values for trial in told(*place)] == [[trial.params["lr"]] for trial in told(*place)]
    assert len(runs.begun) == 4


def test_equal_parameters_are_one_run(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a field with two values six trials are two runs; a trial that repeats one has its value."""
    place = write_study(tmp_path, shapes, search="  lr: [0.001, 0.002]", budget="{trials: 6, parallel: 3}")
    runs = stand_in(monkeypatch, place[1], finish)
    control(*place, lambda _: None)
    assert [trial.values for trial in told(*place)] == [[trial.params["lr"]] for trial in told(*place)]
    assert states(*place) == ["COMPLETE"] * 6
    assert len(runs.begun) == len(trials(*place)) == 2


def test_a_lost_storage_is_made_anew(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the run folders: nothing is run again. Trial 1 has lost its run: its number is not given anew."""
    runs = stand_in(monkeypatch, place[1], finish)
    control(*place, lambda _: None)
    file = study_folder(place[1].run_root, "tuned") / "study.db"
    before = [(trial.number, trial.params, trial.values) for trial in told(*place)]
    file.unlink()
    read.cache_clear()
    shutil.rmtree(trials(*place)[1].paths.folder)
    control(*place, lambda _: None)
    after = [(trial.number, trial.params, trial.values) for trial in told(*place)]
    assert [after[0], *after[2:]] == [before[0], *before[2:]]
    assert states(*place) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(runs.begun) == 4


def test_only_one_controller(place: tuple[Study, Settings]) -> None:
    folder = study_folder(place[1].run_root, "tuned")
    lease = acquire(folder / "lease")
    assert lease
    with pytest.raises(UserError, match="another controller works on study 'tuned'") as refused:
        control(*place, lambda _: None)
    assert "\n" not in str(refused.value)
    assert not (folder / "study.db").exists()
    lease.release()


def test_a_controller_is_stopped(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once; where it works on another host, that is said."""
    folder = study_folder(place[1].run_root, "tuned")
    stop(*place)  # none works
    lease = acquire(folder / "lease")
    assert lease
    write_json(folder / "controller.json", {"host": "moon", "space": "x", "pid": 1, "started": 1.0})
    with pytest.raises(UserError, match="process 1, works on moon: end it there"):
        stop(*place)
    sent: list[tuple[int, int]] = []

    def kill(pid: int, what: int) -> None:
        sent.append((pid, what))
        lease.release()

    write_json(folder / "controller.json", turn.signature())
    monkeypatch.setattr(turn.os, "kill", kill)
    stop(*place)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def pruned_place(tmp_path: Path, shapes: Path) -> tuple[Study, Settings]:
    pruner = "pruner: {kind: median, startup_trials: 1}"
    return write_study(tmp_path, shapes, objective=AP, budget="{trials: 2, parallel: 1}", more=pruner)


def validate(paths: RunPaths, epoch: int, value: float) -> None:
    journal(paths, {"mode": "val", "epoch": epoch, "step": 2 * epoch, "segm_mAP": value})


def test_a_trial_is_pruned(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an epoch trial 0 has an AP of 0.4, trial 1 of 0.1: its process is told to leave, and it has finished."""
    place = pruned_place(tmp_path, shapes)
    monkeypatch.setattr(controller._Controller, "_is_last", lambda *_: False)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    said: list[str] = []

    def act(paths: RunPaths) -> None:
        if number(paths) == 0:
            validate(paths, 1, 0.4)
            finish(paths)
        elif not paths.folder.joinpath("seen").exists():
            paths.folder.joinpath("seen").touch()
            validate(paths, 1, 0.1)
            write_state(paths, State.RUNNING, attempt=1, progress="epoch 1/1", pid=process.pid)

    runs = stand_in(monkeypatch, place[1], act)
    control(*place, said.append)
    assert process.wait(10) == -signal.SIGTERM
    first, second = trials(*place)
    assert (first.state, first.values) == (TrialState.COMPLETE, (0.3,))
    reason = "pruned after epoch 1: segm AP 10.0, by median"
    assert (second.state, second.values, second.reason) == (TrialState.PRUNED, None, reason)
    state = read_state(second.paths)
    assert (state.state, state.reason) == (State.FINISHED, reason)
    assert states(*place) == ["COMPLETE", "PRUNED"] and told(*place)[1].value == 0.1
    assert any(line.endswith(f"{reason}: told to save and leave") for line in said)
    control(*place, said.append)
    assert len(runs.begun) == 2


def test_what_is_decided_holds_for_the_next_controller(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after the decision to prune, and the run dies of something else: it is not resumed."""
    place = pruned_place(tmp_path, shapes)
    monkeypatch.setattr(controller._Controller, "_is_last", lambda *_: False)

    def act(paths: RunPaths) -> None:
        validate(paths, 1, 0.4 if number(paths) == 0 else 0.1)
        if number(paths) == 0:
            finish(paths)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    runs = stand_in(monkeypatch, place[1], act)
    with monkeypatch.context() as patch:
        patch.setattr(ending, "cancel", crash)
        with pytest.raises(KeyboardInterrupt):
            control(*place, lambda _: None)
    (paths,) = [trial.paths for trial in trials(*place) if trial.number == 1]
    fail(paths, "killed", Failure.UNKNOWN)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE", "PRUNED"]
    assert read_state(paths).state == State.FINISHED and len(runs.begun) == 2


def test_a_run_that_came_to_its_end_is_complete(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it was told to leave."""
    place = pruned_place(tmp_path, shapes)
    monkeypatch.setattr(controller._Controller, "_is_last", lambda *_: False)
    monkeypatch.setattr(ending, "cancel", lambda runs, _: [finish(paths) for paths in runs])

    def act(paths: RunPaths) -> None:
        validate(paths, 1, 0.4 if number(paths) == 0 else 0.1)
        if number(paths) == 0:
            finish(paths)

    stand_in(monkeypatch, place[1], act)
    control(*place, lambda _: None)
    assert states(*place) == ["COMPLETE", "COMPLETE"]
    assert [trial.state for trial in trials(*place)] == [TrialState.COMPLETE] * 2


def test_gpu_hours_bound_a_study(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial takes 2 GPUs for an hour; 5 GPU-hours are enough for two. The one that failed counts, too."""
    place = write_study(tmp_path, shapes, budget="{trials: 9, parallel: 1, gpu_hours: 5}")

    def act(paths: RunPaths) -> None:
        start = {"mode": "attempt", "time": 0.0, "step": 0, "device": "cuda", "world": 2}
        journal(paths, start)
        train_row(paths, 1, stamp=3600.0)
        if number(paths) == 0:
            fail(paths, "bug", Failure.BUG)
        else:
            finish(paths, stamp=3600.0)

    stand_in(monkeypatch, place[1], act)
    control(*place, lambda _: None)
    assert states(*place) == ["FAIL", "COMPLETE"]


def test_several_objectives(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_study(tmp_path, shapes, objective=f"[{AP}, fps, memory]", budget="{trials: 3, parallel: 1}")
    stand_in(monkeypatch, place[1], lambda paths: finish(paths, fps=None if number(paths) == 1 else 5.0))
    control(*place, lambda _: None)
    assert [trial.values for trial in told(*place)] == [[0.3, 5.0, 100.0], None, [0.3, 5.0, 100.0]]
    assert told(*place)[1].user_attrs["reason"] == "it has no fps"
    directions = [direction.name for direction in read(storage_url(*place)).directions]
    assert directions == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]


def test_what_a_run_says_of_its_trial(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, place[1], finish)
    control(*place, lambda _: None)
    paths = trials(*place)[2].paths
    plain = read_json(paths.trial)
    assert (plain["study"], plain["number"], plain["params"]) == ("tuned", 2, trials(*place)[2].params)
    assert "+trial002-seed0-" in paths.folder.name
    assert told(*place)[2].user_attrs["folder"] == str(paths.folder)


def test_train_rows_count(place: tuple[Study, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a metric that is journaled while training the last row counts, whatever result.json says."""

    def act(paths: RunPaths) -> None:
        train_row(paths, 1, lr=7.0)
        finish(paths)

    stand_in(monkeypatch, place[1], act)
    control(*place, lambda _: None)
    assert told(*place)[0].intermediate_values == {1: 7.0, 2: 0.001} and told(*place)[0].value == 0.001
