"""What status, logs, cancel and clean find and do, with SLURM's commands as scripts on PATH."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training.tiny import write_place

from harness import processes
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.launching import clean, local_queue, output
from harness.launching.cancel import cancel
from harness.launching.choose import chosen, found_runs, only
from harness.launching.clean import leftovers, remove
from harness.launching.decide import Action, decide
from harness.launching.frozen_code import Submission, write_submission
from harness.launching.job_file import Job, read_job, write_job
from harness.launching.local_queue import Home
from harness.launching.prepare import PreparedRun, prepare, write
from harness.launching.status import BROKEN, RunStatus, status_rows
from harness.matrix import Experiment, load_experiment
from harness.processes import start_time
from harness.run_paths import RunPaths
from harness.run_state import CANCELLED, State, read_state, settle, write_state
from harness.settings import Settings, load_settings

Place = tuple[Experiment, Settings]


@pytest.fixture
def place(tmp_path: Path, shapes: Path) -> Place:
    """Two cells, nothing submitted."""
    return load_experiment(write_place(tmp_path, shapes, multiscale="[false, true]")), load_settings(tmp_path, {})


class Commands:
    """SLURM's commands: scripts that say what they are told to, and keep what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def answer(self, command: str, text: str, code: int = 0) -> None:
        script = self.folder / command
        script.write_text(
            f"#!/bin/sh\necho {command} \"$@\" >> {self.folder}/calls\n/bin/cat <<'END'\n{text}\nEND\nexit {code}\n"
        )
        script.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.folder))
    return made


def with_jobs(place: Place) -> list[PreparedRun]:
    """Both runs have a job of an array: 12_0 works on n2 since 100 s, 12_1 waits."""
    runs = prepare(*place)
    for index, run in enumerate(runs):
        write(run)
        job = Job(name="tiny-1a", index=index, id=f"12_{index}", output=f"/logs/12_{index}.out", code="")
        write_job(run.paths, job)
    write_state(runs[0].paths, State.RUNNING, attempt=1, progress="epoch 1/2")
    write_state(runs[1].paths, State.QUEUED, attempt=0)
    write_json(runs[0].paths.attempt(1) / "job.json", {"id": "12_0", "raw_id": 77, "restarts": 1, "node": "n2"})
    return runs


WORKS = "12_0|77|RUNNING|None|n2|1:40|N/A|1|tiny-1a|"
WAITS = "12_1|77|PENDING|Priority||0:00|N/A|0|tiny-1a|"
ACCOUNT = (
    "12_0|77|REQUEUED|0:0|2026-01-01T00:00:00|2026-01-01T00:01:00|1700|n1|gres/gpu=8|tiny-1a\n"
    "12_0|77|RUNNING|0:0|2026-01-01T00:00:00|Unknown|100|n2|gres/gpu=8|tiny-1a"
)


def test_status_by_squeue_and_sacct(place: Place, commands: Commands) -> None:
    runs = with_jobs(place)
    commands.answer("squeue", f"{WORKS}\n{WAITS}")
    commands.answer("sacct", ACCOUNT)
    first, second = status_rows(*place)
    assert (first.state, first.job, first.node, first.restarts, first.reason) == (
        "RUNNING", "12_0", "n2", 1, "requeued once",
    )  # fmt: skip
    assert (first.gpu_hours, first.text) == (4.0, "epoch 1/2; job 12_0 on n2; requeued once")  # 8 x 1800 s
    assert (second.state, second.job, second.node, second.reason) == ("QUEUED", "12_1", "", "waits: Priority")
    assert [call.split()[0] for call in commands.calls] == ["squeue", "sacct"]
    assert (first.ended, second.ended) == (False, False)
    assert (Path(first.output).name, second.output) == (runs[0].paths.folder.name, "")  # no file yet; no attempt yet


def test_a_run_that_finished_early_stands_where_it_ended(place: Place) -> None:
    """A pruned trial: 2 epochs are 6 iterations, of which its checkpoint has done 4, one epoch and a bit."""
    run = prepare(*place)[0]
    write(run)
    write_text(run.paths.segment(1), '{"mode": "attempt", "steps": 6, "step": 0, "time": 0.0}\n')
    write_json(run.paths.checkpoints / "latest.json", [{"step": 4}])
    write_state(run.paths, State.FINISHED, attempt=1)
    row = status_rows(*place)[0]
    assert (row.epoch, row.epochs, row.step, row.output) == (1, 2, 4, str(run.paths.folder))
    write_json(run.paths.result, {"metrics": {}})
    assert status_rows(*place)[0].epoch == 2


def test_jobs_of_another_cluster_that_shares_the_disk_are_left_alone(place: Place, commands: Commands) -> None:
    """By a submit, too, which would else start each run a second time."""
    runs = with_jobs(place)
    for run in runs:
        job = read_job(run.paths)
        assert job is not None
        write_job(run.paths, replace(job, cluster="alpha"))
    commands.answer("squeue", "")
    commands.answer("sacct", "12_0|77|FAILED|1:0|2026-01-01T00:00:00|2026-01-01T00:01:00|60|n1||tiny-1a")
    commands.answer("scontrol", "ClusterName             = beta")
    said = [f"job 12_{index} is on cluster alpha, seen from beta" for index in (0, 1)]
    assert [(row.state, row.reason, row.fault) for row in status_rows(*place)] == [
        ("RUNNING", said[0], ""), ("QUEUED", said[1], ""),
    ]  # fmt: skip
    assert [(entry.action, entry.text) for entry in decide(runs, place[1])] == [
        (Action.LEAVE, said[0]), (Action.LEAVE, said[1]),
    ]  # fmt: skip
    done = cancel([run.paths for run in runs], Home(place[1].run_root))
    assert done == [f"{text}: left alone" for text in said]
    assert [read_state(run.paths).state for run in runs] == [State.RUNNING, State.QUEUED]
    assert not any(run.paths.cancelled.exists() for run in runs)
    assert not any(call.startswith("scancel") for call in commands.calls)


def test_status_without_an_accounting_and_without_slurm(place: Place, commands: Commands) -> None:
    runs = with_jobs(place)
    commands.answer("squeue", f"{WORKS}\n{WAITS}")
    assert [(row.state, row.gpu_hours) for row in status_rows(*place)] == [("RUNNING", 0.0), ("QUEUED", 0.0)]
    commands.answer("squeue", "", code=1)
    first, _ = status_rows(*place)
    assert (first.state, first.fault) == ("RUNNING", "squeue failed: ")
    (commands.folder / "squeue").unlink()
    write_json(runs[0].paths.state, json.loads(runs[0].paths.state.read_text()) | {"updated": time.time() - 300})
    first, second = status_rows(*place)
    assert (first.state, second.state) == ("RUNNING", "QUEUED")
    assert first.fault == second.fault and first.fault.startswith("squeue: no such command")
    assert first.reason.startswith("SLURM does not answer; 5m0")
    assert f"job 12_0: {first.fault}" in first.text


@pytest.mark.parametrize("name", ["run.json", "state.json", "job.json"])
def test_a_run_that_cannot_be_read_is_a_row(place: Place, commands: Commands, name: str) -> None:
    runs = with_jobs(place)
    commands.answer("squeue", WAITS)
    (runs[0].paths.folder / name).write_text("{")
    first, second = status_rows(*place)
    assert (first.name, first.seed) == (runs[0].spec.name, 0)
    assert first.state == (State.FAILED if name == "state.json" else BROKEN)
    assert name in first.reason and "not JSON" in first.reason
    assert second.state == "QUEUED"


def test_cancel_on_a_cluster(place: Place, commands: Commands) -> None:
    """What works is told so that it can save, what waits is removed, and both are known by what SLURM calls them."""
    runs = with_jobs(place)
    commands.answer("squeue", f"{WORKS}\n{WAITS}")
    commands.answer("scancel", "")
    done = cancel([run.paths for run in runs], Home(place[1].run_root))
    assert done == ["job 12_0 on n2 told to save and leave", "job 12_1 removed from the queue"]
    assert commands.calls[1:] == ["scancel --quiet 12_1", "scancel --quiet --signal=TERM 12_0"]
    assert read_state(runs[0].paths).state == State.RUNNING  # it will say itself how it ends
    assert (read_state(runs[1].paths).state, read_state(runs[1].paths).reason) == (State.KILLED, CANCELLED)


def test_a_job_that_starts_is_ended(place: Place, commands: Commands) -> None:
    runs = with_jobs(place)
    commands.answer("squeue", WORKS)
    commands.answer("scancel", "")
    write_state(runs[0].paths, State.RUNNING, attempt=1, progress="starting")
    assert cancel([runs[0].paths], Home(place[1].run_root)) == ["job 12_0 on n2 ended"]
    assert commands.calls[1:] == ["scancel --quiet 12_0"]
    commands.answer("squeue", "")  # SLURM has killed it before it could say anything
    commands.answer("sacct", "12_0|77|CANCELLED by 0|0:15|2026-01-01T00:00:00|2026-01-01T00:01:00|60|n2||tiny-1a")
    first, _ = status_rows(*place)
    assert (first.state, first.reason) == ("KILLED", CANCELLED)


def test_nothing_is_cancelled_where_slurm_does_not_answer(place: Place, commands: Commands) -> None:
    runs = with_jobs(place)
    with pytest.raises(UserError, match="squeue: no such command"):
        cancel([run.paths for run in runs], Home(place[1].run_root))
    assert read_state(runs[1].paths).state == State.QUEUED


def test_cancel_on_this_machine(place: Place) -> None:
    """One in the queue, and one that works: a process that leaves when it is told to."""
    first, second = prepare(*place)
    home = Home(place[1].run_root)
    for run in (first, second):
        write(run)
    local_queue.enqueue(home, first.paths, Submission(code="c", matrix="m"), minutes=1, gpus=0)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write_state(second.paths, State.RUNNING, attempt=1, progress="epoch 1/2", pid=process.pid)
    done = cancel([first.paths, second.paths], home)
    assert done == ["removed from the queue", f"process {process.pid} told to save and leave"]
    assert process.wait(60) == -signal.SIGTERM
    assert local_queue.queued_folders(home) == set()
    assert read_state(first.paths).state == State.KILLED
    assert cancel([first.paths], home) == [""]
    for run in (first, second):  # one of which did not live to say so
        found = settle(run.paths)
        assert (found.state, found.reason) == (State.KILLED, CANCELLED)
    local_queue.enqueue(home, second.paths, Submission(code="c", matrix="m"), minutes=1, gpus=0)
    assert not second.paths.cancelled.exists()


def test_what_runs_elsewhere_is_cancelled_there(place: Place) -> None:
    run = prepare(*place)[0]
    write(run)
    elsewhere = {"state": "RUNNING", "attempt": 1, "host": "another", "pid": os.getpid(), "started": start_time()}
    write_json(run.paths.state, elsewhere)
    assert cancel([run.paths], Home(place[1].run_root)) == ["works on another: run harness cancel there"]


def test_what_a_reboot_ended_is_said_to_have_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the minutes in which it might also work in silence on another machine of that name."""
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.RUNNING, attempt=1)
    monkeypatch.setattr(processes, "space", lambda: "another-boot pid:[1]")
    monkeypatch.setattr(processes.psutil, "boot_time", lambda: time.time() + 60)
    said = f"its process ended when {socket.gethostname()} was started anew; it counts as dead"
    row = status_rows(*place)[0]
    assert row.state == "RUNNING" and row.reason.startswith(said) and row.text == row.reason
    assert cancel([run.paths], Home(place[1].run_root)) == [row.reason]


def test_choosing(place: Place) -> None:
    runs = prepare(*place)
    for run in runs:
        write(run)
    root, (single, multi) = place[1].run_root, [run.spec.name for run in runs]
    found = list(found_runs(root, "tiny"))
    assert [run.name for run in found] == [single, multi] and list(found_runs(root, "other")) == []
    assert [run.name for run in chosen(found, ["*mstrain*"])] == [multi]
    assert [run.name for run in chosen(found, [single.partition("+")[0], multi])] == [single, multi]
    assert chosen(found, []) == found
    assert only(chosen(found, ["*mstrain*"], 0)).paths.folder == runs[1].paths.folder
    with pytest.raises(UserError, match=rf"^{multi[:-6]}: no run of this name or pattern, did you mean '"):
        chosen(found, [multi[:-6]])
    with pytest.raises(UserError, match="no run with seed 3 among these; there is 0"):
        chosen(found, [], 3)
    with pytest.raises(UserError, match="2 runs are meant; name one of them, such as:\n  mask"):
        only(found)
    with pytest.raises(UserError, match="no run there yet"):
        only([])
    older = RunPaths(runs[0].paths.folder.with_name(f"{single}-seed0-0123456789"))
    older.spec.parent.mkdir()
    older.spec.write_text("{}")
    write_state(runs[0].paths, State.RUNNING, attempt=1)
    assert only(chosen(found_runs(root), [single])).paths == runs[0].paths


def test_output_of_an_attempt(place: Place) -> None:
    run = with_jobs(place)[0].paths
    assert output.output_file(run, 1) == Path("/logs/12_0.out")
    write_json(run.attempt(2) / "job.json", {"id": "9_1"})  # of an array that had the run before
    assert output.output_file(run, 2) is None
    before = place[1].run_root / ".slurm" / "tiny-0f" / "9_1.out"
    before.parent.mkdir(parents=True)
    before.write_text("x")
    assert output.find(run, 2) == before == output.find(run, None)
    with pytest.raises(UserError, match="no attempt 3; its last one is 2"):
        output.find(run, 3)
    with pytest.raises(UserError, match="no output yet: RUNNING epoch 1/2"):
        output.find(run, 1)


def test_following_goes_on_with_the_next_attempt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(output, "LAST_WORDS", 0.3)
    run = prepare(*place)[0].paths
    write_state(run, State.RUNNING, attempt=1)
    said: list[bytes] = []
    notes: list[str] = []
    ends: list[Any] = []
    thread = threading.Thread(target=lambda: ends.append(output.follow(run, said.append, notes.append)))
    thread.start()
    for attempt, texts in ((1, (b"one\n", b"two\n")), (2, (b"three\n",))):
        file = run.attempt(attempt) / "submitit" / "0.out"
        file.parent.mkdir(parents=True)
        with file.open("ab", buffering=0) as stream:
            for text in texts:
                stream.write(text)
                until = time.monotonic() + 60
                while not b"".join(said).endswith(text):
                    assert time.monotonic() < until
                    time.sleep(0.01)
    write_state(run, State.FAILED, attempt=2, reason="why")
    file.write_bytes(b"three\nTraceback\n")  # written after the state
    thread.join(60)
    assert b"".join(said) == b"one\ntwo\nthree\nTraceback\n"
    assert notes == [f"{run.attempt(number)}/submitit/0.out:" for number in (1, 2)]
    assert ends[0].reason == "why"


def names(found: list[clean.Leftover], root: Path) -> set[str]:
    return {str(entry.path.relative_to(root)) for entry in found}


@pytest.mark.slow
def test_clean(place: Place, commands: Commands, tmp_path: Path, shapes: Path) -> None:
    """What is removed, and beside each thing another one of its kind that something refers to."""
    experiment, settings = place
    root = settings.run_root
    commands.answer("squeue", "1_0|1|RUNNING|None|n2|1:40|N/A|1|tiny-queued|")
    first, second = prepare(*place)
    for run, code in ((first, "aaa"), (second, "bbb")):
        write(run)
        write_state(run.paths, State.FINISHED, attempt=1)
        write_submission(run.paths, Submission(code=code, matrix=f"{code}.yaml"))
        write_json(run.paths.result, {"files": {"checkpoint": {"path": "/elsewhere/epoch_2.pth"}}})
    for name in ("aaa", "bbb", "ccc"):
        (root / ".code" / name).mkdir(parents=True)
        (root / ".code" / name / "file").write_text("12345")
        write_json(root / ".matrix" / f"{name}.yaml", 1)
    write_job(first.paths, Job(name="tiny-mine", index=0, id="2_0", output="", code=""))
    write_json(first.paths.attempt(1) / "job.json", {"id": "3_0", "code": str(root / ".code" / "aaa")})
    for name in ("tiny-mine", "tiny-queued", "tiny-before/3_0.out", "tiny-gone/4_0.out"):
        (root / ".slurm" / name).mkdir(parents=True)
    for name in ("epoch_1.pth", "epoch_2.pth", "epoch_3.pth", ".epoch_4.pth.x.tmp"):
        first.paths.checkpoints.mkdir(exist_ok=True)
        (first.paths.checkpoints / name).write_text(name)
    write_json(first.paths.checkpoints / "latest.json", [{"file": "epoch_3.pth"}])
    for name, age in ((".copy.old", 7200), (".copy.new", 0)):
        (root / ".code" / name).mkdir()
        os.utime(root / ".code" / name, (time.time() - age,) * 2)
    nowhere = tmp_path / "reports"
    own = str(first.paths.folder.relative_to(root))
    everywhere = {".code/ccc", ".code/.copy.old", ".matrix/ccc.yaml", ".slurm/tiny-gone"}
    everywhere |= {f"{own}/checkpoints/epoch_1.pth", f"{own}/checkpoints/.epoch_4.pth.x.tmp"}
    assert names(leftovers(None, settings, nowhere, tmp_path), root) == everywhere
    assert names(leftovers(experiment, settings, nowhere, tmp_path), root) == everywhere
    assert {entry.size for entry in leftovers(None, settings, nowhere, tmp_path) if entry.path.name == "ccc"} == {5}

    fewer = load_experiment(write_place(tmp_path, shapes, multiscale="[true]"))
    superseded = leftovers(fewer, settings, nowhere, tmp_path)
    assert names(superseded, root) >= {own, ".code/aaa", ".matrix/aaa.yaml", ".slurm/tiny-mine", ".slurm/tiny-before"}
    for name in ("records.json", "manifest.json"):  # a report names it
        write_json(nowhere / "one" / name, {"rows": [{"key": first.paths.folder.name[-10:]}]})
        assert names(leftovers(fewer, settings, nowhere, tmp_path), root) == everywhere
        (nowhere / "one" / name).unlink()
    write_state(first.paths, State.KILLED, attempt=1)
    unfinished = names(leftovers(fewer, settings, nowhere, tmp_path), root)
    assert unfinished == {name for name in everywhere if "checkpoints" not in name}
    (commands.folder / "squeue").unlink()  # nobody says which jobs are gone
    assert ".slurm/tiny-gone" not in names(leftovers(fewer, settings, nowhere, tmp_path), root)

    remove(superseded, root)
    assert not first.paths.folder.exists() and second.paths.spec.exists()
    assert sorted(path.name for path in (root / ".code").iterdir()) == [".copy.new", "bbb"]
    assert [path.name for path in (root / ".slurm").iterdir()] == ["tiny-queued"]
    assert not list((root / clean.TRASH).iterdir())


def test_nothing_is_superseded_as_long_as_identities_are_not_known(place: Place, tmp_path: Path) -> None:
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.FINISHED, attempt=1)
    settings = load_settings(tmp_path, {"HARNESS_DATASET_SHAPES": str(tmp_path / "gone")})
    with pytest.raises(UserError, match="gone"):
        leftovers(place[0], settings, tmp_path, tmp_path)


def test_the_raw_numbers() -> None:
    """The fields that programs read: renaming one is a change for everybody's scripts."""
    assert {"state", "reason", "eta_seconds", "gpu_hours", "gpu_hours_expected", "job", "node"} <= set(
        RunStatus.__dataclass_fields__
    )
