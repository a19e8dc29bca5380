"""The room that disk and quotas leave; what the commands answer is in quotas/, with its origin."""

import os
from pathlib import Path

import pytest

from harness.planning import disk
from harness.planning.disk import Quota, Room, mounted, parse_lustre, parse_project, parse_quota, room

QUOTAS = Path(__file__).parent / "quotas"


def told(name: str) -> str:
    return (QUOTAS / f"{name}.txt").read_text()


def test_quota() -> None:
    """Above the hard limit of 6,500,000 KiB nothing is left; 500,000 - 36 KiB; no line without an owner."""
    assert list(parse_quota(told("quota-v"))) == [Quota("user", "foo", 505, 0)]
    assert list(parse_quota(told("quota-two"))) == [Quota("user", "ali", 1002, 499_964 * 1024)]
    unlimited = "Disk quotas for group lab (gid 7): none\n" + told("quota-two").replace("500000", "     0")
    assert list(parse_quota(unlimited)) == [Quota("user", "ali", 1002, None)]
    assert list(parse_quota("quota: Cannot open quotafile\n")) == []


def test_lustre() -> None:
    """2,147,483,648 - 1,630,827,124 KiB, though the soft limit is passed; 104,857,600 - 95,747,836 KiB."""
    assert parse_lustre(told("lfs-q-project")) == 516_656_524 * 1024
    assert parse_lustre(told("lfs-q-wrapped")) == 9_109_764 * 1024
    assert parse_lustre(told("lfs-q-wrapped").replace("104857600", "        0")) is None
    assert parse_lustre("  /x  [80]  100  0  -  5  0  0  -\n") == 20 * 1024  # a soft limit alone
    assert parse_lustre("") is None
    assert (parse_project(told("lfs-project")), parse_project("")) == (200_020, 0)


def test_where_a_folder_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "my data" / "runs").mkdir(parents=True)
    place = str(tmp_path.resolve()).replace(" ", "\\040")
    file = tmp_path / "mounts"
    file.write_text(f"/dev/vda / ext4 rw 0 0\nx@tcp:/y {place}/my\\040data lustre rw 0 0\nz {place}/my nfs rw 0 0\n")
    assert mounted(tmp_path / "my data" / "runs", file) == (f"{tmp_path.resolve()}/my data", "lustre")
    assert mounted(tmp_path, file) == ("/", "ext4")
    assert mounted(tmp_path, tmp_path / "none") == ("", "")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand above all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_least_counts(tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has more than the quota leaves; a group that the files do not belong to does not count."""
    gid = os.getegid()
    own = f"Disk quotas for group lab (gid {gid}):\n head\n /dev/x 90 0 100 5 0 0\n"
    other = f"Disk quotas for group full (gid {gid + 1}):\n head\n /dev/x 100 0 100 5 0 0\n"
    command(commands, "quota", f"cat {QUOTAS}/quota-two.txt; cat <<'END'\n{own}{other}END\nexit 1")
    monkeypatch.setattr(disk, "mounted", lambda folder: ("/", "ext4"))
    assert room(tmp_path / "not" / "there") == Room(free=10 * 1024, limit="the quota of group lab")


def test_lustre_is_asked_for_user_group_and_project(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = f'if [ "$1" = project ]; then cat {QUOTAS}/lfs-project.txt; exit; fi\n'
    answer += 'case "$3 $4 $5" in "-p 200020 /l") echo "/l 10 0 12 - 1 0 0 -";; *) echo "/l 10 0 99 - 1 0 0 -";; esac'
    command(commands, "lfs", answer)
    monkeypatch.setattr(disk, "mounted", lambda folder: ("/l", "lustre"))
    assert room(tmp_path) == Room(free=2 * 1024, limit="the quota of project 200020")


def test_commands_that_are_not_there_or_do_not_answer(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "mounted", lambda folder: ("/", "ext4"))
    found = os.statvfs(tmp_path)
    free = pytest.approx(found.f_bavail * found.f_frsize, rel=0.1)
    assert (room(tmp_path).free, room(tmp_path).limit) == (free, "the disk")
    monkeypatch.setattr(disk, "ANSWER_SECONDS", 0.2)
    command(commands, "quota", "exec sleep 30")
    assert room(tmp_path).limit == "the disk"
