import math
import os
import random
import subprocess
import sys
import time

import pytest

from harness import leases
from harness.errors import UserError
from harness.files import read_json
from harness.run_paths import RunPaths
from harness.run_state import State
from harness.tracking import shipment, shipper
from harness.tracking.points import window
from harness.tracking.shipment import ship
from harness.tracking.shipper import follow, follow_all
from harness.tracking.store import Store, StoreError

from .folders import (
    RESULT,
    START,
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


def twice(points):
    """The (key, step) pairs that occur more than once."""
    pairs = [point[:2] for point in points]
    return sorted({pair for pair in pairs if pairs.count(pair) > 1})


def test_a_finished_run_in_mlflow(tmp_path, uri, points):
    paths = finished(tmp_path)
    shipped = ship(paths, uri)
    expected = 20 * TRAIN_VALUES + 2 * VAL_VALUES + RESULT
    assert shipped is not None and shipped.points == expected
    assert len(points(uri, shipped.run_id)) == expected

    client = Store(uri).client
    run = client.get_run(shipped.run_id)
    assert run.info.run_name == "mask_rcnn_r50_caffe_fpn_1x_coco seed 0"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1000 * START, 1000 * (START + 500))
    assert run.data.params["axis.backbone"] == "R-50"
    assert run.data.params["epochs"] == "2"
    assert run.data.metrics["val/bbox_mAP"] == 0.2
    assert run.data.metrics["train/loss"] == 1 / 200
    assert run.data.metrics["memory_gb"] == 4
    assert run.data.tags["harness.key"] == spec().key
    assert run.data.tags["harness.git_dirty"] == "false"  # of result.json, not of the first line of the journal
    assert run.data.tags["harness.version.cuda"] == "12.4"
    inputs = {(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs}
    assert inputs == {("coco2017-train", "a" * 36, "training"), ("coco2017-val", "b" * 36, "validation")}

    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "zoo"
    description, _, table = parent.data.tags["mlflow.note.content"].split("\n\n")
    assert description == "Two cells."
    assert table.endswith("| mask_rcnn_r50_caffe_fpn_1x_coco seed 0 | FINISHED | 20.0 | 10.0 |")
    assert (parent.info.status, parent.info.end_time) == ("FINISHED", run.info.end_time)


@pytest.mark.slow
def test_artifacts_of_a_finished_run(tmp_path, uri):
    shipped = ship(finished(tmp_path), uri)
    client = Store(uri).client
    found = {entry.path for entry in client.list_artifacts(shipped.run_id)}
    names = {"config.json", "log.json", "curves.svg", "evaluation.json", "result.json", "per_class.csv", "predictions"}
    assert found == names
    assert [entry.path for entry in client.list_artifacts(shipped.run_id, "predictions")] == ["predictions/sheet.png"]
    assert shipped.artifacts == len(names)
    assert client.get_run(shipped.run_id).info.artifact_uri.startswith((tmp_path / "mlartifacts" / "zoo").as_uri())


@pytest.mark.slow
def test_shipping_again_sends_nothing(tmp_path, uri, points):
    paths = finished(tmp_path)
    shipped = ship(paths, uri)
    before = points(uri, shipped.run_id)
    assert ship(paths, uri) is None
    assert points(uri, shipped.run_id) == before


def test_the_journal_grows_while_it_is_shipped(tmp_path, uri, points):
    paths = folder(tmp_path)
    set_state(paths, State.QUEUED, attempt=0)
    first = ship(paths, uri)
    assert (first.status, first.points) == ("SCHEDULED", 0)
    set_state(paths, State.RUNNING)
    write_rows(paths, 1, [attempt_row(1), train_row(10)], cut='{"mode": "train", "st')
    second = ship(paths, uri)
    assert (second.status, second.points) == ("RUNNING", TRAIN_VALUES)
    assert ship(paths, uri) is None  # the half line is no row yet
    with paths.segment(1).open("r+") as file:  # the next start cuts it off
        file.truncate(paths.segment(1).stat().st_size - len('{"mode": "train", "st'))
    write_rows(paths, 1, [train_row(step) for step in range(20, 101, 10)] + [val_row(1)])
    third = ship(paths, uri)
    assert third.points == 9 * TRAIN_VALUES + VAL_VALUES
    assert first.run_id == second.run_id == third.run_id
    found = points(uri, first.run_id)
    assert len(found) == 10 * TRAIN_VALUES + VAL_VALUES
    assert not twice(found)
    timestamps = {step: timestamp for key, step, timestamp, _ in found if key == "train/loss"}
    assert timestamps == {step: 1000 * (START + step) for step in range(10, 101, 10)}


def test_a_run_goes_on_under_its_id_after_a_failure(tmp_path, uri, points, marks):
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), *(train_row(step) for step in range(10, 61, 10))])
    set_state(paths, State.FAILED, reason="disk full", updated=START + 70)
    first = ship(paths, uri)
    client = Store(uri).client
    failed = client.get_run(first.run_id)
    assert (failed.info.status, failed.info.end_time) == ("FAILED", 1000 * (START + 70))
    assert failed.data.tags["harness.reason"] == "disk full"

    # Attempt 2 resumes at 40 and logs 50 and 60 again, with other values: the first ones count.
    replayed = [train_row(step, loss=7.0, stamp=START + 100 + step) for step in range(50, 101, 10)]
    write_rows(paths, 2, [attempt_row(2, 40), *replayed])
    set_state(paths, State.RUNNING, attempt=2)
    second = ship(paths, uri)
    assert (second.run_id, second.points) == (first.run_id, 4 * TRAIN_VALUES)
    assert client.get_run(first.run_id).info.status == "RUNNING"
    finish(paths, attempt=2)
    ship(paths, uri)
    found = points(uri, first.run_id)
    assert not twice(found)
    losses = {step: value for key, step, _, value in found if key == "train/loss"}
    assert losses == {step: 1 / step if step <= 60 else 7.0 for step in range(10, 101, 10)}
    # A mark at the end of every batch, and of every attempt; its step is milliseconds since the start.
    assert [(step, value - START) for _, step, _, value in marks(uri, first.run_id)] == [
        (60_000, 60),
        (70_000, 70),
        (200_000, 200),
        (500_000, 500),
    ]
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert client.get_run(first.run_id).data.tags["harness.reason"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("answers", range(1, 8))
def test_killed_between_the_stores_answer_and_the_cursor(tmp_path, uri, points, monkeypatch, answers):
    """The process dies at the n-th time that it would write down what the store has just confirmed."""
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), *(train_row(step) for step in range(1, 151)), val_row(1)])
    finish(paths)
    written = 0

    def save(where, cursor, real=shipment.save):
        nonlocal written
        written += 1
        if written > answers:
            raise KeyboardInterrupt
        real(where, cursor)

    with monkeypatch.context() as patch:
        patch.setattr(shipment, "save", save)
        with pytest.raises(KeyboardInterrupt):
            ship(paths, uri)
    shipped = ship(paths, uri)
    found = points(uri, shipped.run_id)
    assert not twice(found)
    assert len(found) == 150 * TRAIN_VALUES + VAL_VALUES + RESULT
    where = [Store(uri).experiment_id("zoo")]
    assert len(Store(uri).client.search_runs(where)) == 2  # the run and its parent


@pytest.mark.slow
def test_a_superseded_attempt_that_still_writes_adds_nothing(tmp_path, uri, points):
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), *(train_row(step) for step in (10, 20))])
    set_state(paths, State.RUNNING)
    run_id = ship(paths, uri).run_id
    paths.attempt(2).mkdir()  # it has counted three rows
    write_rows(paths, 1, [train_row(30, loss=7.0)])
    set_state(paths, State.RUNNING, attempt=2)
    assert ship(paths, uri) is None
    write_rows(paths, 2, [attempt_row(2, 20) | {"journal": {"0001": 3}}, train_row(30)])
    write_rows(paths, 1, [train_row(40, loss=7.0)])
    ship(paths, uri)
    losses = [(step, value) for key, step, _, value in points(uri, run_id) if key == "train/loss"]
    assert losses == [(10, 1 / 10), (20, 1 / 20), (30, 1 / 30)]


@pytest.mark.slow
def test_a_lost_answer_is_sent_again_identically(tmp_path, uri, points, monkeypatch):
    """The store commits a batch, and the answer never arrives."""
    paths = finished(tmp_path)
    real = shipment._Shipment._send

    def send(self, batch):
        real(self, batch)
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(shipment._Shipment, "_send", send)
        with pytest.raises(StoreError, match=r"^tracking store sqlite:.*: reset by peer$"):
            ship(paths, uri)
    write_rows(paths, 1, [train_row(210)])  # and meanwhile the journal has grown
    shipped = ship(paths, uri)
    found = points(uri, shipped.run_id)
    assert not twice(found)
    assert len(found) == 21 * TRAIN_VALUES + 2 * VAL_VALUES + RESULT


@pytest.mark.slow
def test_a_lost_cursor_file_means_a_run_of_its_own(tmp_path, uri):
    paths = finished(tmp_path)
    first = ship(paths, uri)
    paths.tracking.unlink()
    assert ship(paths, uri).run_id != first.run_id


@pytest.mark.slow
def test_another_store_gets_everything_anew(tmp_path, uri, points, empty_store):
    paths = finished(tmp_path)
    first = ship(paths, uri)
    (tmp_path / "other").mkdir()
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    (tmp_path / "other" / "mlflow.db").write_bytes(empty_store.read_bytes())
    second = ship(paths, other)
    assert len(points(other, second.run_id)) == len(points(uri, first.run_id))
    back = ship(paths, uri)
    assert back.run_id == first.run_id
    assert not twice(points(uri, first.run_id))


@pytest.mark.slow
def test_infinite_and_nan_losses_arrive_as_nan(tmp_path, uri):
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), train_row(1, loss=math.inf), train_row(2, loss=math.nan)])
    set_state(paths, State.RUNNING)
    history = Store(uri).client.get_metric_history(ship(paths, uri).run_id, "train/loss")
    assert [math.isnan(point.value) for point in history] == [True, True]


@pytest.mark.slow
def test_one_shipper_at_a_time(tmp_path, uri):
    paths = finished(tmp_path)
    with leases.holding(paths.folder / "tracking.lease", patience=0):
        assert ship(paths, uri) is None
    assert ship(paths, uri) is not None


@pytest.mark.slow
def test_a_shipper_that_lost_its_lease_stops(tmp_path, uri, monkeypatch):
    paths = finished(tmp_path)
    real = shipment._Shipment._declare

    def declare(self):
        real(self)
        (paths.folder / "tracking.lease" / "00000099").write_text('{"expires": 0.0}')

    monkeypatch.setattr(shipment._Shipment, "_declare", declare)
    assert ship(paths, uri) is None
    assert not read_json(paths.tracking)["tags"]


def test_a_folder_that_is_no_run(tmp_path, uri):
    with pytest.raises(UserError, match=r"run\.json: no such file"):
        ship(RunPaths(tmp_path), uri)


def test_no_credentials_in_the_folder(tmp_path):
    from harness.tracking.cursor import load, save

    paths = folder(tmp_path)
    save(paths, load(paths, "https://anna:s3cret@tracking.example/x"))
    assert read_json(paths.tracking)["uri"] == "https://tracking.example/x"


@pytest.mark.slow
def test_follow_ends_soon_after_the_run(tmp_path, uri, points):
    paths = finished(tmp_path)
    started = time.monotonic()
    assert follow(paths, uri, interval=30)
    assert time.monotonic() - started < 10
    assert len(points(uri, read_json(paths.tracking)["run_id"])) == 20 * TRAIN_VALUES + 2 * VAL_VALUES + RESULT


@pytest.mark.slow
def test_follow_all_ships_runs_side_by_side_and_those_that_come_later(tmp_path, uri, points):
    """Three runs: the first goes on all the time, and neither a waiting nor a new one has to wait for its end."""
    runs = [folder(tmp_path, spec(seed=seed)) for seed in range(3)]
    for paths, state in zip(runs, (State.RUNNING, State.QUEUED, State.FINISHED), strict=True):
        write_rows(paths, 1, [attempt_row(1), train_row(1)])
        set_state(paths, state)
    rounds = []

    def find():
        rounds.append(1)
        if all(paths.tracking.exists() for paths in runs):
            for paths in runs:
                set_state(paths, State.KILLED)
        return runs if len(rounds) > 3 else runs[:2]

    assert follow_all(find, uri, interval=0.1)
    for paths in runs:
        assert len(points(uri, read_json(paths.tracking)["run_id"])) == TRAIN_VALUES


@pytest.mark.slow
def test_follow_tries_again_and_says_so_once(tmp_path, uri, monkeypatch, capsys):
    paths = finished(tmp_path)
    left = [StoreError("tracking store X: refused")] * 3
    real = shipper.ship

    def flaky(*arguments):
        if left:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(shipper, "ship", flaky)
    assert follow(paths, uri, interval=0.01)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "shipper: tracking store X: refused; trying again",
        "shipper: the store answers again, and is up to date",
    ]


def test_follow_gives_up_on_a_store_that_stays_away(tmp_path, monkeypatch, capsys):
    paths = finished(tmp_path)

    def refuse(*arguments):
        raise StoreError("tracking store X: refused")

    monkeypatch.setattr(shipper, "ship", refuse)
    monkeypatch.setattr(shipper, "PATIENCE", 0.1)
    assert not follow(paths, "sqlite:///x.db", interval=0.01)
    assert capsys.readouterr().err.splitlines()[-1].endswith("ship the rest later with: harness sync")


@pytest.mark.slow
def test_follow_leaves_with_the_process_that_started_it(tmp_path, uri):
    paths = folder(tmp_path)
    write_rows(paths, 1, [attempt_row(1), train_row(1)])
    set_state(paths, State.RUNNING)
    assert follow(paths, uri, interval=0.1, parent=os.getpid())  # this process's parent is another one
    assert read_json(paths.tracking)["segments"] == {"0001": 2}


@pytest.mark.slow
def test_a_shipper_killed_again_and_again_loses_nothing(tmp_path, uri, points):
    paths = folder(tmp_path)
    set_state(paths, State.RUNNING)
    write_rows(paths, 1, [attempt_row(1)])
    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", uri, "--interval", "0.05"]
    step, chance = 0, random.Random(0)
    for _ in range(4):
        before = paths.tracking.read_text() if paths.tracking.exists() else ""
        process = subprocess.Popen(command)
        while not paths.tracking.exists() or paths.tracking.read_text() == before:
            assert process.poll() is None
            step += 1
            write_rows(paths, 1, [train_row(step)])
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))  # it is at work: strike anywhere
        process.kill()
        process.wait()
    finish(paths)
    assert subprocess.run(command, timeout=120, check=False).returncode == 0
    found = points(uri, read_json(paths.tracking)["run_id"])
    assert not twice(found)
    assert {point[1] for point in found if point[0] == "train/loss"} == first_of_windows(step)


def first_of_windows(steps):
    """The first step of every window, by brute force."""
    return {step for step in range(1, steps + 1) if step == 1 or window(step) != window(step - 1)}
