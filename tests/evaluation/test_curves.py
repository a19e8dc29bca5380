"""Curves: the same rows give the same file, every series is there, and odd logs are drawn."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from harness.errors import UserError
from harness.evaluation.curves import _rows, _smooth, plot_curves

NAN = float("nan")


def rows() -> list[dict[str, Any]]:
    train = [
        {"mode": "train", "step": step, "lr": 0.02, "loss_cls": 1.0 / step, "loss_mask": 0.5, "loss": 0.5 + 1.0 / step}
        for step in range(1, 60)
    ]
    val = [{"mode": "val", "step": step, "bbox_mAP": step / 100, "segm_mAP": None} for step in (20, 40)]
    return [{"env_info": "a dictionary about the environment"}, *train, *val]


@pytest.mark.slow
def test_svg_is_the_same_for_the_same_rows(tmp_path: Path) -> None:
    plot_curves(tmp_path / "a.svg", rows(), "a cell")
    plot_curves(tmp_path / "b.svg", rows(), "a cell")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "<dc:date>" not in text
    for word in ("Training loss", "Validation AP (%)", "Learning rate", "a cell", "total", "cls", "mask", "box AP"):
        assert f"<!-- {word} -->" in text  # matplotlib draws letters as paths and names them in a comment


def test_repeated_rows_count_once_and_the_last_wins(tmp_path: Path) -> None:
    log = [
        {"mode": "train", "step": step, "loss": loss} for step, loss in ((50, 3.0), (100, 2.0), (50, 2.5), (150, 1.0))
    ]
    assert [(row["step"], row["loss"]) for row in _rows(log, "train")] == [(50, 2.5), (100, 2.0), (150, 1.0)]
    assert _rows(log, "val") == []


def test_smooth_is_a_trailing_mean_over_what_is_finite() -> None:
    assert _smooth([4.0, 2.0, NAN, 0.0], 2) == [4.0, 3.0, 2.0, 0.0]
    assert _smooth([1.0, 2.0], 1) == [1.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "log",
    [
        [],
        rows()[:2],
        [{"mode": "train", "step": 1, "loss": NAN, "lr": 0.0}, {"mode": "train", "step": 2, "loss": 0.0, "lr": 0.0}],
        [{"mode": "val", "step": 1, "bbox_mAP": None, "segm_mAP": NAN}],
    ],
    ids=["empty", "one row", "not a number", "nothing to find"],
)
def test_odd_logs_are_drawn(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    plot_curves(tmp_path / "odd.png", log, "odd")
    assert cv2.imread(str(tmp_path / "odd.png")).shape[2] == 3


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.svg or \.png"):
        plot_curves(tmp_path / "curves.pdf", [], "")


def test_light_modules_load_neither_torch_nor_matplotlib() -> None:
    modules = ", ".join(f"harness.evaluation.{name}" for name in ("coco", "detections", "draw", "curves"))
    check = f"import sys, {modules}; print(sorted({{'torch', 'matplotlib'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
