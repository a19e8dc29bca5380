"""Submit an experiment: what is decided for each run is done, and nothing else."""

import shlex
from collections.abc import Callable
from dataclasses import replace

from harness.errors import UserError
from harness.launching import local_queue, prepare, slurm_submit
from harness.launching.cluster import Cluster, load_cluster
from harness.launching.decide import STARTING, Action, Decision, decide
from harness.launching.frozen_code import Submission, freeze, keep_matrix, read_submission, require_sound
from harness.launching.local_queue import Home
from harness.launching.remedies import Wanted
from harness.launching.retries import record_retry
from harness.launching.slurm_script import batch_script, sbatch_command
from harness.launching.supervision import start_supervisor
from harness.leases import holding
from harness.matrix import Experiment
from harness.settings import LOCAL, Settings
from harness.tracking.home import claim
from harness.tracking.store import database


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
        start_supervisor(settings)
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
    gone = {paths for paths in moving if local_queue.withdraw(home, paths)} | slurm_submit.withdraw(moving)
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
        gpus = local_queue.local_gpus(int(run.spec.resources["gpus_per_node"]), settings.local_jobs)
        local_queue.enqueue(home, run.paths, entry.submission, minutes=int(run.spec.resources["minutes"]), gpus=gpus)
