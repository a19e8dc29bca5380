"""Submit an experiment: start what is new, resume what was stopped, retry what failed if asked; nothing else."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from harness.errors import UserError
from harness.launching import local_queue, prepare, slurm_submit, supervisor
from harness.launching.cluster import Cluster, load_cluster
from harness.launching.frozen_code import (
    Submission,
    freeze,
    keep_matrix,
    present_code,
    read_submission,
    require_sound,
)
from harness.launching.local_queue import Home
from harness.launching.prepare import PreparedRun
from harness.launching.remedies import Wanted, plan_retry
from harness.launching.retries import Retry, failure_of, record_retry, refusal
from harness.launching.slurm_jobs import Standing, standings, withdraw
from harness.launching.slurm_script import batch_script, sbatch_command
from harness.launching.slurm_site import Site, look
from harness.leases import holding
from harness.matrix import Experiment
from harness.runs import RunState, State, unreadable
from harness.settings import Settings
from harness.tracking.home import claim
from harness.tracking.store import database

REPLACEMENTS = 3
"""Supervisors in a row that may end without doing anything before one gives up."""
REPLACEMENT_SECONDS = 20.0
"""In which a supervisor that was started must be seen."""
LOCAL = "local"
"""The cluster that is this machine."""
QUEUE_SECONDS = 10.0
"""Between two questions to a cluster about its queue."""


class Action(StrEnum):
    """What submit does with a run."""

    START = "start"
    RESUME = "resume"
    RETRY = "retry"
    MOVE = "move to the present code"
    LATER = "leave for the next submit"
    LEAVE = "leave alone"
    SKIP = "skip"


STARTING = (Action.START, Action.RESUME, Action.RETRY, Action.MOVE)
"""What gives a run a job."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A run, where it stands, and what submit does with it."""

    run: PreparedRun
    state: RunState
    action: Action
    code: str  # digest of the code that its attempts work with, or will
    text: str = ""  # of one that failed: why, or what is changed for it, or why it is not retried
    retry: Retry | None = None

    @property
    def failed(self) -> bool:
        """Whether the run has failed, and is left so."""
        return self.state.state == State.FAILED and self.action == Action.LEAVE


def decide(
    runs: list[PreparedRun],
    settings: Settings,
    *,
    recode: bool = False,
    retry: bool = False,
    cluster: Cluster | None = None,
) -> list[Decision]:
    """What a submit of these runs would do.

    recode: what does not run yet goes on with the present code, not with the one that it began with. retry: what failed
    is tried again. cluster: where to; None for this machine.
    Raises UserError where a run has a job of a cluster that does not answer.
    """
    local = local_queue.queued_folders(Home(settings.run_root))
    found = standings([run.paths for run in runs])
    present = present_code()
    decisions = [
        _decide(run, standing, standing.queued or str(run.paths.folder.resolve()) in local, present)
        for run, standing in zip(runs, found, strict=True)
    ]
    if retry:
        site = cache(look)
        decisions = [_retried(decision, cluster, site) for decision in decisions]
    if settings.cluster == LOCAL:
        decisions = [_here(decision) for decision in decisions]
    return [_recoded(decision, present) for decision in decisions] if recode else decisions


def _decide(run: PreparedRun, standing: Standing, queued: bool, present: str) -> Decision:
    state, action, text = standing.state, Action.RESUME, ""
    if state.state == State.FINISHED:
        action = Action.SKIP
    elif state.state == State.RUNNING or queued:
        action, text = Action.LEAVE, "" if standing.job else standing.text
    elif state.state == State.FAILED:
        kind = failure_of(run.paths, state)
        action, text = Action.RESUME if kind.from_outside else Action.LEAVE, f"{kind}: {state.reason}"
    elif not run.paths.spec.exists() or state.attempt == 0:
        action = Action.START
    kept = read_submission(run.paths)
    began = queued or state.attempt > 0
    return Decision(run, state, action, kept.code if kept and began else present, text)


def _retried(decision: Decision, cluster: Cluster | None, site: Callable[[], Site]) -> Decision:
    """The decision, of a run that failed to try it again, unless that was done too often."""
    paths = decision.run.paths
    if not decision.failed or unreadable(paths):
        return decision
    kind = failure_of(paths, decision.state)
    if why := refusal(paths, kind):
        return replace(decision, text=f"{kind}, {why}")
    retry = plan_retry(decision.run, kind, cluster, site)
    return replace(decision, action=Action.RETRY, text=f"{kind}: {retry.change}", retry=retry)


def _here(decision: Decision) -> Decision:
    """The decision that, of a run which had a job of a cluster, says that it goes on elsewhere."""
    if decision.action not in (Action.RESUME, Action.RETRY) or not decision.run.paths.job.exists():
        return decision
    said = "had a job of a cluster, goes on on this machine (--cluster NAME for a job)"
    return replace(decision, text=f"{decision.text}; {said}" if decision.text else said)


def _recoded(decision: Decision, present: str) -> Decision:
    """The decision where what does not run yet is to work with the present code; it is a new chance for what failed."""
    action = decision.action
    if action == Action.LEAVE and decision.code != present and not unreadable(decision.run.paths):
        action = {State.QUEUED: Action.MOVE, State.FAILED: Action.RESUME}.get(decision.state.state, action)
    return replace(decision, action=action, code=present) if action in STARTING else decision


def submit(
    experiment: Experiment,
    settings: Settings,
    *,
    recode: bool = False,
    retry: bool = False,
    approve: Callable[[list[Decision]], object] = lambda decisions: None,
) -> list[Decision]:
    """Queue what is to be done, on this machine or on the cluster of the settings; returns at once.

    recode, retry: see `decide`; jobs that wait for another code are cancelled and submitted anew. approve: called with
    the decisions before any is carried out; what it raises ends the submit.
    Raises UserError where the cluster is not known or does not answer, or anything that a run needs is missing; nothing
    is started then.
    """
    cluster = None if settings.cluster == LOCAL else load_cluster(settings.cluster)
    runs = prepare.prepare(experiment, settings)
    if (file := database(settings.tracking_uri)) is not None:
        claim(file)  # before a run on another host can
    home = Home(settings.run_root)
    with holding(home.enqueueing, patience=150) as lease:  # two submits at the same moment queue nothing twice
        decisions = decide(runs, settings, recode=recode, retry=retry, cluster=cluster)
        approve(decisions)
        lease.renew()
        matrix = _store(decisions, experiment, settings)
        decisions, planned = _placed(decisions, matrix, cluster, settings)
        if (kept := _keep_what_started(decisions, home)) != decisions:
            decisions, planned = _placed(kept, matrix, cluster, settings)
        if cluster is None:
            _enqueue(_wanted(decisions, matrix), home, settings)
        else:
            slurm_submit.send(planned, settings, lease.renew)
    if local_queue.queued_folders(home):
        _start_supervisor(settings)
    return decisions


def _placed(
    decisions: list[Decision], matrix: str, cluster: Cluster | None, settings: Settings
) -> tuple[list[Decision], list[slurm_submit.Planned]]:
    """The decisions with those put off for which the cluster has no place now, and the arrays of the others."""
    if cluster is None:
        return decisions, []
    planned, later = slurm_submit.plan_arrays(_wanted(decisions, matrix), cluster, settings)
    put_off = [
        replace(entry, action=Action.LATER, code=_kept(entry), text=later[entry.run.paths])
        if entry.run.paths in later
        else entry
        for entry in decisions
    ]
    return put_off, planned


def _keep_what_started(decisions: list[Decision], home: Home) -> list[Decision]:
    """Withdraw the jobs of what is to be moved to another code; what has started meanwhile is left alone."""
    moving = [decision.run.paths for decision in decisions if decision.action == Action.MOVE]
    gone = {paths for paths in moving if local_queue.withdraw(home, paths)} | withdraw(moving)
    return [
        replace(decision, action=Action.LEAVE, code=_kept(decision))
        if decision.action == Action.MOVE and decision.run.paths not in gone
        else decision
        for decision in decisions
    ]


def _kept(decision: Decision) -> str:
    submission = read_submission(decision.run.paths)
    return submission.code if submission else decision.code


def _store(decisions: list[Decision], experiment: Experiment, settings: Settings) -> str:
    """Store the present code and the matrix file where anything is to start; the matrix file's name.

    Raises UserError where the code of a run is no longer there as it was.
    """
    codes = [decision.code for decision in decisions if decision.action in STARTING]
    if not codes:
        return ""
    freeze(settings.run_root)
    require_sound(settings.run_root, codes)
    return keep_matrix(settings.run_root, experiment.path)


def dry_run(
    experiment: Experiment, settings: Settings, *, recode: bool = False, retry: bool = False
) -> tuple[list[Decision], str]:
    """What a submit to the cluster of the settings would do: its scripts and commands, "" where nothing is to start.

    Raises UserError like submit, and for this machine, where there are none.
    """
    if settings.cluster == LOCAL:
        raise UserError(
            "--dry-run shows the scripts of a cluster; name one with --cluster (harness plan shows the cells)"
        )
    cluster = load_cluster(settings.cluster)
    runs = prepare.prepare(experiment, settings)
    decisions = decide(runs, settings, recode=recode, retry=retry, cluster=cluster)
    decisions, planned = _placed(decisions, "", cluster, settings)
    texts = (f"# {shlex.join(sbatch_command(array.script))}\n{batch_script(array.batch)}" for array in planned)
    return decisions, "\n".join(texts)


def _wanted(decisions: list[Decision], matrix: str) -> list[Wanted]:
    starting = [entry for entry in decisions if entry.action in STARTING]
    return [Wanted(entry.run, Submission(code=entry.code, matrix=matrix), entry.retry) for entry in starting]


def _enqueue(wanted: list[Wanted], home: Home, settings: Settings) -> None:
    for entry in wanted:
        run = entry.run
        prepare.write(run)
        if entry.retry:
            record_retry(run.paths, entry.retry)
        gpus = local_gpus(int(run.spec.resources["gpus_per_node"]), settings.local_jobs)
        local_queue.enqueue(home, run.paths, entry.submission, minutes=int(run.spec.resources["minutes"]), gpus=gpus)


def _start_supervisor(settings: Settings) -> None:
    supervisor.start_detached(
        Home(settings.run_root),
        code=freeze(settings.run_root),
        jobs=settings.local_jobs,
        threads=settings.threads,
        tracking_uri=settings.tracking_uri,
    )


def local_gpus(wanted: int, jobs: int) -> int:
    """GPUs of this machine for one of `jobs` runs at a time; 0 on a machine without."""
    if wanted == 0:
        return 0
    import torch

    return min(wanted, torch.cuda.device_count() // jobs)


def wait(
    runs: list[PreparedRun], settings: Settings, on_change: Callable[[PreparedRun, RunState], None]
) -> list[RunState]:
    """Wait until every run has ended; on_change is called with each run whose state or progress changed.

    A supervisor that was killed is replaced while runs are queued.
    Raises UserError where supervisors end again and again without starting what is queued.
    """
    seen: dict[int, tuple[object, ...]] = {}
    replacements: list[float] = []  # since something changed
    while True:
        states = [standing.state for standing in standings([run.paths for run in runs], patient=True)]
        for number, (run, state) in enumerate(zip(runs, states, strict=True)):
            shown = (state.state, state.attempt, state.progress, state.reason)
            if seen.get(number) != shown:
                seen[number] = shown
                replacements.clear()
                on_change(run, state)
        if all(state.state.ended for state in states):
            return states
        going = [(run, state) for run, state in zip(runs, states, strict=True) if not state.state.ended]
        here = [state for run, state in going if not run.paths.job.exists()]  # the others are a cluster's
        if any(state.state == State.QUEUED for state in here):
            replace_supervisor(settings, replacements)
        time.sleep(1.0 if here else QUEUE_SECONDS)


def replace_supervisor(settings: Settings, replacements: list[float]) -> None:
    """Start a supervisor where none lives, giving each REPLACEMENT_SECONDS to come up."""
    home, now = Home(settings.run_root), time.monotonic()
    if supervisor.lives(home) or (replacements and now - replacements[-1] < REPLACEMENT_SECONDS):
        return
    if len(replacements) == REPLACEMENTS:
        raise UserError(f"the supervisor does not stay alive: see {home.log}, then run harness submit again")
    replacements.append(now)
    _start_supervisor(settings)
