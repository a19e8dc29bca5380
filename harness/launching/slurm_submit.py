"""Runs to arrays of SLURM jobs: scripts, records in the run folders, sbatch."""

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
from harness.launching.cluster import Cluster
from harness.launching.frozen_code import code_folder, freeze
from harness.launching.prepare import PreparedRun
from harness.launching.slurm_jobs import Job, ask, write_job
from harness.launching.slurm_script import Batch, arrays, batch_script, sbatch_command, submission_environment
from harness.matrix_file import Resources
from harness.runs import State, read_state, write_state
from harness.settings import Settings


@dataclass(frozen=True, slots=True)
class Planned:
    """An array that can be submitted."""

    batch: Batch
    runs: tuple[PreparedRun, ...]

    @property
    def script(self) -> Path:
        """Where its script is, beside its jobs' output."""
        return self.batch.logs / "script.sh"


def plan_arrays(runs: Iterable[PreparedRun], cluster: Cluster, settings: Settings) -> list[Planned]:
    """The arrays of these runs; nothing is written.

    Raises UserError where SLURM does not answer, or the cluster file's values do not fit a cell.
    """
    by_folder = {run.paths.folder.resolve(): run for run in runs}
    shapes = [
        (folder, cluster.shape_of(run.spec.cell, Resources(**run.spec.resources))) for folder, run in by_folder.items()
    ]
    if not shapes:
        return []
    limit = int(slurm.parse_config(ask(["scontrol", "show", "config"]))["MaxArraySize"])
    code = code_folder(settings.run_root)
    planned = []
    for shape, folders in arrays(shapes, limit):
        mine = tuple(by_folder[folder] for folder in folders)
        name = f"{mine[0].spec.experiment}-{uuid.uuid4().hex[:8]}"
        batch = Batch(
            name=name,
            cluster=cluster,
            shape=shape,
            folders=folders,
            entry=("harness.launching.slurm_entry", name),
            code=code,
            python=sys.executable,
            logs=settings.run_root / ".slurm" / name,
        )
        planned.append(Planned(batch, mine))
    return planned


def send(planned: Sequence[Planned], settings: Settings, renew: Callable[[], None]) -> None:
    """Submit arrays, each after `renew`: whoever decides what to submit must still be alone with it.

    Raises UserError where the cluster refuses one. It is asked about all of them before the first is submitted.
    """
    environ = submission_environment(os.environ) | {"HARNESS_TRACKING_URI": settings.tracking_uri}
    with tempfile.TemporaryDirectory() as folder:
        for number, array in enumerate(planned):
            write_text(script := Path(folder) / f"{number}.sh", batch_script(array.batch))
            ask(sbatch_command(script, only_test=True), environ)
    if planned:
        freeze(settings.run_root)
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
    states = [read_state(run.paths) for run in array.runs]
    for index, (run, state) in enumerate(zip(array.runs, states, strict=True)):
        prepare.write(run)
        write_job(run.paths, _job(array, index, None))
        write_state(run.paths, State.QUEUED, attempt=state.attempt)
    try:
        number = slurm.parse_submitted(ask(sbatch_command(array.script), environ))
    except UserError as error:
        for run, state in zip(array.runs, states, strict=True):
            write_state(run.paths, State.FAILED, attempt=state.attempt, reason=f"not submitted: {error}")
        raise
    for index, run in enumerate(array.runs):
        write_job(run.paths, _job(array, index, number))


def _job(array: Planned, index: int, number: str | None) -> Job:
    return Job(
        name=array.batch.name,
        index=index,
        id=f"{number}_{index}" if number else None,
        output=str(array.batch.logs / f"{number}_{index}.out") if number else "",
        code=str(array.batch.code),
    )
