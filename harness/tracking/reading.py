"""All runs of an experiment with their curves: what is new from the store, the rest from a local file.

Every batch of points ends with a mark, and so does whatever the store is told of a run that has ended: a run whose
marks are known has nothing new. The file may be deleted at any
time; what is not in the store any more leaves it with the next reading.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_text
from harness.tracking import rest, sql
from harness.tracking.points import SETTLED, UPDATED
from harness.tracking.query import Curve, TrackedRun, find, history, newest
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
    """A server gives runs only whole: finished ones of which it has not learnt more are not asked for again."""
    final = _unchanged(store, experiment_id, [run for _, run in known.values() if _is_final(run)][-SPARED:])
    found = {run_id: known[run_id] for run_id in final}
    news = rest.runs(store, experiment_id, besides=final)
    marks = {run.run_id: str(run.metrics.get(UPDATED)) for run in news}
    kept = {run_id: run.history for run_id, (mark, run) in known.items() if marks.get(run_id) == mark}
    drawn = _curves(store, [run.run_id for run in news if run.run_id not in kept], curves)
    return found | {run.run_id: (marks[run.run_id], replace(run, history=(kept | drawn)[run.run_id])) for run in news}


def _unchanged(store: Store, experiment_id: str, final: Sequence[TrackedRun]) -> list[str]:
    """Those of the finished runs that are surely in the store as they were: not deleted, gone for good, or told of."""
    if not final:
        return []
    deleted = {run.run_id for run in rest.runs(store, experiment_id, deleted=True)}
    marks = rest.histories(store, [run.run_id for run in final if run.run_id not in deleted], [SETTLED]) or {}
    as_known = {run.run_id: run.metrics[SETTLED] for run in final}
    return [run_id for run_id, found in marks.items() if found[SETTLED] and found[SETTLED][-1][1] == as_known[run_id]]


def _curves(store: Store, run_ids: Sequence[str], curves: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """The curves of these runs."""
    found = rest.histories(store, run_ids, curves)
    if found is not None:
        return found
    return {run_id: {key: history(store.uri, run_id, key) for key in curves} for run_id in run_ids}


def _is_final(run: TrackedRun) -> bool:
    """Whether nothing of it changes any more unbeknown to its mark."""
    return run.status == "FINISHED" and SETTLED in run.metrics


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
    names = [field.name for field in fields(TrackedRun)]  # asdict would copy every point
    rows = [(mark, {name: getattr(run, name) for name in names}) for mark, run in found.values()]
    return json.dumps({"schema": SCHEMA, "runs": rows})
