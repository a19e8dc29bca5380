"""What the tests of studies share."""

from pathlib import Path

import pytest
from launching.conftest import no_shipper, run, signals, tiny  # noqa: F401 (fixtures)
from training.tiny import make_shapes


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images: 12 to train on, 4 to test on."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")
