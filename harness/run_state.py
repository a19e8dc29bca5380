"""Where a run stands, and who said so. In state.json of its folder."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, known_fields, write_json
from harness.processes import has_died, signature
from harness.run_paths import RunPaths
from harness.run_spec import read_spec

STARTING = "starting"
"""The progress of an attempt that does not listen to signals yet."""
CANCELLED = "cancelled by harness cancel"
"""The reason for which a run ended that somebody has cancelled."""


class State(StrEnum):
    """Where a run stands. The next submit resumes what was KILLED, and what FAILED when asked; FINISHED is final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether no process is or will be working on the run."""
        return self in (State.FINISHED, State.FAILED, State.KILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands and who said so."""

    state: State
    attempt: int = 0
    reason: str = ""  # of a failure, one line
    kind: Failure | None = None  # of a failure; None: SLURM has not been asked yet
    host: str = ""  # of the process that says so, and what else processes.signature tells of it
    space: str = ""
    pid: int = 0
    started: float = 0.0  # so that a reused pid is not mistaken for it
    updated: float = 0.0
    progress: str = ""  # such as "epoch 3/12"


def write_state(
    paths: RunPaths,
    state: State,
    *,
    attempt: int,
    reason: str = "",
    kind: Failure | None = None,
    progress: str = "",
    pid: int | None = None,
) -> None:
    """Say where the run stands, in the name of this process (or of process `pid` of this host)."""
    said: dict[str, Any] = {"state": state, "attempt": attempt, "reason": reason, "kind": kind, "progress": progress}
    write_json(paths.state, asdict(RunState(**said, **signature(pid), updated=time.time())))


def last_word(paths: RunPaths) -> RunState:
    """What was said last of where the run stands, whether or not it is still true."""
    plain = find_json(paths.state)
    if plain is None:
        return RunState(state=State.QUEUED)
    kind = Failure(plain["kind"]) if plain.get("kind") else None
    return RunState(**known_fields(RunState, plain) | {"state": State(plain["state"]), "kind": kind})


def read_state(paths: RunPaths) -> RunState:
    """Where the run stands. A run whose process on this host is gone without a word is FAILED, or was cancelled."""
    return _judged(paths, last_word(paths))


def _judged(paths: RunPaths, found: RunState) -> RunState:
    if found.state == State.RUNNING and has_died(found):
        if paths.cancelled.exists():
            return replace(found, state=State.KILLED, reason=CANCELLED, kind=Failure.CANCELLED)
        reason = "its process died without a word (killed, or out of memory)"
        return replace(found, state=State.FAILED, reason=reason, kind=Failure.UNKNOWN)
    return found


def unreadable(paths: RunPaths) -> str:
    """Which file of a run cannot be read, and why; "" where all is well."""
    try:
        read_spec(paths)
        last_word(paths)
    except UserError as error:
        return str(error)
    return ""


def settle(paths: RunPaths) -> RunState:
    """Where the run stands, put right on the disk too where the last word there is no longer true.

    Where that cannot be written (a full disk, somebody else's folder), it is left to whoever looks next.
    """
    found = _judged(paths, told := last_word(paths))
    if found != told:
        with suppress(UserError, OSError):
            write_state(paths, found.state, attempt=found.attempt, reason=found.reason, kind=found.kind)
    return found
