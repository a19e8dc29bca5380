"""The retries of a run: what was changed after failures, and whether it may be tried again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching.ends import read_end
from harness.launching.restarts import fruitless, newest_checkpoint
from harness.run_paths import RunPaths
from harness.run_state import RunState

RETRIES = 3
"""Retries of a run after failures of one kind, without a newer checkpoint in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What is different after a failure: an entry of retries.json in the run's folder."""

    attempt: int  # that failed
    kind: Failure
    change: str  # in words
    shape: Mapping[str, int]  # fields of JobShape: what the run's jobs get from now on, or more
    environment: Mapping[str, str]  # of the run's attempts from now on
    checkpoint: Any  # the newest then
    time: float  # seconds since 1970


def failure_of(paths: RunPaths, state: RunState) -> Failure:
    """Why a run failed: the last kind that is known of the attempts in a row that came to nothing."""
    ends = (read_end(paths, number) for number in fruitless(paths))
    kinds = [state.kind, *(end.kind for end in ends if end)]
    return next((kind for kind in kinds if kind not in (None, Failure.UNKNOWN)), None) or Failure.UNKNOWN


def refusal(paths: RunPaths, kind: Failure) -> str:
    """Why the run is not tried again; "" where it may be."""
    newest = newest_checkpoint(paths)
    tried = [retry for retry in read_retries(paths) if (retry.kind, retry.checkpoint) == (kind, newest)]
    if len(tried) < RETRIES:
        return ""
    return f"not retried: {len(tried)} retries did not help; mend the cause, then remove {_file(paths)}"


def environment(paths: RunPaths) -> dict[str, str]:
    """What the retries of a run add to the environment of its attempts."""
    return {name: value for retry in read_retries(paths) for name, value in retry.environment.items()}


def read_retries(paths: RunPaths) -> list[Retry]:
    """The retries of a run, the oldest first."""
    file = _file(paths)
    return [Retry(**entry | {"kind": Failure(entry["kind"])}) for entry in read_json(file)] if file.exists() else []


def record_retry(paths: RunPaths, retry: Retry) -> None:
    """Write down that a run is tried again."""
    write_json(_file(paths), [asdict(entry) for entry in (*read_retries(paths), retry)])


def _file(paths: RunPaths) -> Path:
    return paths.folder / "retries.json"
