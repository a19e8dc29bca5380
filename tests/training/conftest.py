"""A run that was trained once, for all tests that only look at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.launching.prepare import PreparedRun
from harness.run_state import State, write_state
from harness.training.outcome import write_outcome
from harness.training.session import Training
from training.tiny import make_shapes, prepared_run, run_to_end, tiny_backbone


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 12 to train on, 4 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture
def run(tmp_path: Path, shapes: Path) -> PreparedRun:
    """A run of 2 epochs of 3 iterations that has not started."""
    return prepared_run(tmp_path, shapes)


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    """Models have a backbone of four convolutions."""
    with tiny_backbone():
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Training:
    """A finished run with a tiny backbone; not to be changed."""
    torch.set_num_threads(1)
    run = prepared_run(tmp_path_factory.mktemp("trained"), shapes)
    write_state(run.paths, State.RUNNING, attempt=1)
    with tiny_backbone():
        training = run_to_end(run.paths, run.spec)
        write_outcome(training)
    write_state(run.paths, State.FINISHED, attempt=1)
    return training
