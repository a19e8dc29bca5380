"""What happens to machines and files in the middle of a training: one line, the state intact, and it goes on later."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from training.tiny import prepared_run

from harness.launching.job import USER_ERROR, run_attempt
from harness.launching.prepare import PreparedRun
from harness.run_log import merged_rows
from harness.run_state import State, read_state
from harness.training.checkpoint import newest
from launching.events import at_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny", "signals", "no_shipper")]

NO_STORE = "http://127.0.0.1:9"


class Mishap:
    """Runs an attempt that something ends, and the one after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def ends(
        self, run: PreparedRun, action: Callable[[], object], step: int = 5, saved_at: tuple[int, ...] = (3,)
    ) -> str:
        """The reason, after an attempt in whose step-th iteration `action` was called. Steps 1 to 3 are saved."""
        with self.monkeypatch.context() as patch:
            at_step(patch, step, action)
            assert run_attempt(run.paths.folder, NO_STORE) == USER_ERROR
        state = read_state(run.paths)
        assert state.state == State.FAILED
        told = [line for line in self.capsys.readouterr().err.splitlines() if not line.startswith("[")]
        assert told == [f"error: {state.reason}"]
        saved = newest(run.paths.checkpoints)
        assert saved is not None and saved.step in saved_at
        return state.reason

    def is_over(self, run: PreparedRun) -> None:
        """The next attempt goes on from the checkpoint to the end."""
        assert run_attempt(run.paths.folder, NO_STORE) == 0
        assert read_state(run.paths).state == State.FINISHED
        assert [row["step"] for row in merged_rows(run.paths) if row["mode"] == "attempt"] == [0, 3]
        assert [row["step"] for row in merged_rows(run.paths) if row["mode"] == "train"] == [1, 2, 3, 4, 5, 6]
        assert not list(run.paths.folder.rglob("*.tmp"))


@pytest.fixture
def mishap(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mishap:
    return Mishap(monkeypatch, capsys)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def test_a_full_disk(mishap: Mishap, small_disk: Path, shapes: Path) -> None:
    run = prepared_run(small_disk, shapes)
    reason = mishap.ends(run, lambda: fill(small_disk))
    assert "no space left on device; make room" in reason and reason.startswith(("the run folder", str(small_disk)))
    (small_disk / "filler").unlink()
    mishap.is_over(run)


def test_a_checkpoint_that_does_not_fit(mishap: Mishap, run: PreparedRun) -> None:
    """A limit on the size of files, as a quota is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        reason = mishap.ends(run, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1])))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert reason.startswith(f"{run.paths.checkpoints}/epoch_2.pth: cannot be written: file too large; make room")
    mishap.is_over(run)


@pytest.fixture
def images(tmp_path: Path, shapes: Path) -> Path:
    """A data set of this test's own."""
    return Path(shutil.copytree(shapes, tmp_path / "images"))


def test_an_image_that_is_cut_off(mishap: Mishap, tmp_path: Path, images: Path) -> None:
    run = prepared_run(tmp_path, images)
    whole = {path: path.read_bytes() for path in (images / "train").iterdir()}
    reason = mishap.ends(run, lambda: [os.truncate(path, len(content) // 2) for path, content in whole.items()])
    assert reason.startswith(str(images / "train")) and ": not a readable image; `harness data check`" in reason
    for path, content in whole.items():
        path.write_bytes(content)
    mishap.is_over(run)


def test_images_that_are_gone(mishap: Mishap, tmp_path: Path, images: Path) -> None:
    run = prepared_run(tmp_path, images, workers=2)
    reason = mishap.ends(run, lambda: (images / "val").rename(images / "elsewhere"), step=3)
    assert reason.startswith(str(images / "val")) and ": No such file or directory" in reason
    (images / "elsewhere").rename(images / "val")
    mishap.is_over(run)


def test_annotations_that_are_gone(mishap: Mishap, tmp_path: Path, images: Path) -> None:
    """They are read again for the evaluation, beside the second epoch."""
    run = prepared_run(tmp_path, images)
    annotations = Path(run.spec.val.annotations)
    reason = mishap.ends(run, lambda: annotations.rename(images / "elsewhere"), step=3, saved_at=(3, 6))
    assert reason.startswith(f"{annotations}: ") and "no such file" in reason.lower()


def test_memory_that_there_is_not(mishap: Mishap, run: PreparedRun) -> None:
    reason = mishap.ends(run, lambda: torch.empty(10**15))
    assert "out of memory on " in reason and "you tried to allocate 4000000000000000 bytes" in reason
    assert "give the run more of it" in reason


def test_a_worker_that_is_killed(mishap: Mishap, tmp_path: Path, shapes: Path) -> None:
    """As the kernel does when memory is short."""
    run = prepared_run(tmp_path, shapes, workers=2, epochs=2)

    def kill() -> None:
        own = psutil.Process()
        alive = [child for child in own.children() if child.status() != psutil.STATUS_ZOMBIE]
        for worker in (child for child in alive if child.cmdline() == own.cmdline()):  # forked; the scorer is not
            worker.kill()

    reason = mishap.ends(run, kill, step=4)
    assert "DataLoader worker" in reason and "fewer data-loading workers" in reason
    mishap.is_over(run)
