"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of parity oracles and sample photos: $HARNESS_SHARED, or shared/ beside the project."""
    folder = Path(os.environ.get("HARNESS_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        message = f"needs the reference folder {folder} (set HARNESS_SHARED)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
