"""A file system tried out, alone and with another process; and disks that do not do what they must."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import doctor, shared_disk
from harness.shared_disk import RACES, Disk, Meeting, follow, lead, try_out, wait_for


def test_a_disk_that_is_well(tmp_path: Path) -> None:
    found = try_out(tmp_path)
    assert found.faults == ()
    assert 0 < found.fsync_s < 60


def test_disks_that_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shared_disk, "_creates", lambda path: path.write_text("") == 0)
    assert try_out(tmp_path).faults == (
        "exclusive create: a file can be created twice",
        "link: Operation not permitted",
    )


def test_two_processes_meet(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "harness.shared_disk", str(tmp_path)]) as process:
        found = lead(tmp_path, patience=60)
        assert process.wait(60) == 0
    assert found.twice == 0
    assert 0 < found.lag_s < 60
    assert len(list((tmp_path / "race").iterdir())) == RACES


def test_files_that_both_create_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200, three are created by both and two by neither."""
    won = [set(range(100)), set(range(97, 198))]
    monkeypatch.setattr(shared_disk, "_race", lambda _: won.pop())
    other = threading.Thread(target=follow, args=(tmp_path,))
    other.start()
    found = lead(tmp_path)
    other.join()
    assert found.twice == 3 + 2
    assert doctor.met("disk", found).status == "fail"


def test_nobody_comes(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="here was not seen within 0 s"):
        lead(tmp_path, patience=0.05)


def test_a_file_that_comes_late(tmp_path: Path) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            (tmp_path / "x").touch()

    wait_for(tmp_path / "x", 60, look)
    assert len(looks) == 3


def test_what_the_doctor_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, both = doctor.disk(tmp_path / "runs")
    assert {alone.status, both.status} <= {"ok", "warn"}  # a disk under load may be slow
    assert "exclusive create, link and rename work; fsync " in alone.detail
    assert list(tmp_path.iterdir()) == []
    late = doctor.met("disk", Meeting(lag_s=7, twice=0))
    assert (late.status, late.detail[-27:]) == ("warn", "and answered within 7000 ms")
    monkeypatch.setattr(shared_disk, "try_out", lambda _: Disk(faults=("link: no",), fsync_s=0.001))
    monkeypatch.setattr(shared_disk, "lead", lambda *_, **__: Meeting(lag_s=0.01, twice=0))
    alone, _ = doctor.disk(tmp_path)
    assert (alone.status, alone.detail) == ("fail", "link: no")
    monkeypatch.setattr(shared_disk, "try_out", lambda _: Disk(faults=(), fsync_s=0.2))
    assert [check.status for check in doctor.disk(tmp_path)] == ["warn", "ok"]
