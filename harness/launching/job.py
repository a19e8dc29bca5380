"""One attempt of a run: training, and the shipper beside it. The same on SLURM, locally and in the foreground."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.runs import RunPaths, State, next_attempt, read_spec, read_state, write_state

if TYPE_CHECKING:  # torch is imported when a job starts, not when one is submitted
    from harness.training.distributed import Ranks

STOPPED = 75
"""Exit code of an attempt that was told to stop and left a checkpoint (EX_TEMPFAIL: try again)."""


def run_attempt(folder: Path, tracking_uri: str, *, attempt: int | None = None) -> int:
    """Work on the run in `folder` until it is finished or told to stop; the exit code.

    attempt: its number where the launcher has claimed it already. SIGTERM, SIGUSR2 (SLURM's and submitit's warning)
    and Ctrl-C make it stop after the iteration with a checkpoint; Ctrl-C twice stops at once.
    """
    from harness.training import distributed

    paths = RunPaths(folder)
    stop = _Stop()
    ranks = distributed.start(rendezvous=_rendezvous(paths, attempt))
    try:
        number = _agree(attempt, paths, ranks)
        code = _work(paths, tracking_uri, number, ranks, stop)
    finally:
        distributed.stop()
    return code


def _rendezvous(paths: RunPaths, attempt: int | None) -> str | None:
    """Where the processes of a claimed attempt meet: a file of its own, so that no port can collide."""
    return None if attempt is None else f"file://{paths.attempt(attempt).resolve()}/rendezvous"


def _agree(attempt: int | None, paths: RunPaths, ranks: "Ranks") -> int:
    """The attempt's number, claimed by rank 0 where nobody has."""
    if attempt is None and ranks.main:
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


def _work(paths: RunPaths, tracking_uri: str, attempt: int, ranks: "Ranks", stop: _Stop) -> int:
    say = _speaker(paths, attempt) if ranks.main else _nothing
    shipper = None
    try:
        say(State.RUNNING, "starting")
        shipper = _start_shipper(paths, tracking_uri) if ranks.main else None
        finished = _train(paths, attempt, ranks, stop, lambda text: say(State.RUNNING, text))
    except (UserError, KeyboardInterrupt) as error:
        reason = str(error) or "interrupted"
        say(State.KILLED if isinstance(error, KeyboardInterrupt) else State.FAILED, reason.splitlines()[0])
        if isinstance(error, UserError):
            raise
        return 130
    except BaseException as error:
        say(State.FAILED, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
        traceback.print_exc()
        return 1
    say(State.FINISHED if finished else State.KILLED, "" if finished else f"stopped by {stop.wanted}")
    if shipper is not None:
        _wait_for_shipper(shipper, patient=finished)
    return 0 if finished else STOPPED


def _train(
    paths: RunPaths,
    attempt: int,
    ranks: "Ranks",
    stop: _Stop,
    on_row: Callable[[str], None],
) -> bool:
    from harness.training.loop import Training, train
    from harness.training.outcome import write_outcome

    training = Training(paths, read_spec(paths), ranks, attempt=attempt)
    outcome = train(training, stop=stop, on_row=on_row)
    if outcome.finished and ranks.main:
        write_outcome(training, outcome)
    ranks.barrier()
    return outcome.finished


def _speaker(paths: RunPaths, attempt: int) -> Callable[[State, str], None]:
    def say(state: State, text: str) -> None:
        if read_state(paths).attempt > attempt:  # superseded: another attempt works on this run
            return
        if state in (State.FAILED, State.KILLED):
            write_state(paths, state, attempt=attempt, reason=text)
        else:
            write_state(paths, state, attempt=attempt, progress=text)

    return say


def _nothing(state: State, text: str) -> None:
    pass


def _start_shipper(paths: RunPaths, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """The shipper in a session of its own: signals for this job do not reach it, and it ends when the run has."""
    log = (paths.folder / "shipper.log").open("ab")
    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", tracking_uri]
    command += ["--parent", str(os.getpid())]
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _wait_for_shipper(shipper: "subprocess.Popen[bytes]", *, patient: bool) -> None:
    """Give it a minute to carry a finished run home, 2 s when stopping; it goes on by itself after that."""
    try:
        shipper.wait(timeout=60 if patient else 2)
    except subprocess.TimeoutExpired:
        return


def main() -> None:
    """Entry of a job: FOLDER TRACKING_URI ATTEMPT."""
    folder, tracking_uri, attempt = sys.argv[1:]
    try:
        code = run_attempt(Path(folder), tracking_uri, attempt=int(attempt))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
