"""Submit an experiment: start what is new, resume what failed, leave alone what runs, skip what is finished."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import UserError
from harness.launching import prepare, supervisor
from harness.launching.prepare import PreparedRun
from harness.launching.supervisor import Home
from harness.leases import holding
from harness.matrix import Experiment
from harness.runs import RunState, State, settle
from harness.settings import Settings
from harness.tracking.home import claim
from harness.tracking.store import database

REPLACEMENTS = 3
"""Supervisors in a row that may end without doing anything before one gives up."""
REPLACEMENT_SECONDS = 20.0
"""In which a supervisor that was started must be seen."""


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
    """What a submit of these runs would do."""
    queued = supervisor.queued_folders(Home(settings.run_root))
    return [_decide(run, queued) for run in runs]


def _decide(run: PreparedRun, queued: set[str]) -> Decision:
    state = settle(run.paths)
    action = Action.RESUME
    if state.state == State.FINISHED:
        action = Action.SKIP
    elif state.state == State.RUNNING or str(run.paths.folder.resolve()) in queued:
        action = Action.LEAVE
    elif not run.paths.spec.exists() or state.attempt == 0:
        action = Action.START
    return Decision(run, state, action)


def submit(experiment: Experiment, settings: Settings) -> list[Decision]:
    """Queue what is to be done and start the supervisor; returns at once.

    Raises UserError where the cluster is not known, or anything that a run needs is missing; nothing is started then.
    """
    if settings.cluster != "local":
        raise UserError(f"cluster {settings.cluster!r} is not known; expected 'local'")
    runs = prepare.prepare(experiment, settings)
    if (file := database(settings.tracking_uri)) is not None:
        claim(file)  # before a run on another host can
    home = Home(settings.run_root)
    with holding(home.enqueueing, patience=60):  # two submits at the same moment queue nothing twice
        decisions = decide(runs, settings)
        for run in (entry.run for entry in decisions if entry.action in (Action.START, Action.RESUME)):
            prepare.write(run)
            gpus = _gpus(int(run.spec.resources["gpus_per_node"]), settings.local_jobs)
            supervisor.enqueue(home, run.paths, minutes=int(run.spec.resources["minutes"]), gpus=gpus)
    if supervisor.queued_folders(home):
        _start_supervisor(settings)
    return decisions


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
        states = [settle(run.paths) for run in runs]
        for number, (run, state) in enumerate(zip(runs, states, strict=True)):
            shown = (state.state, state.attempt, state.progress, state.reason)
            if seen.get(number) != shown:
                seen[number] = shown
                replacements.clear()
                on_change(run, state)
        if all(state.state.ended for state in states):
            return states
        if any(state.state == State.QUEUED for state in states):
            _replace_supervisor(settings, replacements)
        time.sleep(1.0)


def _replace_supervisor(settings: Settings, replacements: list[float]) -> None:
    """Start a supervisor where none lives, giving each REPLACEMENT_SECONDS to come up."""
    home, now = Home(settings.run_root), time.monotonic()
    if supervisor.lives(home) or (replacements and now - replacements[-1] < REPLACEMENT_SECONDS):
        return
    if len(replacements) == REPLACEMENTS:
        raise UserError(f"the supervisor does not stay alive: see {home.log}, then run harness submit again")
    replacements.append(now)
    _start_supervisor(settings)
