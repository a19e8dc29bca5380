"""One attempt of a run: training, and the shipper beside it. The same on SLURM, locally and in the foreground."""

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.runs import RunPaths, RunSpec, State, next_attempt, read_spec, read_state, write_state

if TYPE_CHECKING:  # torch is imported when a job starts, not when one is submitted
    from harness.training.distributed import Ranks

USER_ERROR = 2
"""Exit code of an attempt that a user's mistake ended; its line is on stderr."""
STOPPED = 75
"""Exit code of an attempt that was told to stop and left a checkpoint (EX_TEMPFAIL: try again)."""
INTERRUPTED = 130
"""Exit code of an attempt that was told to stop at once."""


def run_attempt(folder: Path, tracking_uri: str, *, attempt: int | None = None) -> int:
    """Work on the run in `folder` until it is finished or told to stop; the exit code (0: finished).

    attempt: its number where the launcher has claimed it already. SIGTERM, SIGUSR2 (SLURM's and submitit's warning)
    and Ctrl-C make it stop after the iteration with a checkpoint; Ctrl-C twice stops at once.
    """
    from harness.training import distributed

    paths = RunPaths(folder)
    stop = _Stop()
    try:
        spec = read_spec(paths)
        ranks = distributed.start(gpu=spec.resources["gpus_per_node"] > 0, rendezvous=_rendezvous(paths, attempt))
        return _work(_Attempt(paths, spec, _claim(attempt, paths, ranks)), tracking_uri, ranks, stop)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_ERROR
    finally:
        distributed.stop()


def _rendezvous(paths: RunPaths, attempt: int | None) -> str | None:
    """Where the processes of a claimed attempt meet: a file of its own, so that no port can collide."""
    return None if attempt is None else f"file://{paths.attempt(attempt).resolve()}/rendezvous"


def _claim(attempt: int | None, paths: RunPaths, ranks: "Ranks") -> int:
    """The attempt's number, claimed by rank 0 where the launcher has not.

    Raises UserError where a process of this machine is working on the run.
    """
    if attempt is None and ranks.main:
        state = read_state(paths)
        if state.state == State.RUNNING and state.host == socket.gethostname():
            raise UserError(f"{paths.folder}: process {state.pid} is working on this run; wait for it, or stop it")
        attempt = next_attempt(paths)
    return round(ranks.maximum(attempt or 0))


class _Stop:
    """Set by signals; asked by the loop."""

    def __init__(self) -> None:
        self.wanted = ""
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        return bool(self.wanted)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.wanted:
            raise KeyboardInterrupt
        self.wanted = signal.Signals(number).name


class _Attempt:
    """An attempt, and what it says of itself in the run's state; once superseded it says nothing more."""

    def __init__(self, paths: RunPaths, spec: RunSpec, number: int) -> None:
        self.paths, self.spec, self.number = paths, spec, number

    def at(self, progress: str) -> None:
        """The run is being worked on.

        Raises UserError where a later attempt has taken over: two must not write checkpoints.
        """
        if self._superseded():
            raise UserError(f"{self.paths.folder}: attempt {self.number} gives way to a later one")
        write_state(self.paths, State.RUNNING, attempt=self.number, progress=progress)

    def ended(self, state: State, reason: str = "") -> None:
        """The attempt is over."""
        if not self._superseded():
            write_state(self.paths, state, attempt=self.number, reason=reason)

    def _superseded(self) -> bool:
        return read_state(self.paths).attempt > self.number


def _work(attempt: _Attempt, tracking_uri: str, ranks: "Ranks", stop: _Stop) -> int:
    try:
        if ranks.main:
            attempt.at("starting")
            shipper = _start_shipper(attempt.paths, tracking_uri)
        finished = _train(attempt, ranks, stop)
    except BaseException as error:
        if ranks.main:
            attempt.ended(State.KILLED if isinstance(error, KeyboardInterrupt) else State.FAILED, _reason(error))
        if isinstance(error, UserError):
            raise
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        traceback.print_exc()
        return 1
    if ranks.main:
        if finished:
            attempt.ended(State.FINISHED)
        else:
            attempt.ended(State.KILLED, f"stopped by {stop.wanted or 'a signal to another process'}")
        _wait_for_shipper(shipper, patient=finished)
    return 0 if finished else STOPPED


def _reason(error: BaseException) -> str:
    """One line."""
    text = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _train(attempt: _Attempt, ranks: "Ranks", stop: Callable[[], bool]) -> bool:
    from harness.training.loop import train
    from harness.training.outcome import write_outcome
    from harness.training.session import Training

    training = Training(attempt.paths, attempt.spec, ranks, attempt=attempt.number)
    finished = train(training, stop=stop, on_row=attempt.at)
    if finished and ranks.main:
        write_outcome(training)
    ranks.barrier()
    return finished


def _start_shipper(paths: RunPaths, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """The shipper in a session of its own: signals for this job do not reach it, and it ends when the run has."""
    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", tracking_uri]
    command += ["--parent", str(os.getpid())]
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    with (paths.folder / "shipper.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def _wait_for_shipper(shipper: "subprocess.Popen[bytes]", *, patient: bool) -> None:
    """Give it a minute to carry a finished run home, 2 s when stopping; it goes on by itself after that."""
    try:
        shipper.wait(timeout=60 if patient else 2)
    except subprocess.TimeoutExpired:
        return
