"""The shipper against a real MLflow server on the loopback address, which is killed and comes back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from harness.files import read_json
from harness.runs import State
from harness.tracking.query import runs
from harness.tracking.shipper import ship
from harness.tracking.store import StoreError, environment
from harness.tracking.ui import ui_command

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

pytestmark = pytest.mark.slow


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow ui` on a store, in a process group of its own."""

    def __init__(self, store, port, folder):
        self.command, self.port, self.folder = ui_command(store, port), port, folder

    def start(self):
        settings = {**os.environ, **environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            where = self.folder / "elsewhere"
            self.process = subprocess.Popen(
                self.command, env=settings, stdout=log, stderr=log, start_new_session=True, cwd=where
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail((self.folder / "server.log").read_text()[-2000:])

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(uri, port, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    running = Server(uri, port, tmp_path)
    running.start()
    yield running
    if running.process.poll() is None:
        running.kill()


def test_a_server_shows_the_artifacts_of_runs_that_were_shipped_without_it(tmp_path, uri, server):
    shipped = ship(finished(tmp_path), uri)
    page = f"http://127.0.0.1:{server.port}/get-artifact?run_uuid={shipped.run_id}&path=per_class.csv"
    with urllib.request.urlopen(page) as answer:
        assert answer.read().startswith(b"id,name,instances,bbox,segm\n1,person")


def test_a_server_that_is_killed_and_comes_back(tmp_path, uri, points, server, capfd):
    address = f"http://127.0.0.1:{server.port}"
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
