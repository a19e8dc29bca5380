"""The journal: lines that others can read at once, a cut end mended, and what a line costs."""

import json
import os
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.run_log import read_log
from harness.run_paths import RunPaths
from harness.training import journal as journal_module
from harness.training.journal import Journal, repair


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


def test_the_segments_of_earlier_attempts_are_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = RunPaths(tmp_path)
    for number, tail in ((1, '{"step": 2, "lo'), (2, "")):
        paths.segment(number).parent.mkdir(parents=True)
        paths.segment(number).write_text('{"step": 1}\n' + tail)
    repair(paths)
    assert [paths.segment(number).read_text() for number in (1, 2)] == ['{"step": 1}\n'] * 2
    assert capsys.readouterr().err == f"{paths.segment(1)}: a torn line was taken out\n"


def test_known_rows_are_not_written_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "log.json", {("train", 50), ("val", 50)}) as journal:
        for row in (("attempt", 50), ("train", 50), ("val", 50), ("train", 100), ("val", 100)):
            journal.write({"mode": row[0], "step": row[1]})
    found = [(row["mode"], row["step"]) for row in read_log(tmp_path / "log.json")]
    assert found == [("attempt", 50), ("train", 100), ("val", 100)]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a disk that is full after so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """The second line would end 10 bytes past the limit; the third one, when there is room, comes after the first."""
    path = tmp_path / "log.json"
    with Journal(path) as journal:
        journal.write({"step": 1})
        whole = path.read_bytes()
        with (
            files_up_to(2 * len(whole) - 10),
            pytest.raises(UserError, match=r"log\.json: cannot be written: file too"),
        ):
            journal.write({"step": 2})
        assert path.read_bytes() == whole
        journal.write({"step": 3})
    assert [row["step"] for row in read_log(path)] == [1, 3]


def test_a_disk_that_keeps_nothing_is_told_by_the_next_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_module, "FSYNC_SECONDS", 0.01)
    journal = Journal(tmp_path / "log.json")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        journal._timer.join(60)
    with pytest.raises(UserError, match="Input/output error; mend this"):
        journal.write({"step": 1})
    journal.close()


def test_a_line_costs_less_than_a_millisecond(tmp_path: Path) -> None:
    with Journal(tmp_path / "log.json") as journal:
        seconds = []
        for step in range(200):
            began = time.perf_counter()
            journal.write({"mode": "train", "step": step, **{f"loss_{part}": 1 / 3 for part in range(12)}})
            seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 1e-3


def test_rows_are_brought_to_the_disk_by_a_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal_module, "FSYNC_SECONDS", 0.01)
    monkeypatch.setattr(journal_module.os, "fsync", synced.append)
    with Journal(tmp_path / "log.json"):
        deadline = time.monotonic() + 5
        while len(synced) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(synced) >= 3
