"""What submit says, and where."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planning.conftest import finish

from cli.conftest import Harness
from harness.launching import supervisor
from harness.launching.prepare import prepare
from harness.matrix import load_experiment
from harness.planning import plan
from harness.planning.disk import Room
from harness.planning.pilot import pilot_experiment
from harness.run_state import RunState, State
from harness.settings import load_settings

UNMEASURED = "note: 1 kind of cell has had no pilot; what they take is measured by harness submit tiny.yaml --pilot\n"


@pytest.fixture(autouse=True)
def _no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)


@pytest.mark.slow
def test_only_json_goes_to_stdout(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a submit that waits: what changes meanwhile, and what was not measured, is told on stderr."""

    def wait(runs: list[Any], settings: object, changed: Callable[[Any, RunState], None]) -> list[RunState]:
        changed(runs[0], RunState(state=State.RUNNING, progress="epoch 1/2"))
        return [RunState(state=State.FINISHED)]

    monkeypatch.setattr("harness.launching.wait.wait", wait)
    code, out, err = harness("submit", "tiny.yaml", "--json", "--wait")
    (row,) = json.loads(out)
    assert (code, row["action"]) == (0, "start")
    assert err.startswith(UNMEASURED)
    assert "seed 0: RUNNING epoch 1/2\nall finished; now run: harness report tiny.yaml\n" in err
    assert UNMEASURED not in harness("submit", "tiny.yaml")[2]  # it is queued already


@pytest.mark.slow
def test_without_room_for_a_checkpoint_nothing_is_started(
    harness: Harness, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "room", lambda folder: Room(free=10_000_000, limit="the quota of user ann"))
    code, out, err = harness("submit", "tiny.yaml")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "the quota of user ann has 10 MB left" in err and "nothing was started" in err
    assert not list((place / "runs").glob("tiny/*"))
    monkeypatch.setattr(plan, "room", lambda folder: Room(free=300_000_000))
    code, _, err = harness("submit", "tiny.yaml")
    assert code == 0 and "note: the runs to start (1) may take" in err


def test_what_a_pilot_has_measured_is_shown(harness: Harness, place: Path) -> None:
    """Its journal and times, written by hand: half a second of 2 s waits for data, and so on."""
    settings = load_settings()
    (pilot,) = prepare(pilot_experiment(load_experiment("tiny.yaml"), settings), settings)
    finish(pilot, 2.0, data_time=0.5)
    times = {"start": 40.0, "evaluation": 6.0, "checkpoint": 1.0}
    counted = {"images": 4, "evaluations": 1, "checkpoints": 2, "resume": 10.0}
    (pilot.paths.attempt(1) / "times.json").write_text(json.dumps({"seconds": times, **counted}))
    out = harness("plan", "tiny.yaml")[1]
    assert "25.0% of an iteration waits for data, 0.1 GB a process, 30 s from start to first iteration, " in out
    assert "10 s to go on from a checkpoint, 0.5 s a checkpoint, 1.5 s a test image\n" in out
    (row,) = json.loads(harness("plan", "tiny.yaml", "--json")[1])["plan"]
    assert row["measured"]["rates"]["resume_s"] == 10.0 and row["measured"]["data_share"] == 0.25
