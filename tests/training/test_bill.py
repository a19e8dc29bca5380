"""Where the time of a run goes, worked out by hand."""

from pathlib import Path
from typing import Any

import pytest

from harness.files import read_json, write_json
from harness.run_log import read_log
from harness.training.bill import bill, gpu_hours, overhead, read_times
from harness.training.session import Training


def attempt(began: float, *, gpus: int = 0, **seconds: float) -> dict[str, Any]:
    return {"began": began, "gpus": gpus, "seconds": seconds}


def test_a_bill() -> None:
    """Two attempts of 200 s and 100 s, 150 s between them: 240 s of 450 s are steps, so 46.7 % are not.

    8 GPUs for 200 s and 4 for 100 s are 2000 GPU-seconds.
    """
    first = attempt(1000.0, gpus=8, start=20.0, staging=10.0, data=5.0, step=160.0, checkpoint=3.0, log=2.0)
    second = attempt(1350.0, gpus=4, start=8.0, step=80.0, evaluation=6.0, scoring=1.0, waiting=1.0, outcome=4.0)
    found = bill([first, second])
    assert found == {
        "step": 240.0,
        "data": 5.0,
        "start": 38.0,
        "evaluation": 8.0,
        "checkpoint": 3.0,
        "outcome": 4.0,
        "log": 2.0,
        "requeue": 150.0,
    }
    assert sum(found.values()) == 450.0  # from 1000 to 1450
    assert overhead(found) == pytest.approx(1 - 240 / 450)
    assert gpu_hours([first, second]) == pytest.approx(2000 / 3600)


def test_what_a_killed_attempt_did_not_tell_lies_before_the_next() -> None:
    """It told of 30 s, was killed at 40 s, and the next began at 100 s: 70 s lie between."""
    assert bill([attempt(0.5, step=30.0), attempt(100.5, step=10.0)])["requeue"] == 70.0


def test_attempts_of_before(tmp_path: Path) -> None:
    """Without a beginning there is no bill; an attempt without times counts for nothing."""
    assert bill([]) == bill([{"seconds": {"step": 1.0}}]) == {}
    assert overhead({}) == 0.0
    write_json(tmp_path / "attempts" / "0002" / "times.json", attempt(1.0, step=2.0))
    (tmp_path / "attempts" / "0001").mkdir()
    assert read_times(tmp_path) == [attempt(1.0, step=2.0)]


def test_of_a_training(trained: Training) -> None:
    """The journal's last row and the result tell it; all parts together are the wall time."""
    (row,) = [row for row in read_log(trained.paths.log) if row["mode"] == "times"]
    assert (row["attempt"], row["step"]) == (1, 6)
    assert {"start", "data", "step", "checkpoint", "evaluation"} <= set(row["seconds"])
    result = read_json(trained.paths.result)
    assert result["bill"] == bill(read_times(trained.paths.folder)) and result["gpu_hours"] == 0.0
    assert 0 < result["bill"]["step"] == pytest.approx(row["seconds"]["step"], abs=1e-3)
    assert result["overhead"] == pytest.approx(1 - result["bill"]["step"] / sum(result["bill"].values()))
