"""What a run folder tells, from journals written by hand."""

from pathlib import Path

import pytest

from harness.planning.measured import measure
from harness.run_paths import RunPaths
from planning.conftest import attempt_row, train_row, write_attempt


def times(**seconds: float) -> dict[str, object]:
    return {"seconds": seconds, "images": 0, "evaluations": 0, "checkpoints": 0, "resume": None}


def test_nothing_yet(tmp_path: Path) -> None:
    assert measure(RunPaths(tmp_path)) is None
    write_attempt(RunPaths(tmp_path), 1, [attempt_row()])
    assert measure(RunPaths(tmp_path)) is None


def test_the_median_without_the_first_rows_of_the_last_hardware(tmp_path: Path) -> None:
    """Of the attempts on 2 x B: 0.4, 0.6 and 0.5; what warmed up (9.0) and what ran on A (3.0) does not count."""
    paths = RunPaths(tmp_path)
    write_attempt(paths, 1, [attempt_row(name="A"), train_row(1, 9.0), train_row(2, 3.0, memory=900)])
    write_attempt(paths, 2, [attempt_row(name="B", world=2), train_row(3, 9.0), train_row(4, 0.4, data_time=0.1)])
    rows = [train_row(5, 9.0), train_row(6, 0.6, data_time=0.2), train_row(7, 0.5, memory=300)]
    write_attempt(paths, 3, [attempt_row(name="B", world=2), *rows])
    found = measure(paths)
    assert found is not None
    assert (found.rates.iteration_s, found.processes, found.hardware) == (0.5, 2, "2 x B")
    assert (found.memory_mb, found.device) == (300, "cpu")
    assert found.data_share == pytest.approx(0.3 / 1.5)
    assert (found.rates.image_s, found.rates.start_s, found.rates.checkpoint_s) == (None, None, None)


def test_a_single_row_counts(tmp_path: Path) -> None:
    write_attempt(RunPaths(tmp_path), 1, [attempt_row(), train_row(1, 9.0)])
    found = measure(RunPaths(tmp_path))
    assert found is not None and found.rates.iteration_s == 9.0


def test_times(tmp_path: Path) -> None:
    """Tests: 20 + 2 + 8 s over 10 + 5 images, 2 s each. Starts: 30 s, and 25 s less the resume of 5 s: the median is

    25 s; one that was killed while it started tells nothing. Checkpoints: 6 s for 3.
    """
    paths = RunPaths(tmp_path)
    first = times(start=30.0, evaluation=20.0, waiting=2.0, checkpoint=4.0) | {"images": 10, "checkpoints": 2}
    second = times(start=25.0, scoring=8.0, checkpoint=2.0) | {"images": 5, "checkpoints": 1, "resume": 5.0}
    write_attempt(paths, 1, [attempt_row(), train_row(1, 1.0)], first)
    write_attempt(paths, 2, [attempt_row(), train_row(2, 1.0)], second)
    write_attempt(paths, 3, [], times(start=1.0, staging=2.0))
    found = measure(paths)
    assert found is not None
    assert (found.rates.image_s, found.rates.start_s, found.rates.checkpoint_s) == (2.0, 25.0, 2.0)
    assert found.rates.resume_s == 5.0


def test_of_a_long_journal_the_end_counts(tmp_path: Path) -> None:
    """9 s at first, 2 s in the last 100 of 300 rows; the very last line is torn."""
    paths = RunPaths(tmp_path)
    rows = [train_row(step, 9.0 if step <= 200 else 2.0, memory=step) for step in range(1, 301)]
    write_attempt(paths, 1, [attempt_row(world=2), *rows])
    with paths.segment(1).open("a") as file:
        file.write('{"mode": "train", "step": 301, "ti')
    found = measure(paths)
    assert found is not None
    assert (found.rates.iteration_s, found.memory_mb, found.processes) == (2.0, 300, 2)
