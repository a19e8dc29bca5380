"""How attempts ended: a record in the folder of each, and the nodes that all of them together point at."""

import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, read_json, write_json
from harness.run_paths import RunPaths
from harness.run_state import State

STOPPED = 75
"""Exit code of an attempt that was told to stop and left a checkpoint (EX_TEMPFAIL: try again)."""
SUSPECTED_AFTER = 2
"""Attempts that failed for a node's sake until new jobs keep away from it."""
FORGIVEN_AFTER = 7 * 86400.0
"""Seconds after which such a failure counts no more: nodes are mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of an attempt."""

    state: State  # of the run then
    kind: Failure | None  # of a failure
    reason: str
    nodes: str  # the one at fault, or else all of the attempt's, as SLURM writes them
    time: float  # seconds since 1970


def write_end(paths: RunPaths, attempt: int, state: State, *, kind: Failure | None, reason: str, nodes: str) -> None:
    """Say how an attempt ended."""
    end = End(state=state, kind=kind, reason=reason, nodes=nodes, time=time.time())
    write_json(_file(paths, attempt), asdict(end))


def read_end(paths: RunPaths, attempt: int) -> End | None:
    """How an attempt ended; None where nobody has told."""
    plain = find_json(_file(paths, attempt))
    return None if plain is None else _end(plain)


def suspects(run_root: Path) -> dict[str, int]:
    """The nodes to keep away from, by name: how many attempts of any run failed for their sake in the last days.

    Of an attempt on several nodes only what names one of them counts.
    """
    ends: list[End] = []
    for file in run_root.glob("*/*/attempts/*/end.json"):
        with suppress(UserError):  # of a run that status calls broken
            ends.append(_end(read_json(file)))
    since = time.time() - FORGIVEN_AFTER
    counts = Counter(end.nodes for end in ends if end.kind == Failure.NODE and end.time > since and _is_one(end.nodes))
    return {node: count for node, count in sorted(counts.items()) if count >= SUSPECTED_AFTER}


def warning(run_root: Path) -> str:
    """What is to be said of suspects; "" where there are none."""
    said = ", ".join(f"{node} ({count} attempts failed for its sake)" for node, count in suspects(run_root).items())
    days = FORGIVEN_AFTER / 86400
    return said and f"new jobs keep away from {said}; a failure counts for {days:.0f} days"


def _is_one(nodes: str) -> bool:
    return re.fullmatch(r"[^\s,\[\]]+", nodes) is not None


def _file(paths: RunPaths, attempt: int) -> Path:
    return paths.attempt(attempt) / "end.json"


def _end(plain: dict[str, Any]) -> End:
    return End(**plain | {"state": State(plain["state"]), "kind": Failure(plain["kind"]) if plain["kind"] else None})
