"""SLURM, asked: its commands carried out, and what they say of the cluster, of the queue and of ended jobs."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from harness.errors import UserError
from harness.launching import slurm
from harness.launching.slurm import AccountedJob, Phase, QueuedJob
from harness.launching.slurm_ends import TELLING, JobEnd, ends_command, parse_ends, parse_shown, show_command

ANSWER_SECONDS = 60
QUEUE_SECONDS = 10.0
"""Between two questions about the queue, of one who waits."""
_DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT", "SLURM_CLUSTERS")
"""Variables by which a user changes what SLURM's commands look at and how they answer."""


def ask(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """What one of SLURM's commands says, whatever the user's own defaults for it are.

    Raises UserError in one line where it fails, is not there or does not answer.
    """
    given = (os.environ if environ is None else environ).items()
    env = {name: value for name, value in given if not name.startswith(_DEFAULTS)}
    env["SLURM_BITSTR_LEN"] = "0"  # the elements of an array in full, not "1,3,..."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=env, check=False)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]}: no such command; a SLURM cluster is reached from a machine with its commands"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer within {ANSWER_SECONDS} s; try again later") from None
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise UserError(f"{command[0]} failed: {said.removeprefix(f'{command[0]}: ')}")
    return done.stdout


def present_cluster() -> str:
    """The name of the cluster whose commands answer here. Raises UserError where its controller does not."""
    return slurm.parse_config(ask(["scontrol", "show", "config"])).get("ClusterName", "")


def queued_jobs() -> dict[tuple[str, int], QueuedJob]:
    """What waits or works of this user's arrays, by name and index."""
    found = slurm.parse_queue(ask(slurm.queue_command()))
    return {(job.name, int(job.id.partition("_")[2])): job for job in found if "_" in job.id}


class Accounting:
    """What the accounting says of jobs: asked for all of them in one question, when the first is wanted.

    A cluster need not have one; then it knows nothing.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._arrays = {one.partition("_")[0] for one in ids}

    def starts(self, job: str, name: str) -> list[AccountedJob]:
        """Every start of a job, the oldest first. name: what its name begins with, for ids come again."""
        return [start for start in self._known.get(job, []) if start.name.startswith(name)]

    @cached_property
    def _known(self) -> dict[str, list[AccountedJob]]:
        known: dict[str, list[AccountedJob]] = {}
        with suppress(UserError):
            for start in slurm.parse_accounting(ask(slurm.accounting_command(sorted(self._arrays)))):
                known.setdefault(start.id, []).append(start)
        return known


def end_of(job: str, name: str, accounting: Accounting) -> tuple[JobEnd | str | None, bool]:
    """How a job ended, where SLURM tells, or its state where it has not; and whether SLURM will tell, but does not yet.

    Raises UserError where the controller does not answer.
    """
    last = next(reversed(accounting.starts(job, name)), None)
    if last and last.state in TELLING:
        return JobEnd(state=last.state, exit_code=last.exit_code, signal=last.signal, nodes=last.nodes or ""), False
    if (shown := _shown(job, name)) is not None:
        return shown, False
    if last is None or slurm.phase(last.state) != Phase.ENDED:
        return None, last is not None
    with suppress(UserError):
        if (ends := parse_ends(ask(ends_command(job)), job, name)) and ends[-1]:
            return ends[-1], False
    return JobEnd(state=last.state, exit_code=last.exit_code, signal=last.signal, nodes=last.nodes or ""), False


def _shown(job: str, name: str) -> JobEnd | str | None:
    """How a job ended as the controller has it, or its state if it has not; None where the job is forgotten.

    Raises UserError where the controller does not answer.
    """
    try:
        return parse_shown(ask(show_command(job)), name)
    except UserError as error:
        if "Invalid job id" in str(error):
            return None
        raise
