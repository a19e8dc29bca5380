"""The journal of a run: segments of attempts, merged; lines that were cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness import run_log
from harness.run_paths import RunPaths, next_attempt


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def row(mode: str, step: int, **values: Any) -> dict[str, Any]:
    return {"mode": mode, "step": step, **values}


def test_attempts_that_overlap_merge_to_one_journal(paths: RunPaths) -> None:
    """Attempt 1 got to step 150 and was killed while it wrote step 200; attempt 2 resumed from step 100."""
    first = [row("attempt", 0, attempt=1), row("train", 50), row("train", 100), row("val", 100), row("train", 150)]
    second = [row("attempt", 100, attempt=2), row("train", 150, again=True), row("train", 200), row("val", 200)]
    for number, rows, tail in ((1, first, '{"mode": "train", "st'), (2, second, "")):
        next_attempt(paths)
        paths.segment(number).write_text("".join(json.dumps(entry) + "\n" for entry in rows) + tail)
    merged = run_log.merged_rows(paths)
    assert [(entry["mode"], entry["step"]) for entry in merged] == [
        ("attempt", 0),
        ("train", 50),
        ("train", 100),
        ("val", 100),
        ("train", 150),
        ("attempt", 100),
        ("train", 200),
        ("val", 200),
    ]
    assert not any("again" in entry for entry in merged)
    run_log.merge_log(paths)
    assert run_log.read_log(paths.log) == merged


def test_a_val_row_stands_where_its_iteration_is(paths: RunPaths) -> None:
    """It is journaled while the next epoch trains, or by the next attempt, which resumed in the middle of that."""
    first = [row("attempt", 0), row("train", 1), row("train", 2), row("train", 3), row("val", 2), row("train", 4)]
    second = [row("attempt", 4), row("train", 5), row("val", 4), row("train", 6), row("val", 6)]
    for number, rows in ((1, first), (2, second)):
        next_attempt(paths)
        paths.segment(number).write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    merged = [(entry["mode"], entry["step"]) for entry in run_log.merged_rows(paths)]
    assert [entry for entry in merged if entry[0] != "attempt"] == [
        ("train", 1),
        ("train", 2),
        ("val", 2),
        ("train", 3),
        ("train", 4),
        ("val", 4),
        ("train", 5),
        ("train", 6),
        ("val", 6),
    ]
    assert merged[0] == ("attempt", 0)


def test_a_superseded_attempt_cannot_interleave(paths: RunPaths) -> None:
    """Attempt 2 found 2 rows of attempt 1, which lived on and wrote another two: only attempt 2's count for them.

    What attempt 1 wrote before, up to step 100, stays, though attempt 2 began at step 50 and wrote step 100 again.
    """
    first = [row("attempt", 0, journal={}), row("train", 100), row("train", 150, old=True), row("train", 200, old=True)]
    second = [row("attempt", 50, journal={"0001": 2}), row("train", 100, again=True), row("train", 150)]
    for number, rows in ((1, first), (2, second)):
        next_attempt(paths)
        paths.segment(number).write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    assert {name: len(rows) for name, rows in run_log.segments(paths).items()} == {"0001": 2, "0002": 3}
    assert [(entry["mode"], entry["step"]) for entry in run_log.merged_rows(paths)] == [
        ("attempt", 0),
        ("train", 100),
        ("attempt", 50),
        ("train", 150),
    ]
    assert not any("old" in entry or "again" in entry for entry in run_log.merged_rows(paths))


def test_torn_lines_are_taken_out(paths: RunPaths) -> None:
    """A line that a full disk cut in the middle, zeros that a crash left, and an end cut off."""
    paths.folder.mkdir()
    paths.log.write_bytes(b'{"step": 1}\n{"step": 2, "lo\n{"step": 3}\n\0\0\0{"step": 4}\n{"step": 5}\n{"st')
    assert [entry["step"] for entry in run_log.read_log(paths.log)] == [1, 3, 5]
    assert run_log.repair_log(paths.log)
    assert paths.log.read_bytes() == b'{"step": 1}\n{"step": 3}\n{"step": 5}\n'
    assert not run_log.repair_log(paths.log)
    assert not run_log.repair_log(paths.folder / "none.json")


def test_a_journal_that_is_not_there_is_empty(paths: RunPaths) -> None:
    assert run_log.read_log(paths.log) == []
    assert run_log.merged_rows(paths) == []


@pytest.mark.parametrize("tail", [b"", b"{", b'{"mode": "tr', b'{"a": "\xe2\x82', b"\0\0\0"])
def test_a_last_line_cut_by_a_crash_is_left_out(paths: RunPaths, tail: bytes) -> None:
    paths.folder.mkdir()
    paths.log.write_bytes(b'{"mode": "train", "step": 1}\n' + tail)
    assert run_log.read_log(paths.log) == [row("train", 1)]
