"""The shipper against a real MLflow server on the loopback address, which is killed and comes back."""

import json
import subprocess
import sys
import urllib.request

import pytest

from harness.files import read_json
from harness.runs import State
from harness.tracking.query import runs
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
    train_row,
    val_row,
    write_rows,
)
from .servers import Server

pytestmark = pytest.mark.slow


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
