"""Waiting for a lease to be renewed."""

import time
from pathlib import Path


def wait_for_renewals(folder: Path, count: int = 3) -> None:
    """Return when the lease below `folder` has been renewed so often; fail after a minute."""
    deadline, seen = time.monotonic() + 60, set()
    while len(seen) <= count:
        assert time.monotonic() < deadline, f"renewed {len(seen) - 1} times"
        seen |= {path.read_text() for path in folder.rglob("0*") if path.is_file()}
        time.sleep(0.02)
