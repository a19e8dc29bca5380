"""What a person sees where there is no terminal."""

import pytest

from harness.training.progress import TrainingProgress
from harness.wording import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45.4, "45s"), (59.6, "1m00s"), (725, "12m05s"), (3600, "1h00m"), (11_100, "3h05m"), (187_200, "2d04h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


ROW = {"mode": "train", "epoch": 1, "loss": 1.25, "lr": 0.02, "time": 0.5}


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with TrainingProgress("cell", 10, 4, shown=True, on_row=told.append) as shown:
        shown.advance()
        shown.row(ROW, 2)
        shown.row({"mode": "val", "epoch": 1, "bbox_mAP": 0.382, "segm_mAP": None}, 2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("[5/10] epoch 1/2  loss 1.250  lr 0.02  0.50 s/it  ETA ")
    assert second.startswith("[5/10] epoch 1/2  box AP 38.2  mask AP -  ETA ")
    assert [text.split("  ")[0] for text in told] == ["epoch 1/2", "epoch 1/2"]


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress("cell", 10, 0, shown=False) as shown:
        shown.advance()
        shown.row(ROW, 2)
    assert capsys.readouterr().err == ""
