"""How much a field matters, and when that is not said."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.run_paths import RunPaths
from harness.tuning.importance import importances, silence
from harness.tuning.space import Choice, Range
from harness.tuning.trials import Trial, TrialState

SPACE = (Range(field="lr", low=1e-4, high=1e-2, log=True), Choice(field="multiscale_mode", values=("fixed", "range")))
STUDY: Any = SimpleNamespace(space=SPACE, objectives=[SimpleNamespace(direction="maximize", metric="segm AP")])


def found(values: list[float]) -> list[Trial]:
    """Trials with these values of the objective; rates ascend, modes alternate."""
    return [
        Trial(
            number=number,
            params={"lr": 1e-4 * (number + 1), "multiscale_mode": ("fixed", "range")[number % 2]},
            paths=RunPaths(Path()),
            state=TrialState.COMPLETE,
            values=(value,),
        )
        for number, value in enumerate(values)
    ]


def test_nothing_is_said_of_few_or_equal_trials() -> None:
    assert silence(STUDY, found([0.1 * n for n in range(19)])).startswith("too few finished trials (19) to say")
    assert silence(STUDY, found([0.0] * 20)) == "All finished trials reached the same."
    assert silence(STUDY, found([0.0] * 19 + [0.1])) == ""


@pytest.mark.slow
def test_the_field_that_makes_the_difference_has_nearly_all_of_it() -> None:
    """The value is the rate; whatever is done again gives the same numbers."""
    trials = found([1e-4 * (n + 1) for n in range(24)])
    shares = importances(STUDY, trials)
    assert list(shares) == ["lr", "multiscale_mode"] and shares["lr"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(STUDY, trials) == shares
    assert set(importances(STUDY, found([0.0] * 19 + [0.1]))) == {"lr", "multiscale_mode"}
