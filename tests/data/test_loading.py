"""Workers of a data loader: what a signal means to them, and that they keep nobody from exiting."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from harness.data.loading import load

FAULTY = 3
kept: Iterator[int]


class Numbers(Dataset[int]):
    def __getitem__(self, place: int) -> int:
        if place == FAULTY:
            raise ValueError("a fault of ours")
        return place


def loaded(last: int = 100) -> Iterator[int]:
    return load(Numbers(), range(last), workers=2, pin_memory=False)


def leave(taken: int) -> None:
    """Exit, or fail, while the module has batches that have begun."""
    global kept
    kept = loaded()
    for _ in range(taken):
        next(kept)
    sys.exit(7)


@pytest.mark.parametrize(("taken", "code"), [(1, 7), (FAULTY + 1, 1)])
def test_an_exit_waits_for_nobody(taken: int, code: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=leave, args=(taken,))
    process.start()
    process.join(60)
    ended = process.exitcode
    process.kill()
    process.join()
    assert ended == code


@pytest.mark.slow
def test_an_interpreter_that_keeps_the_last_exception_exits() -> None:
    """As a notebook does: with the loader in the frames of the traceback."""
    code = "from data import test_loading; numbers = test_loading.loaded(); [*numbers]"
    command = [sys.executable, "-i", "-c", code]
    where = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(
        command,
        input="numbers = test_loading.loaded(); next(numbers)\n",
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "a fault of ours" in done.stderr
    assert (done.stdout, done.returncode) == ("0\n", 0)


def test_signals_for_a_whole_job_end_no_worker() -> None:
    before = set(multiprocessing.active_children())
    numbers = loaded(FAULTY)
    found = [next(numbers), next(numbers)]  # one of each worker
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for name in ("TERM", "INT", "USR2"):
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    time.sleep(0.2)
    assert all(worker.is_alive() for worker in workers)
    assert [*found, *numbers] == list(range(FAULTY))
