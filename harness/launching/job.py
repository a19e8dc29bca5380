"""One attempt of a run: training, and the shipper beside it. The same on SLURM, locally and in the foreground."""

import os
import signal
import subprocess
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UserError
from harness.failures import Failure
from harness.launching import local_queue, retries
from harness.launching.attempt import Attempt, tell
from harness.launching.ends import STOPPED
from harness.launching.requeue import is_over_time, start_next
from harness.launching.slurm import OwnJob
from harness.launching.staging import bring_data
from harness.processes import is_here, node_name
from harness.provenance import python_path
from harness.run_paths import RunPaths, next_attempt
from harness.run_spec import Origin, RunSpec, read_spec
from harness.run_state import CANCELLED, State, read_state
from harness.tracking.system import sampling

if TYPE_CHECKING:  # torch is imported when a job starts, not when one is submitted
    from harness.training.distributed import Ranks
    from harness.training.watch import Limits, Watch

USER_ERROR = 2
"""Exit code of an attempt that something ended which a user can mend; a line on stderr says what."""
INTERRUPTED = 130
"""Exit code of an attempt that was told to stop at once."""
STOPPED_BY = {
    signal.SIGINT: "stopped by SIGINT (Ctrl-C)",
    signal.SIGTERM: "stopped by SIGTERM (a scheduler, or kill)",
    signal.SIGUSR2: "stopped by SIGUSR2 (the launcher's warning of a time limit or a preemption)",
}
"""The signals that stop an attempt, and what is said of it then."""
OVER_TIME = "stopped at the time limit of its job, of which no signal had warned"
LAST_WORDS = 20.0
"""Seconds for which a rank that lost contact waits to learn from the others' notes what happened."""


def run_attempt(
    folder: Path,
    tracking_uri: str,
    *,
    attempt: int | None = None,
    limits: "Limits | None" = None,
    job: OwnJob | None = None,
) -> int:
    """Work on the run in `folder` until it is finished or told to stop; the exit code (0: finished).

    attempt: its number where the launcher has claimed it already. SIGTERM, SIGUSR2 (SLURM's and submitit's warning)
    and Ctrl-C make it stop after the iteration with a checkpoint; Ctrl-C twice stops at once. Where nothing moves for
    as long as `limits` say, the process ends with watch.HUNG.
    job: the SLURM job that has the run. It supersedes whatever still works on the run, and requeues itself on SIGUSR2.
    """
    stop = _Stop()
    os.environ.update({**retries.environment(RunPaths(folder)), **os.environ})  # before torch reads it
    from harness.training import distributed
    from harness.training.faults import explain

    paths, code = RunPaths(folder), 1
    try:
        spec = read_spec(paths)
        meeting = _meeting(paths, attempt, job)
        ranks = distributed.start(gpu=spec.resources["gpus_per_node"] > 0, meeting=meeting)
        number = _claim(attempt, paths, ranks, job)
        if meeting and ranks.main:
            meeting.unlink(missing_ok=True)  # all have met
        code = _work(Attempt(paths, spec, number, job), tracking_uri, ranks, stop, limits)
    except Exception as error:  # before the attempt was under way: it has no state to tell of
        told = explain(error)
        tell(f"error: {told}\n" if told else "".join(traceback.format_exception(error)))
        code = USER_ERROR if told else 1
    finally:
        distributed.stop(0 if code == STOPPED else code)
    return code


def _meeting(paths: RunPaths, attempt: int | None, job: OwnJob | None) -> Path | None:
    """The file by which the processes of this attempt find each other; None where torchrun has told them."""
    if job is not None:
        return paths.folder / f".meeting-{job.raw_id}-{job.restarts}.json"
    return None if attempt is None else paths.attempt(attempt) / "meeting.json"


def _claim(attempt: int | None, paths: RunPaths, ranks: "Ranks", job: OwnJob | None) -> int:
    """The attempt's number, claimed by rank 0 where the launcher has not.

    Raises UserError where a process of this machine is working on the run, and no job of SLURM supersedes it.
    """
    if attempt is None and ranks.main:
        state = read_state(paths)
        if job is None and state.state == State.RUNNING and is_here(state):
            raise UserError(f"{paths.folder}: process {state.pid} is working on this run; wait for it, or stop it")
        attempt = next_attempt(paths)
    return round(ranks.maximum(attempt or 0))


class _Stop:
    """Set by signals; asked by the loop."""

    def __init__(self) -> None:
        self.signal = 0
        for number in STOPPED_BY:
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        return bool(self.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal:
            raise KeyboardInterrupt
        self.signal = max(self.signal, number)  # SIGTERM above SIGUSR2: what is cancelled stays cancelled


def _work(attempt: Attempt, tracking_uri: str, ranks: "Ranks", stop: _Stop, limits: "Limits | None") -> int:
    from harness.training.watch import Watch, watching

    watch = Watch(limits)
    try:
        with watching(watch, attempt.folder, ranks, attempt.hung), _sampling(attempt, ranks):
            if ranks.main:
                attempt.begin()
                shipper = _start_shipper(attempt.paths, tracking_uri)
            stopped = _carry_out(attempt, ranks, stop, watch)
    except BaseException as error:
        return _give_up(attempt, ranks, error)
    if ranks.main:
        _conclude(attempt, max(stopped, stop.signal) if stopped else 0)
        _wait_for_shipper(shipper, patient=not stopped)
    if stopped:
        with suppress(RuntimeError):  # rank 0 may be gone with its job
            ranks.barrier()  # SLURM ends all when the first one leaves with this code
    return STOPPED if stopped else 0


def _conclude(attempt: Attempt, stopped: int) -> None:
    """Say how the attempt ended; where its time is over, start the next. Every rank's checkpoint is durable."""
    if not stopped:
        attempt.ended(State.FINISHED)
        return
    cancelled, job = attempt.paths.cancelled.exists(), attempt.job
    over_time = stopped == signal.SIGTERM and job is not None and is_over_time(job)
    reason = CANCELLED if cancelled else OVER_TIME if over_time else STOPPED_BY[signal.Signals(stopped)]
    goes_on = (stopped == signal.SIGUSR2 or over_time) and not cancelled and not attempt.superseded()
    queued_here = local_queue.gpu_file(attempt.paths, attempt.number).exists()
    if not goes_on or not (job or queued_here):
        attempt.ended(State.KILLED, reason, Failure.CANCELLED)
        return
    if queued_here:
        local_queue.start_next(attempt.paths, attempt.number)
    attempt.ended(State.QUEUED, f"requeued after attempt {attempt.number} was {reason}")
    if job:
        _start_next_job(attempt, job, reason)


def _start_next_job(attempt: Attempt, job: OwnJob, reason: str) -> None:
    try:
        start_next(attempt.paths, job)
    except UserError as error:
        attempt.ended(State.KILLED, f"{reason}; it could not start the next job: {error}", Failure.CANCELLED)


def _carry_out(attempt: Attempt, ranks: "Ranks", stop: _Stop, watch: "Watch") -> int:
    """The signal that stopped it on whatever rank; 0 where the run has come to its end and its outcome is written."""
    bring_data(attempt, ranks, stop, watch)
    work = _test_published if attempt.spec.origin == Origin.PUBLISHED else _train_and_conclude
    finished = work(attempt, ranks, stop, watch)
    signals = round(ranks.maximum(stop.signal))
    return 0 if finished else signals


def _train_and_conclude(attempt: Attempt, ranks: "Ranks", stop: _Stop, watch: "Watch") -> bool:
    from harness.training.loop import train
    from harness.training.outcome import write_outcome
    from harness.training.pilot import resumed_halfway
    from harness.training.session import Training

    def make() -> Training:
        return Training(attempt.paths, attempt.spec, ranks, attempt=attempt.number)

    is_pilot = attempt.spec.origin == Origin.PILOT
    training = resumed_halfway(make, stop=stop, on_row=attempt.at, watch=watch) if is_pilot else make()
    watch.pace.measure(training.model, ranks.device)
    finished = train(training, stop=stop, on_row=attempt.at, watch=watch)
    watch.phase("outcome" if ranks.main else "waiting", training.position.step)
    if finished and ranks.main:
        write_outcome(training, watch)
    return finished


def _test_published(attempt: Attempt, ranks: "Ranks", stop: _Stop, watch: "Watch") -> bool:
    from harness.training.tested import evaluate_published

    paths, spec = attempt.paths, attempt.spec
    return evaluate_published(paths, spec, ranks, attempt=attempt.number, stop=stop, on_row=attempt.at, watch=watch)


def _give_up(attempt: Attempt, ranks: "Ranks", error: BaseException) -> int:
    """Tell the other ranks, the state and stderr why the attempt ends; its exit code."""
    from harness.training.faults import is_lost_contact
    from harness.training.notes import DIED, LOST, blame, give_up

    ending = _ending(attempt, error)
    lost = ranks.world > 1 and is_lost_contact(error)
    with suppress(UserError):  # a full disk takes no note
        give_up(attempt.folder, ranks.rank, LOST if lost else ending.reason, ending.code, ending.kind)
    node = "" if lost else node_name()
    speaks = ranks.main
    others = [rank for rank in range(ranks.world) if rank != ranks.rank]
    if lost and (culprit := blame(attempt.folder, others, patience=LAST_WORDS)):
        reason, node = f"{culprit.who} {culprit.ended}", culprit.node
        ending = _Ending(reason, culprit.code or 1, f"error: {reason}\n", culprit.failure)
        speaks = ranks.main or (culprit.rank == 0 and culprit.ended == DIED)
    if speaks:
        state = State.KILLED if ending.code == INTERRUPTED else State.FAILED
        kind = ending.kind or (Failure.UNKNOWN if attempt.job is None else None)
        attempt.ended(state, ending.reason, kind, node)
    tell(ending.told)
    return ending.code


class _Ending(NamedTuple):
    """Why an attempt ended."""

    reason: str  # one line
    code: int  # its exit code
    told: str  # the words for stderr
    kind: Failure | None  # None: a death without a word, of which SLURM may know


def _ending(attempt: Attempt, error: BaseException) -> _Ending:
    from harness.training.faults import explain

    if isinstance(error, KeyboardInterrupt):
        return _Ending("interrupted at once by Ctrl-C", INTERRUPTED, "interrupted\n", Failure.CANCELLED)
    if told := explain(error):
        kind = Failure.NODE if attempt.job and _lacks_data(attempt.spec) else told.failure
        return _Ending(_first_line(told), USER_ERROR, f"error: {told}\n", kind)
    trace = "".join(traceback.format_exception(error))
    return _Ending(f"{type(error).__name__}: {_first_line(error)}", 1, trace, Failure.BUG)


def _lacks_data(spec: RunSpec) -> bool:
    """Whether this node does not see the data set, which was there for whoever submitted."""
    return any(
        not Path(place).exists() for split in spec.splits.values() for place in (split.annotations, split.images)
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _sampling(attempt: Attempt, ranks: "Ranks") -> AbstractContextManager[None]:
    """Record what this machine does; its first process is enough for that."""
    return nullcontext() if ranks.local_rank else sampling(attempt.folder, gpus=ranks.device.type == "cuda")


def _start_shipper(paths: RunPaths, tracking_uri: str) -> "subprocess.Popen[bytes]":
    """The shipper in a session of its own: signals for this job do not reach it, and it ends when the run has."""
    command = [sys.executable, "-P", "-m", "harness.tracking.shipper", str(paths.folder), "--uri", tracking_uri]
    command += ["--parent", str(os.getpid())]
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment["PYTHONPATH"] = python_path()
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
