"""Where runs stand, by what they said themselves and by what SLURM says of their jobs."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.errors import UserError
from harness.failures import Failure
from harness.launching import slurm
from harness.launching.ends import read_end, write_end
from harness.launching.job_file import Job, read_job
from harness.launching.slurm import Phase, QueuedJob
from harness.launching.slurm_ask import Accounting, end_of, present_cluster, queued_jobs
from harness.processes import ended_with_its_boot, is_here, whereabouts
from harness.run_paths import RunPaths
from harness.run_state import CANCELLED, STARTING, RunState, State, last_word, read_state, settle, write_state

UNTOLD_SECONDS = 180.0
"""After which a submit that has not said its job's id is taken to have ended."""
SILENT_SECONDS = 600.0
"""Without a sign of life from another host after which a run without a job is taken to be dead."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, and what there is to say of its job."""

    state: RunState
    text: str = ""
    queued: bool = False  # whether its job waits or works for all that is known, and will say more
    job: QueuedJob | None = None  # as the queue has it
    fault: str = ""  # why SLURM does not tell


def standings(
    runs: Iterable[RunPaths], *, patient: bool = False, accounting: Accounting | None = None
) -> list[Standing]:
    """Where runs stand, by their folders and one question to the queue, if any has a job; and of those that are gone

    from there without a word of their own, by one to the accounting. What has ended so is put right on the disk, too.
    A run whose files cannot be read has failed, and the reason says which.
    patient: where SLURM does not answer, say so of each run with a job, instead of raising UserError.
    accounting: one to share; it must not have been asked yet.
    """
    runs = list(runs)
    known = [_unfinished_job(paths) for paths in runs]
    jobs = [entry for entry in known if isinstance(entry, Job)]
    try:
        queue = queued_jobs() if jobs else {}
    except UserError as error:
        if not patient:
            raise
        return [
            _untold(paths, entry, error) if isinstance(entry, Job) else entry
            for paths, entry in zip(runs, known, strict=True)
        ]
    accounting, cluster = accounting or Accounting(job.id for job in jobs if job.id), cache(present_cluster)
    return [
        _standing(paths, entry, queue.get((entry.name, entry.index)), accounting, cluster)
        if isinstance(entry, Job)
        else entry
        for paths, entry in zip(runs, known, strict=True)
    ]


def _untold(paths: RunPaths, job: Job, error: UserError) -> Standing:
    """Of a run of whose job SLURM does not tell."""
    state = read_state(paths)
    return Standing(state, f"job {job.id}: {error}", queued=not state.state.ended, fault=str(error))


def _unfinished_job(paths: RunPaths) -> Job | Standing:
    """The job that SLURM is to be asked of; where the run stands if none is, or if that cannot be read."""
    try:
        job = read_job(paths)
        return job if job and read_state(paths).state != State.FINISHED else Standing(_alive(paths, settle(paths)))
    except UserError as error:
        return Standing(RunState(state=State.FAILED, reason=str(error), kind=error.failure))


def _alive(paths: RunPaths, state: RunState) -> RunState:
    """The state of a run without a job; of one that works on another host and has long been silent, that it is dead."""
    if state.state != State.RUNNING or is_here(state):
        return state
    files = [paths.state, *paths.attempt(state.attempt).glob("*")]
    silence = time.time() - max(file.stat().st_mtime for file in files if file.exists())
    if silence < SILENT_SECONDS:
        return state
    reason = f"no sign of life from {whereabouts(state)} for {silence / 60:.0f} minutes"
    return replace(state, state=State.FAILED, reason=reason, kind=Failure.UNKNOWN, progress="")


def out_of_sight(state: RunState) -> str:
    """Of a run without a job whose process cannot be seen from here: where it works, or that it does no more."""
    if not ended_with_its_boot(state):
        return f"works on {whereabouts(state)}"
    dead = f"it counts as dead {SILENT_SECONDS / 60:.0f} minutes after its last sign of life"
    return f"its process ended when {state.host} was started anew; {dead}"


def _standing(
    paths: RunPaths, job: Job, queued: QueuedJob | None, accounting: Accounting, cluster: Callable[[], str]
) -> Standing:
    state = read_state(paths)
    if queued is None or slurm.phase(queued.state) == Phase.ENDED:
        try:
            return _gone(paths, job, accounting, cluster)
        except UserError as error:
            return _untold(paths, job, error)
    if state.state == State.FINISHED:
        return Standing(state)
    if slurm.phase(queued.state) == Phase.WAITING:
        why = queued.reason or "no reason given"
        hint = ", which it does for ever unless somebody changes something" if slurm.waits_for_ever(why) else ""
        reason = state.reason if state.state == State.QUEUED else ""
        said = f"job {queued.id} waits: {why}{hint}"
        waiting = replace(state, state=State.QUEUED, reason=reason, progress="")
        return Standing(waiting, said, queued=True, job=queued)
    text = f"job {queued.id} on {queued.nodes or 'no node yet'}"
    if state.updated < time.time() - queued.seconds:  # it was said before the job's present start
        state = replace(state, state=State.RUNNING, reason="", progress=STARTING)
    return Standing(state) if state.state.ended else Standing(state, text, queued=True, job=queued)


def _gone(paths: RunPaths, job: Job, accounting: Accounting, cluster: Callable[[], str]) -> Standing:
    """Of a run whose job is not in the queue: what it said at its end, or else what the cluster says that it is on.

    The accounting trails the queue by seconds: as long as it knows nothing of an end, nothing is written.
    Raises UserError where the controller does not answer.
    """
    state = read_state(paths)
    told = last_word(paths)
    if read_job(paths) != job or (told.state.ended and not _leaves_it_to_slurm(told)):
        return Standing(state)
    if job.cluster and job.cluster != (here := cluster()):
        return Standing(state, f"job {job.id or job.name} is on cluster {job.cluster}, seen from {here}", queued=True)
    if job.id is None:
        if state.state != State.QUEUED or time.time() - state.updated < UNTOLD_SECONDS:
            return Standing(state)
        reason = "its submit ended before SLURM had said that it takes the job"
        return Standing(replace(state, state=State.KILLED, reason=reason, kind=Failure.CANCELLED))
    end, trails = end_of(job.id, job.name, accounting)
    if isinstance(end, str):
        return Standing(state, f"job {job.id} has not ended ({end}), but squeue does not show it", queued=True)
    said = f"job {job.id} {f'ended as {end}' if end else 'is gone'}"
    kind = end.kind if end else Failure.UNKNOWN
    if told.state.ended:  # of a death without a word: exit codes are those of the processes that noticed it
        kind = Failure.UNKNOWN if kind in (Failure.BUG, Failure.MISTAKE, Failure.HANG) else kind
        reason = f"{told.reason}; {said}" if end else told.reason
    elif paths.cancelled.exists() and kind in (Failure.CANCELLED, Failure.UNKNOWN):
        kind, reason = Failure.CANCELLED, CANCELLED
    else:
        last = _last_line(job) if kind in (Failure.BUG, Failure.MISTAKE) else ""
        reason = f"{said} without a word of its own{last}"
    ended = State.KILLED if kind == Failure.CANCELLED else State.FAILED
    if not trails:
        with suppress(UserError, OSError):  # what cannot be written is left to whoever looks next
            if state.attempt and (_leaves_it_to_slurm(told) or read_end(paths, state.attempt) is None):
                write_end(paths, state.attempt, ended, kind=kind, reason=reason, nodes=end.nodes if end else "")
            write_state(paths, ended, attempt=state.attempt, reason=reason, kind=kind)
    return Standing(replace(state, state=ended, reason=reason, kind=kind, progress=""))


def _leaves_it_to_slurm(told: RunState) -> bool:
    """Whether rank 0 saw another process die, and left it to SLURM to say why."""
    return told.state == State.FAILED and told.kind is None


def _last_line(job: Job) -> str:
    """What a job that did not come to say anything of the run wrote last."""
    try:
        lines = Path(job.output).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    own = [line.strip() for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
    return f"; its output ends: {own[-1][:200]}" if own else ""
