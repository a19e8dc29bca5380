"""The journal: lines that others can read at once, a cut end mended, and what a line costs."""

import json
import time
from pathlib import Path

import pytest

from harness.runs import read_log
from harness.training import journal as journal_module
from harness.training.journal import Journal


def test_a_line_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "attempts" / "0001" / "log.json"
    with Journal(path) as journal:
        journal.write({"mode": "train", "step": 1})
        assert [row["step"] for row in read_log(path)] == [1]
        journal.write({"mode": "train", "step": 2})
        first, second = read_log(path)
        assert second["step"] == 2
        assert time.time() - 5 < first["stamp"] <= second["stamp"] <= time.time() + 1e-3


def test_a_cut_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    with Journal(path) as journal:
        journal.write({"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


def test_rows_are_brought_to_the_disk_by_a_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal_module, "FSYNC_SECONDS", 0.01)
    monkeypatch.setattr(journal_module.os, "fsync", synced.append)
    with Journal(tmp_path / "log.json"):
        deadline = time.monotonic() + 5
        while len(synced) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(synced) >= 3
