"""Real trainings of a tiny model in this process, with the real shipper beside them and a store that is of no use."""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest
from training.tiny import make_shapes, prepared_run, tiny_backbone

from harness.launching import job
from harness.launching.ends import STOPPED
from harness.launching.job import run_attempt
from harness.run_log import merged_rows, read_log
from harness.run_state import State, read_state
from harness.tracking.shipment import ship
from harness.training import loop

from .servers import Proxy, free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(autouse=True)
def tiny():
    """A small model, and the signal handlers put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    with tiny_backbone():
        yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=["hang", "500", "nobody"])
def store(request):
    if request.param == "nobody":
        yield f"http://127.0.0.1:{free_port()}"
        return
    proxy = Proxy(free_port(), lambda path: request.param)
    yield proxy.address
    proxy.close()


def test_training_goes_its_way(tmp_path, shapes, uri, points, store, monkeypatch):
    """It ends well, and `ship` (harness sync) brings everything to a store that is there."""
    monkeypatch.setattr(job, "_wait_for_shipper", lambda shipper, patient: (shipper.kill(), shipper.wait()))
    run = prepared_run(tmp_path, shapes, epochs=1)
    assert run_attempt(run.paths.folder, store) == 0
    assert read_state(run.paths).state == State.FINISHED
    shipped = ship(run.paths, uri)
    found = points(uri, shipped.run_id)
    trained = [row for row in merged_rows(run.paths) if row["mode"] == "train"]
    assert [(step, value) for key, step, _, value in found if key == "train/loss"] == [
        (row["step"], row["loss"]) for row in trained
    ]
    samples = read_log(run.paths.attempt(1) / "system-0.json")
    assert len(samples) >= 1
    assert len([point for point in found if point[0] == "system/cpu_utilization_percentage"]) == len(samples)


def test_a_signal_waits_two_seconds_for_the_shipper_at_most(tmp_path, shapes, store, monkeypatch):
    iterate, count = loop.iterate, itertools.count(1)

    def wrapped(*arguments, **options):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(*arguments, **options)

    started, real = [], job._start_shipper
    monkeypatch.setattr(loop, "iterate", wrapped)
    monkeypatch.setattr(job, "_start_shipper", lambda *given: started.append(real(*given)) or started[0])
    run = prepared_run(tmp_path, shapes, epochs=1)
    assert run_attempt(run.paths.folder, store) == STOPPED
    waited = time.time() - read_state(run.paths).updated
    started[0].kill()
    started[0].wait()
    assert read_state(run.paths).state == State.KILLED
    assert waited < 2 + 3  # and the noise of a busy machine
