"""Servers and shippers that are slow, fail and die at any moment: every point arrives, and arrives once.

How often they die is HARNESS_TEST_KILLS; what was counted stands at the end of pytest's output.
"""

import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from harness.files import read_json
from harness.run_state import State
from harness.tracking.query import runs
from harness.tracking.shipment import ship
from harness.tracking.store import Store, StoreError

from .folders import (
    RESULT,
    TRAIN_VALUES,
    VAL_VALUES,
    attempt_row,
    finish,
    folder,
    set_state,
    spec,
    system_rows,
    train_row,
    val_row,
    write_rows,
)
from .servers import Proxy, Server, free_port

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HARNESS_TEST_KILLS", "6"))
STEPS = 390
"""Of every run here, logged at each: below 400 nothing is thinned, so all points are known by hand."""
SAMPLES = 20
EXPECTED = STEPS * TRAIN_VALUES + 3 * VAL_VALUES + 2 * SAMPLES + RESULT


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    """A server with several workers, for all tests but the one that kills its own; its store is `server.store`."""
    place = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, place / "mlflow.db")
    running = Server(f"sqlite:///{place}/mlflow.db", place, serve=True)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def proxy(server):
    """A proxy before the server; `fault` is set by the test."""
    running = Proxy(server.port, lambda path: "")
    yield running
    running.close()


def grow(paths, first, last):
    """The journal and the system metrics of steps first..last; epochs have 100 steps."""
    for step in range(first, last + 1):
        write_rows(paths, 1, [train_row(step), *([val_row(step // 100)] if step % 100 == 0 else [])])
        if step % 20 == 0 or step == STEPS:
            system_rows(paths, 1, [step])


def count(found):
    """(points lost, points twice) of a run's measurements."""
    pairs = [point[:2] for point in found]
    return EXPECTED - len(set(pairs)), len(pairs) - len(set(pairs))


def started(root, experiment, seed=0):
    paths = folder(root, spec(experiment=experiment, seed=seed))
    set_state(paths, State.RUNNING)
    write_rows(paths, 1, [attempt_row(1)])
    return paths


def test_answers_that_are_lost_after_the_commit(tmp_path, points, server, proxy, record_property):
    """The server does what it was asked to, and is cut off before it can say so: at every second request or so."""
    chance = random.Random(0)
    proxy.fault = lambda path: "cut" if chance.random() < 0.4 else ""
    paths = started(tmp_path, "cut")
    attempts = step = 0
    while True:
        attempts += 1
        assert attempts < 500
        if step < STEPS:
            grow(paths, step + 1, min(step + 30, STEPS))
            step = min(step + 30, STEPS)
        elif not paths.result.exists():
            finish(paths)
        try:
            shipped = ship(paths, proxy.address)
        except StoreError:
            continue
        if paths.result.exists() and shipped:
            break
    lost, twice = count(points(server.store, shipped.run_id))
    record_property("counts", f"{proxy.faults} answers cut off, {lost} points lost, {twice} points twice")
    assert (lost, twice) == (0, 0)
    assert proxy.faults >= 10
    store = Store(server.store)
    experiment = store.experiment_id("cut")
    assert len(store.client.search_runs([experiment])) == 2  # the run and its parent, created once
    assert len(store.client.search_logged_models([experiment])) == 1


@pytest.fixture
def mortal(tmp_path, uri):
    """A server of a test's own."""
    running = Server(uri, tmp_path)
    running.start()
    yield running
    running.kill()


def test_a_shipper_and_a_server_killed_at_random_moments(tmp_path, uri, points, mortal, record_property):
    chance, paths = random.Random(1), started(tmp_path, "kills")
    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", mortal.address]
    command += ["--interval", "0.05"]
    survived, step = {"shipper": 0, "server": 0}, 0
    for number in range(KILLS):
        before = paths.tracking.read_text() if paths.tracking.exists() else ""
        fresh = step + STEPS // KILLS
        grow(paths, step + 1, fresh)
        step = fresh
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not paths.tracking.exists() or paths.tracking.read_text() == before:  # until it is at work
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        if number % 3 == 2:
            mortal.kill()
            survived["server"] += 1
            mortal.start()
        process.kill()
        process.wait()
        survived["shipper"] += 1
    grow(paths, step + 1, STEPS)
    finish(paths)
    assert subprocess.run(command, timeout=300, check=False).returncode == 0
    run_id = read_json(paths.tracking)["run_id"]
    lost, twice = count(points(uri, run_id))
    kills = " and ".join(f"{number} kills of a {name}" for name, number in survived.items())
    record_property("counts", f"{kills} survived, {lost} points lost, {twice} points twice")
    assert (lost, twice) == (0, 0)
    assert runs(uri, "kills")[0].status == "FINISHED"


def test_errors_and_delays_cost_nothing_but_time(tmp_path, points, server, proxy, record_property):
    chance = random.Random(2)
    proxy.fault = lambda path: chance.choice(["500", 0.3, "", ""])
    paths = started(tmp_path, "slow")
    grow(paths, 1, STEPS)
    finish(paths)
    command = [sys.executable, "-m", "harness.tracking.shipper", str(paths.folder), "--uri", proxy.address]
    done = subprocess.run([*command, "--interval", "0.1"], timeout=300, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lost, twice = count(points(server.store, read_json(paths.tracking)["run_id"]))
    record_property("counts", f"{proxy.faults} errors and delays, {lost} points lost, {twice} points twice")
    assert (lost, twice) == (0, 0)


def test_a_server_that_comes_only_later(tmp_path, points, server):
    paths = started(tmp_path, "late")
    grow(paths, 1, STEPS)
    finish(paths)
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreError):
        ship(paths, nobody)
    shipped = ship(paths, server.address)  # harness sync, days later
    assert count(points(server.store, shipped.run_id)) == (0, 0)


def test_eight_processes_at_once_on_a_server(tmp_path, server):
    folders = []
    for seed in range(8):
        paths = started(tmp_path, "eight", seed)
        grow(paths, 1, 20)
        finish(paths)
        folders.append(paths.folder)
    command = [sys.executable, "-m", "harness.tracking.shipper", "--uri", server.address, "--interval", "0.5"]
    shippers = [subprocess.Popen([*command, str(path)], stderr=subprocess.PIPE, text=True) for path in folders]
    errors = [process.communicate(timeout=400)[1] for process in shippers]
    assert [process.returncode for process in shippers] == [0] * 8, errors
    found = runs(server.store, "eight")
    assert sorted(run.tags["harness.seed"] for run in found) == [str(seed) for seed in range(8)]
    assert len({run.tags["mlflow.parentRunId"] for run in found}) == 1
    store = Store(server.store)
    assert len(store.client.search_runs([store.experiment_id("eight")])) == 9
