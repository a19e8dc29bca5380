"""An attempt says truly how it ended, whatever the end; real trainings of a tiny model, in this process."""

import os
import signal
from pathlib import Path

import pytest
from training.tiny import prepared_run

from harness.errors import UserError
from harness.launching import job
from harness.launching.ends import STOPPED
from harness.launching.job import INTERRUPTED, USER_ERROR, run_attempt
from harness.launching.prepare import PreparedRun
from harness.run_log import merged_rows
from harness.run_state import RunState, State, read_state, write_state
from launching.events import at_step, raise_

NO_STORE = "http://127.0.0.1:9"

pytestmark = pytest.mark.usefixtures("tiny", "signals")


def state(run: PreparedRun) -> RunState:
    return read_state(run.paths)


@pytest.mark.slow
def test_finished(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[State] = []
    at_step(monkeypatch, 2, lambda: seen.append(state(run).state))
    assert run_attempt(run.paths.folder, NO_STORE) == 0
    assert seen == [State.RUNNING]
    assert (state(run).state, state(run).attempt) == (State.FINISHED, 1)
    assert run.paths.result.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_stops_after_the_iteration(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    assert run_attempt(run.paths.folder, NO_STORE) == STOPPED
    assert (state(run).state, state(run).reason) == (State.KILLED, job.STOPPED_BY[number])
    assert (run.paths.checkpoints / "epoch_0_iter_2.pth").exists()
    assert not run.paths.result.exists()


@pytest.mark.slow
def test_stopped_runs_go_on(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_attempt(run.paths.folder, NO_STORE) == STOPPED
    assert run_attempt(run.paths.folder, NO_STORE) == 0
    assert (state(run).state, state(run).attempt) == (State.FINISHED, 2)
    assert [row["step"] for row in merged_rows(run.paths) if row["mode"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_twice_stops_at_once(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    assert run_attempt(run.paths.folder, NO_STORE) == INTERRUPTED
    assert (state(run).state, state(run).reason) == (State.KILLED, "interrupted at once by Ctrl-C")
    assert not run.paths.checkpoints.exists()


def test_a_users_mistake_is_one_line(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 2, lambda: raise_(UserError("a.jpg: broken\nsecond")))
    assert run_attempt(run.paths.folder, NO_STORE) == USER_ERROR
    assert (state(run).state, state(run).reason) == (State.FAILED, "a.jpg: broken")
    told = capsys.readouterr().err
    assert told.endswith("error: a.jpg: broken\nsecond\n")
    assert "Traceback" not in told


def test_a_bug_leaves_its_traceback(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 2, lambda: raise_(ValueError("odd\nlong")))
    assert run_attempt(run.paths.folder, NO_STORE) == 1
    assert (state(run).state, state(run).reason) == (State.FAILED, "ValueError: odd")
    assert "Traceback" in capsys.readouterr().err


def test_a_superseded_attempt_says_and_saves_nothing(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def supersede() -> None:
        run.paths.attempt(7).mkdir()
        write_state(run.paths, State.RUNNING, attempt=7, progress="mine")

    at_step(monkeypatch, 2, supersede)
    assert run_attempt(run.paths.folder, NO_STORE) == USER_ERROR
    assert (state(run).attempt, state(run).state, state(run).progress) == (7, State.RUNNING, "mine")
    assert not run.paths.checkpoints.exists()
    assert "attempt 1 gives way to a later one" in capsys.readouterr().err


def test_a_run_at_work_is_left_alone(run: PreparedRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(run.paths, State.RUNNING, attempt=1)
    assert run_attempt(run.paths.folder, NO_STORE) == USER_ERROR
    assert f"process {os.getpid()} is working on this run" in capsys.readouterr().err
    assert not (run.paths.folder / "attempts").exists()


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_attempt(tmp_path, NO_STORE) == USER_ERROR
    assert capsys.readouterr().err == f"error: {tmp_path / 'run.json'}: no such file\n"


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_does_not_matter(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real shipper, and a port at which nobody listens."""
    monkeypatch.setattr(job, "_wait_for_shipper", lambda shipper, patient: shipper.terminate())
    run = prepared_run(tmp_path, shapes, epochs=1)
    assert run_attempt(run.paths.folder, NO_STORE) == 0
    assert state(run).state == State.FINISHED
