"""Scoring beside the training: it goes on meanwhile, nothing is lost when it ends, and failures come to light."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json
from harness.launching.prepare import PreparedRun
from harness.run_log import read_log
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec
from harness.training import scoring, validation
from harness.training.loop import train
from harness.training.scoring import Scoring
from harness.training.session import Training
from training.tiny import changed, journal, run_to_end, session, stop_after

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def again(trained: Training, tmp_path: Path) -> tuple[RunPaths, RunSpec]:
    """The run of `trained`, not started: 2 epochs of 3 iterations, 4 images to test."""
    return changed(PreparedRun(spec=trained.spec, paths=trained.paths), tmp_path / "run")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No scoring comes to an end before this is set; and each gets the signals that SLURM sends to all of a job."""
    go_on = threading.Event()

    def slow(process: "subprocess.Popen[bytes]") -> Any:
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            process.send_signal(number)
        assert go_on.wait(120)
        return scoring_answer(process)

    monkeypatch.setattr(scoring, "_answer", slow)
    yield go_on
    go_on.set()


def left_by_a_stop_in_the_second_epoch(again: tuple[RunPaths, RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch was tested, and is not scored: 2 questions in it, 1 at its end, 4 in its test."""
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "PATIENCE", 0.0)
        training = session(*again)
        assert not train(training, stop=stop_after(8))
    assert training.position.epoch == 1 and training.position.iteration
    paths = again[0]
    assert paths.unscored.exists()
    assert all(row["mode"] != "val" for row in read_log(paths.log))


@pytest.mark.slow
def test_the_training_goes_on_meanwhile(
    trained: Training, again: tuple[RunPaths, RunSpec], held: threading.Event
) -> None:
    """The first epoch's numbers come when the second one trains, and stand in the log before it."""
    rows: list[str] = []

    def on_row(text: str) -> None:
        rows.append(text)
        if len(rows) == 5:  # 3 iterations, then 2 of the second epoch
            held.set()

    assert train(session(*again), on_row=on_row)
    paths = again[0]
    written = [(row["mode"], row["step"]) for row in read_log(paths.segment(1)) if row["mode"] in ("train", "val")]
    assert written.index(("val", 3)) > written.index(("train", 5))
    assert journal(paths) == journal(trained.paths)
    assert [(row["mode"], row["step"]) for row in journal(paths)][3] == ("val", 3)
    assert read_json(paths.evaluation) == read_json(trained.paths.evaluation)
    assert paths.detections.read_bytes() == trained.paths.detections.read_bytes()
    assert not paths.unscored.exists()


def test_a_worker_that_is_forked_meanwhile_keeps_nothing_from_the_scoring(
    trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It inherits open files. The question is longer than what a pipe holds; nothing is there to be scored."""
    monkeypatch.setattr(scoring, "_request", lambda *given: request(*given).ljust(2**20))
    with Scoring(RunPaths(tmp_path), trained.validation, attempt=1, record=lambda head, row: None) as asked:
        asked._start({"checkpoint_sha256": ""})
        worker = get_context("fork").Process(target=time.sleep, args=(600,))
        worker.start()
        try:
            with pytest.raises((UserError, RuntimeError), match=r"unscored|later"):
                asked.settle()
            assert worker.is_alive()
        finally:
            worker.kill()
            worker.join()


@pytest.mark.slow
def test_the_next_attempt_scores_what_is_left(
    trained: Training, again: tuple[RunPaths, RunSpec], held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the model, and without the checkpoint, which is gone."""
    left_by_a_stop_in_the_second_epoch(again, monkeypatch)
    held.set()
    paths, spec = again
    (paths.checkpoints / "epoch_1.pth").unlink()
    detect, tested = validation.detect, []
    monkeypatch.setattr(validation, "detect", lambda *words: tested.append(1) or detect(*words))
    run_to_end(paths, spec, attempt=2)
    assert len(tested) == 1  # the second epoch
    assert journal(paths) == journal(trained.paths)


@pytest.mark.slow
def test_what_is_of_a_later_iteration_is_dropped(
    trained: Training, again: tuple[RunPaths, RunSpec], held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training has gone back before the test: it comes to it again."""
    left_by_a_stop_in_the_second_epoch(again, monkeypatch)
    held.set()
    paths, spec = again
    for file in paths.checkpoints.iterdir():
        file.unlink()
    run_to_end(paths, spec, attempt=2)
    assert journal(paths) == journal(trained.paths)
    assert not paths.unscored.exists()


@pytest.mark.slow
def test_a_damaged_file_is_told(
    again: tuple[RunPaths, RunSpec], held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_a_stop_in_the_second_epoch(again, monkeypatch)
    held.set()
    paths, spec = again
    paths.unscored.write_bytes(paths.unscored.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"unscored\.npz: damaged \(.*\); remove it to go on without this evaluation$"):
        run_to_end(paths, spec, attempt=2)


def killed(process: "subprocess.Popen[bytes]") -> Any:
    process.kill()
    return scoring_answer(process)


def nonsense(split: validation.Validation, attempt: int) -> bytes:
    return b"nonsense"


def without_annotations(split: validation.Validation, attempt: int) -> bytes:
    return request(split, attempt).replace(b"instances_val.json", b"gone.json")


scoring_answer, request = scoring._answer, scoring._request


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong", "error", "message"),
    [
        (
            "_answer",
            killed,
            UserError,
            r"the process that scores detections was killed by SIGKILL, most likely for want of memory",
        ),
        ("_request", without_annotations, UserError, r"gone\.json: no such file$"),
        (
            "_request",
            nonsense,
            RuntimeError,
            r"the process that scores detections failed:\nTraceback(.|\n)*JSONDecodeError",
        ),
    ],
)
def test_a_failure_ends_the_training(
    again: tuple[RunPaths, RunSpec],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    wrong: Callable[..., Any],
    error: type[Exception],
    message: str,
) -> None:
    """And leaves what is to be scored to the next attempt."""
    paths, spec = again
    with monkeypatch.context() as patch:
        patch.setattr(scoring, name, wrong)
        with pytest.raises(error, match=message) as caught:
            train(session(paths, spec))
    if isinstance(caught.value, UserError):
        assert "\n" not in str(caught.value)
        assert caught.value.failure == (Failure.MEMORY if wrong is killed else Failure.MISTAKE)
    assert paths.unscored.exists()


def test_it_leaves_with_the_training(tmp_path: Path) -> None:
    """The process that started it is killed before it has asked for anything."""
    code = (
        "import os, subprocess, sys, time\n"
        "command = [sys.executable, '-P', '-m', 'harness.training.scorer', '.', '--parent', str(os.getpid())]\n"
        "print(subprocess.Popen(command, stdin=subprocess.PIPE).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        held_open = os.open(f"/proc/{process.pid}/fd/0", os.O_WRONLY)  # else it would end as there is nothing to read
        parent.kill()
    deadline = time.monotonic() + 60
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.close(held_open)
