"""What a function in a process of its own gives back, and what is said where it gives nothing."""

import multiprocessing
import os
import signal
import threading
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


def call_and_fork(folder: Path) -> None:
    threading.Thread(target=fork, args=(folder,)).start()
    in_own_process(linger, folder / "called")


def fork(folder: Path) -> None:
    """As a data loader does: the forked process holds open whatever the caller does."""
    read_pid(folder / "called")
    if not os.fork():
        linger(folder / "forked")


def read_pid(file: Path) -> int:
    deadline = time.monotonic() + 120
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


@pytest.mark.slow
def test_it_does_not_outlive_its_caller(tmp_path: Path) -> None:
    """But a process that its caller forked does, here."""
    caller = multiprocessing.get_context("spawn").Process(target=call_and_fork, args=(tmp_path,))
    caller.start()
    called, forked = (psutil.Process(read_pid(tmp_path / name)) for name in ("called", "forked"))
    caller.kill()
    caller.join()
    deadline = time.monotonic() + 60
    while called.is_running() and called.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert forked.is_running()
    forked.kill()


def call_until_interrupted(folder: Path) -> None:
    os.setsid()
    try:
        in_own_process(linger, folder / "called")
    except KeyboardInterrupt:
        (folder / "said").write_text("interrupted")


@pytest.mark.slow
def test_an_interrupt_is_the_callers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C goes to both: the process that was called ends without a word."""
    caller = multiprocessing.get_context("spawn").Process(target=call_until_interrupted, args=(tmp_path,))
    caller.start()
    called = psutil.Process(read_pid(tmp_path / "called"))
    assert caller.pid is not None
    os.killpg(caller.pid, signal.SIGINT)
    caller.join(60)
    assert (caller.exitcode, (tmp_path / "said").read_text()) == (0, "interrupted")
    assert not called.is_running()
    assert capfd.readouterr().err == ""
