"""A later attempt takes the run while this one is about to write: what belongs to the run stays as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.launching.prepare import PreparedRun
from harness.runs import RunPaths, next_attempt
from harness.training import checkpoint, outcome, validation
from harness.training.loop import train
from training.tiny import run_to_end, session

pytestmark = pytest.mark.usefixtures("tiny")


def files(paths: RunPaths) -> dict[Path, bytes]:
    """All that is in the run folder, but for what the attempts say of themselves."""
    mine = paths.folder / "attempts"
    return {file: file.read_bytes() for file in paths.folder.rglob("*") if file.is_file() and mine not in file.parents}


def taken_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, paths: RunPaths) -> dict[Path, bytes]:
    """Have a later attempt claim the run at the end of a function's first call; what is in the folder then."""
    function: Callable[..., Any] = getattr(module, name)
    before: dict[Path, bytes] = {}

    def then_taken(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        if not before:
            next_attempt(paths)
            before.update(files(paths))
        return result

    monkeypatch.setattr(module, name, then_taken)
    return before


@pytest.mark.parametrize(
    ("module", "name"),
    [(checkpoint, "sha256"), (validation, "predict_split"), (validation, "evaluate")],
    ids=["writing a checkpoint", "testing", "scoring"],
)
def test_while_it_trains(monkeypatch: pytest.MonkeyPatch, run: PreparedRun, module: Any, name: str) -> None:
    next_attempt(run.paths)
    training = session(run.paths, run.spec)
    before = taken_after(monkeypatch, module, name, run.paths)
    with pytest.raises(UserError, match=r"attempt 1 gives way to a later one$"):
        train(training)
    temporary = {file for file in before if file.suffix == ".tmp"}
    assert files(run.paths) == {file: content for file, content in before.items() if file not in temporary}
    assert run.paths.checkpoints.joinpath("latest.json").exists() == (module is validation)


def test_when_it_has_trained(monkeypatch: pytest.MonkeyPatch, run: PreparedRun) -> None:
    next_attempt(run.paths)
    training = run_to_end(run.paths, run.spec)
    before = taken_after(monkeypatch, outcome, "train_seconds", run.paths)
    with pytest.raises(UserError, match=r"attempt 1 gives way to a later one$"):
        outcome.write_outcome(training)
    assert files(run.paths) == before and run.paths.log in before
