"""The steps after the trainings, without a cluster: what they wait for, whom they give way to, what status says."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.files import write_json
from harness.launching import chain, chain_entry
from harness.launching.chain import DONE, Step, lines, read_step, write_step
from harness.launching.prepare import PreparedRun
from harness.launching.slurm_jobs import Job, write_job
from harness.runs import State, write_state

ROW = "{id}|7|{state}|{reason}|n1|0:10|N/A|0|{name}|\n"


@pytest.fixture
def folder(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The chain of an experiment of one run, whose report waits as job 9_0 behind the benchmark, job 8_0."""
    found = chain.chain_folder(run.paths.folder.parent.parent, run.spec.experiment)
    paths = (str(run.paths.folder),)
    for step, job in (("benchmark", "8_0"), ("report", "9_0")):
        write_step(
            found, Step(step=step, name="after", job=job, output="out", words=("tiny.yaml",), runs=paths, code="code")
        )
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("HARNESS_TRACKING_URI", "sqlite:///x.db")
    return found


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is asked of sbatch, which says 12."""
    asked: list[list[str]] = []

    def ask(command: list[str], environ: object = None) -> str:
        asked.append(command)
        return "12\n"

    monkeypatch.setattr(chain, "ask", ask)
    return asked


def queue(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let squeue say this."""
    from harness.launching import slurm_jobs

    monkeypatch.setattr(slurm_jobs, "ask", lambda command, environ=None: text)
    monkeypatch.setattr(chain_entry, "ask", lambda command, environ=None: text)


def step_in(monkeypatch: pytest.MonkeyPatch, folder: Path, step: str, name: str = "after") -> int:
    monkeypatch.setattr(sys, "argv", ["chain_entry", str(folder), step, name])
    before = signal.getsignal(signal.SIGUSR2)
    try:
        return chain_entry.main()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_runs_with_jobs_again_are_waited_for(
    run: PreparedRun, folder: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on as a new job, 7_0, and the benchmark waits anew: the report goes behind both."""
    write_job(run.paths, Job(name="tiny-1", index=0, id="7_0", output="", code=""))
    rows = ROW.format(id="7_0", state="PENDING", reason="Priority", name="tiny-1")
    rows += ROW.format(id="8_0", state="PENDING", reason="Dependency", name="after")
    queue(monkeypatch, rows)
    assert step_in(monkeypatch, folder, "report") == 0
    (command,) = commands
    assert command[:4] == ["sbatch", "--parsable", "--dependency=afterany:7_0:8_0", "--kill-on-invalid-dep=yes"]
    again = read_step(folder, "report")
    assert again is not None and (again.job, again.state, again.output) == ("12_0", "waiting", "12_0.out")


def test_an_earlier_chain_gives_way(folder: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_entry, "_carry_out", lambda *_: pytest.fail("nothing is to be done"))
    assert step_in(monkeypatch, folder, "report", name="before") == 0
    assert not commands


def test_what_did_not_finish_is_left_out_and_what_is_measured_is_not_measured_again(
    run: PreparedRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: said.append(words) or "")
    queue(monkeypatch, "")
    write_state(run.paths, State.FAILED, attempt=1, reason="why")
    assert step_in(monkeypatch, folder, "benchmark") == 0
    step = read_step(folder, "benchmark")
    assert step is not None
    assert (step.state, step.text) == (DONE, f"0 of 1 runs; left out {run.spec.name} seed 0: FAILED")
    write_json(run.paths.result, {})
    step_in(monkeypatch, folder, "benchmark")
    assert said == [("benchmark", str(run.paths.folder))]
    write_json(run.paths.benchmark, {})
    step_in(monkeypatch, folder, "benchmark")
    assert len(said) == 1


def test_a_report_that_fails_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: "error: no store")
    queue(monkeypatch, "")
    assert step_in(monkeypatch, folder, "report") == 0
    step = read_step(folder, "report")
    assert step is not None and (step.state, step.text) == ("failed", "error: no store")


def test_lines(run: PreparedRun, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One done, one whose job is gone; on this machine one whose process has died."""
    run_root = run.paths.folder.parent.parent
    step = read_step(folder, "benchmark")
    assert step is not None
    monkeypatch.setattr(
        chain, "ask", lambda command: ROW.format(id="9_0", state="PENDING", reason="Dependency", name="after")
    )
    write_step(folder, replace(step, state=DONE, text="1 of 1 runs"))
    assert list(lines(run_root, "tiny")) == [
        "benchmark: done: 1 of 1 runs; output in out",
        "report: waiting, job 9_0 (Dependency); output in out",
    ]
    write_step(folder, step)
    assert "job 8_0 is gone without a word" in next(lines(run_root, "tiny"))
    write_step(folder, replace(step, job=None, host=chain.socket.gethostname(), pid=2**22 - 1, started=1.0))
    assert "its process died without a word" in next(lines(run_root, "tiny"))
    assert list(lines(run_root, "other")) == []
