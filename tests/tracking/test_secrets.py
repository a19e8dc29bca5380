"""Planted secrets: they open the door, and are found nowhere afterwards."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from harness.errors import UserError
from harness.launching import job, local_queue, supervisor
from harness.settings import load_settings
from harness.tracking.query import runs
from harness.tracking.shipment import ship
from harness.tracking.store import StoreError

from .folders import finished, spec
from .servers import Server

TOKEN, PASSWORD = "t0ken-4711-planted", "p4ssword-4711-planted"
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGUSER", "PGPASSWORD")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No credentials to begin with, and none that stay."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def settings(tmp_path, uri):
    (tmp_path / "harness.toml").write_text(f'tracking_uri = "{uri}"\n')
    return load_settings(cwd=tmp_path, environ={"XDG_CONFIG_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("uri", "bare", "expected"),
    [
        (
            f"http://anna:{PASSWORD}@node7:5000/x",
            "http://node7:5000/x",
            {"MLFLOW_TRACKING_USERNAME": "anna", "MLFLOW_TRACKING_PASSWORD": PASSWORD},
        ),
        ("https://anna:a%40b@node7", "https://node7", {"MLFLOW_TRACKING_PASSWORD": "a@b"}),
        ("postgresql+psycopg2://anna:b@db/x", "postgresql+psycopg2://db/x", {"PGUSER": "anna", "PGPASSWORD": "b"}),
        ("http://node7:5000", "http://node7:5000", {}),
    ],
)
def test_a_password_goes_from_the_address_into_the_environment(tmp_path, uri, bare, expected):
    assert settings(tmp_path, uri).tracking_uri == bare
    assert {name: os.environ[name] for name in VARIABLES if name in os.environ}.items() >= expected.items()
    assert bool(expected) == any(name in os.environ for name in VARIABLES)


def test_a_store_that_takes_no_password_from_the_environment(tmp_path):
    with pytest.raises(UserError, match=r"harness\.toml:1: a password in the address of a mysql store") as caught:
        settings(tmp_path, f"mysql://anna:{PASSWORD}@db/x")
    assert PASSWORD not in str(caught.value)


@pytest.fixture
def locked(tmp_path, uri, monkeypatch):
    """A server that was started with a user name, a password and a token in its environment."""
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        patch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
        server = Server(uri, tmp_path, locked=True)
        server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_planted_secrets_are_found_nowhere(tmp_path, uri, locked, monkeypatch):
    """The real commands against a locked server, with the password in the address; then every file is searched."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{locked.address}/ajax-api/2.0/mlflow/experiments/search?max_results=1")
    with pytest.raises(StoreError, match=r"401 .*set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        runs(locked.address, "zoo")
    with_token, with_password = finished(tmp_path / "runs"), finished(tmp_path / "runs", spec(seed=1))
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
        assert ship(with_token, locked.address).status == "FINISHED"
    address = locked.address.replace("http://", f"http://anna:{PASSWORD}@")
    (tmp_path / "zoo.yaml").write_text("name: zoo\naxes: {backbone: [R-50]}\n")
    environment = {**os.environ, "HARNESS_TRACKING_URI": address, "HARNESS_RUN_ROOT": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "sync", "zoo.yaml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [run.status for run in runs(uri, "zoo")] == ["FINISHED"] * 2
    assert json.loads(with_password.tracking.read_text())["uri"] == locked.address
    searched = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"run.json", "tracking.json", "mlflow.db", "server.log", "config.json"} <= {file.name for file in searched}
    for secret in (TOKEN, PASSWORD):
        assert [file for file in searched if secret.encode() in file.read_bytes()] == []
        assert secret not in " ".join(locked.command) + done.stdout


def test_what_a_job_starts_has_no_password_in_its_command(tmp_path, monkeypatch):
    """Address, settings, shipper: what `ps` shows."""
    started = []
    monkeypatch.setattr(job.subprocess, "Popen", lambda command, **options: started.append(command))
    job._start_shipper(finished(tmp_path / "runs"), settings(tmp_path, f"http://anna:{PASSWORD}@node7").tracking_uri)
    supervisor.start_detached(
        local_queue.Home(tmp_path / "runs"),
        code=tmp_path / "code",
        jobs=1,
        threads=1,
        tracking_uri=settings(tmp_path, f"http://anna:{PASSWORD}@node7").tracking_uri,
    )
    assert len(started) == 2
    for command in started:
        assert "http://node7" in command
        assert PASSWORD not in " ".join(command)
