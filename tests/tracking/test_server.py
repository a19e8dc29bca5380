"""The shipper against a real MLflow server on the loopback address, which is killed and comes back."""

import json
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from harness.files import read_json
from harness.runs import State
from harness.tracking import query, reading
from harness.tracking.query import runs
from harness.tracking.reading import read
from harness.tracking.shipment import ship
from harness.tracking.store import NOTE, StoreError

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
from .servers import Server

pytestmark = pytest.mark.slow
CURVES = ("val/epoch", "val/bbox_mAP", "val/never")


@pytest.fixture
def server(uri, tmp_path):
    running = Server(uri, tmp_path)
    running.start()
    yield running
    running.kill()


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
    begun = folder(tmp_path / "runs", spec(seed=9))
    write_rows(begun, 1, [attempt_row(1), train_row(1, loss=float("nan"))])
    set_state(begun, State.RUNNING)
    ship(begun, uri)
    cache, asked = tmp_path / "cache", []
    whole = query.histories
    monkeypatch.setattr(reading, "history", lambda *of: pytest.fail("a run was asked for its curve by itself"))
    monkeypatch.setattr(
        reading, "histories", lambda store, ids, key: asked.append((len(ids), key)) or whole(store, ids, key)
    )

    def look():
        asked.clear()
        found = read(server.address, "zoo", CURVES, cache=cache)
        kept = [replace(run, tags={k: v for k, v in run.tags.items() if k != NOTE}) for run in found]
        return repr(sorted(map(plain, kept)))

    def plain(run):
        parts = (sorted(run.tags.items()), sorted(run.params.items()), sorted(run.metrics.items()))
        return run.run_id, run.name, run.status, run.start, run.end, *parts, sorted(run.history.items())

    def truth():
        return repr(sorted(map(plain, read(uri, "zoo", CURVES))))

    assert look() == truth() and asked == [(3, "val/epoch"), (3, "val/bbox_mAP"), (0, "val/never")]
    assert look() == truth() and asked == [
        (3, "train_seconds"),
        (0, "val/epoch"),
        (0, "val/bbox_mAP"),
        (0, "val/never"),
    ]
    ship(runs_of[3], uri)
    first, second = (read_json(paths.tracking)["run_id"] for paths in runs_of[:2])
    MlflowClient(server.address).delete_run(first)
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store, store:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            store.execute(f"delete from {table} where run_uuid = ?", (second,))
    found = look()
    assert found == truth() and first not in found and second not in found
    assert asked[1:] == [(1, "val/epoch"), (1, "val/bbox_mAP"), (0, "val/never")]
    kept = [file.read_bytes() for file in cache.iterdir()]
    server.kill()
    with pytest.raises(StoreError, match=f"^tracking store {server.address}: ") as error:
        read(server.address, "zoo", CURVES, cache=cache)
    assert "\n" not in str(error.value)
    assert [file.read_bytes() for file in cache.iterdir()] == kept


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
