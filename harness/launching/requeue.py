"""The next attempt of a run, from inside the job that ends: the same job again or, where that is denied, a new one."""

import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

from harness.errors import UserError
from harness.files import write_text
from harness.launching import slurm
from harness.launching.slurm import OwnJob
from harness.launching.slurm_jobs import Job, ask, read_job, write_job
from harness.launching.slurm_script import sbatch_command, submission_environment
from harness.runs import RunPaths

CONTINUES = "HARNESS_CONTINUES"
"""Set in a job that goes on where another one has left off, as SLURM_RESTART_COUNT is in a requeued one."""


PATIENCE = 300.0
"""Seconds for which to ask a controller that does not answer; the job's end may come before."""
_SILENT = re.compile(r"contact slurm controller|no answer|timed out|Connection refused|Zero Bytes", re.IGNORECASE)


def start_next(paths: RunPaths, job: OwnJob) -> None:
    """Requeue this job or, where that is denied (the job or the cluster does not allow it), submit a new one.

    Raises UserError where the cluster does neither; the run is this job's still.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _start_next(paths, job)
        except UserError as error:
            if time.monotonic() > deadline or not _SILENT.search(str(error)):
                raise
            time.sleep(5)


def _start_next(paths: RunPaths, job: OwnJob) -> None:
    try:
        ask(["scontrol", "requeue", job.id])
    except UserError as denied:
        try:
            _submit_new(paths)
        except UserError as error:
            raise UserError(f"{denied}; nor could it submit a new job: {error}") from None


def goes_on(environ: Mapping[str, str]) -> bool:
    """Whether a job was started by SLURM or by another job, and not by a person."""
    return environ.get("SLURM_RESTART_COUNT", "0") != "0" or CONTINUES in environ


def _submit_new(paths: RunPaths) -> None:
    """An array of one element, with this run's index; the run is its own before SLURM knows of it, as in a submit."""
    old = read_job(paths)
    if old is None:
        raise UserError(f"{paths.job}: no such file; the run was started elsewhere")
    token = f"{old.name.rpartition('-')[0]}-{uuid.uuid4().hex[:8]}"
    scripts = paths.folder.parent.parent / ".slurm"
    text = (scripts / old.name / "script.sh").read_text(encoding="utf-8").replace(old.name, token)
    write_text(script := scripts / token / "script.sh", one_element(text, old.index))
    new = replace(old, name=token, id=None, output="")
    write_job(paths, new)
    try:
        number = slurm.parse_submitted(ask(sbatch_command(script), _environment(os.environ, old)))
    except UserError:
        write_job(paths, old)
        raise
    output = scripts / token / f"{number}_{old.index}.out"
    write_job(paths, replace(new, id=f"{number}_{old.index}", output=str(output)))


def one_element(script: str, index: int) -> str:
    """The script of an array, of which only one element is to run."""
    return re.sub(r"(?m)^#SBATCH --array=.*$", f"#SBATCH --array={index}", script, count=1)


def _environment(environ: Mapping[str, str], job: Job) -> dict[str, str]:
    """As it was before the script added to it, so that it does not grow from job to job."""
    kept = submission_environment(environ) | {CONTINUES: "1"}
    kept["PYTHONPATH"] = kept.get("PYTHONPATH", "").removeprefix(job.code).removeprefix(os.pathsep)
    return kept
