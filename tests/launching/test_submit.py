"""What a submit decides and queues, and what status says; no supervisor is started here."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from training.tiny import write_place

from harness import leases
from harness.errors import UserError
from harness.failures import Failure
from harness.files import read_json, write_json
from harness.launching import local_queue, retries, slurm_jobs, supervisor
from harness.launching import submit as submit_module
from harness.launching.frozen_code import Submission
from harness.launching.local_queue import Home, Job, queued_folders
from harness.launching.prepare import prepare, write
from harness.launching.retries import read_retries
from harness.launching.status import status_rows
from harness.launching.submit import Action, decide, submit, wait
from harness.matrix import Experiment, load_experiment
from harness.runs import RunPaths, State, write_state
from harness.settings import Settings, load_settings
from harness.training.notes import Note, write_note

SUBMISSION = Submission(code="0123456789ab", matrix="tiny-0123456789ab.yaml")


@pytest.fixture
def place(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Settings]:
    """Two cells."""
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)
    return load_experiment(write_place(tmp_path, shapes, multiscale="[false, true]")), load_settings(tmp_path, {})


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
    monkeypatch.setattr(slurm_jobs, "ask", lambda command, environ=None: "")  # no job waits or works
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


def test_submit_queues_once(place: tuple[Experiment, Settings]) -> None:
    assert [entry.action for entry in submit(*place)] == [Action.START, Action.START]
    assert [entry.action for entry in submit(*place)] == [Action.LEAVE, Action.LEAVE]
    home = Home(place[1].run_root)
    assert queued_folders(home) == {str(run.paths.folder) for run in prepare(*place)}
    assert len(list(home.queue.iterdir())) == 2


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


def test_gpus_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert [submit_module.local_gpus(wanted, jobs) for wanted, jobs in ((0, 1), (8, 1), (8, 2), (2, 2), (8, 16))] == [
        0, 8, 4, 2, 0,
    ]  # fmt: skip


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


def test_status(place: tuple[Experiment, Settings], tmp_path: Path, shapes: Path) -> None:
    run = prepare(*place)[0]
    assert [row.state for row in status_rows(*place)] == ["NEW", "NEW"]
    write(run)
    write_state(run.paths, State.RUNNING, attempt=2, progress="epoch 1/2")
    run.paths.segment(2).parent.mkdir(parents=True)
    run.paths.segment(2).write_text('{"mode": "val", "epoch": 1, "step": 3, "bbox_mAP": 0.3821, "segm_mAP": null}\n')
    row = status_rows(*place)[0]
    assert (row.state, row.attempt, row.box_ap, row.mask_ap, row.text) == ("RUNNING", 2, 0.3821, None, "epoch 1/2")
    changed = load_experiment(write_place(tmp_path, shapes, multiscale="[false, true]", epochs=3))
    rows = status_rows(changed, place[1])
    assert [row.state for row in rows] == ["NEW", "NEW", "RUNNING"]
    assert rows[2].text == "epoch 1/2; not in the matrix as it is now"


def test_what_status_says_of_runs_in_trouble(place: tuple[Experiment, Settings]) -> None:
    first, second = prepare(*place)
    submit(*place)
    assert [row.text for row in status_rows(*place)] == ["no supervisor lives: harness submit starts one"] * 2
    holder = leases.acquire(Home(place[1].run_root).lease)
    assert holder is not None
    assert [row.text for row in status_rows(*place)] == [""] * 2
    for attempt in (1, 2):
        first.paths.attempt(attempt).mkdir(parents=True)
    write_state(first.paths, State.FAILED, attempt=2, reason="why")
    write_state(second.paths, State.RUNNING, attempt=1, progress="epoch 1/2")
    note = Note(
        rank=0, host="n3", pid=1, started=1.0, phase="step", step=7, image=0, seconds=1.0, stuck=False,
        written=time.time() - 200, slow=["rank 1 on n4: data takes 3.1 x the median (0.62 s a step)"],
    )  # fmt: skip
    write_note(second.paths.attempt(1), note)
    assert [row.text for row in status_rows(*place)] == [
        "why; 2 attempts in a row without a newer checkpoint",
        "epoch 1/2; slow: rank 1 on n4: data takes 3.1 x the median (0.62 s a step); no sign of life from n3 for 200 s",
    ]


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
    monkeypatch.setattr(submit_module, "REPLACEMENT_SECONDS", 0.0)
    monkeypatch.setattr(submit_module.time, "sleep", lambda seconds: None)
    assert [state.state for state in wait(runs, place[1], lambda *_: None)] == [State.FINISHED]
    assert len(started) == 2
    write_state(runs[0].paths, State.QUEUED, attempt=0)
    with pytest.raises(UserError, match=r"the supervisor does not stay alive: see .*log\.txt"):
        wait(runs, place[1], lambda *_: None)
    assert len(started) == 2 + submit_module.REPLACEMENTS


def test_status_without_the_data_finds_runs_by_name(place: tuple[Experiment, Settings], tmp_path: Path) -> None:
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.FAILED, attempt=1, reason="why")
    settings = load_settings(tmp_path, {"HARNESS_DATASET_SHAPES": str(tmp_path / "gone")})
    assert [row.state for row in status_rows(place[0], settings)] == ["FAILED", "NEW"]
