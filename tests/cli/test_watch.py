"""status, logs, wait, cancel, clean as a person sees them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli.conftest import Harness
from harness.cli import status_table, watch
from harness.cli.status_table import closing, table, urgent
from harness.launching import supervisor
from harness.launching.status import RunStatus
from harness.run_paths import RunPaths
from harness.run_state import State, write_state

CELL = "mask_rcnn_r18_fpn_1x_coco+tiny"
WORKS = RunStatus(
    name="mask_rcnn_x101_64x4d_fpn_mstrain-poly_3x_coco", seed=0, state="RUNNING", attempt=2, epoch=6, epochs=12,
    step=42, steps=100, eta_seconds=3725.0, loss=0.51234, box_ap=0.381, mask_ap=0.345, iteration_seconds=0.351,
    gpu_hours=12.34, gpu_hours_expected=96.0, job="123_4", node="n17",
)  # fmt: skip
WAITS = RunStatus(name="mask_rcnn_r50_fpn_1x_coco", seed=0, state="QUEUED", reason="waits: Priority", job="123_5")
FAILED = RunStatus(
    name="mask_rcnn_r50_fpn_2x_coco", seed=0, state="FAILED", reason="ValueError: " + "x" * 200, output="/logs/1.out"
)


@pytest.fixture
def no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "start_detached", lambda *_, **__: None)


def test_a_line_says_all_where_there_is_room() -> None:
    header, _, line, *_ = table([WORKS, WAITS], None)
    assert header.split() == [
        "run", "seed", "state", "epoch", "ETA", "loss", "AP", "box/mask", "s/iter", "GPU-hours", "attempt",
        "job", "node",
    ]  # fmt: skip
    assert line.split() == [
        WORKS.name, "0", "RUNNING", "6/12", "42%", "1h02m", "0.512", "38.1/34.5", "0.35", "12.3/96.0", "2",
        "123_4", "n17",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [200, 120, 100, 80])
def test_lines_fit_and_nothing_of_a_reason_is_lost(width: int) -> None:
    lines = table([WORKS, WAITS, FAILED], width)
    assert max(map(len, lines)) <= width
    assert "waits: Priority" in " ".join(lines)
    said = "".join(line.strip() for line in lines).replace(" ", "")
    assert "ValueError:" + "x" * 200 in said
    assert all(word in lines[2] for word in ("RUNNING", "6/12  42%", "1h02m"))


def test_at_120_columns() -> None:
    header = table([WORKS, WAITS], 120)[0].split()
    assert {"state", "epoch", "ETA", "loss", "box/mask", "GPU-hours", "job"} <= set(header)


def test_same_reasons_are_told_once() -> None:
    rows = [replace(WAITS, name=f"cell{number}", reason="waits: " + "y" * 60) for number in range(5)]
    lines = table(rows, 60)
    assert sum("y" * 40 in line for line in lines) == 1 and any("cell0 seed 0 and 4 more:" in line for line in lines)


def test_what_is_said_of_all() -> None:
    stopped = replace(WAITS, state="KILLED", output="")  # before its first attempt
    said = closing([WORKS, replace(WORKS, gpu_hours=3.0, gpu_hours_expected=4.0), stopped, FAILED], "zoo.yaml")
    assert said[1] == "2 running, 1 failed, 1 stopped; 15.3 of at least 100.0 GPU-hours"
    assert said[2:] == [
        "mask_rcnn_r50_fpn_2x_coco seed 0: output in /logs/1.out",
        "now run: harness submit zoo.yaml --retry (tries again what failed, resumes what was stopped)",
    ]
    assert closing([replace(WAITS, fault="squeue failed")] * 2, "zoo.yaml")[0] == "squeue failed"
    for state, hint in (("KILLED", "submit a (resumes"), ("NEW", "submit a"), ("FINISHED", "report a")):
        assert hint in closing([replace(WAITS, state=state)], "a")[-1]


def test_where_there_is_little_room_the_urgent_ones_are_shown() -> None:
    done = replace(WAITS, state="FINISHED")
    assert urgent([done, WAITS, FAILED, done, WORKS], 3) == [WAITS, FAILED, WORKS]
    assert urgent([done, WORKS], 0) == [WORKS]


def test_every_state_has_a_word() -> None:
    assert set(status_table.WORDS) == set(status_table.ORDER) == {*State, "NEW", "BROKEN"}


def test_status_json_is_raw(harness: Harness) -> None:
    (row,) = json.loads(harness("status", "tiny.yaml", "--json")[1])
    assert set(row) == set(RunStatus.__dataclass_fields__)
    assert harness("status", "tiny.yaml", "--json", "--watch")[0] == 2


@pytest.mark.slow
def test_watching_ends_by_itself(harness: Harness, no_supervisor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = json.loads(harness("submit", "tiny.yaml", "--json")[1])
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            write_state(RunPaths(Path(row["folder"])), State.FAILED, attempt=1, reason="why")

    monkeypatch.setattr(watch.time, "sleep", look)
    code, out, _ = harness("status", "tiny.yaml", "--watch")
    assert (code, len(looks)) == (0, 2)
    assert "1 failed" in out and "why" in out


@pytest.mark.slow
def test_wait(harness: Harness, no_supervisor: None) -> None:
    code, _, err = harness("wait", "tiny.yaml")
    assert (code, err) == (1, "1 run of 1 cannot finish, see harness status tiny.yaml\n")  # it was never submitted
    (row,) = json.loads(harness("submit", "tiny.yaml", "--json")[1])
    paths = RunPaths(Path(row["folder"]))
    write_state(paths, State.KILLED, attempt=1)
    assert harness("wait", "tiny.yaml")[0] == 1
    write_state(paths, State.FINISHED, attempt=1)
    code, out, _ = harness("wait", "tiny.yaml")
    assert (code, out.splitlines()[-1]) == (0, "all finished; now run: harness report tiny.yaml")


@pytest.mark.slow
def test_cancel(harness: Harness, no_supervisor: None) -> None:
    assert harness("cancel", "tiny.yaml")[1] == "nothing to cancel: none of these runs waits or works\n"
    harness("submit", "tiny.yaml")
    code, _, err = harness("cancel", "tiny.yaml", "*r50*")
    assert (code, err.count("\n")) == (2, 1) and "no run of this name or pattern" in err
    code, out, _ = harness("cancel", "tiny.yaml", "*r18*")
    assert (code, out.splitlines()[2].split("  ")) == (0, [f"{CELL} seed 0", "removed from the queue"])
    (row,) = json.loads(harness("status", "tiny.yaml", "--json")[1])
    assert (row["state"], row["reason"]) == ("KILLED", "cancelled by harness cancel")


@pytest.mark.slow
def test_logs(harness: Harness, place: Path, no_supervisor: None) -> None:
    code, _, err = harness("logs", CELL)
    assert code == 2 and "no run of this name" in err
    (row,) = json.loads(harness("submit", "tiny.yaml", "--json")[1])
    paths = RunPaths(Path(row["folder"]))
    assert "no output yet: QUEUED" in harness("logs", CELL)[2]
    write_state(paths, State.FAILED, attempt=1, reason="why")
    file = paths.attempt(1) / "submitit" / "1_0_log.out"
    file.parent.mkdir(parents=True)
    file.write_text("epoch 1/2\n")
    for words in (
        (CELL,),
        ("tiny.yaml", "*r18*"),
        ("--seed", "0", CELL),
        (str(paths.folder),),
        ("--attempt", "1", CELL),
    ):
        code, out, err = harness("logs", *words)
        assert (code, out, err) == (0, "epoch 1/2\n", f"note: {CELL} seed 0: {file}\n"), words
    code, out, err = harness("logs", "-f", CELL)
    assert (code, out) == (0, "epoch 1/2\n") and err.splitlines()[-1] == f"note: {CELL} seed 0: FAILED, why"
    for wrong in (
        ("tiny.yaml", CELL, "x"),
        ("-f", "--attempt", "1", CELL),
        ("--attempt", "2", CELL),
        ("--seed", "1", CELL),
    ):
        assert harness("logs", *wrong)[0] == 2


def test_clean_lists_and_then_removes(harness: Harness, place: Path) -> None:
    assert harness("clean")[1] == "nothing to remove\n"
    (place / "runs" / ".code" / "0123456789ab").mkdir(parents=True)
    (place / "runs" / ".code" / "0123456789ab" / "file").write_text("x" * 2000)
    code, out, _ = harness("clean", "tiny.yaml")
    assert code == 0 and "a code that no run began with  2 kB" in out
    assert out.splitlines()[-1] == "1 entry, 2 kB; nothing is removed yet: harness clean tiny.yaml --yes"
    assert json.loads(harness("clean", "--json")[1])[0]["size"] == 2000
    assert harness("clean", "--yes")[1].splitlines()[-1] == "removed: 1 entry, 2 kB"
    assert harness("clean")[1] == "nothing to remove\n"
