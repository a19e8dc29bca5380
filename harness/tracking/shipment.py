"""Carry a run folder to MLflow, as far as it goes, as often as one likes: every (key, step) arrives exactly once.

The journal is the truth and brings the timestamps; tracking.json says how far the store has it. A batch whose answer
was lost is sent again, and SQL stores keep one of several identical points.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import leases
from harness.files import read_json, sha256
from harness.identity import digest
from harness.leases import Lease, LeaseLost
from harness.run_log import merge_log
from harness.run_paths import RunPaths
from harness.tracking import fields
from harness.tracking.checkpoints import log_checkpoints
from harness.tracking.cursor import Cursor, load, save
from harness.tracking.note import colour
from harness.tracking.points import (
    SETTLED,
    UPDATED,
    Point,
    benchmark_points,
    last_train_row,
    points,
    result_points,
    row_key,
    settled,
    updated,
)
from harness.tracking.snapshot import STATUS, Snapshot, look
from harness.tracking.store import COLOUR, PARENT, Store, absolute, answering

BATCH = 1000
"""Metrics in a request, at most; MLflow takes no more."""
SMALL_BATCH = 100
"""Params or tags in a request, at most."""
CONTEXTS = {"train": "training", "val": "validation"}
"""What MLflow calls the halves of a data set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What a call of `ship` sent."""

    run_id: str
    points: int  # measurements
    artifacts: int
    status: str  # MLflow's


def ship(paths: RunPaths, uri: str) -> Shipped | None:
    """Bring the store to what the run folder says now; None where there is no news, or another shipper is at work.

    Raises StoreError where the store cannot be reached (the next call goes on where this one stopped), ForeignStore
    where it is an SQLite file of another host, and UserError where the folder is no run.
    """
    if not has_news(paths, uri):
        return None
    held = leases.acquire(paths.folder / "tracking.lease")
    if held is None:
        return None
    try:
        return _Shipment(look(paths), load(paths, uri), uri, held).ship()
    except LeaseLost:
        return None
    finally:
        held.release()


def has_news(paths: RunPaths, uri: str) -> bool:
    """Whether the folder says anything that the store does not have yet. The store is not asked.

    While a further attempt begins there are no news: which rows of a superseded one count is not known then.
    """
    seen, cursor = look(paths), load(paths, uri)
    return not seen.beginning and (
        not cursor.declared
        or cursor.status != seen.status
        or (seen.state.state.ended and not cursor.settled)
        or any(cursor.segments.get(name, 0) < len(rows) for name, rows in seen.segments.items())
        or cursor.tags != digest(fields.tags(seen))
    )


class _Shipment:
    """One shipment: a snapshot, and a cursor that is written after every answer of the store."""

    def __init__(self, seen: Snapshot, cursor: Cursor, uri: str, held: Lease) -> None:
        self.seen = seen
        self.cursor = cursor
        self.held = held
        self.uri = absolute(uri)
        self.points = 0
        self.artifacts = 0

    def ship(self) -> Shipped:
        self._advance(settled=False)  # and the mirror's name must be on disk before a run bears it
        self.store = Store(self.uri)
        self.client = self.store.client
        with answering(self.uri):
            self.run_id = self._run()
            if not self.cursor.declared:
                self._declare()
            if self.cursor.tags != digest(fields.tags(self.seen)):
                self._tag()
            for segments, batch in batches(self.seen, self.cursor.segments):
                self._send(batch)
                self._advance(segments=segments)
            if self.cursor.status != self.seen.status:
                self._settle()
            if self.seen.state.state.ended:
                self._send([settled(time.time(), self.seen.start)])
                self._advance(settled=True)
        return Shipped(
            run_id=self.run_id, points=self.points, artifacts=self.artifacts, status=STATUS[self.seen.state.state]
        )

    def _advance(self, **changes: Any) -> None:
        """Write down what the store has confirmed, after making sure that this is still the one shipper."""
        self.held.renew()
        self.cursor = replace(self.cursor, **changes)
        save(self.seen.paths, self.cursor)

    def _run(self) -> str:
        """The run's id, below the experiment's parent run as it is now (of several that were created, one stays)."""
        spec = self.seen.spec
        parent = self.store.parent_run(spec.experiment, spec.description)
        if self.cursor.run_id is None:
            tags = {PARENT: parent, COLOUR: colour(spec)}
            found = self.store.child_run(spec, self.cursor.mirror, tags, self.seen.start)
            self._advance(run_id=found, parent=parent)
        assert self.cursor.run_id is not None
        if self.cursor.parent != parent:
            self.client.set_tag(self.cursor.run_id, PARENT, parent)
            self._advance(parent=parent)
        return self.cursor.run_id

    def _declare(self) -> None:
        """Params, data sets and the config: what is known before the first iteration."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        spec = self.seen.spec
        params = [Param(name, value) for name, value in fields.params(spec).items()]
        for start in range(0, len(params), SMALL_BATCH):
            self.client.log_batch(self.run_id, params=params[start : start + SMALL_BATCH])
        inputs = [
            DatasetInput(
                Dataset(**fields.dataset(spec.recipe.dataset, part, split)),
                [InputTag("mlflow.data.context", CONTEXTS[part])],
            )
            for part, split in spec.splits.items()
        ]
        self.client.log_inputs(self.run_id, datasets=inputs)
        self._artifact(self.seen.paths.config)
        self._advance(declared=True)

    def _tag(self) -> None:
        from mlflow.entities import RunTag

        values = fields.tags(self.seen)
        tags = [RunTag(name, value) for name, value in values.items()]
        for start in range(0, len(tags), SMALL_BATCH):
            self.client.log_batch(self.run_id, tags=tags[start : start + SMALL_BATCH])
        self._advance(tags=digest(values))

    def _send(self, batch: list[Point]) -> None:
        from mlflow.entities import Metric

        if batch:
            self.client.log_batch(self.run_id, metrics=[Metric(*point) for point in batch])
            self.points += sum(point.key not in (UPDATED, SETTLED) for point in batch)

    def _settle(self) -> None:
        """The status; of a run that has ended also its result and artifacts, and the mark that all is there."""
        state, end, experiment = self.seen.state, self.seen.end, self.seen.spec.experiment
        if not state.state.ended:
            self.client.update_run(self.run_id, status=STATUS[state.state])
            self.client.update_run(self.cursor.parent, status="RUNNING")
            self._advance(status=self.seen.status)
            return
        if self.seen.result is not None:
            self._send(result_points(self.seen.result, self.seen.last_stamp))
        if self.seen.benchmark is not None:
            self._send(benchmark_points(self.seen.benchmark))
        log_checkpoints(self.client, self.store.experiment_id(experiment), self.run_id, self.seen)
        self._artifacts()
        if self.cursor.marked < state.attempt:
            self._send([updated(end, self.seen.start)])
            self._advance(marked=state.attempt)
        self.client.set_terminated(self.run_id, STATUS[state.state], round(end * 1000))
        self.store.settle_parent(experiment, self.cursor.parent, self.seen.spec.description)
        self._advance(status=self.seen.status)

    def _artifacts(self) -> None:
        paths = self.seen.paths
        if self.seen.journal and not paths.log.exists():
            merge_log(paths)
        for file in (paths.config, paths.log, paths.curves, paths.evaluation, paths.result, paths.benchmark):
            if file.exists():
                self._artifact(file)
        if paths.predictions.is_dir():
            for file in sorted(paths.predictions.iterdir()):
                self._artifact(file, "predictions")
        if paths.evaluation.exists():
            table = fields.per_class_table(read_json(paths.evaluation)["per_class"])
            self._once(
                "per_class.csv",
                hashlib.sha256(table.encode()).hexdigest(),
                lambda: self.client.log_text(self.run_id, table, "per_class.csv"),
            )

    def _artifact(self, file: Path, folder: str | None = None) -> None:
        name = f"{folder}/{file.name}" if folder else file.name
        self._once(name, sha256(file), lambda: self.client.log_artifact(self.run_id, str(file), folder))

    def _once(self, name: str, content: str, send: Callable[[], None]) -> None:
        """Send an artifact unless the store has it with this content."""
        if self.cursor.artifacts.get(name) != content:
            send()
            self.artifacts += 1
            self._advance(artifacts={**self.cursor.artifacts, name: content})


def batches(seen: Snapshot, shipped: dict[str, int]) -> Iterator[tuple[dict[str, int], list[Point]]]:
    """The metrics not shipped yet in batches, each with the rows of every segment shipped once it has arrived.

    Of several rows of a step, or of a thinning window, only the first one counts, over all attempts. A batch ends with
    the mark of the newest row shipped, so that it is there if and only if the batch is.
    """
    sent = dict(shipped)
    before = [row for name, rows in seen.segments.items() for row in rows[: sent.get(name, 0)]]
    taken = {row_key(row) for row in before}
    newest = max((row["stamp"] for row in before if "stamp" in row), default=0.0)
    batch: list[Point] = []
    for name, rows in seen.segments.items():
        for row in rows[sent.get(name, 0) :]:
            key = row_key(row)
            fresh = [] if key is None or key in taken else points(row, _trained(row, seen))
            if len(batch) + len(fresh) >= BATCH:
                yield dict(sent), [*batch, updated(newest, seen.start)]
                batch = []
            if fresh:
                newest = max(newest, row["stamp"])
            taken.add(key)
            batch += fresh
            sent[name] = sent.get(name, 0) + 1
    if sent != shipped:
        yield sent, [*batch, updated(newest, seen.start)] if batch else []


def _trained(row: dict[str, Any], seen: Snapshot) -> Any:
    return last_train_row(seen.rows, int(row["step"])) if row.get("mode") == "val" else None
