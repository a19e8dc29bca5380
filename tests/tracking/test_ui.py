import socket
import sys

import pytest

from harness.errors import UserError
from harness.tracking import ui
from harness.tracking.ui import Service, is_loopback, open_ui


def test_the_command_serves_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = Service(uri="sqlite:///mlflow.db", port=5001).command()
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/mlflow.db"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
    assert not {"--app-name", "--allowed-hosts"} & set(command)


def test_beyond_this_machine_the_server_answers_to_its_names(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    command = Service(uri="sqlite:////a/mlflow.db", host="0.0.0.0", port=5001, serve=True, locked=True).command()
    assert command[command.index("--app-name") + 1] == "harness"
    assert {"node7:5001", "10.*"} <= set(command[command.index("--allowed-hosts") + 1].split(","))
    assert "http://node7:5001" in command[command.index("--cors-allowed-origins") + 1].split(",")


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("node7", False)]
)
def test_loopback(host, alone):
    assert is_loopback(host) == alone


@pytest.mark.parametrize("given", [{}, {"MLFLOW_TRACKING_USERNAME": "anna"}])
def test_nobody_opens_a_store_to_everybody_by_mistake(tmp_path, monkeypatch, given):
    for part in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{part}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"everybody who reaches 0\.0\.0\.0 could read and change the store; set MLFLOW_TR"
    ):
        open_ui(f"sqlite:///{tmp_path}/mlflow.db", serve=True, host="0.0.0.0")
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_a_server(tmp_path):
    with pytest.raises(UserError, match="http://node7:5000 is a server; to start one, name its store"):
        open_ui("http://node7:5000", serve=True)


def test_a_server_is_only_named(tmp_path):
    said = []
    assert open_ui("https://anna:s3cret@tracking.example", say=said.append) == 0
    assert said == ["https://tracking.example is a server: open it in a browser\n"]


def test_no_store_to_show(tmp_path):
    with pytest.raises(UserError, match="nothing has been tracked there yet"):
        open_ui(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_taken_port(tmp_path):
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            open_ui(f"sqlite:///{tmp_path}/mlflow.db", port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine(tmp_path, host):
    (tmp_path / "x.db").touch()
    with pytest.raises(UserError, match=f"{host} is not an address of this machine; name another --host"):
        ui._is_free(host, 5000)
