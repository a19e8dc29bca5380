"""Where a run stands by what it said itself and what SLURM answers: squeue and sacct in our formats."""

import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.files import read_json
from harness.launching import slurm_jobs
from harness.launching.slurm_jobs import Job, Standing, ask, standings, write_job
from harness.runs import RunPaths, State, write_state

JOB = Job(name="tiny-1a", index=3, id="12_3", output="", code="")


class Answers:
    """What SLURM's commands say; an error for those without an answer."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def queue(self, state: str, reason: str = "None", *, seconds: int = 0, name: str = JOB.name) -> None:
        used = f"{seconds // 60}:{seconds % 60:02d}"
        node = "n2" if state == "RUNNING" else ""
        self.said = {"squeue": f"12_3|77|{state}|{reason}|{node}|{used}|N/A|0|{name}|\n"}

    def gone(self, accounting: str | None = None) -> None:
        self.said = {"squeue": ""}
        if accounting:
            times = "2026-01-01T00:00:00|2026-01-01T00:01:00|60"
            self.said["sacct"] = f"12_3|77|{accounting}|0:0|{times}|n2|gres/gpu=1|{JOB.name}\n"

    def __call__(self, command: list[str]) -> str:
        if command[0] not in self.said:
            raise UserError(f"{command[0]} failed: no controller")
        return self.said[command[0]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    monkeypatch.setattr(slurm_jobs, "ask", made)
    return made


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run that has a job."""
    write_job(found := RunPaths(tmp_path), JOB)
    return found


def shown(paths: RunPaths) -> tuple[str, str, str, bool]:
    (found,) = standings([paths])
    return str(found.state.state), found.state.reason or found.state.progress, found.text, found.queued


def test_one_that_waits(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.QUEUED, attempt=0)
    answers.queue("PENDING", "Priority")
    assert shown(paths) == ("QUEUED", "", "job 12_3 waits: Priority", True)
    answers.queue("PENDING", "JobHeldUser")
    assert shown(paths)[2].startswith("job 12_3 waits: JobHeldUser, which it does for ever")
    write_state(paths, State.QUEUED, attempt=1, reason="requeued after attempt 1")
    answers.queue("PENDING", "BeginTime")
    assert shown(paths) == ("QUEUED", "requeued after attempt 1", "job 12_3 waits: BeginTime", True)


def test_one_that_slurm_requeued_without_a_word_of_its_own(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.RUNNING, attempt=1, progress="epoch 1/2")
    answers.queue("PENDING", "BeginTime")
    assert shown(paths) == ("QUEUED", "", "job 12_3 waits: BeginTime", True)
    assert read_json(paths.state)["state"] == "RUNNING"  # the next start writes, not the one who looks


def test_one_that_works(answers: Answers, paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said before the job's present start is not of this start."""
    write_state(paths, State.RUNNING, attempt=1, progress="epoch 1/2")
    answers.queue("RUNNING", seconds=60)
    assert shown(paths) == ("RUNNING", "epoch 1/2", "job 12_3 on n2", True)
    now = time.time()
    monkeypatch.setattr(slurm_jobs.time, "time", lambda: now + 90)
    assert shown(paths) == ("RUNNING", "starting", "job 12_3 on n2", True)


def test_one_that_has_ended_while_its_job_is_cleared_away(answers: Answers, paths: RunPaths) -> None:
    answers.queue("COMPLETING", seconds=60)
    for state in (State.FINISHED, State.FAILED, State.KILLED):
        write_state(paths, state, attempt=1, reason="why")
        assert shown(paths) == (str(state), "why", "", False)


@pytest.mark.parametrize(
    ("accounting", "state", "end"),
    [
        ("CANCELLED by 0", "KILLED", "ended as CANCELLED"),
        ("OUT_OF_MEMORY", "FAILED", "ended as OUT_OF_MEMORY"),
        ("RUNNING", "FAILED", "is gone"),  # sacct trails squeue
        (None, "FAILED", "is gone"),  # there is no accounting
    ],
)
def test_one_whose_job_is_gone(answers: Answers, paths: RunPaths, accounting: str | None, state: str, end: str) -> None:
    write_state(paths, State.RUNNING, attempt=2)
    answers.gone(accounting)
    assert shown(paths) == (state, f"job 12_3 {end} without a word of its own", "", False)
    assert (read_json(paths.state)["state"], read_json(paths.state)["attempt"]) == (state, 2)


def test_its_own_last_word_counts_more_than_slurms(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.FAILED, attempt=1, reason="why")
    answers.gone("COMPLETED")
    assert shown(paths) == ("FAILED", "why", "", False)


def test_one_that_sbatch_never_took(answers: Answers, tmp_path: Path) -> None:
    """Who submitted it died; it may be submitted again, unless the queue knows it."""
    write_job(paths := RunPaths(tmp_path), Job(name=JOB.name, index=3, id=None, output="", code=""))
    write_state(paths, State.QUEUED, attempt=0)
    answers.gone()
    assert shown(paths) == ("QUEUED", "", "", False)
    answers.queue("PENDING", "Priority")
    assert shown(paths)[3]


def test_an_id_that_has_come_again_is_another_job(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.RUNNING, attempt=1)
    answers.queue("RUNNING", name="tiny-2b")
    assert shown(paths)[:2] == ("FAILED", "job 12_3 is gone without a word of its own")


def test_slurm_is_asked_only_of_jobs_that_are_not_finished(answers: Answers, paths: RunPaths, tmp_path: Path) -> None:
    write_state(paths, State.FINISHED, attempt=1)
    other = RunPaths(tmp_path / "other")
    write_state(other, State.KILLED, attempt=1)
    assert [found.state.state for found in standings([paths, other])] == [State.FINISHED, State.KILLED]
    write_state(paths, State.RUNNING, attempt=1)
    with pytest.raises(UserError, match="squeue failed: no controller"):
        standings([paths])
    first, second = standings([paths, other], patient=True)
    assert (first.state.state, first.text) == (State.RUNNING, "job 12_3: squeue failed: no controller")
    assert second == Standing(second.state)


def test_commands_that_fail_are_one_line() -> None:
    with pytest.raises(UserError, match=r"^no-such-command: no such command; "):
        ask(["no-such-command"])
    with pytest.raises(UserError, match=r"^sh failed: one; two$"):
        ask(["sh", "-c", "echo one >&2; echo two >&2; exit 1"])
    assert ask(["sh", "-c", "echo $A"], {"A": "b"}) == "b\n"
