"""Runs to arrays of SLURM jobs: scripts, records in the run folders, sbatch; and taking back what waits."""

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import write_text
from harness.launching import prepare, slurm
from harness.launching.cluster import Cluster, JobShape
from harness.launching.cluster_check import cluster_faults, script_fault, share_fault
from harness.launching.exclusion import to_exclude
from harness.launching.frozen_code import Submission, code_folder, write_submission
from harness.launching.job_file import Job, read_job, write_job
from harness.launching.remedies import Wanted, job_shape
from harness.launching.retries import record_retry
from harness.launching.slurm_ask import ask, present_cluster, queued_jobs
from harness.launching.slurm_limits import full
from harness.launching.slurm_script import Batch, arrays, batch_script, sbatch_command, submission_environment
from harness.launching.slurm_site import Site, look
from harness.run_paths import RunPaths
from harness.run_state import State, read_state, write_state
from harness.settings import Settings


@dataclass(frozen=True, slots=True)
class Planned:
    """An array that can be submitted."""

    batch: Batch
    wanted: tuple[Wanted, ...]
    submission: Submission
    cluster: str  # SLURM's name of it

    @property
    def script(self) -> Path:
        """Where its script is, beside its jobs' output."""
        return self.batch.logs / "script.sh"


def plan_arrays(
    runs: Iterable[Wanted], cluster: Cluster, settings: Settings
) -> tuple[list[Planned], dict[RunPaths, str]]:
    """The arrays of these runs, and why others must wait for the next submit: this user has too many jobs. Nothing is

    written.
    Raises UserError where SLURM does not answer, or with everything that the cluster cannot do of what is asked.
    """
    by_folder = {entry.run.paths.folder.resolve(): entry for entry in runs}
    kinds = [
        (folder, (job_shape(entry.run, cluster, entry.retry), entry.submission)) for folder, entry in by_folder.items()
    ]
    if not kinds:
        return [], {}
    site = look()
    wanted = [(by_folder[folder].run.spec.cell, shape) for folder, (shape, _) in kinds]
    specs = [by_folder[folder].run.spec for folder, _ in kinds]
    asked = [(spec, shape) for spec, (_, shape) in zip(specs, wanted, strict=True) if spec.train]
    shares = (share_fault(cluster, spec.cell, shape, spec.executed) for spec, shape in asked)
    if faults := list(filter(None, dict.fromkeys((*shares, *cluster_faults(cluster, wanted, site))))):
        raise UserError("\n".join(faults))
    surplus = full((shape for _, shape in wanted), site)
    later = {by_folder[folder].run.paths: why for (folder, _), why in zip(kinds, surplus, strict=True) if why}
    now = [kind for kind, why in zip(kinds, surplus, strict=True) if not why]
    planned = []
    for (shape, submission), folders in arrays(now, int(site.config["MaxArraySize"])):
        mine = {folder: by_folder[folder] for folder in folders}
        planned.append(_planned(mine, shape, submission, cluster, site, settings))
        if fault := script_fault(cluster, batch_script(planned[-1].batch), site):
            raise UserError(fault)
    return planned, later


def _planned(
    wanted: dict[Path, Wanted],
    shape: JobShape,
    submission: Submission,
    cluster: Cluster,
    site: Site,
    settings: Settings,
) -> Planned:
    """The array of these runs, by folder, with a name that no other has."""
    runs = tuple(wanted.values())
    partitions = ",".join(partition.name for partition in site.chosen(shape.partition)) or None
    name = f"{runs[0].run.spec.experiment}-{uuid.uuid4().hex[:8]}"
    batch = Batch(
        name=name,
        cluster=cluster,
        shape=shape,
        exclude=to_exclude(settings.run_root, partitions, shape.nodes),
        folders=tuple(wanted),
        entry=("harness.launching.slurm_entry", name),
        code=code_folder(settings.run_root, submission.code),
        python=sys.executable,
        logs=settings.run_root / ".slurm" / name,
    )
    return Planned(batch, runs, submission, site.config.get("ClusterName", ""))


def send(planned: Sequence[Planned], settings: Settings, renew: Callable[[], None]) -> None:
    """Submit arrays, each after `renew`: whoever decides what to submit must still be alone with it.

    Raises UserError where the cluster refuses one. It is asked about all of them before the first is submitted.
    """
    environ = submission_environment(os.environ) | {"HARNESS_TRACKING_URI": settings.tracking_uri}
    with tempfile.TemporaryDirectory() as folder:
        for number, array in enumerate(planned):
            write_text(script := Path(folder) / f"{number}.sh", batch_script(array.batch))
            try:
                ask(sbatch_command(script, only_test=True), environ)
            except UserError as error:
                hint = "submit fewer cells, or again when jobs have ended; " if "SubmitJob" in str(error) else ""
                raise UserError(f"{error}; {hint}nothing was submitted") from None
    for number, array in enumerate(planned):
        renew()
        try:
            _send(array, environ)
        except UserError as error:
            sent = f"{number} of {len(planned)} arrays were submitted; harness submit sends the others"
            raise UserError(f"{error}; {sent}") from None


def _send(array: Planned, environ: dict[str, str]) -> None:
    """The record is written before sbatch, without an id: what is submitted is known, whenever this process dies."""
    write_text(array.script, batch_script(array.batch))
    runs = [entry.run for entry in array.wanted]
    states = [read_state(run.paths) for run in runs]
    for index, (run, entry, state) in enumerate(zip(runs, array.wanted, states, strict=True)):
        prepare.write(run)
        if entry.retry:
            record_retry(run.paths, entry.retry)
        run.paths.cancelled.unlink(missing_ok=True)
        write_submission(run.paths, array.submission)
        write_job(run.paths, _job(array, index, None))
        write_state(run.paths, State.QUEUED, attempt=state.attempt)
    try:
        number = slurm.parse_submitted(ask(sbatch_command(array.script), environ))
    except UserError as error:
        for run, state in zip(runs, states, strict=True):
            write_state(run.paths, State.KILLED, attempt=state.attempt, reason=f"not submitted: {error}")
        raise
    for index, run in enumerate(runs):
        write_job(run.paths, _job(array, index, number))


def _job(array: Planned, index: int, number: str | None) -> Job:
    return Job(
        name=array.batch.name,
        index=index,
        id=f"{number}_{index}" if number else None,
        output=str(array.batch.logs / f"{number}_{index}.out") if number else "",
        code=str(array.batch.code),
        cluster=array.cluster,
    )


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
