"""Reading many runs from an SQL store at once, by a few statements; MLflow's client needs several for each run.

The tables and columns are those of MLflow 2 and 3 (mlflow/store/tracking/dbmodels/models.py). Nothing is written.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.tracking.points import SETTLED, UPDATED
from harness.tracking.query import TrackedRun
from harness.tracking.store import NOTE, ROLE

if TYPE_CHECKING:
    from sqlalchemy import Connection, TableClause

DIALECTS = ("sqlite:", "postgresql", "mysql", "mssql")
"""How the addresses of SQL stores begin."""
NEWS = ("harness.state", "harness.attempt", "harness.reason", "harness.progress", "harness.files", "harness.result")
"""Tags that may change while the mark of the newest measurement stays."""
AT_ONCE = 500
"""Runs in one statement."""
COLUMNS = {
    "runs": ("run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id"),
    "tags": ("run_uuid", "key", "value"),
    "params": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
    "metrics": ("run_uuid", "key", "value", "is_nan", "step"),
}


@contextmanager
def connected(uri: str) -> "Iterator[Connection]":
    """A connection of its own to an SQL store."""
    from sqlalchemy import NullPool, create_engine

    with create_engine(uri, poolclass=NullPool).connect() as connection:
        yield connection


def marks(connection: "Connection", experiment_id: str) -> dict[str, str]:
    """Of each run of an experiment that is not deleted what changes whenever the store learns more of it."""
    from sqlalchemy import select

    runs, tags, latest = map(_table, ("runs", "tags", "latest_metrics"))
    active = (runs.c.experiment_id == int(experiment_id)) & (runs.c.lifecycle_stage == "active")
    is_ours = (tags.c.run_uuid == runs.c.run_uuid) & (tags.c.key == ROLE) & (tags.c.value == "run")
    facts = select(runs.c.run_uuid, runs.c.name, runs.c.status, runs.c.end_time).join(tags, is_ours).where(active)
    found: dict[str, list[Any]] = {run_id: values for run_id, *values in connection.execute(facts)}
    ids = select(runs.c.run_uuid).where(active)
    last = select(latest.c.run_uuid, latest.c.key, latest.c.value)
    updated = last.where(latest.c.key.in_((UPDATED, SETTLED)), latest.c.run_uuid.in_(ids))
    news = select(tags.c.run_uuid, tags.c.key, tags.c.value).where(tags.c.key.in_(NEWS), tags.c.run_uuid.in_(ids))
    for statement in (updated.order_by(latest.c.key), news.order_by(tags.c.key)):
        for run_id, *values in connection.execute(statement):
            if run_id in found:  # not the experiment's parent run
                found[run_id] += values
    return {run_id: hashlib.sha256(repr(values).encode()).hexdigest()[:16] for run_id, values in found.items()}


def read(connection: "Connection", run_ids: Sequence[str], curves: Sequence[str]) -> Iterator[TrackedRun]:
    """These runs, with the curves of these metrics; their notes, texts for MLflow's pages, are left out."""
    for start in range(0, len(run_ids), AT_ONCE):
        yield from _read(connection, run_ids[start : start + AT_ONCE], curves)


def _read(connection: "Connection", ids: Sequence[str], curves: Sequence[str]) -> Iterator[TrackedRun]:
    from sqlalchemy import select

    runs, metrics = _table("runs"), _table("metrics")
    tags, params, latest = (_values(connection, name, ids) for name in ("tags", "params", "latest_metrics"))
    history: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: {key: [] for key in curves})
    points = select(metrics.c.run_uuid, metrics.c.key, metrics.c.step, metrics.c.value, metrics.c.is_nan)
    wanted = metrics.c.run_uuid.in_(ids) & metrics.c.key.in_(curves)
    for run_id, key, step, value, is_nan in connection.execute(points.where(wanted)):
        history[run_id][key].append((step, math.nan if is_nan else value))
    facts = select(runs.c.run_uuid, runs.c.name, runs.c.status, runs.c.start_time, runs.c.end_time)
    for run_id, name, status, start, end in connection.execute(facts.where(runs.c.run_uuid.in_(ids))):
        yield TrackedRun(
            run_id=run_id,
            name=name,
            status=status,
            tags=tags[run_id],
            params=params[run_id],
            metrics=latest[run_id],
            start=start / 1000,
            end=end / 1000 if end else None,
            history={key: sorted(values) for key, values in history[run_id].items()},
        )


def _values(connection: "Connection", name: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Key and value of each run's params, tags or newest metrics."""
    from sqlalchemy import select

    source = _table(name)
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    statement = select(source).where(source.c.run_uuid.in_(ids), source.c.key != NOTE)
    for run_id, key, value, *is_nan in connection.execute(statement):
        found[run_id][key] = math.nan if is_nan == [True] else value
    return found


def _table(name: str) -> "TableClause":
    from sqlalchemy import column, table

    return table(name, *(column(one) for one in COLUMNS[name]))
