"""What attempts have come to, from the facts on disk."""

from typing import Any

import pytest

from harness.errors import UserError
from harness.files import write_json
from harness.launching.prepare import PreparedRun
from harness.launching.restarts import fruitless, record_start, require_progress, stuck
from harness.run_paths import next_attempt


def save(run: PreparedRun, step: int) -> None:
    entry: dict[str, Any] = {"file": "epoch_1.pth", "sha256": f"{step}", "epoch": 1, "step": step}
    write_json(run.paths.checkpoints / "latest.json", [entry])


def attempt(run: PreparedRun, *, saves: int = 0, begins: bool = True) -> int:
    """An attempt that got as far as beginning, and as saving a checkpoint."""
    number = next_attempt(run.paths)
    if begins:
        record_start(run.paths, number)
    if saves:
        save(run, saves)
    return number


def test_attempts_that_make_progress(run: PreparedRun) -> None:
    assert fruitless(run.paths) == ()
    for step in (3, 6, 9):
        attempt(run, saves=step)
        assert fruitless(run.paths) == ()
    attempt(run)
    assert fruitless(run.paths) == (4,)
    assert stuck(run.paths) == ""
    attempt(run, saves=12)
    assert fruitless(run.paths) == ()


@pytest.mark.parametrize("begins", [True, False])
def test_two_in_a_row(run: PreparedRun, begins: bool) -> None:
    """Also such as died before they could write down where they begin."""
    attempt(run, saves=3)
    attempt(run, begins=begins)
    attempt(run)
    assert fruitless(run.paths) == (3, 2)
    assert stuck(run.paths).startswith("attempts 2 and 3 ended without a newer checkpoint: not started again by itself")


def test_without_any_checkpoint(run: PreparedRun) -> None:
    attempt(run)
    attempt(run)
    assert fruitless(run.paths) == (2, 1)


def test_the_attempt_that_asks_does_not_count(run: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt(run)
    third = [attempt(run), attempt(run)][-1]
    assert fruitless(run.paths, before=third) == (2, 1)
    require_progress(run.paths, third)  # a user has asked
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(UserError, match="mend the cause, then run harness submit --retry"):
        require_progress(run.paths, third)
