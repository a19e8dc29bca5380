"""Carry a run folder to MLflow, as far as it goes, as often as one likes: every (key, step) arrives exactly once.

The journal is the truth and brings the timestamps; tracking.json says how far the store has it. A batch whose answer
was lost is sent again, and SQL stores keep one of several identical points. `python -m harness.tracking.shipper FOLDER
--uri URI` follows a run from beside its training.
"""

import argparse
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import leases
from harness.errors import UserError
from harness.files import read_json, sha256
from harness.leases import Lease, LeaseLost
from harness.recipe import digest
from harness.runs import RunPaths, merge_log, read_state
from harness.tracking import fields
from harness.tracking.cursor import Cursor, load, save
from harness.tracking.snapshot import Snapshot, look
from harness.tracking.store import PARENT, Store, StoreError, absolute, answering

BATCH = 1000
"""Metrics in a request, at most; MLflow takes no more."""
SMALL_BATCH = 100
"""Params or tags in a request, at most."""
PATIENCE = 60.0
"""Seconds for which a run that has ended goes on trying to reach its store."""
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What a call of `ship` sent."""

    run_id: str
    points: int
    artifacts: int
    status: str  # MLflow's


def ship(paths: RunPaths, uri: str) -> Shipped | None:
    """Bring the store to what the run folder says now; None where there is no news, or another shipper is at work.

    Raises StoreError where the store cannot be reached (the next call goes on where this one stopped), and UserError
    where the folder is no run.
    """
    if not _has_news(look(paths), load(paths, uri)):
        return None
    held = leases.acquire(paths.folder / "tracking.lease")
    if held is None:
        return None
    try:
        return _Shipper(look(paths), load(paths, uri), uri, held).ship()
    except LeaseLost:
        return None
    finally:
        held.release()


def _has_news(seen: Snapshot, cursor: Cursor) -> bool:
    return (
        not cursor.declared
        or cursor.status != seen.status
        or any(cursor.segments.get(name, 0) < len(rows) for name, rows in seen.segments.items())
        or cursor.tags != _tags_digest(seen)
    )


def _tags_digest(seen: Snapshot) -> str:
    return digest(fields.tags(seen.spec, seen.state, seen.env, seen.result))


class _Shipper:
    """One shipment: a snapshot, and a cursor that is written after every answer of the store."""

    def __init__(self, seen: Snapshot, cursor: Cursor, uri: str, held: Lease) -> None:
        self.seen = seen
        self.cursor = cursor
        self.held = held
        self.uri = absolute(uri)
        self.points = 0
        self.artifacts = 0

    def ship(self) -> Shipped:
        self._advance()  # the mirror's name must be on disk before a run bears it
        self.store = Store(self.uri)
        self.client = self.store.client
        with answering(self.uri):
            self.run_id = self._run()
            if not self.cursor.declared:
                self._declare()
            if self.cursor.tags != _tags_digest(self.seen):
                self._tag()
            for segments, points in _batches(self.seen, self.cursor):
                self._send(points)
                self._advance(segments=segments)
            if self.cursor.status != self.seen.status:
                self._settle()
        return Shipped(
            run_id=self.run_id,
            points=self.points,
            artifacts=self.artifacts,
            status=fields.STATUS[self.seen.state.state],
        )

    def _advance(self, **changes: Any) -> None:
        """Write down what the store has confirmed, after making sure that this is still the one shipper."""
        self.held.renew()
        self.cursor = replace(self.cursor, **changes)
        save(self.seen.paths, self.cursor)

    def _run(self) -> str:
        spec = self.seen.spec
        self.parent = self.store.parent_run(spec.experiment, spec.description)
        if self.cursor.run_id is None:
            found = self.store.child_run(spec, self.cursor.mirror, {PARENT: self.parent}, self.seen.start)
            self._advance(run_id=found)
        assert self.cursor.run_id is not None
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
                Dataset(**fields.dataset(spec.recipe.dataset, part, split)), [InputTag("mlflow.data.context", context)]
            )
            for part, split, context in (("train", spec.train, "training"), ("val", spec.val, "validation"))
        ]
        self.client.log_inputs(self.run_id, datasets=inputs)
        self._artifact(self.seen.paths.config)
        self._advance(declared=True)

    def _tag(self) -> None:
        from mlflow.entities import RunTag

        values = fields.tags(self.seen.spec, self.seen.state, self.seen.env, self.seen.result)
        tags = [RunTag(name, value) for name, value in {**values, PARENT: self.parent}.items()]
        for start in range(0, len(tags), SMALL_BATCH):
            self.client.log_batch(self.run_id, tags=tags[start : start + SMALL_BATCH])
        self._advance(tags=_tags_digest(self.seen))

    def _send(self, points: list[fields.Point]) -> None:
        from mlflow.entities import Metric

        if points:
            self.client.log_batch(self.run_id, metrics=[Metric(*point) for point in points])
            self.points += len(points)

    def _settle(self) -> None:
        """The status; of a run that has ended also its result and artifacts, and the mark that all is there."""
        state, end = self.seen.state, self.seen.end
        if not state.state.ended:
            self.client.update_run(self.run_id, status=fields.STATUS[state.state])
            self.client.update_run(self.parent, status="RUNNING")
            self._advance(status=self.seen.status)
            return
        if self.seen.result is not None:
            self._send(fields.result_points(self.seen.result, self.seen.last_stamp))
        self._artifacts()
        if self.cursor.marked < state.attempt:
            self._send([fields.Point("harness/updated", end, round(end * 1000), state.attempt)])
            self._advance(marked=state.attempt)
        self.client.set_terminated(self.run_id, fields.STATUS[state.state], round(end * 1000))
        self.store.settle_parent(self.seen.spec.experiment, self.parent)
        self._advance(status=self.seen.status)

    def _artifacts(self) -> None:
        paths = self.seen.paths
        if not paths.log.exists():
            merge_log(paths)
        for file in (paths.config, paths.log, paths.curves, paths.evaluation, paths.result):
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


def _batches(seen: Snapshot, cursor: Cursor) -> Iterator[tuple[dict[str, int], list[fields.Point]]]:
    """The metrics not shipped yet in batches, each with the cursor's `segments` once it has arrived.

    Of several rows of a step, or of a thinning window, only the first one counts, over all attempts.
    """
    sent = dict(cursor.segments)
    taken = {fields.row_key(row) for name, rows in seen.segments.items() for row in rows[: sent.get(name, 0)]}
    batch: list[fields.Point] = []
    for name, rows in seen.segments.items():
        for row in rows[sent.get(name, 0) :]:
            key = fields.row_key(row)
            points = [] if key is None or key in taken else fields.points(row)
            if len(batch) + len(points) > BATCH:
                yield dict(sent), batch
                batch = []
            taken.add(key)
            batch += points
            sent[name] = sent.get(name, 0) + 1
    if sent != cursor.segments:
        yield sent, batch


def follow(paths: RunPaths, uri: str, interval: float = 5.0, parent: int | None = None) -> bool:
    """Ship again and again until the run has ended, or the process `parent` is gone; whether the store has everything.

    A store that does not answer is tried again with growing pauses, and once the run has ended for PATIENCE seconds
    more. Each outage is told in one line on stderr.
    """
    pause, failing, give_up = interval, False, float("inf")
    while True:
        leaving = read_state(paths).state.ended or (parent is not None and os.getppid() != parent)
        if leaving:
            give_up = min(give_up, time.monotonic() + PATIENCE)
        try:
            ship(paths, uri)
        except StoreError as error:
            if time.monotonic() > give_up:
                _say(f"{error}; giving up, ship the rest later with: harness sync")
                return False
            if not failing:
                _say(f"{error}; trying again")
            failing, pause = True, min(LONGEST_PAUSE, 2 * pause)
        else:
            if failing:
                _say(f"the store answers again: {paths.folder.name} is up to date")
            failing, pause = False, interval
            complete = _is_complete(paths, uri)
            if leaving and (complete or time.monotonic() > give_up):
                return complete
        _wait(paths, min(pause, interval) if leaving else pause)


def _is_complete(paths: RunPaths, uri: str) -> bool:
    return not _has_news(look(paths), load(paths, uri))


def _wait(paths: RunPaths, seconds: float) -> None:
    """Sleep, but not through the end of the run."""
    was_over = read_state(paths).state.ended
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        if not was_over and read_state(paths).state.ended:
            return


def _say(line: str) -> None:
    sys.stderr.write(f"shipper: {line}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Follow a run: 0 when the store has everything, 1 when it could not be reached, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m harness.tracking.shipper", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--uri", required=True, help="the tracking store")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between looks at the folder")
    parser.add_argument("--parent", type=int, help="leave when this process, the one that started it, is gone")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the training; its end is shipped, too
    try:
        return 0 if follow(RunPaths(given.folder), given.uri, given.interval, given.parent) else 1
    except UserError as error:
        _say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
