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
from harness.runs import RunState, State, read_state
from harness.settings import Settings


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
    state = read_state(run.paths)
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
    home = Home(settings.run_root)
    with holding(home.enqueueing, patience=60):  # two submits at the same moment queue nothing twice
        decisions = decide(runs, settings)
        for run in (entry.run for entry in decisions if entry.action in (Action.START, Action.RESUME)):
            prepare.write(run)
            gpus = _gpus(int(run.spec.resources["gpus_per_node"]), settings.local_jobs)
            supervisor.enqueue(home, run.paths, minutes=int(run.spec.resources["minutes"]), gpus=gpus)
    if supervisor.queued_folders(home):
        supervisor.start_detached(
            home, jobs=settings.local_jobs, threads=settings.threads, tracking_uri=settings.tracking_uri
        )
    return decisions


def _gpus(wanted: int, jobs: int) -> int:
    """GPUs of this machine for one of `jobs` runs at a time; 0 on a machine without."""
    if wanted == 0:
        return 0
    import torch

    return min(wanted, torch.cuda.device_count() // jobs)


def wait(runs: list[PreparedRun], on_change: Callable[[PreparedRun, RunState], None]) -> list[RunState]:
    """Wait until every run has ended; on_change is called with each run whose state or progress changed."""
    seen: dict[int, tuple[object, ...]] = {}
    while True:
        states = [read_state(run.paths) for run in runs]
        for number, (run, state) in enumerate(zip(runs, states, strict=True)):
            shown = (state.state, state.attempt, state.progress, state.reason)
            if seen.get(number) != shown:
                seen[number] = shown
                on_change(run, state)
        if all(state.state.ended for state in states):
            return states
        time.sleep(1.0)
