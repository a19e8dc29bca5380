"""The jobs of runs on a SLURM cluster: which job has a run, and what the cluster says of it now."""

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from harness.errors import UserError
from harness.files import read_json, write_json
from harness.launching import slurm
from harness.launching.slurm import Phase, QueuedJob
from harness.runs import RunPaths, RunState, State, read_state, settle, write_state

ANSWER_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that has a run: job.json of the run folder. A launcher of another kind that takes the run removes it."""

    name: str  # of the array, which no other has: ids come again when a controller is killed
    index: int  # in the array
    id: str | None  # None: sbatch has not said yet that it takes the array
    output: str
    code: str  # the folder of the code that it runs


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, and what there is to say of its job."""

    state: RunState
    text: str = ""
    queued: bool = False  # whether its job waits or works, and will say more


def ask(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """What one of SLURM's commands says.

    Raises UserError in one line where it fails, is not there or does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=environ, check=False)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]}: no such command; a SLURM cluster is reached from a machine with its commands"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer within {ANSWER_SECONDS} s; try again later") from None
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise UserError(f"{command[0]} failed: {said.removeprefix(f'{command[0]}: ')}")
    return done.stdout


def read_job(paths: RunPaths) -> Job | None:
    """The job that has the run; None where none has."""
    return Job(**read_json(paths.job)) if paths.job.exists() else None


def write_job(paths: RunPaths, job: Job) -> None:
    """Say which job has the run."""
    write_json(paths.job, asdict(job))


def standings(runs: Iterable[RunPaths], *, patient: bool = False) -> list[Standing]:
    """Where runs stand, by their folders and one question to the cluster, if any has a job.

    What ended without a word of its own is put right on the disk, too.
    patient: where SLURM does not answer, say so of each run with a job, instead of raising UserError.
    """
    runs = list(runs)
    jobs = [None if read_state(paths).state == State.FINISHED else read_job(paths) for paths in runs]
    try:
        queue = _queue() if any(jobs) else {}
    except UserError as error:
        if not patient:
            raise
        return [
            Standing(read_state(paths), f"job {job.id}: {error}") if job else Standing(settle(paths))
            for paths, job in zip(runs, jobs, strict=True)
        ]
    return [
        _standing(paths, job, queue.get((job.name, job.index))) if job else Standing(settle(paths))
        for paths, job in zip(runs, jobs, strict=True)
    ]


def _queue() -> dict[tuple[str, int], QueuedJob]:
    """What waits or works of this user's arrays, by name and index."""
    found = slurm.parse_queue(ask(slurm.queue_command()))
    return {(job.name, int(job.id.partition("_")[2])): job for job in found if "_" in job.id}


def _standing(paths: RunPaths, job: Job, queued: QueuedJob | None) -> Standing:
    state = read_state(paths)
    if queued is None or slurm.phase(queued.state) == Phase.ENDED:
        return _gone(paths, job)
    if state.state == State.FINISHED:
        return Standing(state)
    if slurm.phase(queued.state) == Phase.WAITING:
        why = queued.reason or "no reason given"
        hint = ", which it does for ever unless somebody changes something" if slurm.waits_for_ever(why) else ""
        reason = state.reason if state.state == State.QUEUED else ""
        said = f"job {queued.id} waits: {why}{hint}"
        return Standing(replace(state, state=State.QUEUED, reason=reason, progress=""), said, queued=True)
    text = f"job {queued.id} on {queued.nodes or 'no node yet'}"
    if state.updated < time.time() - queued.seconds:  # it was said before the job's present start
        return Standing(replace(state, state=State.RUNNING, reason="", progress="starting"), text, queued=True)
    return Standing(state) if state.state.ended else Standing(state, text, queued=True)


def _gone(paths: RunPaths, job: Job) -> Standing:
    """Of a run whose job is no longer in the queue: what it said at its end, or else the accounting."""
    state = read_state(paths)
    told = State(read_json(paths.state)["state"]) if paths.state.exists() else State.QUEUED
    if told.ended or job.id is None or read_job(paths) != job:
        return Standing(state)
    end = "is gone"
    with suppress(UserError):  # a cluster need not have an accounting
        found = slurm.parse_accounting(ask(slurm.accounting_command([job.id])))
        ends = [start.state for start in found if (start.id, start.name) == (job.id, job.name)]
        if ends and slurm.phase(ends[-1]) == Phase.ENDED:
            end = f"ended as {ends[-1]}"
    ended = State.KILLED if end.endswith("CANCELLED") else State.FAILED
    write_state(paths, ended, attempt=state.attempt, reason=f"job {job.id} {end} without a word of its own")
    return Standing(read_state(paths))
