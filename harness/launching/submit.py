"""Submit an experiment: start what is new, resume what failed, leave alone what runs, skip what is finished."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import UserError
from harness.launching import prepare, slurm_submit, supervisor
from harness.launching.cluster import load_cluster
from harness.launching.prepare import PreparedRun
from harness.launching.slurm_jobs import standings
from harness.launching.slurm_script import batch_script, sbatch_command
from harness.launching.supervisor import Home
from harness.leases import holding
from harness.matrix import Experiment
from harness.runs import RunState, State
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
    LEAVE = "leave alone"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Decision:
    """A run, where it stands, and what submit does with it."""

    run: PreparedRun
    state: RunState
    action: Action


def decide(runs: list[PreparedRun], settings: Settings) -> list[Decision]:
    """What a submit of these runs would do.

    Raises UserError where a run has a job of a cluster that does not answer.
    """
    local = supervisor.queued_folders(Home(settings.run_root))
    found = standings([run.paths for run in runs])
    return [
        _decide(run, standing.state, standing.queued or str(run.paths.folder.resolve()) in local)
        for run, standing in zip(runs, found, strict=True)
    ]


def _decide(run: PreparedRun, state: RunState, queued: bool) -> Decision:
    action = Action.RESUME
    if state.state == State.FINISHED:
        action = Action.SKIP
    elif state.state == State.RUNNING or queued:
        action = Action.LEAVE
    elif not run.paths.spec.exists() or state.attempt == 0:
        action = Action.START
    return Decision(run, state, action)


def submit(experiment: Experiment, settings: Settings) -> list[Decision]:
    """Queue what is to be done, on this machine or on the cluster of the settings; returns at once.

    Raises UserError where the cluster is not known or does not answer, or anything that a run needs is missing; nothing
    is started then.
    """
    cluster = None if settings.cluster == LOCAL else load_cluster(settings.cluster)
    runs = prepare.prepare(experiment, settings)
    if (file := database(settings.tracking_uri)) is not None:
        claim(file)  # before a run on another host can
    home = Home(settings.run_root)
    with holding(home.enqueueing, patience=60) as lease:  # two submits at the same moment queue nothing twice
        decisions = decide(runs, settings)
        wanted = _wanted(decisions)
        if cluster is None:
            _enqueue(wanted, home, settings)
        else:
            slurm_submit.send(slurm_submit.plan_arrays(wanted, cluster, settings), settings, lease.renew)
    if supervisor.queued_folders(home):
        _start_supervisor(settings)
    return decisions


def scripts(experiment: Experiment, settings: Settings) -> str:
    """The scripts that a submit to the cluster of the settings would write and the commands that it would run.

    Raises UserError like submit, and for this machine, where there are none.
    """
    if settings.cluster == LOCAL:
        raise UserError(
            "--dry-run shows the scripts of a cluster; name one with --cluster (harness plan shows the cells)"
        )
    cluster = load_cluster(settings.cluster)
    wanted = _wanted(decide(prepare.prepare(experiment, settings), settings))
    planned = slurm_submit.plan_arrays(wanted, cluster, settings)
    return "\n".join(f"# {shlex.join(sbatch_command(array.script))}\n{batch_script(array.batch)}" for array in planned)


def _wanted(decisions: list[Decision]) -> list[PreparedRun]:
    return [entry.run for entry in decisions if entry.action in (Action.START, Action.RESUME)]


def _enqueue(runs: list[PreparedRun], home: Home, settings: Settings) -> None:
    for run in runs:
        prepare.write(run)
        gpus = _gpus(int(run.spec.resources["gpus_per_node"]), settings.local_jobs)
        supervisor.enqueue(home, run.paths, minutes=int(run.spec.resources["minutes"]), gpus=gpus)


def _start_supervisor(settings: Settings) -> None:
    supervisor.start_detached(
        Home(settings.run_root), jobs=settings.local_jobs, threads=settings.threads, tracking_uri=settings.tracking_uri
    )


def _gpus(wanted: int, jobs: int) -> int:
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
        local = settings.cluster == LOCAL
        if local and any(state.state == State.QUEUED for state in states):
            _replace_supervisor(settings, replacements)
        time.sleep(1.0 if local else QUEUE_SECONDS)


def _replace_supervisor(settings: Settings, replacements: list[float]) -> None:
    """Start a supervisor where none lives, giving each REPLACEMENT_SECONDS to come up."""
    home, now = Home(settings.run_root), time.monotonic()
    if supervisor.lives(home) or (replacements and now - replacements[-1] < REPLACEMENT_SECONDS):
        return
    if len(replacements) == REPLACEMENTS:
        raise UserError(f"the supervisor does not stay alive: see {home.log}, then run harness submit again")
    replacements.append(now)
    _start_supervisor(settings)
