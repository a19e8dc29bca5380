"""What a function in a process of its own gives back, and what is said where it gives nothing."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import UserError
from harness.own_process import in_own_process


def double(value: int) -> tuple[int, int]:
    return 2 * value, os.getpid()


def refuse(text: str) -> None:
    raise UserError(text)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_result_comes_from_another_process() -> None:
    value, process = in_own_process(double, 21)
    assert value == 42 and process != os.getpid()


def test_a_mistake_is_told_as_it_was() -> None:
    with pytest.raises(UserError, match=r"^no such data$"):
        in_own_process(refuse, "no such data")


def test_a_killed_process_is_a_mistake_too() -> None:
    with pytest.raises(UserError, match=r"was killed by signal 9 \(out of memory\?\)"):
        in_own_process(die)


def linger(file: Path) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(600)


def test_it_does_not_outlive_its_caller(tmp_path: Path) -> None:
    caller = multiprocessing.get_context("spawn").Process(target=in_own_process, args=(linger, tmp_path / "pid"))
    caller.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    caller.kill()
    caller.join()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
