"""Where a run stands by what it said itself and what SLURM answers: squeue and sacct in our formats."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import slurm_ask
from harness.launching import standings as standings_module
from harness.launching.ends import read_end, write_end
from harness.launching.job_file import Job, write_job
from harness.launching.slurm_submit import withdraw
from harness.launching.standings import Standing, standings
from harness.run_paths import RunPaths
from harness.run_state import State, read_state, write_state

JOB = Job(name="tiny-1a", index=3, id="12_3", output="", code="")


class Answers:
    """What SLURM's commands say; an error for those without an answer."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.refused = {"sacct": "Slurm accounting storage is disabled"}

    def queue(self, state: str, reason: str = "None", *, seconds: int = 0, name: str = JOB.name) -> None:
        used = f"{seconds // 60}:{seconds % 60:02d}"
        node = "n2" if state == "RUNNING" else ""
        self.said = {"squeue": f"12_3|77|{state}|{reason}|{node}|{used}|N/A|0|{name}|\n"}

    def gone(self, accounting: str | None = None) -> None:
        self.said = {"squeue": ""}
        self.refused["scontrol"] = "slurm_load_jobs error: Invalid job id specified"
        if accounting:
            times = "2026-01-01T00:00:00|2026-01-01T00:01:00|60"
            self.said["sacct"] = f"12_3|77|{accounting}|0:0|{times}|n2|gres/gpu=1|{JOB.name}\n"

    def __call__(self, command: list[str]) -> str:
        if command[0] not in self.said:
            raise UserError(f"{command[0]} failed: {self.refused.get(command[0], 'no controller')}")
        return self.said[command[0]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    monkeypatch.setattr(slurm_ask, "ask", made)
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
    monkeypatch.setattr(standings_module.time, "time", lambda: now + 90)
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
    told = "RUNNING" if accounting == "RUNNING" else state  # what it says next time is what counts
    assert (read_json(paths.state)["state"], read_json(paths.state)["attempt"]) == (told, 2)


@pytest.mark.parametrize("accounting", [None, "RUNNING"])
def test_one_that_the_queue_does_not_show_but_the_controller_has(
    answers: Answers, paths: RunPaths, accounting: str | None
) -> None:
    """As the job of another user, or of a partition that squeue hides: it has not ended, and nothing is written."""
    write_state(paths, State.RUNNING, attempt=2, progress="epoch 1/2")
    answers.gone(accounting)
    answers.said["scontrol"] = f"JobId=77 JobName={JOB.name} JobState=RUNNING ExitCode=0:0 NodeList=n2"
    said = "job 12_3 has not ended (RUNNING), but squeue does not show it"
    assert shown(paths) == ("RUNNING", "epoch 1/2", said, True)
    assert read_json(paths.state)["state"] == "RUNNING" and read_end(paths, 2) is None


def test_one_of_which_the_controller_does_not_tell(answers: Answers, paths: RunPaths) -> None:
    """It answered squeue, and nothing more: who submits must leave the run alone."""
    write_state(paths, State.RUNNING, attempt=2, progress="epoch 1/2")
    answers.gone()
    answers.refused["scontrol"] = "Unable to contact slurm controller (connect failure)"
    (found,) = standings([paths])
    assert (found.state.state, found.queued) == (State.RUNNING, True)
    assert found.fault == "scontrol failed: Unable to contact slurm controller (connect failure)"
    assert read_json(paths.state)["state"] == "RUNNING"


@pytest.mark.parametrize(("state", "id_"), [(State.RUNNING, "12_3"), (State.QUEUED, "12_3"), (State.QUEUED, None)])
def test_one_on_another_cluster_that_shares_the_disk(
    answers: Answers, paths: RunPaths, state: State, id_: str | None
) -> None:
    """Its id is nobody's there, or another job's; only what the run says of itself counts."""
    write_job(paths, replace(JOB, id=id_, cluster="alpha"))
    write_state(paths, state, attempt=1, progress="p")
    write_json(paths.state, read_json(paths.state) | {"updated": time.time() - 1000})
    answers.gone("CANCELLED by 0")
    answers.said["scontrol"] = "Configuration data as of 2026-01-01T00:00:00\nClusterName             = beta\n"
    assert shown(paths) == (str(state), "p", f"job {id_ or JOB.name} is on cluster alpha, seen from beta", True)
    assert read_json(paths.state)["state"] == state
    assert withdraw([paths]) == set()
    write_state(paths, State.KILLED, attempt=1, reason="told")
    assert shown(paths) == ("KILLED", "told", "", False)
    write_job(paths, replace(JOB, cluster="beta"))
    write_state(paths, State.RUNNING, attempt=1)
    assert shown(paths)[:2] == ("KILLED", "job 12_3 ended as CANCELLED without a word of its own")


def test_the_accounting_is_asked_once_for_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two arrays, four runs, one of which says itself how it ended."""
    asked: list[list[str]] = []

    def answer(command: list[str]) -> str:
        asked.append(command)
        times = "2026-01-01T00:00:00|2026-01-01T00:01:00|60|n2|gres/gpu=1"
        ends = ((12, 0, "DEADLINE"), (12, 1, "NODE_FAIL"), (12, 1, "TIMEOUT"), (13, 0, "BOOT_FAIL"))
        rows = [f"{job}_{index}|77|{state}|0:0|{times}|a-{job}" for job, index, state in ends]
        return "\n".join(rows) if command[0] == "sacct" else ""

    monkeypatch.setattr(slurm_ask, "ask", answer)
    runs = [RunPaths(tmp_path / str(number)) for number in range(4)]
    for paths, (array, index) in zip(runs, ((12, 0), (12, 1), (13, 0), (14, 0)), strict=True):
        write_job(paths, Job(name=f"a-{array}", index=index, id=f"{array}_{index}", output="", code=""))
        write_state(paths, State.KILLED if array == 14 else State.RUNNING, attempt=1, reason="told")
    said = " without a word of its own"
    assert [found.state.reason for found in standings(runs)] == [
        f"job 12_0 ended as DEADLINE{said}", f"job 12_1 ended as TIMEOUT{said}", f"job 13_0 ended as BOOT_FAIL{said}",
        "told",
    ]  # fmt: skip
    assert [command[0] for command in asked] == ["squeue", "sacct"]
    assert asked[1][-1] == "--jobs=12,13,14"
    standings(runs)
    assert [command[0] for command in asked] == ["squeue", "sacct", "squeue"]


def test_files_that_cannot_be_read_stop_no_other_run(answers: Answers, paths: RunPaths, tmp_path: Path) -> None:
    answers.queue("PENDING", "Priority")
    broken = RunPaths(tmp_path / "broken")
    write_state(broken, State.QUEUED, attempt=0)
    broken.job.write_text("{}")
    first, second = standings([broken, paths])
    assert (first.state.state, second.state.state) == (State.FAILED, State.QUEUED)
    assert "does not name a job" in first.state.reason


def test_why_it_ended_is_written_down(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.RUNNING, attempt=2)
    answers.gone("NODE_FAIL")
    (found,) = standings([paths])
    assert (found.state.kind, read_state(paths).kind) == (Failure.NODE, Failure.NODE)
    end = read_end(paths, 2)
    assert end is not None
    assert (end.state, end.kind, end.nodes) == (State.FAILED, Failure.NODE, "n2")


def test_without_an_accounting_the_controller_knows_for_a_while(
    answers: Answers, paths: RunPaths, tmp_path: Path
) -> None:
    """And the job's output, if it did not come to say anything of the run."""
    (tmp_path / "job.out").write_text("Loading\nModuleNotFoundError: No module named 'torch'\nsrun: error: n2: 1\n\n")
    write_job(paths, replace(JOB, output=str(tmp_path / "job.out")))
    write_state(paths, State.QUEUED, attempt=0)
    answers.gone()
    ended = f"JobId=77 JobName={JOB.name} JobState=FAILED ExitCode=1:0 DerivedExitCode=1:0 NodeList=n2"
    answers.said["scontrol"] = ended
    (found,) = standings([paths])
    assert (found.state.state, found.state.kind) == (State.FAILED, Failure.BUG)
    assert found.state.reason == (
        "job 12_3 ended as FAILED (exit code 1) without a word of its own; its output ends: "
        "ModuleNotFoundError: No module named 'torch'"
    )


def test_rank_0_saw_another_process_die_and_slurm_knows_why(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.FAILED, attempt=1, reason="rank 1 on n2 died")
    write_end(paths, 1, State.FAILED, kind=None, reason="rank 1 on n2 died", nodes="n2")
    answers.gone("OUT_OF_MEMORY")
    (found,) = standings([paths])
    assert (found.state.kind, found.state.reason) == (
        Failure.MEMORY, "rank 1 on n2 died; job 12_3 ended as OUT_OF_MEMORY",
    )  # fmt: skip
    end = read_end(paths, 1)
    assert end is not None and end.kind == Failure.MEMORY


def test_its_own_last_word_counts_more_than_slurms(answers: Answers, paths: RunPaths) -> None:
    write_state(paths, State.FAILED, attempt=1, reason="why", kind=Failure.BUG)
    answers.gone("OUT_OF_MEMORY")
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
    answers.said["scontrol"] = "JobId=77 JobName=tiny-2b JobState=RUNNING ExitCode=0:0 NodeList=n2"
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


def test_a_submit_that_died_around_sbatch_is_over_after_a_while(answers: Answers, tmp_path: Path) -> None:
    write_job(paths := RunPaths(tmp_path), replace(JOB, id=None))
    write_state(paths, State.QUEUED, attempt=0)
    answers.gone()
    assert shown(paths)[0] == "QUEUED"  # it may still be at work
    write_json(paths.state, read_json(paths.state) | {"updated": time.time() - 200})
    assert shown(paths)[:2] == ("KILLED", "its submit ended before SLURM had said that it takes the job")


def test_a_run_of_a_host_that_is_gone_is_dead_after_ten_silent_minutes(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    write_state(paths, State.RUNNING, attempt=1)
    write_json(paths.state, read_json(paths.state) | {"host": "elsewhere"})
    assert shown(paths)[0] == "RUNNING"
    os.utime(paths.state, (time.time() - 700,) * 2)
    assert shown(paths)[:2] == ("FAILED", "no sign of life from elsewhere for 12 minutes")
    write_json(paths.attempt(1) / "notes.json", {})
    assert shown(paths)[0] == "RUNNING"
