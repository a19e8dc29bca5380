"""Attempts of two real processes that hang, die or fall behind: who is named, what is left, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.tiny import prepared_run

from harness.failures import Failure
from harness.launching.prepare import PreparedRun
from harness.launching.slurm_ask import Accounting
from harness.launching.standings import Standing
from harness.launching.status import _read, _row
from harness.run_log import merged_rows
from harness.run_paths import next_attempt
from harness.run_state import State, read_state
from harness.training.watch import HUNG

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("misfortune.py")
TESTS = CHILD.parent.parent


@pytest.fixture
def run(tmp_path: Path, shapes: Path) -> PreparedRun:
    """Eight iterations, for two ranks."""
    return prepared_run(tmp_path, shapes, batch=4, shorten=", iterations_per_epoch: 4")


def start(run: PreparedRun, *events: str, world: int = 2) -> list[subprocess.Popen[str]]:
    """The processes of a new attempt, rank 0 first."""
    attempt = next_attempt(run.paths)
    shared = os.environ | {"WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    return [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(run.paths.folder), str(attempt), *events],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes: list[subprocess.Popen[str]], seconds: float = 240) -> tuple[list[int], list[str]]:
    """Exit codes and what was said on stderr, without the lines of progress and torch's warnings."""
    told = [process.communicate(timeout=seconds)[1].splitlines(keepends=True) for process in processes]
    lines = ["".join(line for line in text if line.startswith(("error:", "slow:", "Traceback"))) for text in told]
    return [process.returncode for process in processes], lines


def failure(run: PreparedRun) -> str:
    state = read_state(run.paths)
    assert state.state == State.FAILED
    return state.reason


def test_the_rank_that_hangs_is_told_from_the_one_that_waits(run: PreparedRun) -> None:
    processes = start(run, "1:sleep:2")
    codes, told = finish(processes)
    assert codes == [HUNG, HUNG]
    reason = failure(run)
    who = rf"rank 1 on {re.escape(socket.gethostname())} \(process {processes[1].pid}\)"
    assert re.match(rf"no progress: {who} is stuck in data since \d+ s, after 2 iterations; rank 0 waits", reason)
    assert [text for text in told if reason in text] == [told[0]]  # said once
    stacks = [(run.paths.attempt(1) / f"rank-{rank}.stack.txt").read_text() for rank in (0, 1)]
    assert stacks[1].startswith("rank 1 on ") and ": data since" in stacks[1]
    assert "in happen" in stacks[1] and "in happen" not in stacks[0]
    assert "in iterate" in stacks[0]


def test_a_rank_alone(run: PreparedRun) -> None:
    codes, _ = finish(start(run, "0:sleep:2", world=1))
    assert codes == [HUNG]
    assert "rank 0 on " in failure(run) and "is stuck in data" in failure(run) and "wait" not in failure(run)
    codes, _ = finish(start(run, world=1))  # the cause is gone
    assert codes == [0]
    assert read_state(run.paths).state == State.FINISHED
    assert [row["step"] for row in merged_rows(run.paths) if row["mode"] == "train"] == list(range(1, 9))
    assert not list(run.paths.attempt(2).glob("rank-*"))


def test_a_rank_that_holds_its_interpreter_is_ended_by_the_others(run: PreparedRun) -> None:
    """Its own thread cannot look after it: it has been silent, its stack is written by a timer, and it is killed."""
    processes = start(run, "1:freeze:2")
    codes, _ = finish(processes)
    assert codes == [HUNG, -signal.SIGKILL]
    assert re.search(r"rank 1 on \S+ \(process \d+\) (was last heard of \d+ s ago|is stuck)", failure(run))
    assert "in happen" in (run.paths.attempt(1) / "rank-1.stack.txt").read_text()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_takes_the_other_down(run: PreparedRun, rank: int) -> None:
    processes = start(run, f"{rank}:kill:2")
    processes[rank].wait(timeout=240)
    began = time.monotonic()
    codes, told = finish(processes)
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 1
    assert time.monotonic() - began < 60
    assert re.fullmatch(rf"rank {rank} on \S+ \(process {processes[rank].pid}\) died without a word .*", failure(run))
    assert read_state(run.paths).kind == Failure.UNKNOWN
    assert told[1 - rank] == f"error: {failure(run)}\n"


def test_a_rank_without_its_image_says_so_for_all(run: PreparedRun) -> None:
    codes, told = finish(start(run, "1:image:2"))
    assert codes == [2, 2]
    assert re.fullmatch(r"rank 1 on \S+ \(process \d+\) a\.jpg: broken", failure(run))
    assert read_state(run.paths).kind == Failure.MISTAKE  # rank 0 has it of rank 1
    assert told == [f"error: {failure(run)}\n", "error: a.jpg: broken\n"]


def test_a_slow_rank_is_named(run: PreparedRun) -> None:
    processes = start(run, "1:slow:1")
    texts: set[str] = set()
    while processes[0].poll() is None:
        row = _row(_read(run.paths), Standing(read_state(run.paths)), Accounting([]), supervised=True)
        texts.update(row.text.split("; "))
        time.sleep(0.1)
    codes, told = finish(processes)
    assert codes == [0, 0]
    named = re.compile(
        rf"slow: rank 1 on {re.escape(socket.gethostname())}: data takes \d+\.\d x the median \(0\.\d+ s a step\)"
    )
    assert any(named.match(text) for text in texts), texts
    assert named.search(told[0]) and "slow" not in told[1]
