"""An attempt, and what it says of itself in the run's folder."""

import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching.ends import read_end, write_end
from harness.launching.job_file import read_job
from harness.launching.restarts import record_start, require_progress
from harness.launching.slurm import OwnJob
from harness.launching.slurm_ask import ask
from harness.launching.slurm_ends import ends_command, parse_ends
from harness.processes import node_name
from harness.run_paths import RunPaths, last_attempt
from harness.run_spec import RunSpec
from harness.run_state import STARTING, State, write_state

if TYPE_CHECKING:  # torch is imported when a job starts
    from harness.training.notes import Note

RESERVE = 65536
"""Bytes kept in the attempt's folder, to be given back on a full disk for the last word of a run."""


class Attempt:
    """An attempt of a run; once superseded it says nothing more."""

    def __init__(self, paths: RunPaths, spec: RunSpec, number: int, job: OwnJob | None) -> None:
        self.paths, self.spec, self.number, self.job = paths, spec, number, job
        self.folder = paths.attempt(number)
        self.remark = ""  # that status is to show beside how far it is

    def begin(self) -> None:
        """Say so, and make sure that the end can be told, too.

        Raises UserError where the launcher restarts by itself a run that makes no progress.
        """
        if self.job is None:
            self.paths.job.unlink(missing_ok=True)  # the run is this process's from now on
        else:
            code = str(Path(__file__).resolve().parents[2])
            write_json(self.folder / "job.json", asdict(self.job) | {"node": node_name(), "code": code})
            record_requeued(self.paths, self.number, self.job)
        self.at(STARTING)
        (self.folder / "reserve").write_bytes(bytes(RESERVE))
        require_progress(self.paths, self.number)
        record_start(self.paths, self.number)

    def at(self, progress: str) -> None:
        """The run is being worked on.

        Raises UserError where a later attempt has taken over: two must not write checkpoints.
        """
        if self.superseded():
            raise UserError(f"{self.paths.folder}: attempt {self.number} gives way to a later one")
        shown = f"{progress}; {self.remark}" if self.remark else progress
        write_state(self.paths, State.RUNNING, attempt=self.number, progress=shown)

    def ended(self, state: State, reason: str = "", kind: Failure | None = None, node: str = "") -> None:
        """The attempt is over. On a disk without room for that, the next command that looks will find it dead.

        node: the one at fault, where it is known.
        """
        (self.folder / "reserve").unlink(missing_ok=True)
        nodes = node or os.environ.get("SLURM_JOB_NODELIST") or node_name()
        with suppress(UserError):
            if not self.superseded():
                write_end(self.paths, self.number, state, kind=kind, reason=reason, nodes=nodes)
                write_state(self.paths, state, attempt=self.number, reason=reason, kind=kind)

    def hung(self, reason: str, culprit: "Note | None") -> None:
        """The attempt is over, as nothing moves: for `reason`, or by the rank that gave up and said why.

        With NCCL the others cannot notice that, and wait for it on their devices.
        """
        text = f"no progress: {reason}; Python stacks in {self.folder}/rank-*.stack.txt"
        tell(f"error: {text}\n")
        if culprit is None:
            self.ended(State.FAILED, text, Failure.HANG)
        elif read_end(self.paths, self.number) is None:  # or that rank has told it itself
            self.ended(State.FAILED, f"{culprit.who} {culprit.ended}", culprit.failure, culprit.node)

    def superseded(self) -> bool:
        """Whether a later attempt has the run."""
        return last_attempt(self.paths) > self.number


def tell(text: str) -> None:
    """Say it on stderr, if there is still room."""
    with suppress(OSError):  # the output may be on the disk that is full
        sys.stderr.write(text)
        sys.stderr.flush()


def record_requeued(paths: RunPaths, attempt: int, job: OwnJob) -> None:
    """Where the job of `attempt` is a requeue, and the start before left no word of its end, write down SLURM's."""
    before, owner = paths.attempt(attempt - 1) / "job.json", read_job(paths)
    if owner is None or not before.exists() or read_end(paths, attempt - 1) is not None:
        return
    start = read_json(before)
    if start["id"] != job.id:
        return
    end = None
    with suppress(UserError):  # a cluster need not have an accounting
        ends = parse_ends(ask(ends_command(job.id)), job.id, owner.name)
        end = ends[start["restarts"]] if start["restarts"] < len(ends) else None
    reason = f"requeued by SLURM: {end or 'it does not tell why'}"
    kind, nodes = (end.kind, end.nodes) if end else (Failure.UNKNOWN, start["node"])
    write_end(paths, attempt - 1, State.QUEUED, kind=kind, reason=reason, nodes=nodes)
