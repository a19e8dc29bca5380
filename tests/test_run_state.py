"""Where a run stands, and what is found of one whose process is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.files import read_json, write_json
from harness.run_paths import RunPaths
from harness.run_state import RunState, State, read_state, write_state


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def test_the_state_of_a_run_that_nobody_started_is_queued(paths: RunPaths) -> None:
    assert read_state(paths) == RunState(state=State.QUEUED)


@pytest.mark.parametrize("state", list(State))
def test_a_state_survives_its_file(paths: RunPaths, state: State) -> None:
    write_state(paths, state, attempt=2, reason="why", progress="epoch 3/12")
    found = read_state(paths)
    assert (found.state, found.attempt, found.reason, found.progress) == (state, 2, "why", "epoch 3/12")
    assert found.pid == os.getpid()
    assert state.ended == (state in ("FINISHED", "FAILED", "KILLED"))


def test_a_running_run_whose_process_is_gone_has_failed(paths: RunPaths) -> None:
    script = (
        "import sys, os; from pathlib import Path; from harness.run_paths import *\n"
        "from harness.run_state import *\n"
        "write_state(RunPaths(Path(sys.argv[1])), State.RUNNING, attempt=1, progress='epoch 1/12'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, paths.folder]).returncode == 9
    found = read_state(paths)
    assert (found.state, found.attempt, found.progress) == (State.FAILED, 1, "epoch 1/12")
    assert "died without a word" in found.reason


def test_a_reused_process_number_is_not_mistaken(paths: RunPaths) -> None:
    write_state(paths, State.RUNNING, attempt=1)
    assert read_state(paths).state == State.RUNNING
    plain = read_json(paths.state)
    write_json(paths.state, plain | {"started": plain["started"] - 100})
    assert read_state(paths).state == State.FAILED
    write_json(paths.state, plain | {"started": plain["started"] - 100, "host": "another-host"})
    assert read_state(paths).state == State.RUNNING  # of other hosts nothing is known
