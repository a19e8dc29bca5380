"""The ends of attempts, and which nodes they point at."""

import json
from pathlib import Path

import pytest

from harness.failures import Failure
from harness.launching import ends
from harness.launching.ends import FORGIVEN_AFTER, read_end, suspects, write_end
from harness.run_paths import RunPaths
from harness.run_state import State


def fail(root: Path, run: str, nodes: str, kind: Failure = Failure.NODE, *, ago: float = 0.0) -> None:
    """A further attempt of a run that ended so."""
    paths = RunPaths(root / "zoo" / run)
    number = 1 + len(list((paths.folder / "attempts").glob("*")))
    write_end(paths, number, State.FAILED, kind=kind, reason="why", nodes=nodes)
    file = paths.attempt(number) / "end.json"
    plain = json.loads(file.read_text())
    file.write_text(json.dumps(plain | {"time": plain["time"] - ago}))


def test_a_record(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert read_end(paths, 1) is None
    write_end(paths, 1, State.QUEUED, kind=None, reason="requeued", nodes="n[1-2]")
    found = read_end(paths, 1)
    assert found is not None
    assert (found.state, found.kind, found.reason, found.nodes) == (State.QUEUED, None, "requeued", "n[1-2]")


def test_suspect_is_a_node_on_which_two_attempts_of_any_run_failed_for_its_sake(tmp_path: Path) -> None:
    fail(tmp_path, "a", "n1")
    assert suspects(tmp_path) == {}
    fail(tmp_path, "b", "n1")
    fail(tmp_path, "a", "n2", Failure.BUG)
    fail(tmp_path, "a", "n2", Failure.MEMORY)
    fail(tmp_path, "b", "n[3-4]")  # which of the two?
    fail(tmp_path, "b", "n[3-4]")
    fail(tmp_path, "a", "n5,n6")
    fail(tmp_path, "a", "n5,n6")
    fail(tmp_path, "a", "")
    fail(tmp_path, "a", "")
    assert suspects(tmp_path) == {"n1": 2}


def test_it_is_forgiven(tmp_path: Path) -> None:
    fail(tmp_path, "a", "n1")
    fail(tmp_path, "a", "n1", ago=FORGIVEN_AFTER + 60)
    assert suspects(tmp_path) == {}


def test_one_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(tmp_path, "a", "n1")
    fail(tmp_path, "a", "n1")
    fail(tmp_path, "b", "n2")
    (tmp_path / "zoo" / "b" / "attempts" / "0001" / "end.json").write_text("{")
    assert suspects(tmp_path) == {"n1": 2}
    monkeypatch.setattr(ends, "SUSPECTED_AFTER", 3)
    assert suspects(tmp_path) == {}
