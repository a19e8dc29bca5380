"""Checkpoints: whole or not there, checked when read, and never executed."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import UserError
from harness.training import checkpoint


def save(folder: Path, step: int) -> checkpoint.Saved:
    content = {"value": torch.tensor(step)}
    return checkpoint.save(folder, content, epoch=step // 3, iteration=step % 3, step=step)


def value(saved: checkpoint.Saved | None) -> int:
    assert saved is not None
    return int(checkpoint.load(saved.path)["value"])


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    for step in range(1, 6):
        saved = save(tmp_path, step)
        assert checkpoint.newest(tmp_path) == saved
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch_1_iter_1.pth",
        "epoch_1_iter_2.pth",
        "latest.json",
    ]
    assert (saved.epoch, saved.step, value(saved)) == (1, 5, 5)
    assert save(tmp_path, 6).path.name == "epoch_2.pth"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2).path
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert value(checkpoint.newest(tmp_path)) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{path}: ") and told.count("\n") == 1


def test_saving_again_after_a_damage_repairs(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).path.write_bytes(b"")
    save(tmp_path, 2)
    assert value(checkpoint.newest(tmp_path)) == 2


def test_without_the_list_the_newest_that_can_be_read_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """latest.json is lost, and the newest file cut: nothing is started anew behind the user's back."""
    for step in (1, 2, 3):
        meta = {"epoch": 0, "iteration": step, "iter": step}
        checkpoint.save(tmp_path, {"meta": meta}, epoch=0, iteration=step, step=step)
        os.utime(tmp_path / f"epoch_0_iter_{step}.pth", (step, step))
    (tmp_path / "latest.json").unlink()
    (tmp_path / "epoch_0_iter_3.pth").write_bytes(b"cut")
    found = checkpoint.newest(tmp_path)
    assert found is not None and (found.path.name, found.epoch, found.step) == ("epoch_0_iter_2.pth", 0, 2)
    assert "latest.json does not name it" in capsys.readouterr().err
    found.path.write_bytes(b"cut, too")
    with pytest.raises(UserError, match="none of its 2 checkpoints can be read; move them away to start anew"):
        checkpoint.newest(tmp_path)


def test_what_a_killed_attempt_left_is_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".epoch_0_iter_2.pth.abc.tmp").write_bytes(b"half")
    (tmp_path / "epoch_7.pth").write_bytes(b"written, but not named in latest.json")
    save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch_0_iter_1.pth",
        "epoch_0_iter_2.pth",
        "latest.json",
    ]


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    """No file may have more than 100 kB, as on a disk that is full there."""
    kept = save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"epoch_0_iter_2\.pth: cannot be written: file too large; make room"):
            checkpoint.save(tmp_path, {"value": torch.zeros(50_000)}, epoch=0, iteration=2, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0_iter_1.pth", "latest.json"]
    assert checkpoint.newest(tmp_path) == kept


def test_a_snapshot_does_not_follow_the_training() -> None:
    weight, rate = torch.ones(3, requires_grad=True), {"lr": 0.1, "betas": (0.9, 0.99)}
    state = {"weight": weight, "groups": [rate], "view": torch.arange(4.0)[1:3]}
    snapshot = checkpoint.Snapshot(state, torch.device("cpu"))
    with torch.no_grad():
        weight.zero_()
        state["view"] += 7
    rate["lr"] = 9.0
    found = snapshot.arrived()
    assert torch.equal(found["weight"], torch.ones(3)) and not found["weight"].requires_grad
    assert found["view"].tolist() == [1.0, 2.0]
    assert found["view"].untyped_storage().nbytes() == 8  # what the view does not show is not written
    assert found["groups"] == [{"lr": 0.1, "betas": [0.9, 0.99]}]


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("executed",))


def test_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    for name in ("evil.pth", "pickle.pth"):
        with pytest.raises(UserError, match="cannot be read as plain tensors") as caught:
            checkpoint.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello\nworld\n")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"text\.pth: cannot be read"):
        checkpoint.load(tmp_path / "text.pth")
    with pytest.raises(UserError, match="holds no state_dict"):
        checkpoint.load(tmp_path / "list.pth")
    with pytest.raises(UserError, match="no such file"):
        checkpoint.load(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"is a folder; expected a checkpoint \(.pth\)"):
        checkpoint.load(tmp_path)


WRITER = """
import sys, torch
from pathlib import Path
from harness.training import checkpoint
big = torch.zeros(4_000_000)
for step in range(1, 10**6):
    checkpoint.save(Path(sys.argv[1]), {"value": torch.tensor(step), "big": big}, epoch=0, iteration=step, step=step)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_kill_while_saving_leaves_a_whole_one(tmp_path: Path) -> None:
    """Killed at 6 moments: the newest is the last one reported, or the one that was being written, whole."""
    for delay in (0.0, 0.01, 0.02, 0.04, 0.06, 0.09):
        folder = tmp_path / str(delay)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(3)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        reported += [int(line) for line in process.communicate()[0].split()]
        assert value(checkpoint.newest(folder)) in (reported[-1], reported[-1] + 1)
