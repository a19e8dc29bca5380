"""What status says of runs."""

import time
from pathlib import Path

import pytest
from training.tiny import write_place

from harness import leases
from harness.launching.local_queue import Home
from harness.launching.prepare import prepare, write
from harness.launching.status import status_rows
from harness.launching.submit import submit
from harness.matrix import Experiment, load_experiment
from harness.run_state import State, write_state
from harness.settings import Settings, load_settings
from harness.training.notes import Note, write_note


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


@pytest.mark.slow
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


def test_status_without_the_data_finds_runs_by_name(place: tuple[Experiment, Settings], tmp_path: Path) -> None:
    run = prepare(*place)[0]
    write(run)
    write_state(run.paths, State.FAILED, attempt=1, reason="why")
    settings = load_settings(tmp_path, {"HARNESS_DATASET_SHAPES": str(tmp_path / "gone")})
    assert [row.state for row in status_rows(place[0], settings)] == ["FAILED", "NEW"]
