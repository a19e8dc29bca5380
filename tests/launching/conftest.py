"""A folder with harness.toml, a tiny matrix and its shapes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from training.tiny import make_shapes, tiny_backbone


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 12 to train on, 4 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture
def tiny() -> Iterator[None]:
    """Models of this process have a backbone of four convolutions."""
    with tiny_backbone():
        yield
