import socket

import pytest

from harness.files import read_json
from harness.run_state import State
from harness.tracking import shipper
from harness.tracking.home import ForeignStore, claim, home, home_file, require_home
from harness.tracking.query import runs
from harness.tracking.shipment import ship

from .folders import attempt_row, finished, folder, set_state, train_row, write_rows


@pytest.fixture
def on(monkeypatch):
    """Be on another host from now on."""
    return lambda name: monkeypatch.setattr(socket, "gethostname", lambda: name)


def test_the_first_host_is_the_home(tmp_path, on):
    file = tmp_path / "new" / "mlflow.db"
    assert home(file) is None
    on("login")
    claim(file)
    on("node7")
    claim(file)
    assert home(file) == "login"
    assert [path.name for path in file.parent.iterdir()] == ["mlflow.db.host"]
    with pytest.raises(
        ForeignStore, match=r"only login opens this SQLite file \(this is node7\); now run there: harness"
    ):
        require_home(file)
    home_file(file).unlink()  # as the message says
    require_home(file)
    assert home(file) == "node7"


def test_a_shipper_on_another_host_leaves_the_store_alone(tmp_path, uri, on, capsys):
    on("login")
    runs_before = finished(tmp_path)
    ship(runs_before, uri)
    paths = folder(tmp_path / "later")
    write_rows(paths, 1, [attempt_row(1), train_row(1)])
    set_state(paths, State.RUNNING)
    file = tmp_path / "mlflow.db"
    content = file.read_bytes()
    on("node7")
    assert shipper.main([str(paths.folder), "--uri", uri]) == 2
    said = capsys.readouterr().err
    assert said.startswith("shipper: tracking store sqlite:///") and said.count("\n") == 1
    assert "only login opens this SQLite file (this is node7); now run there: harness sync" in said
    assert file.read_bytes() == content
    assert not paths.tracking.exists() or read_json(paths.tracking)["run_id"] is None
    with pytest.raises(ForeignStore):
        runs(uri, "zoo")
    on("login")
    assert ship(paths, uri).status == "RUNNING"
    assert len(runs(uri, "zoo")) == 1  # the same key: the newest counts
