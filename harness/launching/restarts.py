"""Whether a launcher may start another attempt by itself: only where attempts make progress.

Two attempts in a row without a newer checkpoint would fail a third time, too, and who knows how often. Whoever asks for
the run again (`harness submit --retry`, `harness train`) gets an attempt all the same: the cause may be gone.
"""

import os
from typing import Any

from harness.errors import UserError
from harness.failures import Failure
from harness.files import find_json, read_json, write_json
from harness.launching.requeue import goes_on
from harness.run_paths import RunPaths


def record_start(paths: RunPaths, attempt: int) -> None:
    """Write down which checkpoint was the newest when an attempt began."""
    write_json(paths.attempt(attempt) / "start.json", {"checkpoint": newest_checkpoint(paths)})


def fruitless(paths: RunPaths, before: int | None = None) -> tuple[int, ...]:
    """The last attempts in a row, before number `before`, that ended without a newer checkpoint; the last one first."""
    folders = (paths.folder / "attempts").glob("*")
    numbers = sorted((int(folder.name) for folder in folders if folder.name.isdigit()), reverse=True)
    found: list[int] = []
    after = newest_checkpoint(paths)
    for number in numbers:
        if before is not None and number >= before:
            continue
        start = paths.attempt(number) / "start.json"
        if start.exists() and read_json(start)["checkpoint"] != after:  # without one it ended before it began
            break
        found.append(number)
    return tuple(found)


def stuck(paths: RunPaths, before: int | None = None) -> str:
    """Why the run is not started again by itself; "" where it may be."""
    attempts = fruitless(paths, before)
    if len(attempts) < 2:
        return ""
    return (
        f"attempts {attempts[1]} and {attempts[0]} ended without a newer checkpoint: not started again by itself; "
        "mend the cause, then run harness submit --retry"
    )


def require_progress(paths: RunPaths, attempt: int) -> None:
    """Raise UserError where the scheduler has requeued a run that makes no progress."""
    why = stuck(paths, before=attempt) if goes_on(os.environ) else ""
    if why:
        raise UserError(why, failure=Failure.UNKNOWN)  # the attempts before have their kinds


def newest_checkpoint(paths: RunPaths) -> Any:
    """What is known of the newest checkpoint: file, sha256, epoch and step; None before the first."""
    latest = find_json(paths.checkpoints / "latest.json")
    return latest[-1] if latest else None
