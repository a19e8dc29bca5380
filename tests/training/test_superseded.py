"""A later attempt takes the run while this one is about to write: what belongs to the run stays as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.evaluation.detections import read_detections
from harness.launching.prepare import PreparedRun
from harness.run_paths import RunPaths, next_attempt
from harness.training import checkpoint, outcome, scorer, scoring, validation
from harness.training.loop import train
from harness.training.session import Training
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [(checkpoint, "sha256"), (validation, "predict_split"), (scoring, "_answer")],
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
    assert run.paths.checkpoints.joinpath("latest.json").exists() == (module is not checkpoint)


def test_while_it_scores(monkeypatch: pytest.MonkeyPatch, trained: Training, tmp_path: Path) -> None:
    """In the process beside it, between the two files."""
    paths, split = RunPaths(tmp_path), trained.validation
    next_attempt(paths)
    paths.evaluation.write_text("of an earlier epoch")
    found, meta = read_detections(trained.paths.detections)
    with paths.unscored.open("wb") as file:
        found.save(file, meta)
    taken_after(monkeypatch, scorer, "evaluate", paths)
    with pytest.raises(UserError, match=r"attempt 1 gives way to a later one$"):
        scorer.score_unscored(paths, 1, split.annotations, split.image_ids)
    assert paths.evaluation.read_text() == "of an earlier epoch"
    paths.detections.unlink()
    with pytest.raises(UserError, match=r"attempt 1 gives way to a later one$"):
        scorer.score_unscored(paths, 1, split.annotations, split.image_ids)
    assert not paths.detections.exists()


@pytest.mark.slow
def test_when_it_has_trained(monkeypatch: pytest.MonkeyPatch, run: PreparedRun) -> None:
    next_attempt(run.paths)
    training = run_to_end(run.paths, run.spec)
    before = taken_after(monkeypatch, outcome, "train_seconds", run.paths)
    with pytest.raises(UserError, match=r"attempt 1 gives way to a later one$"):
        outcome.write_outcome(training)
    assert files(run.paths) == before and run.paths.log in before
