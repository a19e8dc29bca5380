"""Who starts the next attempt: scontrol, or else a new job that is the run's before SLURM knows of it."""

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.launching import requeue
from harness.launching.job_file import Job, read_job, write_job
from harness.launching.slurm import OwnJob
from harness.run_paths import RunPaths
from harness.run_state import State, read_state

HERE = OwnJob(id="12_3", raw_id=77, restarts=0)
NAME = "tiny-0000aaaa"
SCRIPT = f"""#!/bin/bash
#SBATCH --job-name={NAME}
#SBATCH --array=0-7%2
#SBATCH --output=R/.slurm/{NAME}/%A_%a.out

run x {NAME}
"""


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    made = RunPaths(tmp_path / "tiny" / "cell")
    (tmp_path / ".slurm" / NAME).mkdir(parents=True)
    (tmp_path / ".slurm" / NAME / "script.sh").write_text(SCRIPT)
    write_job(made, Job(name=NAME, index=3, id="12_3", output="o", code="/code"))
    return made


def answers(monkeypatch: pytest.MonkeyPatch, sbatch: Callable[[list[str], dict[str, str]], str]) -> list[list[str]]:
    """scontrol refuses; the commands that were asked."""
    asked: list[list[str]] = []

    def ask(command: list[str], environ: dict[str, str] | None = None) -> str:
        asked.append(command)
        if command[0] == "scontrol":
            raise UserError("scontrol failed: Requested operation is presently disabled for job 12_3")
        return sbatch(command, environ or {})

    monkeypatch.setattr(requeue, "ask", ask)
    return asked


def test_a_new_job_of_the_same_script_for_this_run_alone(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/code:/own")
    monkeypatch.setenv("SLURM_JOB_ID", "77")

    def sbatch(command: list[str], environ: dict[str, str]) -> str:
        job = read_job(paths)
        assert job is not None and job.name.startswith("tiny-") and (job.name, job.id) != (NAME, "12_3")
        assert job.id is None
        assert command == ["sbatch", "--parsable", str(paths.folder.parent.parent / ".slurm" / job.name / "script.sh")]
        assert Path(command[-1]).read_text() == SCRIPT.replace(NAME, job.name).replace("0-7%2", "3")
        assert (environ["PYTHONPATH"], environ[requeue.CONTINUES]) == ("/own", "1")
        assert "SLURM_JOB_ID" not in environ
        return "19\n"

    asked = answers(monkeypatch, sbatch)
    requeue.start_next(paths, HERE)
    assert [command[0] for command in asked] == ["scontrol", "sbatch"]
    job = read_job(paths)
    assert job is not None
    assert (job.id, job.index, job.code) == ("19_3", 3, "/code")
    assert job.output.endswith(f".slurm/{job.name}/19_3.out")


def test_a_requeue_that_is_allowed_is_all(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(requeue, "ask", asked.append)
    requeue.start_next(paths, HERE)
    assert asked == [["scontrol", "requeue", "12_3"]]
    assert read_job(paths) == Job(name=NAME, index=3, id="12_3", output="o", code="/code")


@pytest.mark.slow
def test_the_next_start_keeps_away_from_nodes_that_are_suspect_by_now(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By sh, in which a stand-in for scontrol says what it was asked: the update fails as long as the job works."""
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f"if [ $1 = requeue ]; then kill -TERM $PPID; exit 0; fi\nmkdir {tmp_path}/tried || exit 0\nexit 1\n"
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(requeue, "next_time", lambda *_: ("n1", "n3"))
    requeue.start_next(paths, HERE)
    update = "update JobId=12_3 ExcNodeList=n1,n3"
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 12_3", update, update]


def test_a_new_job_keeps_away_from_them_too() -> None:
    """Whatever the script said before."""
    kept = requeue.one_element(SCRIPT, 3, ("n1", "n3"))
    assert kept == SCRIPT.replace("--array=0-7%2", "--array=3\n#SBATCH --exclude=n1,n3")
    assert requeue.one_element(kept, 3, ("n2",)) == kept.replace("n1,n3", "n2")
    assert requeue.one_element(kept, 3, ()) == kept


def test_a_job_leaves_a_suspect_node_once(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has n1 and n2. Where SLURM gives it n1 again all the same, it works there."""
    asked: list[list[str]] = []
    monkeypatch.setattr(requeue, "ask", asked.append)
    monkeypatch.setattr(requeue, "own_nodes", lambda _: {"n1", "n2"})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    excluded: tuple[str, ...] = ("n3",)
    monkeypatch.setattr(requeue, "next_time", lambda *_: excluded)
    assert not requeue.leave_suspects(paths, HERE)
    excluded = ("n1", "n3")
    assert requeue.leave_suspects(paths, HERE)
    assert asked == [requeue.requeue_command("12_3", excluded)]
    assert read_state(paths).state == State.QUEUED
    assert read_state(paths).reason == "left n1, where attempts have failed for the node's sake"
    assert not requeue.leave_suspects(paths, HERE)
    assert requeue.leave_suspects(paths, replace(HERE, id="15_3"))


def test_where_neither_goes_the_run_stays_this_job_s(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def sbatch(command: list[str], environ: dict[str, str]) -> str:
        raise UserError("sbatch: no such command")

    answers(monkeypatch, sbatch)
    with pytest.raises(UserError, match=r"presently disabled.*; nor could it submit a new job: sbatch: no"):
        requeue.start_next(paths, HERE)
    assert read_job(paths) == Job(name=NAME, index=3, id="12_3", output="o", code="/code")


def test_a_controller_that_is_away_is_asked_again(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["Unable to contact slurm controller (connect failure)"] * 4)
    slept: list[float] = []

    def ask(command: list[str], environ: object = None) -> str:
        if text := next(said, None):
            raise UserError(f"{command[0]} failed: {text}")
        return ""

    monkeypatch.setattr(requeue, "ask", ask)
    monkeypatch.setattr(time, "sleep", slept.append)
    requeue.start_next(paths, HERE)
    assert slept == [5, 5]
    assert read_job(paths) == Job(name=NAME, index=3, id="12_3", output="o", code="/code")


def test_who_goes_on() -> None:
    assert not requeue.goes_on({})
    assert not requeue.goes_on({"SLURM_RESTART_COUNT": "0"})
    assert requeue.goes_on({"SLURM_RESTART_COUNT": "2"})
    assert requeue.goes_on({requeue.CONTINUES: "1"})
