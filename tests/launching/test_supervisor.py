"""The local road as it is used: submit, the detached supervisor, submitit's executor, jobs; and kills in between."""

import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from training.tiny import write_place

from harness.launching import supervisor
from harness.launching.ends import read_end
from harness.launching.frozen_code import Submission, freeze, write_submission
from harness.launching.job import STOPPED_BY
from harness.leases import _read
from harness.processes import is_working
from harness.run_log import merged_rows, read_log
from harness.run_paths import RunPaths
from harness.run_state import State, read_state

pytestmark = pytest.mark.slow

CELL = "mask_rcnn_r18_fpn_1x_coco"
PR_SET_CHILD_SUBREAPER = 36


class Place:
    """A working folder in which commands run as a user's do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(folder)}

    def command(self, *words: str, code: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.command("status", "tiny.yaml", "--json")
        return found

    def wait(self, paths: RunPaths, condition: Callable[[State], bool], seconds: float = 120) -> State:
        deadline = time.monotonic() + seconds
        while not condition(state := read_state(paths).state):
            assert time.monotonic() < deadline, f"{state}; {self.log()}"
            time.sleep(0.1)
        return state

    def log(self) -> str:
        return (self.folder / "runs/.supervisor/log.txt").read_text()

    def supervisor(self) -> int:
        """Its process id, when there is one."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            holders = sorted((self.folder / "runs/.supervisor/lease").glob("[0-9]*"))
            holder = _read(holders[-1]) if holders else None
            if holder and holder.expires and is_working(holder.pid, holder.started):
                return holder.pid
            time.sleep(0.05)
        raise AssertionError(self.log())


def ended(state: State) -> bool:
    return state.ended


def running(state: State) -> bool:
    return state == State.RUNNING


def trained(paths: RunPaths) -> list[int]:
    return [row["step"] for row in merged_rows(paths) if row["mode"] == "train"]


def wait_for_step(paths: RunPaths, step: int) -> None:
    deadline = time.monotonic() + 120
    while step not in trained(paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Orphans stay zombies, as in a container without an init; those that run below its folder are ended at last."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield Place(tmp_path)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()):
            process.kill()


def test_a_submit_from_end_to_end_with_kills(place: Place, tmp_path: Path, shapes: Path) -> None:
    write_place(tmp_path, shapes, multiscale="[false, true]", settings="local_jobs = 1")
    began = time.monotonic()
    submitted = place.command("submit", "tiny.yaml", "--json")
    assert time.monotonic() - began < 10
    assert [row["action"] for row in submitted] == ["start", "start"]
    first, second = (RunPaths(Path(row["folder"])) for row in submitted)

    place.wait(first, running)
    assert read_state(second).state == State.QUEUED  # one at a time
    os.kill(place.supervisor(), signal.SIGKILL)
    assert [row["action"] for row in place.command("submit", "tiny.yaml", "--json")] == ["leave alone"] * 2
    place.supervisor()
    assert place.wait(first, ended) == State.FINISHED
    assert (read_state(first).attempt, trained(first)) == (1, [1, 2, 3, 4, 5, 6])

    wait_for_step(second, 4)  # a checkpoint is at step 3
    os.kill(read_state(second).pid, signal.SIGKILL)
    assert place.wait(second, ended) == State.FAILED
    failed = place.rows()[1]
    assert "died without a word" in failed["text"] and Path(failed["output"]).suffix == ".out"
    again = place.command("submit", "tiny.yaml", "--json")
    assert [row["action"] for row in again] == ["skip", "resume"]
    assert again[1]["text"].startswith("unknown: its process died without a word")
    assert place.wait(second, ended) == State.FINISHED
    starts = [row["step"] for row in merged_rows(second) if row["mode"] == "attempt"]
    assert starts == [0, 3]
    assert trained(second) == [1, 2, 3, 4, 5, 6]
    assert [row["state"] for row in place.rows()] == ["FINISHED", "FINISHED"]


def test_wait_replaces_a_killed_supervisor_and_can_be_left(place: Place, tmp_path: Path, shapes: Path) -> None:
    matrix = write_place(tmp_path, shapes, multiscale="[false, true]", settings="local_jobs = 1", epochs=1)
    words = [sys.executable, "-m", "harness", "submit", matrix.name, "--wait"]
    first, second = (RunPaths(Path(row["folder"])) for row in place.command("submit", "tiny.yaml", "--json"))

    def start() -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, cwd=tmp_path, env=place.environ, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    left = start()
    assert left.stdout is not None
    while "seed 0: RUNNING" not in left.stdout.readline():  # the table, which says it too, comes before it waits
        assert left.poll() is None
    left.send_signal(signal.SIGINT)
    _, told = left.communicate(timeout=60)
    assert left.returncode == 130
    assert told == "the runs go on without this command; see harness status tiny.yaml\n"
    assert read_state(first).state == State.RUNNING

    waiting = start()
    assert waiting.stdout is not None
    while "QUEUED" not in waiting.stdout.readline():  # its own submit is done
        assert waiting.poll() is None
    os.kill(place.supervisor(), signal.SIGKILL)
    out, _ = waiting.communicate(timeout=300)
    assert waiting.returncode == 0 and "all finished" in out
    assert [read_state(paths).attempt for paths in (first, second)] == [1, 1]


def test_an_edit_after_the_submit_changes_nothing(place: Place, tmp_path: Path, shapes: Path) -> None:
    """Submitted from a copy of the package, which then cannot even be imported; supervisor and jobs have their own."""
    for part in ("harness", "experiments"):
        shutil.copytree(ROOT / part, tmp_path / "checkout" / part, ignore=shutil.ignore_patterns("__pycache__"))
    place.environ |= {"PYTHONPATH": str(tmp_path / "checkout"), "PYTHONSAFEPATH": "1"}
    write_place(tmp_path, shapes, multiscale="[false, true]", settings="local_jobs = 1", epochs=1)
    submitted = place.command("submit", "tiny.yaml", "--json")
    for file in ("training/step.py", "launching/job.py", "launching/supervisor.py", "tracking/shipper.py"):
        (tmp_path / "checkout" / "harness" / file).write_text("raise RuntimeError('this is not the frozen copy')\n")
    for row in submitted:
        paths = RunPaths(Path(row["folder"]))
        assert place.wait(paths, ended) == State.FINISHED, read_state(paths).reason
        (attempt,) = [entry for entry in merged_rows(paths) if entry["mode"] == "attempt"]
        assert (attempt["code"]["digest"], attempt["code"]["frozen"]) == (row["code"], True)
        assert (tmp_path / "runs/.matrix" / attempt["matrix"]).read_text() == (tmp_path / "tiny.yaml").read_text()
        assert "RuntimeError" not in (paths.folder / "shipper.log").read_text()


def test_two_submits_at_once_and_a_failing_run(place: Place, tmp_path: Path, shapes: Path) -> None:
    matrix = write_place(tmp_path, shapes, multiscale="[false, true]", settings="local_jobs = 2", epochs=1)
    text = matrix.read_text()
    matrix.write_text(f"{text}overrides: [{{cells: '{CELL}', recipe: {{lr: 1.0e+30, warmup_iters: 0}}}}]\n")
    words = [sys.executable, "-m", "harness", "submit", "tiny.yaml", "--json"]
    both = [subprocess.Popen(words, cwd=tmp_path, env=place.environ, stdout=subprocess.PIPE) for _ in range(2)]
    decided = [json.loads(process.communicate()[0]) for process in both]
    assert sorted(row["action"] for rows in decided for row in rows) == ["leave alone"] * 2 + ["start"] * 2
    broken, sound = (RunPaths(Path(row["folder"])) for row in decided[0])
    assert place.wait(broken, ended) == State.FAILED
    assert "the loss is not finite" in read_state(broken).reason
    assert place.wait(sound, ended) == State.FINISHED
    assert [len(list((paths.folder / "attempts").iterdir())) for paths in (broken, sound)] == [1, 1]
    out = place.command("status", "tiny.yaml")
    assert "output in" in out and "now run: harness submit tiny.yaml" in out


def test_the_time_limit_is_the_matrixs(place: Place, tmp_path: Path, shapes: Path) -> None:
    """A minute: submitit warns half a minute before, the run leaves a checkpoint, and goes on in its next attempt."""
    write_place(tmp_path, shapes, minutes=1, epochs=1000, shorten="")
    (row,) = place.command("submit", "tiny.yaml", "--json")
    paths = RunPaths(Path(row["folder"]))
    deadline = time.monotonic() + 240
    while not (paths.segment(2).exists() and read_log(paths.segment(2))):
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.5)
    begun, before = read_log(paths.segment(2))[0], read_log(paths.segment(1))
    assert begun["step"] >= max(entry["step"] for entry in before if entry["mode"] == "train")
    assert begun["replayed"] is None
    end = read_end(paths, 1)
    assert end is not None and end.reason == f"requeued after attempt 1 was {STOPPED_BY[signal.SIGUSR2]}"
    place.command("cancel", "tiny.yaml")
    assert place.wait(paths, ended) == State.KILLED


def test_a_job_sees_its_own_gpus_alone(tmp_path: Path) -> None:
    """Also by names, which submitit does not take."""
    paths = RunPaths(tmp_path / "tiny" / "cell")
    write_submission(paths, Submission(code=freeze(tmp_path).name, matrix=""))
    words = shlex.split(supervisor._python(paths, ["GPU-8a", "MIG-77"]))
    said = subprocess.run([*words, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"], capture_output=True)
    assert said.stdout == b"GPU-8a,MIG-77\n"


def test_torchrun(place: Place, tmp_path: Path, shapes: Path) -> None:
    write_place(tmp_path, shapes, batch=4, epochs=1)
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617", "-m", "harness"]
    train = ["train", CELL, "--experiment", "tiny.yaml"]
    done = subprocess.run(
        [sys.executable, *words, *train], cwd=tmp_path, env=place.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("now run: harness ui") == 1
    (row,) = place.rows()
    assert row["state"] == "FINISHED"
    assert json.loads((Path(row["folder"]) / "result.json").read_text())["hardware"]["count"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group(place: Place, tmp_path: Path, shapes: Path, number: signal.Signals) -> None:
    """As scancel and Ctrl-C send it: the data loader's workers get it too, and must not take the training down."""
    write_place(tmp_path, shapes, workers=2, epochs=100)
    words = [sys.executable, "-m", "harness", "train", CELL, "--experiment", "tiny.yaml"]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=place.environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    paths = RunPaths(Path(process.stdout.readline().split(": ")[1].strip()))
    wait_for_step(paths, 2)
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) == 75
    assert (read_state(paths).state, read_state(paths).reason) == (State.KILLED, STOPPED_BY[number])
