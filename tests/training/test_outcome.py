"""What a finished run leaves."""

import pytest

from harness.files import read_json, sha256
from harness.training.outcome import train_seconds
from harness.training.session import Training


def test_result(trained: Training) -> None:
    result = read_json(trained.paths.result)
    assert result["metrics"] == read_json(trained.paths.evaluation)["numbers"]
    assert (result["iterations"], result["attempts"], result["memory_kind"], result["overflows"]) == (6, 1, "rss", 0)
    assert result["memory_mb"] > 100
    assert result["images_per_second"] == pytest.approx(6 * 2 / result["train_seconds"])
    assert (result["fps"], result["fps_images"]) == (None, 0)  # 4 images are fewer than the warm-up takes
    assert set(result["versions"]) >= {"python", "torch", "torchvision", "numpy", "opencv", "pycocotools", "harness"}
    assert set(result["files"]) == {"checkpoint", "log", "config", "detections"}


def test_files_are_as_said(trained: Training) -> None:
    for name, facts in read_json(trained.paths.result)["files"].items():
        path = trained.paths.folder / {"checkpoint": "checkpoints/epoch_2.pth"}.get(name, facts["path"].split("/")[-1])
        assert facts == {"path": str(path.resolve()), "size": path.stat().st_size, "sha256": sha256(path)}


def test_pictures(trained: Training) -> None:
    assert trained.paths.curves.read_text().lstrip().startswith("<?xml")
    pictures = {path.name for path in trained.paths.predictions.iterdir()}
    assert "sheet.jpg" in pictures and len(pictures) >= 3


def test_train_seconds() -> None:
    """2 iterations of 1 s, 2 of 3 s, 1 of 5 s: 13 s."""
    rows = [{"step": step, "time": time} for step, time in ((2, 1.0), (4, 3.0), (5, 5.0))]
    assert train_seconds(rows) == 13.0
