"""What a submit decides for each run; nothing is started here."""

import socket

import pytest

from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import retries, slurm_ask
from harness.launching.decide import Action, decide
from harness.launching.local_queue import Home, queued_folders
from harness.launching.prepare import prepare, write
from harness.launching.retries import read_retries
from harness.launching.submit import submit
from harness.matrix import Experiment
from harness.run_state import State, write_state
from harness.settings import Settings


def actions(place: tuple[Experiment, Settings]) -> list[str]:
    return [str(entry.action) for entry in decide(prepare(*place), place[1])]


def test_decisions(place: tuple[Experiment, Settings]) -> None:
    first, second = prepare(*place)
    assert actions(place) == ["start", "start"]
    write(first)
    write(second)
    for state, attempt, expected in (
        (State.QUEUED, 0, Action.START),
        (State.RUNNING, 1, Action.LEAVE),
        (State.FAILED, 1, Action.RESUME),  # nobody knows why: it was killed
        (State.KILLED, 1, Action.RESUME),
        (State.FINISHED, 1, Action.SKIP),
    ):
        write_state(first.paths, state, attempt=attempt)
        assert actions(place) == [expected, "start"]


def test_what_failed_is_retried_when_asked(place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = prepare(*place)
    submit(*place)
    for entry in Home(place[1].run_root).queue.iterdir():
        entry.unlink()
    write_state(first.paths, State.FAILED, attempt=1, reason="KeyError: 'x'", kind=Failure.BUG)
    write_state(second.paths, State.KILLED, attempt=1, reason="stopped by SIGTERM", kind=Failure.CANCELLED)
    left, resumed = decide([first, second], place[1])
    assert (left.action, left.failed, left.text) == (Action.LEAVE, True, "bug: KeyError: 'x'")
    assert (resumed.action, resumed.failed, resumed.text) == (Action.RESUME, False, "")
    retried, resumed = submit(*place, retry=True)
    assert (retried.action, retried.text) == (Action.RETRY, "bug: unchanged: mend the cause first")
    assert resumed.action == Action.RESUME
    assert queued_folders(Home(place[1].run_root)) == {str(run.paths.folder) for run in (first, second)}
    assert [entry.kind for entry in read_retries(first.paths)] == [Failure.BUG]
    assert read_retries(second.paths) == []
    monkeypatch.setattr(retries, "RETRIES", 1)
    for entry in Home(place[1].run_root).queue.iterdir():
        entry.unlink()
    write_state(first.paths, State.FAILED, attempt=2, reason="KeyError: 'x'", kind=Failure.BUG)
    refused = decide([first], place[1], retry=True)[0]
    assert (refused.action, refused.failed) == (Action.LEAVE, True)
    assert refused.text.startswith("bug, not retried: 1 retries did not help; mend the cause, then remove ")


def test_a_run_that_had_a_job_of_a_cluster_is_said_to_go_on_here(
    place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_ask, "ask", lambda command, environ=None: "")  # no job waits or works
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.KILLED, attempt=1, reason="stopped by SIGTERM", kind=Failure.CANCELLED)
    assert decide([run], place[1])[0].text == ""
    write_json(run.paths.job, {"name": "a-1", "index": 0, "id": None, "output": "", "code": ""})
    here = decide([run], place[1])[0]
    assert here.action == Action.RESUME and "goes on on this machine (--cluster NAME" in here.text


def test_a_run_that_cannot_be_read_is_left_alone(place: tuple[Experiment, Settings]) -> None:
    """Also when asked for retries; the other one is started."""
    first, _ = prepare(*place)
    write(first)
    first.paths.state.write_text("{")
    for retry in (False, True):
        left, other = decide(prepare(*place), place[1], retry=retry)
        assert (left.action, other.action) == (Action.LEAVE, Action.START)
        assert left.text.startswith(f"mistake: {first.paths.state}: not JSON: ")


def test_a_dead_process_is_seen(place: tuple[Experiment, Settings]) -> None:
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.RUNNING, attempt=1)
    gone = {"state": "RUNNING", "attempt": 1, "host": socket.gethostname(), "pid": 2**22 - 1, "started": 1.0}
    write_json(run.paths.state, gone)
    (decision, _) = decide(prepare(*place), place[1])
    assert (decision.action, decision.text.partition(" (")[0]) == (
        Action.RESUME, "unknown: its process died without a word",
    )  # fmt: skip
    assert read_json(run.paths.state)["state"] == "FAILED"  # and so other hosts know
