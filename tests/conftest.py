"""What all tests share."""

import os
import signal
from pathlib import Path
from typing import Any

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


def pytest_configure() -> None:
    """Ctrl-C interrupts what tests start, also where pytest itself was started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests that kill and cut counted: record_property("counts", TEXT)."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    for report in reports:
        for text in (text for name, text in report.user_properties if name == "counts"):
            terminalreporter.write_line(f"{report.nodeid.split('::')[-1]}: {text}")
