"""Reading many runs from a server: a few requests at once, whose JSON is taken as it is.

MLflow's client makes protobuf messages of an answer, and entities of those, in many times the time of reading it.
"""

import json
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from harness.tracking.query import Curve, TrackedRun, ended
from harness.tracking.store import NOTE, ROLE, Store, StoreError, shown

if TYPE_CHECKING:
    from requests import Response

SEARCH = "/api/2.0/mlflow/runs/search"
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
TOGETHER = 4
"""Requests at once: MLflow's server has so many workers unless told otherwise."""
PAGE = 50
"""Runs in one answer, each of which must come before the client gives up, even where one worker makes all of them."""
AT_ONCE = 75
"""Runs in one request for points, whose line may have 4094 characters."""
MOST = 25_000
"""Points in one such answer."""

QUERY = re.compile(r"\?metric_key=\S*")
"""In an error's text: so long that nobody would see the end."""


class Page(NamedTuple):
    """One answer of a search."""

    runs: list[TrackedRun]
    next: str  # the token of the page after it; empty after the last one


def runs(store: Store, experiment_id: str, *, besides: Collection[str] = (), deleted: bool = False) -> list[TrackedRun]:
    """The runs of an experiment, of several of one key all; or those that were deleted. Their notes, texts for MLflow's

    pages, are left out.

    besides: the ids of runs that are not wanted.
    """
    wanted = [f"tags.`{ROLE}` = 'run'"]
    if besides:
        wanted.append(f"attributes.run_id NOT IN ({','.join(map(repr, besides))})")
    question = {
        "experiment_ids": [experiment_id],
        "filter": " and ".join(wanted),
        "run_view_type": "DELETED_ONLY" if deleted else "ACTIVE_ONLY",
        "max_results": PAGE,
    }

    def page(token: str) -> Page:
        answer = _ask(store, SEARCH, "POST", json=question | ({"page_token": token} if token else {}))
        found = _content(store, answer)
        return Page([_tracked(run) for run in found.get("runs", ())], found.get("next_page_token", ""))

    return [run for found in pages(page) for run in found.runs]


def pages(page: Callable[[str], Page]) -> Iterator[Page]:
    """All pages of a search, the first one's token being empty; a few at once where tokens are MLflow's own, which say

    how many results come before a page.
    """
    found = page("")
    yield found
    tokens = map(_token, count(PAGE, PAGE))
    if found.next != _token(PAGE):
        while found.next:
            found = page(found.next)
            yield found
        return
    with ThreadPoolExecutor(TOGETHER) as pool:
        waiting = deque(pool.submit(page, token) for token in islice(tokens, TOGETHER))
        while waiting:
            found = waiting.popleft().result()
            yield found
            if found.next:
                waiting.append(pool.submit(page, next(tokens)))


def histories(store: Store, run_ids: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, Curve]] | None:
    """All (step, value) of metrics of many runs, as MLflow's pages ask for them: a few answers, not one a run.

    None where the server does not know how.
    """
    found: dict[str, dict[str, Curve]] = {run_id: {key: [] for key in keys} for run_id in run_ids}
    chunks = [run_ids[start : start + AT_ONCE] for start in range(0, len(run_ids), AT_ONCE)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        for points in pool.map(lambda asked: _points(store, *asked), [(key, ids) for key in keys for ids in chunks]):
            if points is None:
                return None
            for point in points:
                found[point["run_id"]][point["key"]].append((point["step"], point["value"]))
    return {run_id: {key: sorted(curve) for key, curve in curves.items()} for run_id, curves in found.items()}


def _points(store: Store, key: str, run_ids: Sequence[str]) -> list[dict[str, Any]] | None:
    """All points of a metric of these runs, where an answer is cut short by halves of them."""
    answer = _ask(store, BULK, "GET", params=[("metric_key", key), *(("run_id", run_id) for run_id in run_ids)])
    if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return None
    points: list[dict[str, Any]] = _content(store, answer)["metrics"]
    if len(points) < MOST or len(run_ids) == 1:
        return points
    halves = (_points(store, key, half) for half in (run_ids[::2], run_ids[1::2]))
    return [point for half in halves for point in half or ()]


def _ask(store: Store, endpoint: str, method: str, **content: Any) -> "Response":
    """A server's answer, with the credentials, patience and retries of MLflow's client."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.rest_utils import http_request

    credentials = store.client._tracking_client.store.get_host_creds()
    try:
        answer: Response = http_request(credentials, endpoint, method, raise_on_status=False, **content)
    except MlflowException as error:
        raise MlflowException(QUERY.sub("", str(error))) from error
    return answer


def _content(store: Store, answer: "Response") -> dict[str, Any]:
    """What an answer says. Raises MlflowException for what is no success, StoreError for what is not MLflow's."""
    if answer.status_code != HTTPStatus.OK:
        from mlflow.utils.rest_utils import verify_rest_response

        verify_rest_response(answer, urlsplit(answer.url).path)
    try:
        found = json.loads(answer.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"tracking store {shown(store.uri)}: no answer of MLflow's: {answer.text[:60]!r}")
    return found


def _tracked(run: Mapping[str, Any]) -> TrackedRun:
    info, data = run["info"], run.get("data", {})
    return TrackedRun(
        run_id=info["run_id"],
        name=info["run_name"],
        status=info["status"],
        tags={key: text for key, text in _values(data, "tags") if key != NOTE},
        params=dict(_values(data, "params")),
        metrics={key: float(number) for key, number in _values(data, "metrics")},  # "NaN" is a text there
        start=int(info["start_time"]) / 1000,
        end=ended(info["status"], int(info.get("end_time", 0))),
    )


def _values(data: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """Key and value of each tag, param or newest metric; a key is held once, however many runs have it."""
    return ((sys.intern(entry["key"]), entry.get("value", "")) for entry in data.get(kind, ()))


def _token(offset: int) -> str:
    from mlflow.utils.search_utils import SearchUtils

    return str(SearchUtils.create_page_token(offset), "ascii")
