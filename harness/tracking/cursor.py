"""How far a run folder has been shipped: tracking.json."""

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.files import find_json, write_text
from harness.run_paths import RunPaths
from harness.tracking.store import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """What the store has for certain. What was sent without an answer is sent again, identically."""

    uri: str  # of the store, without credentials
    mirror: str  # name of this folder towards stores: a folder made anew under an old key gets a run of its own
    run_id: str | None = None
    parent: str = ""  # run id of the experiment's parent run
    declared: bool = False  # params, data sets and config.json are there
    segments: dict[str, int] = field(default_factory=dict)  # rows shipped, by attempt, or attempt/system-NODE
    tags: str = ""  # digest of the tags
    artifacts: dict[str, str] = field(default_factory=dict)  # sha256 by name
    status: str = ""  # MLflow's status, and since when where it is final
    marked: int = 0  # the last attempt whose end was marked
    settled: bool = True  # nothing was sent since a run that has ended was marked as settled


def load(paths: RunPaths, uri: str) -> Cursor:
    """The cursor of a run folder towards a store; a fresh one where there is none, or it speaks of another store."""
    plain: dict[str, Any] | None = find_json(paths.tracking)
    if plain is None:
        return Cursor(uri=shown(uri), mirror=uuid.uuid4().hex)
    if plain["uri"] != shown(uri):
        return Cursor(uri=shown(uri), mirror=plain["mirror"])
    return Cursor(**plain)


def save(paths: RunPaths, cursor: Cursor) -> None:
    """Write the cursor, atomically."""
    write_text(paths.tracking, json.dumps(asdict(cursor), indent=2) + "\n", durable=True)
