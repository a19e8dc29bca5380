"""A folder with harness.toml, a tiny matrix and its shapes; and what an attempt in this process must not leave."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from training.tiny import make_shapes, prepared_run, tiny_backbone, write_place

from harness.launching import job, supervisor
from harness.launching.prepare import PreparedRun
from harness.matrix import Experiment, load_experiment
from harness.settings import Settings, load_settings


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 12 to train on, 4 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture
def tiny() -> Iterator[None]:
    """Models of this process have a backbone of four convolutions."""
    with tiny_backbone():
        yield


@pytest.fixture
def signals() -> Iterator[None]:
    """Signal handlers are put back."""
    numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def no_shipper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper is a process that does nothing."""
    monkeypatch.setattr(job, "_start_shipper", lambda *_: subprocess.Popen([sys.executable, "-c", ""]))


@pytest.fixture
def run(tmp_path: Path, shapes: Path, no_shipper: None) -> PreparedRun:
    """A run of 2 epochs of 3 iterations."""
    return prepared_run(tmp_path, shapes)


@pytest.fixture
def place(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Settings]:
    """Two cells; no supervisor is started."""
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)
    return load_experiment(write_place(tmp_path, shapes, multiscale="[false, true]")), load_settings(tmp_path, {})
