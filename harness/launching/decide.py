"""What a submit would do with each run: start what is new, resume what was stopped, retry what failed if asked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from harness.launching import local_queue
from harness.launching.cluster import Cluster
from harness.launching.frozen_code import present_code, read_submission
from harness.launching.local_queue import Home
from harness.launching.prepare import PreparedRun
from harness.launching.remedies import plan_retry
from harness.launching.retries import Retry, failure_of, refusal
from harness.launching.slurm_site import Site, look
from harness.launching.standings import Standing, standings
from harness.run_state import RunState, State, unreadable
from harness.settings import LOCAL, Settings


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
