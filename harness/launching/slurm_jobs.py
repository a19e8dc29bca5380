"""The jobs of runs on a SLURM cluster: which job has a run, and what the cluster says of it now."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, known_fields, read_json, write_json
from harness.launching import slurm
from harness.launching.ends import read_end, write_end
from harness.launching.slurm import AccountedJob, OwnJob, Phase, QueuedJob
from harness.launching.slurm_ends import TELLING, JobEnd, ends_command, parse_ends, parse_shown, show_command
from harness.processes import ended_with_its_boot, is_here, whereabouts
from harness.runs import CANCELLED, STARTING, RunPaths, RunState, State, last_word, read_state, settle, write_state

ANSWER_SECONDS = 60
UNTOLD_SECONDS = 180.0
"""After which a submit that has not said its job's id is taken to have ended."""
SILENT_SECONDS = 600.0
"""Without a sign of life from another host after which a run without a job is taken to be dead."""
_DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""Variables by which a user changes what SLURM's commands look at and how they answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that has a run: job.json of the run folder. A launcher of another kind that takes the run removes it."""

    name: str  # of the array, which no other has: ids come again when a controller is killed
    index: int  # in the array
    id: str | None  # None: sbatch has not said yet that it takes the array
    output: str
    code: str  # the folder of the code that it runs
    cluster: str = ""  # SLURM's name of it: several may share a disk, and give the same ids


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, and what there is to say of its job."""

    state: RunState
    text: str = ""
    queued: bool = False  # whether its job waits or works for all that is known, and will say more
    job: QueuedJob | None = None  # as the queue has it
    fault: str = ""  # why SLURM does not tell


def ask(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """What one of SLURM's commands says, whatever the user's own defaults for it are.

    Raises UserError in one line where it fails, is not there or does not answer.
    """
    given = (os.environ if environ is None else environ).items()
    env = {name: value for name, value in given if not name.startswith(_DEFAULTS)}
    env["SLURM_BITSTR_LEN"] = "0"  # the elements of an array in full, not "1,3,..."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=env, check=False)
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
    """The job that has the run; None where none has.

    Raises UserError where the file is not one of ours.
    """
    plain = find_json(paths.job)
    try:
        return None if plain is None else Job(**known_fields(Job, plain))
    except TypeError:
        raise UserError(f"{paths.job}: does not name a job; remove it, then submit again") from None


def write_job(paths: RunPaths, job: Job) -> None:
    """Say which job has the run."""
    write_json(paths.job, asdict(job))


class Accounting:
    """What the accounting says of jobs: asked for all of them in one question, when the first is wanted.

    A cluster need not have one; then it knows nothing.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._arrays = {one.partition("_")[0] for one in ids}

    def starts(self, job: str, name: str) -> list[AccountedJob]:
        """Every start of a job, the oldest first. name: what its name begins with, for ids come again."""
        return [start for start in self._known.get(job, []) if start.name.startswith(name)]

    @cached_property
    def _known(self) -> dict[str, list[AccountedJob]]:
        known: dict[str, list[AccountedJob]] = {}
        with suppress(UserError):
            for start in slurm.parse_accounting(ask(slurm.accounting_command(sorted(self._arrays)))):
                known.setdefault(start.id, []).append(start)
        return known


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


def present_cluster() -> str:
    """The name of the cluster whose commands answer here. Raises UserError where its controller does not."""
    return slurm.parse_config(ask(["scontrol", "show", "config"])).get("ClusterName", "")


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


def withdraw(runs: Iterable[RunPaths]) -> set[RunPaths]:
    """Cancel the jobs of these runs that have not started; the runs of which no job waits or works now.

    Raises UserError where SLURM does not answer.
    """
    jobs = {paths: job for paths in runs if (job := read_job(paths)) and job.id}
    here = present_cluster() if any(job.cluster for job in jobs.values()) else ""
    jobs = {paths: job for paths, job in jobs.items() if job.cluster in ("", here)}
    if jobs:
        ask(["scancel", "--quiet", "--state=PENDING", *(str(job.id) for job in jobs.values())])
    queue = queued_jobs() if jobs else {}
    return {paths for paths, job in jobs.items() if (job.name, job.index) not in queue}


def queued_jobs() -> dict[tuple[str, int], QueuedJob]:
    """What waits or works of this user's arrays, by name and index."""
    found = slurm.parse_queue(ask(slurm.queue_command()))
    return {(job.name, int(job.id.partition("_")[2])): job for job in found if "_" in job.id}


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
    end, trails = _end_of(job, accounting)
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


def _end_of(job: Job, accounting: Accounting) -> tuple[JobEnd | str | None, bool]:
    """How a job ended, where SLURM tells, or its state where it has not; and whether SLURM will tell, but does not yet.

    Raises UserError where the controller does not answer.
    """
    assert job.id is not None
    last = next(reversed(accounting.starts(job.id, job.name)), None)
    if last and last.state in TELLING:
        return JobEnd(state=last.state, exit_code=last.exit_code, signal=last.signal, nodes=last.nodes or ""), False
    if (shown := _shown(job.id, job.name)) is not None:
        return shown, False
    if last is None or slurm.phase(last.state) != Phase.ENDED:
        return None, last is not None
    with suppress(UserError):
        if (ends := parse_ends(ask(ends_command(job.id)), job.id, job.name)) and ends[-1]:
            return ends[-1], False
    return JobEnd(state=last.state, exit_code=last.exit_code, signal=last.signal, nodes=last.nodes or ""), False


def _shown(job: str, name: str) -> JobEnd | str | None:
    """How a job ended as the controller has it, or its state if it has not; None where the job is forgotten.

    Raises UserError where the controller does not answer.
    """
    try:
        return parse_shown(ask(show_command(job)), name)
    except UserError as error:
        if "Invalid job id" in str(error):
            return None
        raise


def _last_line(job: Job) -> str:
    """What a job that did not come to say anything of the run wrote last."""
    try:
        lines = Path(job.output).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    own = [line.strip() for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
    return f"; its output ends: {own[-1][:200]}" if own else ""


def record_requeued(paths: RunPaths, attempt: int, job: OwnJob) -> None:
    """Where the job of `attempt` is a requeue, and the start before left no word of its end, write down SLURM's."""
    before, owner = paths.attempt(attempt - 1) / "job.json", read_job(paths)
    if owner is None or not before.exists() or read_end(paths, attempt - 1) is not None:
        return
    start = read_json(before)
    if start["id"] != job.id:
        return
    end = None
    with suppress(UserError):  # a cluster need not have an accounting
        ends = parse_ends(ask(ends_command(job.id)), job.id, owner.name)
        end = ends[start["restarts"]] if start["restarts"] < len(ends) else None
    reason = f"requeued by SLURM: {end or 'it does not tell why'}"
    kind, nodes = (end.kind, end.nodes) if end else (Failure.UNKNOWN, start["node"])
    write_end(paths, attempt - 1, State.QUEUED, kind=kind, reason=reason, nodes=nodes)
