"""The shipper against a real MLflow server on the loopback address, which is killed and comes back."""

import json
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from itertools import chain, repeat

import pytest
from mlflow import MlflowClient

from harness.files import read_json
from harness.run_state import State
from harness.tracking import fields, query, reading, rest
from harness.tracking.query import runs
from harness.tracking.reading import read
from harness.tracking.shipment import ship
from harness.tracking.store import StoreError

from .folders import (
    RESULT,
    TRAIN_VALUES,
    VAL_VALUES,
    attempt_row,
    finish,
    finished,
    folder,
    set_state,
    spec,
    train_row,
    val_row,
    write_rows,
)
from .servers import Proxy, Server

pytestmark = pytest.mark.slow
CURVES = ("val/epoch", "val/bbox_mAP", "val/never")


@pytest.fixture
def server(uri, tmp_path):
    running = Server(uri, tmp_path)
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def several(tmp_path_factory, empty_store):
    """A server whose store has five runs of "zoo", the last of which has only begun."""
    root = tmp_path_factory.mktemp("several")
    shutil.copy(empty_store, root / "mlflow.db")
    running = Server(f"sqlite:///{root}/mlflow.db", root)
    for paths in (*(finished(root / "runs", spec(seed=seed)) for seed in range(4)), _begun(root)):
        ship(paths, running.store)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def proxy(several):
    """A proxy before that server; `fault` is set by the test."""
    running = Proxy(several.port, lambda path: "")
    yield running
    running.close()


def _begun(root):
    begun = folder(root / "runs", spec(seed=9))
    write_rows(begun, 1, [attempt_row(1), train_row(1, loss=float("nan"), acc=float("inf"))])
    set_state(begun, State.RUNNING)
    return begun


def plain(found):
    """What is known of runs as one text."""

    def one(run):
        parts = (sorted(run.tags.items()), sorted(run.params.items()), sorted(run.metrics.items()))
        return run.run_id, run.name, run.status, run.start, run.end, *parts, sorted(run.history.items())

    return repr(sorted(map(one, found)))


def test_a_server_shows_the_artifacts_of_runs_that_were_shipped_without_it(tmp_path, uri, server):
    shipped = ship(finished(tmp_path), uri)
    page = f"{server.address}/get-artifact?run_uuid={shipped.run_id}&path=per_class.csv"
    with urllib.request.urlopen(page) as answer:
        assert answer.read().startswith(b"id,name,instances,bbox,segm\n1,person")


def test_what_was_read_from_a_server_is_not_asked_for_again(tmp_path, uri, server, monkeypatch):
    """As from the store itself; then three requests more: for what was deleted, what is gone for good, what is new."""
    runs_of = [finished(tmp_path / "runs", spec(seed=seed)) for seed in range(4)]
    for paths in runs_of[:3]:
        ship(paths, uri)
    ship(_begun(tmp_path), uri)
    cache, asked = tmp_path / "cache", []
    whole = rest.histories
    monkeypatch.setattr(reading, "history", lambda *of: pytest.fail("a run was asked for its curve by itself"))
    monkeypatch.setattr(
        rest, "histories", lambda store, ids, keys: asked.append((len(ids), *keys)) or whole(store, ids, keys)
    )

    def look():
        asked.clear()
        return plain(read(server.address, "zoo", CURVES, cache=cache))

    def truth():
        return plain(read(uri, "zoo", CURVES))

    assert look() == truth() and asked == [(4, *CURVES)]
    assert look() == truth() and asked == [(3, "harness/settled"), (0, *CURVES)]
    ship(runs_of[3], uri)
    tags = fields.tags
    monkeypatch.setattr(fields, "tags", lambda seen: tags(seen) | {"harness.codes": "told by newer code"})
    ship(runs_of[2], uri)
    first, second = (read_json(paths.tracking)["run_id"] for paths in runs_of[:2])
    MlflowClient(server.address).delete_run(first)
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store, store:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            store.execute(f"delete from {table} where run_uuid = ?", (second,))
    found = look()
    assert found == truth() and first not in found and second not in found and "told by newer code" in found
    assert asked[1:] == [(1, *CURVES)]
    kept = [file.read_bytes() for file in cache.iterdir()]
    server.kill()
    with pytest.raises(StoreError, match=f"^tracking store {server.address}: ") as error:
        read(server.address, "zoo", CURVES, cache=cache)
    assert "\n" not in str(error.value)
    assert [file.read_bytes() for file in cache.iterdir()] == kept


def test_pages_and_points_that_come_in_many_answers(several, proxy, monkeypatch):
    """As from the store itself, whatever runs an answer may hold, and whatever the server knows how to give at once."""
    address, truth = proxy.address, plain(read(several.store, "zoo", CURVES))
    monkeypatch.setattr(rest, "PAGE", 2)
    monkeypatch.setattr(rest, "AT_ONCE", 2)
    monkeypatch.setattr(rest, "MOST", 3)  # an answer of two runs with two points each is one that was cut short
    assert plain(read(address, "zoo", CURVES)) == truth
    proxy.fault = lambda path: "404" if path.startswith(rest.BULK) else ""
    assert plain(read(address, "zoo", CURVES)) == truth
    store, experiment_id = query.find(address, "zoo")
    besides = [f"{number:032x}" for number in range(reading.SPARED)]
    assert len(rest.runs(store, experiment_id, besides=besides)) == 5


@pytest.mark.parametrize("request_for", [rest.SEARCH, rest.BULK])
def test_a_server_that_fails_in_the_middle(proxy, tmp_path, monkeypatch, request_for):
    """Once: nobody sees it. For good: one line, which says what, and no file."""
    monkeypatch.setattr(rest, "PAGE", 2)
    said = iter([])
    proxy.fault = lambda path: next(said, "") if path.startswith(request_for) else ""
    said = iter(["", "429"])
    assert len(read(proxy.address, "zoo", CURVES)) == 5 and proxy.faults == 1
    for fault, word in (("429", "429"), ("503", "503"), ("cut", "Connection aborted")):
        said = chain([""], repeat(fault))
        with pytest.raises(StoreError) as error:
            read(proxy.address, "zoo", CURVES, cache=tmp_path / "cache")
        line = str(error.value)
        assert line.startswith(f"tracking store {proxy.address}: ") and word in line and "\n" not in line, line
        assert "run_id=" not in line  # of 75 runs nobody would see the end
        assert not (tmp_path / "cache").exists()


def test_a_server_that_is_killed_and_comes_back(tmp_path, uri, points, server, capfd):
    address = server.address
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), train_row(10, loss=float("inf"))])
    set_state(paths, State.RUNNING)
    first = ship(paths, address)
    assert (first.status, first.points) == ("RUNNING", TRAIN_VALUES)

    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", address]
    follower = subprocess.Popen([*command, "--interval", "0.2"], stderr=subprocess.PIPE, text=True)
    server.kill()
    write_rows(paths, 1, [train_row(step) for step in range(20, 201, 10)])
    with pytest.raises(StoreError, match=f"^tracking store {address}: "):
        ship(paths, address)
    assert follower.poll() is None  # goes on trying
    server.start()
    write_rows(paths, 1, [val_row(1), val_row(2)])
    finish(paths)
    _, said = follower.communicate(timeout=150)
    assert follower.returncode == 0, said

    found = points(uri, first.run_id)
    pairs = [point[:2] for point in found]
    assert len(set(pairs)) == len(pairs) == 20 * TRAIN_VALUES + 2 * VAL_VALUES + RESULT
    assert read_json(paths.tracking)["run_id"] == first.run_id
    with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/artifacts/list?run_id={first.run_id}") as answer:
        assert "per_class.csv" in {file["path"] for file in json.load(answer)["files"]}
    assert (tmp_path / "mlartifacts").is_dir()  # beside the store, not in the server's working folder
    run = runs(address, "zoo")[0]
    assert (run.status, run.metrics["val/bbox_mAP"]) == ("FINISHED", 0.2)
    assert run.files["checkpoint"]["size"] == 7
