"""The steps after the trainings, without a cluster: what they wait for, whom they give way to, what status says."""

import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training.tiny import make_shapes, write_place

from harness.errors import UserError
from harness.files import write_json
from harness.launching import chain, chain_entry, requeue
from harness.launching.chain import DONE, Step, lines, plan_chain, read_step, read_steps, start_chain, write_step
from harness.launching.chain import commands as commands_of
from harness.launching.cluster import load_cluster
from harness.launching.job_file import Job, write_job
from harness.launching.prepare import PreparedRun, prepare
from harness.matrix import load_experiment
from harness.run_state import State, write_state
from harness.settings import load_settings

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
    monkeypatch.setenv("SLURM_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
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
    from harness.launching import slurm_ask

    monkeypatch.setattr(slurm_ask, "ask", lambda command, environ=None: text)
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
    assert (step.state, step.text) == (DONE, f"0 of 1 run; left out {run.spec.name} seed 0: FAILED")
    write_json(run.paths.result, {})
    step_in(monkeypatch, folder, "benchmark")
    assert said == [("benchmark", str(run.paths.folder))]
    write_json(run.paths.benchmark, {})
    step_in(monkeypatch, folder, "benchmark")
    assert len(said) == 1


def test_a_benchmark_that_fails_says_why_of_which_run(
    run: PreparedRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose name the command says, too."""
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: f"{run.spec.name}: out of memory")
    queue(monkeypatch, "")
    write_json(run.paths.result, {})
    assert step_in(monkeypatch, folder, "benchmark") == 0
    step = read_step(folder, "benchmark")
    assert step is not None
    assert (step.state, step.text) == ("failed", f"0 of 1 run; {run.spec.name} seed 0 failed: out of memory")


def test_a_report_that_fails_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: "error: no store")
    queue(monkeypatch, "")
    assert step_in(monkeypatch, folder, "report") == 0
    step = read_step(folder, "report")
    assert step is not None and (step.state, step.text) == ("failed", "error: no store")


def warned(*_: object) -> str:
    """A measurement during which the job's warning comes."""
    os.kill(os.getpid(), signal.SIGUSR2)
    return ""


def test_a_warned_job_goes_on_in_its_next(run: PreparedRun, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It requeues itself; of jobs in a row that come to nothing the second one fails."""
    asked: list[list[str]] = []
    monkeypatch.setattr(requeue, "ask", lambda command: asked.append(command) or "")
    monkeypatch.setattr(chain_entry, "_harness", warned)
    queue(monkeypatch, "")
    write_json(run.paths.result, {})
    assert step_in(monkeypatch, folder, "benchmark") == 0
    step = read_step(folder, "benchmark")
    assert step is not None and (step.state, step.text, step.fruitless) == ("waiting", "0 of 1 run so far", 1)
    assert asked == [["scontrol", "requeue", "9_0"]]
    step_in(monkeypatch, folder, "benchmark")
    step = read_step(folder, "benchmark")
    assert step is not None and step.state == "failed" and "more minutes" in step.text
    assert len(asked) == 1


def test_what_a_superseded_step_has_to_say_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later submit has begun the chain anew while the report was being made."""
    step = read_step(folder, "report")
    assert step is not None
    later = replace(step, name="later", job="12_0")
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: write_step(folder, later) or "")
    queue(monkeypatch, "")
    assert step_in(monkeypatch, folder, "report") == 0
    assert read_step(folder, "report") == later


def test_where_a_requeue_is_denied_the_step_is_submitted_anew(
    run: PreparedRun, folder: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(command: list[str]) -> str:
        raise UserError("scontrol failed: Access denied")

    def measure(*_: object) -> str:
        write_json(run.paths.benchmark, {})
        return warned()

    monkeypatch.setattr(requeue, "ask", deny)
    monkeypatch.setattr(chain_entry, "_harness", measure)
    queue(monkeypatch, "")
    write_json(run.paths.result, {})
    step_in(monkeypatch, folder, "benchmark")
    step = read_step(folder, "benchmark")
    assert step is not None and (step.job, step.state, step.fruitless) == ("12_0", "waiting", 0)
    assert commands == [["sbatch", "--parsable", "benchmark.sh"]]


CLUSTER = """\
gpus_per_node: 8
minutes: 600
overrides: [{cells: '*mstrain*', constraint: h100, minutes: 90}]
"""


def test_each_kind_of_job_is_benchmarked_by_itself(tmp_path: Path) -> None:
    """Of three runs one asks for other nodes: a benchmark each on one GPU of those, and one report behind all."""
    make_shapes(tmp_path / "shapes")
    (tmp_path / "here.yaml").write_text(CLUSTER)
    matrix = write_place(tmp_path, tmp_path / "shapes", multiscale="[false, true]", seeds="[0, 1]")
    experiment, settings = load_experiment(matrix), load_settings(tmp_path, {})
    runs = prepare(experiment, settings)[:3]
    found = plan_chain(experiment, runs, [], load_cluster(str(tmp_path / "here.yaml")), settings.run_root)
    assert [(step.step, len(step.runs)) for step in found.steps] == [
        ("benchmark", 2),
        ("benchmark-2", 1),
        ("report", 3),
    ]
    assert {step.words for step in found.steps} == {(str(tmp_path / "runs/tiny/.chain/tiny.yaml"),)}
    first, second, report = found.scripts
    assert "--gpus-per-node=1\n" in first and "--time=600\n" in first and "constraint" not in first
    assert "--gpus-per-node=1\n" in second and "--time=90\n" in second and "--constraint=h100\n" in second
    assert "gpus" not in report
    said = [line for line in commands_of(found).splitlines() if line.startswith("# sbatch")]
    assert "--dependency=afterany:JOBS_OF_THE_RUNS:JOB_OF_benchmark:JOB_OF_benchmark-2 " in said[2]
    assert not (tmp_path / "runs").exists()


def test_a_chain_keeps_the_matrix_file_as_it_is(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left of an earlier chain gives way; each step waits for what comes before it."""
    make_shapes(tmp_path / "shapes")
    (tmp_path / "here.yaml").write_text(CLUSTER)
    matrix = write_place(tmp_path, tmp_path / "shapes")
    experiment, settings = load_experiment(matrix), load_settings(tmp_path, {})
    runs, cluster = prepare(experiment, settings), load_cluster(str(tmp_path / "here.yaml"))
    found = plan_chain(experiment, runs, [], cluster, settings.run_root)
    write_step(found.folder, replace(found.steps[0], step="benchmark-2"))
    monkeypatch.setattr(chain, "freeze", lambda root: None)
    steps = start_chain(found, settings)
    reported: list[str] = []
    monkeypatch.setattr(chain_entry, "_harness", lambda *words: reported.append(words[1]) or "")
    assert chain_entry._report(steps[1]) == (f"harness report {matrix}", True)
    matrix.write_text("changed")
    chain_entry._report(steps[1])
    assert reported == [str(matrix), steps[1].words[0]]
    assert load_experiment(Path(steps[1].words[0])).name == "tiny"
    assert [step.step for step in read_steps(found.folder)] == ["benchmark", "report"]
    assert commands[1][2] == "--dependency=afterany:12_0"


def test_lines(run: PreparedRun, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One done, one whose job is gone; on this machine one whose process has died."""
    run_root = run.paths.folder.parent.parent
    step = read_step(folder, "benchmark")
    assert step is not None
    monkeypatch.setattr(
        chain, "ask", lambda command: ROW.format(id="9_0", state="PENDING", reason="Dependency", name="after")
    )
    (said := folder / "said.out").touch()
    write_step(folder, replace(step, state=DONE, text="1 of 1 run", output=str(said)))
    assert list(lines(run_root, "tiny")) == [
        f"benchmark: done: 1 of 1 run; output in {said}",
        "report: waiting, job 9_0 (Dependency)",  # it has not said anything yet
    ]
    write_step(folder, step)
    assert "job 8_0 is gone without a word" in next(lines(run_root, "tiny"))
    write_step(folder, replace(step, job=None, host=socket.gethostname(), pid=2**22 - 1, started=1.0))
    assert "its process died without a word" in next(lines(run_root, "tiny"))
    assert list(lines(run_root, "other")) == []
