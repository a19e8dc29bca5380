"""Waiting for runs, and for a supervisor that does not come."""

import pytest

from harness.errors import UserError
from harness.launching import supervision, supervisor
from harness.launching import wait as wait_module
from harness.launching.prepare import prepare, write
from harness.launching.wait import wait
from harness.matrix import Experiment
from harness.run_state import State, write_state
from harness.settings import Settings


@pytest.mark.slow
def test_wait_replaces_supervisors_but_not_for_ever(
    place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = prepare(*place)[:1]
    write(runs[0])
    write_state(runs[0].paths, State.QUEUED, attempt=0)
    started: list[int] = []

    def start(*_: object, **__: object) -> None:
        started.append(1)
        if len(started) == 2:  # the first one does nothing
            write_state(runs[0].paths, State.FINISHED, attempt=1)

    monkeypatch.setattr(supervisor, "start_detached", start)
    monkeypatch.setattr(supervision, "REPLACEMENT_SECONDS", 0.0)
    monkeypatch.setattr(wait_module.time, "sleep", lambda seconds: None)
    assert [state.state for state in wait(runs, place[1], lambda *_: None)] == [State.FINISHED]
    assert len(started) == 2
    write_state(runs[0].paths, State.QUEUED, attempt=0)
    with pytest.raises(UserError, match=r"the supervisor does not stay alive: see .*log\.txt"):
        wait(runs, place[1], lambda *_: None)
    assert len(started) == 2 + supervision.REPLACEMENTS
