"""Read what MLflow holds, as plain data."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from harness.errors import UserError
from harness.tracking.fields import joined
from harness.tracking.store import KEY, ROLE, Store, absolute, answering, database, pages, shown
from harness.wording import did_you_mean

Curve = list[tuple[int, float]]
"""(step, value) of a metric, by step."""
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
AT_ONCE = 75
"""Runs in one such request, whose line may have 4094 characters."""
MOST = 25_000
"""Points in one such answer."""


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
    return newest(search(store, experiment_id))


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


def search(
    store: Store, experiment_id: str, *, besides: Collection[str] = (), deleted: bool = False
) -> list[TrackedRun]:
    """The runs of an experiment, of several of one key all; or those that were deleted.

    besides: the ids of runs that are not wanted.
    """
    from mlflow.entities import ViewType

    wanted = [f"tags.`{ROLE}` = 'run'"]
    if besides:
        wanted.append(f"attributes.run_id NOT IN ({','.join(map(repr, besides))})")
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    with answering(store.uri):
        found = pages(store.client.search_runs, [experiment_id], " and ".join(wanted), view)
    return [_tracked(run) for run in found]


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


def histories(store: Store, run_ids: Sequence[str], key: str) -> dict[str, Curve] | None:
    """All (step, value) of a metric of many runs, as the pages of a server ask for them: a few answers, not one a run.

    None where the store is no server that knows how.
    """
    from mlflow.utils.rest_utils import http_request

    credentials = getattr(store.client._tracking_client.store, "get_host_creds", None)
    found: dict[str, Curve] = {run_id: [] for run_id in run_ids}
    waiting = [list(run_ids[start : start + AT_ONCE]) for start in range(0, len(run_ids), AT_ONCE)]
    while waiting:
        if credentials is None:
            return None
        ids = waiting.pop()
        asked = [("metric_key", key), *(("run_id", run_id) for run_id in ids)]
        with answering(store.uri):
            answer = http_request(credentials(), BULK, "GET", params=asked, raise_on_status=False)
        if answer.status_code != HTTPStatus.OK:
            return None
        points = answer.json()["metrics"]
        if len(points) >= MOST and len(ids) > 1:  # cut short
            waiting += [ids[::2], ids[1::2]]
            continue
        for point in points:
            found[point["run_id"]].append((point["step"], point["value"]))
    return {run_id: sorted(values) for run_id, values in found.items()}


def _existing(uri: str) -> Store:
    """The store, which is not created by asking."""
    file = database(uri)
    if file is not None and not file.exists():
        raise UserError(f"tracking store {shown(absolute(uri))}: no such file: nothing has been tracked there yet")
    return Store(uri)


def _tracked(run: Any) -> TrackedRun:
    info = run.info
    ended = info.status in ("FINISHED", "FAILED", "KILLED")
    return TrackedRun(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        start=info.start_time / 1000,
        end=info.end_time / 1000 if ended and info.end_time else None,
    )
