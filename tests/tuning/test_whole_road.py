"""A study of real trainings, in this process: search, journal, what came out, MLflow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.launching import job, submit, supervision, supervisor
from harness.launching.local_queue import Home
from harness.launching.prepare import PreparedRun
from harness.run_log import merged_rows
from harness.run_paths import RunPaths, next_attempt
from harness.run_state import State, write_state
from harness.tracking.fields import tags
from harness.tracking.query import runs as tracked_runs
from harness.tracking.snapshot import look
from harness.trial_file import TrialFile, write_trial
from harness.tuning.controller import control
from harness.tuning.trials import TrialState, trials
from tuning.launched import write_study


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tiny: None, no_shipper: None, signals: None) -> None:
    """What is queued is run in this process, one after the other."""

    def work(home: Home, **_: Any) -> None:
        for entry in sorted(home.queue.glob("*.json")):
            paths = RunPaths(Path(json.loads(entry.read_text())["folder"]))
            entry.unlink()
            assert job.run_attempt(paths.folder, "", attempt=next_attempt(paths)) == 0

    monkeypatch.setattr(supervisor, "start_detached", work)
    monkeypatch.setattr(submit, "freeze", lambda _: Path())
    monkeypatch.setattr(supervision, "freeze", lambda _: Path())
    monkeypatch.setattr(submit, "require_sound", lambda *_: None)


@pytest.mark.slow
def test_the_best_rate_is_near_the_upper_bound(tmp_path: Path, shapes: Path, here: None) -> None:
    """The objective is the last rate itself, so that its best is known: the bound, 0.1. The base has 0.001.

    Four trials are the base and chosen at random, over four decades; the two after them are by what these gave. MLflow
    has the study as the parent and the trials as its children.
    """
    sampler = "sampler: {kind: tpe, seed: 2, startup_trials: 4}"
    search = "  lr: {low: 0.00001, high: 0.1, log: true}"
    study, settings = write_study(tmp_path, shapes, search=search, budget="{trials: 6, parallel: 1}", more=sampler)
    control(study, settings, lambda _: None)
    found = trials(study, settings)
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 6
    for trial in found:
        assert trial.values == (trial.params["lr"],)
        assert [row["lr"] for row in merged_rows(trial.paths) if row["mode"] == "train"] == [trial.params["lr"]] * 2
    values = [trial.values[0] for trial in found if trial.values]
    assert values[0] == 0.001 and max(values) == max(values[4:]) > 0.09
    tracked = sorted(tracked_runs(settings.tracking_uri, "tuned"), key=lambda run: run.tags["harness.trial"])
    assert [run.tags["harness.trial"] for run in tracked] == list("012345")
    assert [float(run.params["lr"]) for run in tracked] == values
    assert {(run.status, run.tags["harness.study"]) for run in tracked} == {("FINISHED", "tuned")}
    assert len({run.tags["mlflow.parentRunId"] for run in tracked}) == 1
    assert not any("harness.pruned" in run.tags for run in tracked)


def test_what_mlflow_is_told_of_a_pruned_trial(run: PreparedRun) -> None:
    """It has finished, has no result, and a tag says why."""
    mark = TrialFile(study="tuned", number=3, params={"lr": 0.5}, pruned="pruned after epoch 1")
    write_trial(run.paths, mark)
    write_state(run.paths, State.FINISHED, attempt=1, reason=mark.pruned)
    told = tags(look(run.paths))
    names = ("study", "trial", "pruned", "state", "reason")
    assert [told[f"harness.{name}"] for name in names] == ["tuned", "3", mark.pruned, "FINISHED", mark.pruned]
    write_trial(run.paths, replace(mark, pruned=""))
    assert "harness.pruned" not in tags(look(run.paths))
