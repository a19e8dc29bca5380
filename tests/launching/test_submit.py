"""What a submit queues, and what a supervisor takes up; none is started here."""

import threading
from pathlib import Path
from typing import Any

import pytest
from training.tiny import write_place

from harness.errors import UserError
from harness.files import write_json
from harness.launching import local_queue, supervisor
from harness.launching.decide import Action
from harness.launching.frozen_code import Submission
from harness.launching.local_queue import Home, Job, queued_folders
from harness.launching.prepare import prepare, write
from harness.launching.status import status_rows
from harness.launching.submit import submit
from harness.matrix import Experiment, load_experiment
from harness.run_paths import RunPaths
from harness.run_state import State, write_state
from harness.settings import Settings, load_settings

SUBMISSION = Submission(code="0123456789ab", matrix="tiny-0123456789ab.yaml")


def test_submit_queues_once(place: tuple[Experiment, Settings]) -> None:
    assert [entry.action for entry in submit(*place)] == [Action.START, Action.START]
    assert [entry.action for entry in submit(*place)] == [Action.LEAVE, Action.LEAVE]
    home = Home(place[1].run_root)
    assert queued_folders(home) == {str(run.paths.folder) for run in prepare(*place)}
    assert len(list(home.queue.iterdir())) == 2


@pytest.mark.slow
def test_submits_at_the_same_moment_queue_once(place: tuple[Experiment, Settings]) -> None:
    decisions: list[Any] = []
    threads = [threading.Thread(target=lambda: decisions.extend(submit(*place))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.action for entry in decisions) == [Action.LEAVE] * 10 + [Action.START] * 2
    assert len(list(Home(place[1].run_root).queue.iterdir())) == 2


def test_nothing_is_queued_where_something_is_missing(tmp_path: Path) -> None:
    write_place(tmp_path, tmp_path / "nowhere")
    settings = load_settings(tmp_path, {})
    with pytest.raises(UserError, match="nowhere"):
        submit(load_experiment(tmp_path / "tiny.yaml"), settings)
    assert not settings.run_root.exists()


def test_unknown_cluster(tmp_path: Path, shapes: Path) -> None:
    write_place(tmp_path, shapes, settings='cluster = "moon"')
    with pytest.raises(UserError, match="unknown cluster 'moon'"):
        submit(load_experiment(tmp_path / "tiny.yaml"), load_settings(tmp_path, {}))


def test_jobs_get_gpus_of_their_own(place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run at work has 0 and 1; of those made visible, by number or by name, the first that are free."""
    home = Home(place[1].run_root)
    run = prepare(*place)[0]
    write(run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert supervisor._free_gpus(home, 2) == ["0", "1"]
    assert supervisor._free_gpus(home, 0) == []
    write_state(run.paths, State.RUNNING, attempt=3)
    write_json(run.paths.attempt(3) / "gpus.json", [0, 1])
    assert supervisor._free_gpus(home, 2) == ["2", "3"]
    write_json(run.paths.attempt(3) / "gpus.json", ["4", "5"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert supervisor._free_gpus(home, 2) == ["6", "7"]
    write_json(run.paths.attempt(3) / "gpus.json", ["MIG-3f"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8a, MIG-3f,GPU-77")
    assert supervisor._free_gpus(home, 2) == ["GPU-8a", "GPU-77"]
    write_state(run.paths, State.KILLED, attempt=3)
    assert supervisor._free_gpus(home, 2) == ["GPU-8a", "MIG-3f"]


@pytest.mark.slow
def test_a_run_that_cannot_be_started_does_not_stop_the_others(
    place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a file that cannot be read, of a run of another experiment, stop the others."""
    submit(*place)
    first, second = prepare(*place)
    torn = place[1].run_root / "other" / "run" / "state.json"
    torn.parent.mkdir(parents=True)
    torn.write_text("{")
    started: list[Path] = []

    def start(asked: Job, paths: RunPaths, gpus: list[int], uri: str) -> None:
        if paths.folder == first.paths.folder:
            raise OSError("no room")
        started.append(paths.folder)
        write_state(paths, State.FINISHED, attempt=1)

    monkeypatch.setattr(supervisor, "_start", start)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    supervisor.supervise(Home(place[1].run_root), jobs=1, tracking_uri="")
    assert started == [second.paths.folder]
    failed = status_rows(*place)[0]
    assert (failed.state, failed.text) == ("FAILED", "cannot be started: no room")


def test_a_run_queued_while_the_supervisor_leaves(
    place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run is queued at the very release of the lease."""
    home = Home(place[1].run_root)
    runs = prepare(*place)
    for run in runs:
        write(run)
    started: list[Path] = []

    def start(asked: Job, paths: RunPaths, gpus: list[int], uri: str) -> None:
        started.append(paths.folder)
        write_state(paths, State.FINISHED, attempt=1)

    release = supervisor.Lease.release

    def late(lease: supervisor.Lease) -> None:
        if len(started) == 1:
            local_queue.enqueue(home, runs[1].paths, SUBMISSION, minutes=1, gpus=0)
        release(lease)

    monkeypatch.setattr(supervisor, "_start", start)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor.Lease, "release", late)
    local_queue.enqueue(home, runs[0].paths, SUBMISSION, minutes=1, gpus=0)
    supervisor.supervise(home, jobs=1, tracking_uri="")
    assert started == [run.paths.folder for run in runs]


def test_a_start_that_never_succeeds_is_not_tried_for_ever(
    place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two supervisors died over it before they could say so; asked again, a user gets another try."""
    home = Home(place[1].run_root)
    run = prepare(*place)[0]
    write(run)
    started: list[int] = []
    monkeypatch.setattr(
        supervisor, "_start", lambda *_: started.append(1) or write_state(run.paths, State.FAILED, attempt=3)
    )
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.0)
    local_queue.enqueue(home, run.paths, SUBMISSION, minutes=1, gpus=0)
    for attempt in (1, 2):
        run.paths.attempt(attempt).mkdir(parents=True)
    supervisor.supervise(home, jobs=1, tracking_uri="")
    assert not started
    assert "attempts 1 and 2 ended without a newer checkpoint" in status_rows(*place)[0].text
    local_queue.enqueue(home, run.paths, SUBMISSION, minutes=1, gpus=0)
    supervisor.supervise(home, jobs=1, tracking_uri="")
    assert started
