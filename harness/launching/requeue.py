"""The next attempt of a run, from inside the job that ends: the same job again or, where that is denied, a new one."""

import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.errors import UserError
from harness.files import read_json, write_json, write_text
from harness.launching import slurm
from harness.launching.exclusion import next_time, own_nodes
from harness.launching.job_file import Job, read_job, write_job
from harness.launching.slurm import OwnJob, parse_job
from harness.launching.slurm_ask import ask
from harness.launching.slurm_ends import show_command
from harness.launching.slurm_script import sbatch_command, submission_environment
from harness.run_paths import RunPaths, last_attempt
from harness.run_state import State, write_state

CONTINUES = "HARNESS_CONTINUES"
"""Set in a job that goes on where another one has left off, as SLURM_RESTART_COUNT is in a requeued one."""


LEFT = "left.json"
"""In a run folder: the nodes that its job has left because they were suspect."""
_ELSEWHERE = """\
trap '' TERM
scontrol requeue "$1" || exit 1
for pause in 0 1 2 4; do
  sleep $pause
  scontrol update JobId="$1" ExcNodeList="$2" && break
done
exit 0
"""
"""Only a job that waits can be kept from nodes, and a requeue ends this very script's job with SIGTERM."""
PATIENCE = 300.0
"""Seconds for which to ask a controller that does not answer; the job's end may come before."""
_SILENT = re.compile(r"contact slurm controller|no answer|timed out|Connection refused|Zero Bytes", re.IGNORECASE)


def start_next(paths: RunPaths, job: OwnJob) -> None:
    """Requeue this job or, where that is denied (the job or the cluster does not allow it), submit a new one.

    It keeps away from nodes that are suspect by now, whatever the job was submitted with.
    Raises UserError where the cluster does neither; the run is this job's still.
    """
    exclude = next_time(paths.folder.parent.parent, os.environ)
    requeue(job, exclude, lambda: _submit_new(paths, exclude))


def requeue(job: OwnJob, exclude: tuple[str, ...], submit_new: Callable[[], object]) -> None:
    """Requeue this job away from some nodes or, where that is denied, submit a new one.

    Raises UserError where the cluster does neither.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _requeue(job, exclude, submit_new)
        except UserError as error:
            if time.monotonic() > deadline or not _SILENT.search(str(error)):
                raise
            time.sleep(5)


def _requeue(job: OwnJob, exclude: tuple[str, ...], submit_new: Callable[[], object]) -> None:
    try:
        ask(requeue_command(job.id, exclude))
    except UserError as denied:
        try:
            submit_new()
        except UserError as error:
            raise UserError(f"{denied}; nor could it submit a new job: {error}") from None


def requeue_command(job: str, exclude: tuple[str, ...]) -> list[str]:
    """The command by which a job requeues itself; it fails where that is denied."""
    if not exclude:
        return ["scontrol", "requeue", job]
    return ["sh", "-c", _ELSEWHERE, "scontrol", job, ",".join(exclude)]


def leave_suspects(paths: RunPaths, job: OwnJob) -> bool:
    """Start the job of this process elsewhere, if it has got a node that became suspect since it was submitted.

    A job does so once for the same nodes: where SLURM does not keep them from it, it works there.
    """
    run_root = paths.folder.parent.parent
    exclude = next_time(run_root, os.environ)
    left = _left(paths, job)
    try:
        if not exclude or not (mine := own_nodes(os.environ).intersection(exclude).difference(left)):
            return False
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # with which SLURM ends the job as soon as it is requeued
        write_json(paths.folder / LEFT, {"job": job.id, "nodes": sorted({*left, *mine})})
        reason = f"left {', '.join(sorted(mine))}, where attempts have failed for the node's sake"
        write_state(paths, State.QUEUED, attempt=last_attempt(paths), reason=reason)
        start_next(paths, job)
    except UserError:  # the cluster does not let it
        return False
    return True


def _left(paths: RunPaths, job: OwnJob) -> set[str]:
    """The nodes that this job has left."""
    file = paths.folder / LEFT
    known = read_json(file) if file.exists() else {"job": job.id, "nodes": []}
    return set(known["nodes"]) if known["job"] == job.id else set()


def is_over_time(job: OwnJob) -> bool:
    """Whether SLURM ends this job for its time limit; not known, so no, where SLURM does not answer."""
    try:
        shown = parse_job(ask(show_command(job.id)))
    except UserError:
        return False
    return "TIMEOUT" in shown.get("JobState", "") or shown.get("Reason") == "TimeLimit"


def goes_on(environ: Mapping[str, str]) -> bool:
    """Whether a job was started by SLURM or by another job, and not by a person."""
    return environ.get("SLURM_RESTART_COUNT", "0") != "0" or CONTINUES in environ


def _submit_new(paths: RunPaths, exclude: tuple[str, ...]) -> None:
    """An array of one element, with this run's index; the run is its own before SLURM knows of it, as in a submit."""
    old = read_job(paths)
    if old is None:
        raise UserError(f"{paths.job}: no such file; the run was started elsewhere")
    token = f"{old.name.rpartition('-')[0]}-{uuid.uuid4().hex[:8]}"
    scripts = paths.folder.parent.parent / ".slurm"
    text = (scripts / old.name / "script.sh").read_text(encoding="utf-8").replace(old.name, token)
    write_text(script := scripts / token / "script.sh", one_element(text, old.index, exclude))
    new = replace(old, name=token, id=None, output="")
    write_job(paths, new)
    try:
        number = slurm.parse_submitted(ask(sbatch_command(script), _environment(os.environ, old)))
    except UserError:
        write_job(paths, old)
        raise
    output = scripts / token / f"{number}_{old.index}.out"
    write_job(paths, replace(new, id=f"{number}_{old.index}", output=str(output)))


def one_element(script: str, index: int, exclude: tuple[str, ...]) -> str:
    """The script of an array, of which only one element is to run, away from some nodes."""
    lines = [f"#SBATCH --array={index}", *([f"#SBATCH --exclude={','.join(exclude)}"] if exclude else [])]
    kept = re.sub(r"(?m)^#SBATCH --exclude=.*\n", "", script, count=1) if exclude else script
    return re.sub(r"(?m)^#SBATCH --array=.*$", "\n".join(lines), kept, count=1)


def _environment(environ: Mapping[str, str], job: Job) -> dict[str, str]:
    """As it was before the script added to it, so that it does not grow from job to job."""
    kept = submission_environment(environ) | {CONTINUES: "1"}
    kept["PYTHONPATH"] = kept.get("PYTHONPATH", "").removeprefix(job.code).removeprefix(os.pathsep)
    return kept
