"""The marks of a row: why it is not a full, published-form result. One line of text each, shown under the table."""

from collections.abc import Iterable
from typing import Any

from harness.matrix import PlannedCell
from harness.provenance import several_codes
from harness.recipe import diff
from harness.reporting.records import Record
from harness.reporting.rows import Row
from harness.run_spec import Origin


def marks(row: Row) -> list[str]:
    """All that keeps a row from standing for its cell; empty for a full result on a GPU."""
    found = _cell_marks(row.planned)
    for text, seeds in _by_text(row).items():
        everywhere = len(seeds) == len(row.runs)
        found.append(text if everywhere else f"seed {', '.join(map(str, seeds))}: {text}")
    return found


def run_marks(planned: PlannedCell, record: Record) -> list[str]:
    """All that keeps a single run from standing for its cell."""
    return [*_cell_marks(planned), *_run_marks(record)]


def _cell_marks(planned: PlannedCell) -> list[str]:
    found = []
    if planned.suffix:
        found.append(f"{planned.suffix}, not the cell's own recipe: {_overrides(planned)}")
    if planned.shortening:
        found.append(f"shortened, not a full result: {planned.shortening.describe()}")
    return found


def _overrides(planned: PlannedCell) -> str:
    changes = diff(planned.cell.recipe(), planned.recipe)
    return ", ".join(f"{name}={_plain(value)}" for name, (_, value) in changes.items())


def _plain(value: Any) -> str:
    """A recipe value in a few characters: (1333, 800) as 1333x800, true and false as YAML writes them."""
    if isinstance(value, tuple):
        pair = len(value) == 2 and all(isinstance(part, int) for part in value)
        return "x".join(map(str, value)) if pair else f"({', '.join(map(_plain, value))})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _by_text(row: Row) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for seed, record in row.runs:
        for text in _run_marks(record):
            found.setdefault(text, []).append(seed)
    return found


def _run_marks(record: Record | None) -> Iterable[str]:
    if record is None:
        yield state_of(record)
        return
    if len(record.codes) > 1:
        yield several_codes(record.codes)
    if not record.finished:
        yield state_of(record)
        return
    if record.epoch < record.epochs:
        yield f"partial, not a full result: evaluated after epoch {record.epoch} of {record.epochs}"
    done = "tested" if record.origin == Origin.PUBLISHED else "trained"
    if record.hardware is None:
        yield f"{done} on hardware that was not recorded"
    elif record.hardware.kind != "cuda":
        yield f"{done} on a {record.hardware.kind.upper()} ({record.hardware.device}), not on a GPU"
    if record.dirty:
        yield f"the code had changes that its commit {record.commit[:10]} lacks"


def state_of(record: Record | None) -> str:
    """Where a run stands, in words, and why."""
    if record is None:
        return "no run is recorded yet"
    if record.state == "RUNNING":
        return f"running, epoch {record.epoch}/{record.epochs}"
    return record.state.lower() + (f": {record.reason}" if record.reason else "")
