import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.tracking.query import runs
from harness.tracking.shipment import ship
from harness.tracking.store import Store, StoreError, absolute, answering, database, shown

from .folders import finished, spec

SECRET = "https://anna:s3cret@tracking.example:5000/x"


def test_a_relative_sqlite_path_means_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert database("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert database("http://localhost:5000") is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///runs", "/runs", ""])
def test_what_is_no_store(uri):
    with pytest.raises(UserError, match=r"expected sqlite:///FILE or the http\(s\):// address of a server"):
        absolute(uri)


def test_credentials_are_not_shown():
    assert shown(SECRET) == "https://tracking.example:5000/x"
    assert shown("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"
    with pytest.raises(StoreError) as caught, answering(SECRET):
        raise ConnectionError(f"cannot reach {SECRET}\nsecond line")
    assert str(caught.value) == (
        "tracking store https://tracking.example:5000/x: cannot reach https://tracking.example:5000/x"
    )


def test_parents_and_children_are_found_again(uri):
    store = Store(uri)
    parent = store.parent_run("zoo", "Two cells.")
    assert Store(uri).parent_run("zoo", "Two cells.") == parent
    assert store.client.get_run(parent).data.tags["mlflow.note.content"] == "Two cells."
    experiment = store.client.get_experiment_by_name("zoo")
    assert experiment.tags["mlflow.note.content"] == "Two cells."
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    child = store.child_run(spec(), "m1", {}, 5.0)
    assert store.child_run(spec(), "m1", {}, 6.0) == child
    assert store.child_run(spec(seed=1), "m1", {}, 5.0) != child
    store.client.update_run(child, name="renamed")
    assert store.child_run(spec(), "m1", {}, 5.0) == child


@pytest.mark.slow
def test_of_runs_created_together_the_oldest_wins(uri, monkeypatch):
    """Another process creates the parent between this one's search and its own creation."""
    store = Store(uri)
    real, others = store._marked, []

    def marked(experiment_id, mark):
        found = real(experiment_id, mark)
        if not others:
            others.append(store.client.create_run(experiment_id, start_time=1, tags=dict(mark)).info.run_id)
        return found

    monkeypatch.setattr(store, "_marked", marked)
    assert store.parent_run("zoo", "") == others[0]
    assert real(store.experiment_id("zoo"), {"harness.role": "experiment"}) == others


@pytest.mark.slow
def test_children_of_a_parent_that_did_not_win_are_moved(tmp_path, uri):
    """A parent with an earlier start (of a host whose clock is behind) arrives when this one has children already."""
    first = ship(finished(tmp_path), uri)
    store = Store(uri)
    experiment = store.experiment_id("zoo")
    mark = {"harness.role": "experiment", "harness.experiment": "zoo"}
    late = store.client.create_run(experiment, start_time=1, tags=mark).info.run_id
    second = ship(finished(tmp_path, spec(seed=1)), uri)
    parents = {store.client.get_run(shipped.run_id).data.tags["mlflow.parentRunId"] for shipped in (first, second)}
    assert parents == {late}
    assert len(store.client.search_runs([experiment])) == 3  # the parent that lost is gone


@pytest.mark.slow
def test_a_parent_has_the_status_of_its_children(uri):
    store = Store(uri)
    parent = store.parent_run("zoo", "")
    children = [store.child_run(spec(seed=seed), "m", {"mlflow.parentRunId": parent}, 1.0) for seed in range(2)]
    expected = [("FINISHED", "RUNNING"), ("FAILED", "FAILED"), ("KILLED", "KILLED"), ("FINISHED", "FINISHED")]
    for index, (status, of_parent) in enumerate(expected):
        store.client.set_terminated(children[index > 0], status, 1000 * (index + 1))
        store.settle_parent("zoo", parent, "")
        info = store.client.get_run(parent).info
        assert info.status == of_parent
    assert info.end_time == 4000


@pytest.mark.slow
def test_a_deleted_experiment_says_how_to_restore_it(uri):
    store = Store(uri)
    number = store.experiment_id("zoo")
    store.client.delete_experiment(number)
    with pytest.raises(UserError, match=rf"'zoo' was deleted there; restore it .*--experiment-id {number}\)"):
        store.experiment_id("zoo")


@pytest.mark.slow
def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database at all\n" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        Store(f"sqlite:///{tmp_path}/mlflow.db")


SHIP = """
import sys
from pathlib import Path
from harness.run_paths import RunPaths
from harness.tracking.shipper import follow
sys.exit(0 if follow(RunPaths(Path(sys.argv[1])), sys.argv[2], interval=0.5) else 1)
"""


@pytest.mark.slow
def test_eight_processes_at_once_on_a_fresh_store(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    folders = [finished(tmp_path, spec(seed=seed)).folder for seed in range(8)]
    started = [
        subprocess.Popen([sys.executable, "-c", SHIP, str(folder), uri], stderr=subprocess.PIPE, text=True)
        for folder in folders
    ]
    errors = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 8, errors
    found = runs(uri, "zoo")
    assert sorted(run.tags["harness.seed"] for run in found) == [str(seed) for seed in range(8)]
    assert {run.status for run in found} == {"FINISHED"}
    assert len({run.tags["mlflow.parentRunId"] for run in found}) == 1
    store = Store(uri)
    everything = store.client.search_runs([store.experiment_id("zoo")])
    assert len(everything) == 9


def test_a_writer_killed_in_the_middle_leaves_a_store_that_opens(uri):
    file = database(uri)
    killed = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('pragma cache_size = 2')\n"
        "connection.execute('begin')\n"
        "connection.execute('create table junk (text)')\n"
        "connection.executemany('insert into junk values (?)', [('x' * 1000,)] * 1000)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(file)], check=False).returncode == -9
    assert file.with_name(f"{file.name}-journal").stat().st_size > 0
    assert Store(uri).experiment_id("zoo")


@pytest.mark.slow
def test_one_that_is_killed_while_it_makes_the_tables_leaves_none(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    killed = (
        "import os, sys\n"
        "from mlflow.store.db import utils\n"
        "utils._upgrade_db = lambda engine: os.kill(os.getpid(), 9)\n"  # after the first tables
        "from harness.tracking.store import Store\n"
        "Store(sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, uri], check=False).returncode == -9
    assert not (tmp_path / "new" / "mlflow.db").exists()
    assert Store(uri).experiment_id("zoo")
