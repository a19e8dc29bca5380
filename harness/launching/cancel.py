"""Cancel runs: their jobs on a cluster, their places in the local queue, their processes on this machine."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.failures import Failure
from harness.files import write_text
from harness.launching import local_queue, slurm, supervisor
from harness.launching.chain import FAILED as ENDED
from harness.launching.chain import chain_folder, read_steps, write_step
from harness.launching.local_queue import Home
from harness.launching.slurm_ask import ask
from harness.launching.standings import Standing, out_of_sight, standings
from harness.leases import holding
from harness.processes import ended_with_its_boot, is_here, is_working
from harness.run_paths import RunPaths
from harness.run_state import CANCELLED, STARTING, State, read_state, write_state


def cancel(runs: Sequence[RunPaths], home: Home) -> list[str]:
    """Cancel what waits or works of these runs; what was done with each, "" for nothing.

    What works saves and leaves. They stay as they are until they are submitted again.
    Raises UserError where runs have jobs and SLURM does not answer, or refuses.
    """
    with holding(home.enqueueing, patience=150):  # nothing is submitted meanwhile
        found = standings(runs)
        for paths in (paths for paths, standing in zip(runs, found, strict=True) if _is_in_reach(paths, standing)):
            write_text(paths.cancelled, "")  # what ends now ends for this reason
        _scancel([standing.job.id for standing in found if standing.job and not _listens(standing)])
        _scancel([standing.job.id for standing in found if standing.job and _listens(standing)], "--signal=TERM")
        done = [_cancel(paths, standing, home) for paths, standing in zip(runs, found, strict=True)]
    if "removed from the queue" in done and supervisor.lives(home):
        time.sleep(2 * supervisor.POLL_SECONDS)  # it may have taken one of them up a moment before
        done = [_stop(paths) or text for paths, text in zip(runs, done, strict=True)]
    return done


def _is_in_reach(paths: RunPaths, standing: Standing) -> bool:
    """Whether a run waits or works, and can be cancelled from here."""
    if standing.job:
        return True
    state = standing.state
    waits = state.state == State.QUEUED and paths.state.exists()
    return not standing.queued and (waits or (state.state == State.RUNNING and is_here(state)))


def cancel_chain(run_root: Path, experiment: str) -> list[tuple[str, str]]:
    """Cancel what was to come after the runs of an experiment; each step, and what was done.

    Raises UserError where SLURM does not answer or refuses.
    """
    folder = chain_folder(run_root, experiment)
    steps = [step for step in read_steps(folder) if not step.ended]
    queue = slurm.parse_queue(ask(slurm.queue_command())) if any(step.job for step in steps) else []
    _scancel([job.id for job in queue if (job.id, job.name) in [(step.job, step.name) for step in steps]])
    here = [step for step in steps if is_here(step) and is_working(step.pid, step.started)]
    for pid in {step.pid for step in here}:
        with suppress(ProcessLookupError):  # it has just left
            os.killpg(pid, signal.SIGTERM)  # with the benchmark or report that it works at: the session is its own
    for step in steps:
        write_step(folder, replace(step, state=ENDED, text=CANCELLED))
    return [(step.step, f"{f'job {step.job}' if step.job else 'it'} will not come") for step in steps]


def _listens(standing: Standing) -> bool:
    """Whether the processes of its job can be told to save, which may take longer than SLURM waits before it kills."""
    return standing.state.state == State.RUNNING and standing.state.progress != STARTING


def _scancel(jobs: list[str], *options: str) -> None:
    if jobs:
        ask(["scancel", "--quiet", *options, *jobs])


def _cancel(paths: RunPaths, standing: Standing, home: Home) -> str:
    """What is left to do, and what was done, of a run whose job, if any, was told to end."""
    job, state = standing.job, standing.state
    if standing.queued and job is None:
        return f"{standing.text}: left alone"
    if job and state.state == State.QUEUED:
        write_state(paths, State.KILLED, attempt=state.attempt, reason=CANCELLED, kind=Failure.CANCELLED)
        return f"job {job.id} removed from the queue"
    if job:
        return f"job {job.id} on {job.nodes} {'told to save and leave' if _listens(standing) else 'ended'}"
    if state.state == State.QUEUED and paths.state.exists():
        write_state(paths, State.KILLED, attempt=state.attempt, reason=CANCELLED, kind=Failure.CANCELLED)
        return "removed from the queue" if local_queue.withdraw(home, paths) else "no longer waits"
    return _stop(paths)


def _stop(paths: RunPaths) -> str:
    """Tell the process of this machine that works on a run to save and leave; what was done, "" where none works."""
    state = read_state(paths)
    if state.state != State.RUNNING or paths.job.exists():
        return ""
    if not is_here(state):
        return f"{out_of_sight(state)}{'' if ended_with_its_boot(state) else ': run harness cancel there'}"
    with suppress(ProcessLookupError):  # it has just left
        os.kill(state.pid, signal.SIGTERM)
    if state.progress == STARTING:
        write_state(paths, State.KILLED, attempt=state.attempt, reason=CANCELLED, kind=Failure.CANCELLED)
    return f"process {state.pid} told to save and leave"
