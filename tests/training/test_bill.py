"""Where the time of a run goes, worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.files import read_json, write_json
from harness.run_log import read_log
from harness.training.bill import bill, gpu_hours, overhead, read_times
from harness.training.notes import Note, write_note
from harness.training.session import Training


def attempt(began: float, *, gpus: int = 0, lost: float = 0.0, **seconds: float) -> dict[str, Any]:
    return {"began": began, "gpus": gpus, "seconds": seconds, "lost": lost}


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
        "lost": 0.0,
        "requeue": 150.0,
    }
    assert sum(found.values()) == 450.0  # from 1000 to 1450
    assert overhead(found) == pytest.approx(1 - 240 / 450)
    assert gpu_hours([first, second]) == pytest.approx(2000 / 3600)


def test_what_a_killed_attempt_did_after_its_checkpoint_is_lost(tmp_path: Path) -> None:
    """It told of 30 s with a checkpoint, gave its last sign of life at 40 s, and the next began at 100 s.

    10 s are lost and 60 s lie between; with those 10 s, of which the next 10 s are the repetition, 50 s were paid for.
    """
    for number, began, seconds in ((1, 1000.5, {"start": 5.0, "step": 25.0}), (2, 1100.5, {"step": 10.0})):
        write_json(tmp_path / f"attempts/{number:04}/times.json", {"began": began, "gpus": 4, "seconds": seconds})
    note = Note(
        rank=0, host="n1", pid=1, started=1000.5, phase="step", step=9, image=0, seconds=1, stuck=False, written=0
    )
    write_note(tmp_path / "attempts/0001", replace(note, written=1040.5))
    write_note(tmp_path / "attempts/0002", replace(note, written=1105.5))  # it has told of more since
    times = read_times(tmp_path)
    found = bill(times)
    assert [own["lost"] for own in times] == [10.0, 0.0]
    assert (found["step"], found["start"], found["lost"], found["requeue"]) == (35.0, 5.0, 10.0, 60.0)
    assert sum(found.values()) == 110.0  # from 1000.5 to 1110.5
    assert gpu_hours(times) == pytest.approx(4 * 50 / 3600)
    assert overhead(found) == pytest.approx(1 - 35 / 110)


def test_attempts_of_before(tmp_path: Path) -> None:
    """Without a beginning there is no bill; an attempt without times counts for nothing."""
    assert bill([]) == bill([{"seconds": {"step": 1.0}, "lost": 0.0}]) == {}
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
