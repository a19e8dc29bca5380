"""A job works on a run only as long as the run is its own; the run itself is a stand-in, tests/slurm has real ones."""

import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import attempt, job, requeue, slurm_entry
from harness.launching.attempt import record_requeued
from harness.launching.ends import read_end
from harness.launching.job_file import Job, write_job
from harness.launching.prepare import PreparedRun
from harness.launching.retries import Retry, record_retry
from harness.launching.slurm import OwnJob
from harness.run_paths import RunPaths
from harness.run_spec import write_spec
from harness.run_state import State, read_state, write_state
from harness.training.notes import Note
from launching.events import at_step

STARTED = 77
HERE = OwnJob(id="12_3", raw_id=15, restarts=1)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The jobs with which run_attempt was called. This process is element 3 of array 12, named tiny-1a."""
    calls: list[Any] = []
    monkeypatch.setattr(slurm_entry, "run_attempt", lambda *_, job: calls.append(job) or STARTED)
    monkeypatch.setattr(sys, "argv", ["slurm_entry", str(tmp_path), "tiny-1a"])
    values = {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1"}
    for name, value in (values | {"HARNESS_TRACKING_URI": "sqlite:///x", "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    return calls


@pytest.mark.parametrize(("name", "index", "code"), [("tiny-1a", 3, STARTED), ("tiny-2b", 3, 2), ("tiny-1a", 4, 2)])
def test_whose_run_it_is(started: list[Any], tmp_path: Path, name: str, index: int, code: int) -> None:
    write_job(RunPaths(tmp_path), Job(name=name, index=index, id=None, output="", code=""))
    assert slurm_entry.main() == code
    assert started == ([HERE] if code == STARTED else [])


def test_a_run_that_has_no_job_any_more(started: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(RunPaths(tmp_path), State.RUNNING, attempt=2)
    assert slurm_entry.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert read_state(RunPaths(tmp_path)).attempt == 2


def test_a_run_that_was_finished_by_a_node_that_slurm_thought_dead(started: list[Any], tmp_path: Path) -> None:
    write_job(RunPaths(tmp_path), Job(name="tiny-1a", index=3, id="12_3", output="", code=""))
    write_state(RunPaths(tmp_path), State.FINISHED, attempt=1)
    assert slurm_entry.main() == 0
    assert not started


def test_outside_of_jobs(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    assert slurm_entry.main() == 2


@pytest.mark.usefixtures("tiny", "signals")
def test_who_works_on_a_run_without_a_job_takes_it_from_its_job(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(run.paths, Job(name="tiny-1a", index=3, id="12_3", output="", code=""))
    seen: list[bool] = []
    at_step(monkeypatch, 1, lambda: (seen.append(run.paths.job.exists()), exit_now()))
    job.run_attempt(run.paths.folder, "http://127.0.0.1:9")
    assert seen == [False]


OVER = "JobId=15 JobState=COMPLETING Reason=TimeLimit Requeue=1"
"""What SLURM says of a job to which it sends SIGTERM for its time limit."""


def exit_now() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("tiny", "signals")
@pytest.mark.parametrize(
    ("number", "answer", "state", "reason"),
    [
        (signal.SIGUSR2, "", State.QUEUED, "requeued after attempt 1 was stopped by SIGUSR2"),
        (signal.SIGUSR2, "scontrol failed: no", State.KILLED, "; it could not start the next job: scontrol failed: no"),
        (signal.SIGTERM, "", State.KILLED, job.STOPPED_BY[signal.SIGTERM]),
        (signal.SIGTERM, OVER, State.QUEUED, "requeued after attempt 1 was stopped at the time limit of its job"),
        (signal.SIGTERM, "scontrol failed: no", State.KILLED, job.STOPPED_BY[signal.SIGTERM]),
    ],
)
def test_who_requeues(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, answer: str, state: State, reason: str
) -> None:
    """The job itself, when it was warned or its time is over; never one that was told to end."""
    asked: list[str] = []

    def ask(command: list[str]) -> str:
        asked.append(" ".join(command[-3:]))
        if answer and answer != OVER:
            raise UserError(answer)
        return answer

    monkeypatch.setattr(requeue, "ask", ask)
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    assert job.run_attempt(run.paths.folder, "http://127.0.0.1:9", job=HERE) == job.STOPPED
    looked = ["show job 12_3"] if number == signal.SIGTERM else []
    assert asked == looked + (["scontrol requeue 12_3"] if number == signal.SIGUSR2 or answer == OVER else [])
    found = read_state(run.paths)
    assert found.state == state
    assert reason in found.reason
    assert (run.paths.checkpoints / "epoch_0_iter_2.pth").exists()
    assert read_json(run.paths.attempt(1) / "job.json")["node"] == "n2"
    end = read_end(run.paths, 1)
    assert end is not None
    assert (end.state, end.kind, end.nodes) == (
        state, None if state == State.QUEUED else Failure.CANCELLED, "n2",
    )  # fmt: skip


@pytest.mark.usefixtures("tiny", "signals")
@pytest.mark.parametrize(("here", "kind"), [(HERE, Failure.NODE), (None, Failure.MISTAKE)])
def test_data_that_is_not_there(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, here: OwnJob | None, kind: Failure
) -> None:
    """On a cluster it was there for whoever submitted: so it is the node."""
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    write_spec(run.paths, replace(run.spec, val=replace(run.spec.val, annotations="/gone/val.json")))
    assert job.run_attempt(run.paths.folder, "http://127.0.0.1:9", job=here) == job.USER_ERROR
    assert (read_state(run.paths).state, read_state(run.paths).kind) == (State.FAILED, kind)
    end = read_end(run.paths, 1)
    assert end is not None and (end.kind, end.nodes) == (kind, "n2")


@pytest.mark.usefixtures("tiny", "signals")
def test_a_bug_and_what_retries_add_to_the_environment(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    retry = Retry(
        attempt=0,
        kind=Failure.GPU_MEMORY,
        change="",
        shape={},
        environment={"A_VARIABLE": "1"},
        checkpoint=None,
        time=0,
    )
    record_retry(run.paths, retry)
    monkeypatch.setenv("A_VARIABLE", "")
    monkeypatch.delenv("A_VARIABLE")
    seen: list[str | None] = []

    def fail() -> None:
        seen.append(os.environ.get("A_VARIABLE"))
        raise KeyError("broken")

    at_step(monkeypatch, 2, fail)
    assert job.run_attempt(run.paths.folder, "http://127.0.0.1:9") == 1
    assert (read_state(run.paths).reason, read_state(run.paths).kind) == ("KeyError: 'broken'", Failure.BUG)
    assert seen == ["1"]


@pytest.mark.usefixtures("tiny", "signals")
def test_fp16_without_a_gpu_is_refused(run: PreparedRun, no_shipper: None) -> None:
    """A run that was prepared for a cluster's GPUs."""
    write_spec(run.paths, replace(run.spec, precision="fp16"))
    assert job.run_attempt(run.paths.folder, "http://127.0.0.1:9") == job.USER_ERROR
    assert read_state(run.paths).reason.startswith("this run is to be trained in fp16, and its process sees no GPU")


@pytest.mark.usefixtures("signals")
def test_a_cancelled_job_that_is_warned_as_well_stays_cancelled() -> None:
    """SIGTERM, then SIGUSR2 of a time limit: the later signal must not make it requeue itself."""
    stop = job._Stop()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert stop() and stop.signal == signal.SIGTERM


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "nodes"),
    [
        (
            "12_3|NODE_FAIL|0:0|0:0|n2|tiny-1a\n12_3|RUNNING|0:0|0:0|n1|tiny-1a\n",
            Failure.NODE, "requeued by SLURM: NODE_FAIL", "n2",
        ),
        ("", Failure.UNKNOWN, "requeued by SLURM: it does not tell why", "n7"),
    ],
)  # fmt: skip
def test_why_slurm_requeued_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, kind: Failure, reason: str, nodes: str
) -> None:
    """The second start asks, as the first could not say so."""
    write_job(paths := RunPaths(tmp_path), Job(name="tiny-1a", index=3, id="12_3", output="", code=""))
    write_json(paths.attempt(1) / "job.json", asdict(HERE) | {"restarts": 0, "node": "n7"})
    paths.attempt(2).mkdir()

    def ask(command: list[str]) -> str:
        if not answer:
            raise UserError("sacct failed: Slurm accounting storage is disabled")
        return answer

    monkeypatch.setattr(attempt, "ask", ask)
    record_requeued(paths, 2, HERE)
    end = read_end(paths, 1)
    assert end is not None
    assert (end.state, end.kind, end.reason, end.nodes) == (State.QUEUED, kind, reason, nodes)
    monkeypatch.setattr(attempt, "ask", lambda command: "")
    record_requeued(paths, 2, HERE)
    assert read_end(paths, 1) == end  # it was said before


@pytest.mark.parametrize("told", [False, True])
def test_who_gave_up_is_at_fault_when_the_others_hang(run: PreparedRun, told: bool) -> None:
    """As rank 0's watch finds it where NCCL waits for ever; a rank 0 that told its own end has the last word."""
    own = attempt.Attempt(run.paths, run.spec, 1, None)
    own.folder.mkdir(parents=True)
    write_state(run.paths, State.RUNNING, attempt=1)
    if told:
        own.ended(State.FAILED, "out of GPU memory on n1", Failure.GPU_MEMORY, "n1")
    note = Note(
        rank=1, host="n2", pid=7, started=0.0, phase="step", step=7, image=0, seconds=0.0, stuck=False, written=0.0,
        ended="ECC error; n2 looks broken", code=2, failure=Failure.NODE, node="n2",
    )  # fmt: skip
    own.hung("rank 1 on n2 (process 7) ECC error; n2 looks broken, after 7 iterations", note)
    end = read_end(run.paths, 1)
    assert end is not None
    expected = (Failure.GPU_MEMORY, "n1") if told else (Failure.NODE, "n2")
    assert (end.kind, end.nodes) == expected
    assert read_state(run.paths).kind == expected[0]
    if not told:
        assert end.reason == "rank 1 on n2 (process 7) ECC error; n2 looks broken"
