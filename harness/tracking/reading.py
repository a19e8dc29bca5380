"""All runs of an experiment with their curves: what is new from the store, the rest from a local file.

Every batch of points ends with a mark: a run whose mark is known has nothing new. The file may be deleted at any
time; what is not in the store any more leaves it with the next reading.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_text
from harness.runs import Origin
from harness.tracking import sql
from harness.tracking.points import UPDATED
from harness.tracking.query import TrackedRun, find, history, newest, search
from harness.tracking.store import Store, answering, shown

SCHEMA = 1
SPARED = 4000
"""Runs that a server is told at most not to send: what reads its filters refuses longer ones."""

Known = dict[str, tuple[str, TrackedRun]]
"""Run id -> its mark and the run."""


def read(uri: str, experiment: str, curves: Sequence[str], *, cache: Path | None = None) -> list[TrackedRun]:
    """All runs of an experiment, sorted by name and key, of several of one key the newest; `history` has the curves of

    these metrics.

    cache: a folder for what has been read. Raises UserError where there is no store, or no such experiment in it.
    """
    store, experiment_id = find(uri, experiment)
    digest = sha256("\0".join((shown(store.uri), experiment, *curves)).encode()).hexdigest()[:16]
    file = cache / f"{digest}.json" if cache else None
    known = _load(file) if file else {}
    with answering(store.uri):
        is_sql = store.uri.startswith(sql.DIALECTS)
        found = (_from_sql if is_sql else _from_server)(store, experiment_id, curves, known)
    if file and found != known:
        with suppress(UserError, OSError):  # a file that cannot be written costs time alone
            write_text(file, _to_json(found))
    return newest(run for _, run in found.values())


def _from_sql(store: Store, experiment_id: str, curves: Sequence[str], known: Known) -> Known:
    with sql.connected(store.uri) as connection:
        marks = sql.marks(connection, experiment_id)
        kept = {run_id: run for run_id, (mark, run) in known.items() if marks.get(run_id) == mark}
        new = [run_id for run_id in marks if run_id not in kept]
        runs = kept | {run.run_id: run for run in sql.read(connection, new, curves)}
    return {run_id: (mark, runs[run_id]) for run_id, mark in marks.items() if run_id in runs}


def _from_server(store: Store, experiment_id: str, curves: Sequence[str], known: Known) -> Known:
    """A server gives runs only whole, and a curve in an answer of its own: finished runs are not asked for again.

    A run that was deleted and then purged between two readings is not missed.
    """
    final = [run_id for run_id, (_, run) in known.items() if _is_final(run)][-SPARED:]
    gone = {run.run_id for run in search(store, experiment_id, deleted=True)} if final else set()
    found = {run_id: known[run_id] for run_id in final if run_id not in gone}
    for run in search(store, experiment_id, besides=final):
        mark = str(run.metrics.get(UPDATED))
        if known.get(run.run_id, ("",))[0] == mark:
            kept = known[run.run_id][1].history
        else:
            kept = {key: history(store.uri, run.run_id, key) if key in run.metrics else [] for key in curves}
        found[run.run_id] = mark, replace(run, history=kept)
    return found


def _is_final(run: TrackedRun) -> bool:
    """Whether nothing of it changes any more; an imported log may still get its checkpoint."""
    return run.status == "FINISHED" and run.tags.get("harness.origin") != Origin.IMPORTED


def _load(file: Path) -> Known:
    """What was read before; nothing where the file is missing, broken or of another form."""
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        rows = plain["runs"] if plain["schema"] == SCHEMA else []
        return {row["run_id"]: (mark, _run(row)) for mark, row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _run(plain: Mapping[str, Any]) -> TrackedRun:
    curves = {key: [(step, value) for step, value in points] for key, points in plain["history"].items()}
    return TrackedRun(**{**plain, "history": curves})


def _to_json(found: Known) -> str:
    return json.dumps({"schema": SCHEMA, "runs": [(mark, asdict(run)) for mark, run in found.values()]})
