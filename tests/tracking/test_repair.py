import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest

from harness.files import write_json
from harness.processes import start_time
from harness.run_state import RunState, State
from harness.tracking.query import runs
from harness.tracking.repair import repair
from harness.tracking.shipment import ship

from .folders import START, attempt_row, finished, folder, set_state, train_row, write_rows


@pytest.fixture
def killed(tmp_path, uri):
    """A run that MLflow shows as running, and whose process was killed -9."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), train_row(10)])
    state = RunState(
        state=State.RUNNING,
        attempt=1,
        host=socket.gethostname(),
        pid=process.pid,
        started=start_time(process.pid),
        updated=START + 20,
    )
    write_json(paths.state, asdict(state))
    assert ship(paths, uri).status == "RUNNING"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return paths


def test_a_run_that_was_killed_is_put_right_by_who_looks_next(killed, uri):
    said = []
    assert runs(uri, "zoo")[0].status == "RUNNING"
    repair([killed], uri, said.append)
    (found,) = runs(uri, "zoo")
    assert (found.status, found.tags["harness.state"]) == ("FAILED", "FAILED")
    assert found.tags["harness.reason"] == "its process died without a word (killed, or out of memory)"
    assert found.end == START + 20
    assert said == []


def test_a_run_that_cannot_be_read_is_named(killed, uri, tmp_path):
    said = []
    broken = finished(tmp_path / "broken")
    broken.spec.write_text("{")
    repair([broken, killed], uri, said.append)
    assert runs(uri, "zoo")[0].status == "FAILED"
    assert len(said) == 1 and said[0].startswith(f"{broken.spec}: not JSON: ")


def test_a_store_that_is_away_costs_a_line(killed, uri, tmp_path):
    said = []
    (tmp_path / "mlflow.db").write_text("no database at all\n" * 100)
    repair([killed], uri, said.append)
    assert len(said) == 1 and said[0].endswith("MLflow shows runs as going on that are not; later: harness sync")


@pytest.mark.slow
def test_nothing_to_repair_asks_no_store(tmp_path, uri, monkeypatch):
    paths = finished(tmp_path)
    ship(paths, uri)
    monkeypatch.setattr("harness.tracking.repair.ship", pytest.fail)
    repair([paths], uri, pytest.fail)


@pytest.mark.slow
def test_runs_on_other_hosts_than_the_stores_wait_for_sync(tmp_path, uri, monkeypatch):
    ship(finished(tmp_path), uri)
    here = socket.gethostname()
    paths = folder(tmp_path / "later")
    set_state(paths, State.RUNNING)  # on node7
    for host in (here, "node7"):
        said = []
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        repair([paths], uri, said.append)
        assert said == [
            f"only {here} opens {tmp_path}/mlflow.db: `harness sync` there brings the runs on other hosts to MLflow"
        ]
