"""How far a run has come, by hand-worked journals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.files import write_json
from harness.launching import progress
from harness.launching.gpu_hours import gpu_hours
from harness.launching.progress import journal_ends, progress_of, read_attempts
from harness.launching.slurm import AccountedJob
from harness.launching.slurm_ask import Accounting
from harness.run_paths import RunPaths
from harness.run_state import State
from harness.training.notes import Note, write_note

START = 1_700_000_000.0


def attempt(number: int, step: int, began: float, **more: Any) -> dict[str, Any]:
    row = {"mode": "attempt", "attempt": number, "step": step, "time": began, "stamp": began, "steps": 120}
    return row | {"world": 4, "device": "cuda"} | more


def train(step: int, stamp: float) -> dict[str, Any]:
    return {"mode": "train", "step": step, "epoch": 1, "loss": 1 / step, "time": 0.5, "stamp": stamp}


def val(step: int, stamp: float) -> dict[str, Any]:
    return {"mode": "val", "step": step, "epoch": 1, "bbox_mAP": step / 1000, "segm_mAP": None, "stamp": stamp}


def write(paths: RunPaths, number: int, rows: list[dict[str, Any]], torn: str = "", job: str = "") -> None:
    paths.segment(number).parent.mkdir(parents=True, exist_ok=True)
    paths.segment(number).write_text("".join(f"{json.dumps(row)}\n" for row in rows) + torn)
    if job:
        write_json(paths.attempt(number) / "job.json", {"id": job, "raw_id": 7, "restarts": 2, "node": "n3"})


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def test_before_the_first_attempt(paths: RunPaths) -> None:
    found = progress_of(paths, read_attempts(paths), State.QUEUED)
    assert (found.step, found.steps, found.left, found.epoch(12), found.loss, found.box_ap) == (
        0,
        None,
        None,
        0,
        None,
        None,
    )


def test_two_attempts_one_of_which_works(paths: RunPaths) -> None:
    """The second begins at 40 of 120, and by its note has done 20 in 50 s: 2.5 s each, 60 are left: 150 s."""
    write(paths, 1, [attempt(1, 0, START), train(25, START + 20), val(30, START + 30), train(50, START + 40)])
    write(paths, 2, [attempt(2, 40, START + 100)], torn='{"mode": "train", "step": 60, "lo')
    note = Note(rank=0, host="n3", pid=1, started=1.0, phase="step", step=60, image=0, seconds=0.0, stuck=False,
                written=START + 150)  # fmt: skip
    write_note(paths.attempt(2), note)
    attempts = read_attempts(paths)
    found = progress_of(paths, attempts, State.RUNNING)
    assert (found.step, found.steps, found.pace, found.left, found.heard) == (60, 120, 2.5, 150.0, START + 150)
    assert (found.loss, found.iteration_seconds, found.box_ap, found.mask_ap) == (None, None, 0.03, None)
    stopped = progress_of(paths, attempts, State.KILLED)
    assert (stopped.loss, stopped.iteration_seconds) == (1 / 50, 0.5)
    assert [found.epoch(12), found.epoch(2), found.epoch(1)] == [7, 2, 1]
    assert [(work.seconds, work.gpus) for work in attempts] == [(40.0, 4), (50.0, 4)]


def test_at_rest_what_counts_is_the_checkpoint(paths: RunPaths) -> None:
    write(paths, 1, [attempt(1, 0, START), train(50, START + 100)])
    write_json(paths.checkpoints / "latest.json", [{"step": 10}, {"step": 45}])
    found = progress_of(paths, read_attempts(paths), State.KILLED)
    assert (found.step, found.left) == (45, 150.0)  # 75 of 2 s
    write_json(paths.result, {"metrics": {"bbox_mAP": 0.4, "segm_mAP": 0.3}})
    done = progress_of(paths, read_attempts(paths), State.FINISHED)
    assert (done.step, done.left, done.box_ap, done.mask_ap) == (120, 0.0, 0.4, 0.3)


def test_one_that_is_resumed_is_where_its_checkpoint_is(paths: RunPaths) -> None:
    """The first attempt had come to 50, its checkpoint to 45; the second has a folder, then a note of its start."""
    write(paths, 1, [attempt(1, 0, START), train(50, START + 100)])
    write_json(paths.checkpoints / "latest.json", [{"step": 45}])
    before = progress_of(paths, read_attempts(paths), State.RUNNING, starting=True)
    paths.attempt(2).mkdir()
    note = Note(rank=0, host="n3", pid=1, started=1.0, phase="start", step=0, image=0, seconds=0.0, stuck=False,
                written=START + 150)  # fmt: skip
    write_note(paths.attempt(2), note)
    attempts = read_attempts(paths)
    for found in (before, progress_of(paths, attempts, State.RUNNING, starting=True),
                  progress_of(paths, attempts, State.RUNNING)):  # fmt: skip
        assert (found.step, found.loss, found.iteration_seconds, found.left) == (45, None, None, 150.0)


def accounted(job: str, gpus: int, seconds: int, name: str = "tiny-1a") -> AccountedJob:
    own = {"raw_id": 7, "state": "RUNNING", "exit_code": 0, "signal": 0, "start": None, "end": None, "nodes": None}
    return AccountedJob(id=job, gpus=gpus, seconds=seconds, name=name, **own)  # type: ignore[arg-type]


def test_gpu_hours(paths: RunPaths) -> None:
    """Both starts of 12_3, 8 GPUs for 900 s and 450 s: 3 GPU-hours; and attempt 3, of a job that nobody accounts for,

    4 GPUs for 1800 s: 2. If 1800 s of 4 GPUs are left: 2 more.
    """
    write(paths, 1, [attempt(1, 0, START), train(50, START + 800)], job="12_3")
    write(paths, 2, [attempt(2, 50, START), train(80, START + 800)], job="12_3")
    write(paths, 3, [attempt(3, 80, START), train(90, START + 1800)], job="15_0")
    accounting = Accounting([])
    accounting.__dict__["_known"] = {"12_3": [accounted("12_3", 8, 900), accounted("12_3", 8, 450)]}
    attempts = read_attempts(paths)
    found = gpu_hours(attempts, {"12_3", "15_0"}, accounting, "tiny-")
    assert (found.used, found.gpus, found.expected(1800.0), found.expected(None)) == (5.0, 4, 7.0, None)
    assert gpu_hours(attempts[:2], {"12_3"}, accounting, "tiny-").gpus == 8
    other = gpu_hours(attempts, {"12_3", "15_0"}, accounting, "another-")  # ids come again
    assert other.used == pytest.approx(4 * (800 + 800 + 1800) / 3600)


@given(
    rows=st.lists(st.tuples(st.sampled_from(["train", "val", "note"]), st.text(max_size=30)), max_size=30),
    torn=st.sampled_from(["", '{"mode": "train", "st', '{"mode": "val"}']),
    chunk=st.integers(1, 400),
)
def test_the_ends_are_those_of_the_whole_journal(
    rows: list[tuple[str, str]], torn: str, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a plain reading, for chunks of any size; no text of a row is taken for its mode."""
    path = tmp_path_factory.mktemp("journal") / "log.json"
    written = [{"mode": "attempt"}, *({"mode": mode, "text": text, "step": n} for n, (mode, text) in enumerate(rows))]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in written) + torn)
    written += [{"mode": "val"}] if torn.endswith("}") else []
    last = {str(row["mode"]): row for row in written if row["mode"] in ("attempt", "train", "val")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "CHUNK", chunk)
        assert {mode: row for mode, row in journal_ends(path).items() if row} == last
