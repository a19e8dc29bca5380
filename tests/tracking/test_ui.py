import socket
import sys

import pytest

from harness.errors import UserError
from harness.tracking.ui import open_ui, ui_command


def test_the_command_serves_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ui_command("sqlite:///mlflow.db", 5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/mlflow.db"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"


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
