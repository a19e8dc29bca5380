"""Waiting until runs have ended, here or on a cluster."""

import time
from collections.abc import Callable

from harness.launching.prepare import PreparedRun
from harness.launching.slurm_ask import QUEUE_SECONDS
from harness.launching.standings import standings
from harness.launching.supervision import replace_supervisor
from harness.run_state import RunState, State
from harness.settings import Settings


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
