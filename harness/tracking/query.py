"""Read what MLflow holds, as plain data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError
from harness.tracking.fields import joined
from harness.tracking.store import KEY, ROLE, Store, absolute, answering, database, pages, shown
from harness.wording import did_you_mean

Curve = list[tuple[int, float]]
"""(step, value) of a metric, by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One run as MLflow has it."""

    run_id: str
    name: str
    status: str  # SCHEDULED, RUNNING, FINISHED, FAILED or KILLED
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]  # the value at the largest step
    start: float  # seconds since 1970
    end: float | None  # of a run that has ended
    history: dict[str, Curve] = field(default_factory=dict)  # those that were asked for

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json without its metrics and files; None before the run has finished."""
        found: dict[str, Any] | None = joined("harness.result", self.tags)
        return found

    @property
    def files(self) -> dict[str, Any] | None:
        """Path, size and sha256 of the checkpoint, log, config and detections; None before the run has finished."""
        found: dict[str, Any] | None = joined("harness.files", self.tags)
        return found


def experiments(uri: str) -> list[str]:
    """The names of the store's experiments that hold runs of this harness, sorted.

    Raises UserError where there is no store.
    """
    store = _existing(uri)
    with answering(uri):
        names = {found.experiment_id: found.name for found in pages(store.client.search_experiments)}
        parents = pages(store.client.search_runs, list(names), f"tags.`{ROLE}` = 'experiment'")
        return sorted({names[run.info.experiment_id] for run in parents})


def runs(uri: str, experiment: str) -> list[TrackedRun]:
    """All runs of an experiment, sorted by name and key. Of several runs of one key (the run folder was removed and the

    run done again) the newest counts.

    Raises UserError where there is no store, or no such experiment in it.
    """
    store, experiment_id = find(uri, experiment)
    with answering(uri):
        return newest(map(_tracked, pages(store.client.search_runs, [experiment_id], f"tags.`{ROLE}` = 'run'")))


def find(uri: str, experiment: str) -> tuple[Store, str]:
    """The store, and the id of the experiment there.

    Raises UserError where there is no store, or no such experiment in it.
    """
    store = _existing(uri)
    with answering(uri):
        known = store.client.get_experiment_by_name(experiment)
    if known is None:
        names = experiments(uri)
        raise UserError(
            f"tracking store {shown(store.uri)}: no experiment {experiment!r}{did_you_mean(experiment, names)}"
            f"; it holds {', '.join(names) or 'none yet'}"
        )
    return store, str(known.experiment_id)


def newest(found: Iterable[TrackedRun]) -> list[TrackedRun]:
    """Of the runs of each key the newest, sorted by name and key."""
    last = {run.tags[KEY]: run for run in sorted(found, key=lambda run: (run.start, run.run_id))}
    return sorted(last.values(), key=lambda run: (run.name, run.tags[KEY]))


def history(uri: str, run_id: str, key: str) -> Curve:
    """All (step, value) of a metric of a run, by step: of val/epoch and val/bbox_mAP, say, to draw a curve."""
    store = _existing(uri)
    with answering(uri):
        points = store.client.get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def _existing(uri: str) -> Store:
    """The store, which is not created by asking."""
    file = database(uri)
    if file is not None and not file.exists():
        raise UserError(f"tracking store {shown(absolute(uri))}: no such file: nothing has been tracked there yet")
    return Store(uri)


def ended(status: str, end: int | None) -> float | None:
    """When a run ended, in seconds; MLflow's `end`, in milliseconds, may be of an earlier time."""
    return end / 1000 if end and status in ("FINISHED", "FAILED", "KILLED") else None


def _tracked(run: Any) -> TrackedRun:
    info = run.info
    return TrackedRun(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        start=info.start_time / 1000,
        end=ended(info.status, info.end_time),
    )
