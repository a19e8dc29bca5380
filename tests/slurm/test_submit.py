"""Submitted to a real SLURM: real trainings of seconds, on CPUs, that end, are requeued and are cancelled."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from harness.run_log import merged_rows
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, output, start_now
from slurm.faults import processes
from slurm.outcome import assert_whole
from slurm.place import Place, finished, first_steps, run, steps, text

pytestmark = pytest.mark.slurm

GOLDEN = Path(__file__).parent.parent / "launching" / "golden" / "dry_run.txt"


def test_two_cells_go_as_one_array_and_only_once(place: Place) -> None:
    place.write(multiscale="[false, true]")
    rows = place.submit()
    array = rows[0]["job"].partition("_")[0]
    assert [(row["action"], row["job"]) for row in rows] == [("start", f"{array}_0"), ("start", f"{array}_1")]
    assert [row["action"] for row in place.submit()] == ["leave alone"] * 2
    assert all(re.search(rf"job {array}_\d (on n\d|waits: )", row["text"]) for row in place.status())
    eventually(lambda: place.states() == ["FINISHED"] * 2, 240)
    assert [row["action"] for row in place.submit()] == ["skip"] * 2
    code = place.folder / "runs" / ".code"
    for row in rows:
        assert steps(run(row), "train") == [1, 2, 3, 4, 5, 6]
        made = json.loads((run(row).attempt(1) / "job.json").read_text())
        assert (made["id"], Path(made["code"]).parent) == (row["job"], code)
        assert (
            "epoch 2/2" in Path(next(s["output"] for s in place.status() if s["folder"] == row["folder"])).read_text()
        )


def test_what_a_dry_run_shows(place: Place) -> None:
    """After a change on purpose: HARNESS_WRITE_GOLDEN=1, and read the difference."""
    place.write(multiscale="[false, true]")
    said = place.harness("submit", "tiny.yaml", "--dry-run").stdout
    for found, shown in (
        (r"tiny-[0-9a-f]{8}\b", "tiny-TOKEN"),
        (re.escape(str(place.folder)), "PLACE"),
        (re.escape(sys.executable), "PYTHON"),
        (r"seed0-[0-9a-f]{10}", "seed0-KEY"),
        (r"\.code/[0-9a-f]{12}", ".code/DIGEST"),
    ):
        said = re.sub(found, shown, said)
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        GOLDEN.write_text(said)
    assert said == GOLDEN.read_text()
    assert not (place.folder / "runs").exists()


def test_a_warned_run_of_two_nodes_requeues_itself_and_then_loses_a_process(place: Place) -> None:
    """2 nodes x 2 processes of gloo; nothing is trained twice, and all starts run the same code."""
    place.write("nodes: 2\ngpus_per_node: 2", batch=8, epochs=4, shorten=", iterations_per_epoch: 4")
    (row,) = place.submit()
    paths = run(row)
    eventually(lambda: steps(paths, "train"), 240)
    call(f"scancel --signal=USR2 {row['job']}")
    eventually(lambda: read_state(paths).state == State.QUEUED, 120)
    start_now(row["job"])
    eventually(lambda: read_state(paths).attempt == 2 and len(steps(paths, "train")) > len(first_steps(paths)), 240)
    processes(row["job"])[3].kill()
    eventually(lambda: place.states() == ["FAILED"], 120)
    assert re.match(r"rank 3 on \w+ \(process \d+\) died without a word", text(place)), text(place)
    assert [again["action"] for again in place.submit()] == ["resume"]
    finished(paths, 3)
    assert_whole(place, paths, iterations=4, weights=False)
    attempts = [row for row in merged_rows(paths) if row["mode"] == "attempt"]
    assert [(row["world"], row["world_before"]) for row in attempts] == [(4, None), (4, 4), (4, 4)]
    assert attempts[1]["replayed"] is None
    starts = [json.loads((paths.attempt(number) / "job.json").read_text()) for number in (1, 2, 3)]
    assert [start["restarts"] for start in starts] == [0, 1, 0]
    assert len({start["code"] for start in starts}) == 1
    assert not list(paths.folder.glob(".meeting*"))


def test_a_cancelled_run_stays_so_until_it_is_submitted_again(place: Place) -> None:
    """One that works, which says so itself, and one that waits, of which the accounting tells."""
    place.write("array_parallelism: 1", multiscale="[false, true]", epochs=40)
    first, second = place.submit()
    eventually(lambda: steps(run(first), "train"), 120)
    assert re.search("waits: JobArrayTaskLimit", place.status()[1]["text"])
    call(f"scancel {second['job']} {first['job']}")
    eventually(lambda: place.states() == ["KILLED"] * 2)
    reasons = [row["text"] for row in place.status()]
    assert reasons[0] == "stopped by SIGTERM (a scheduler, or kill)"
    assert re.fullmatch(rf"job {second['job']} (ended as CANCELLED|is gone) without a word of its own", reasons[1])
    assert read_state(run(first)).state == State.KILLED
    again = place.submit()
    assert [row["action"] for row in again] == ["resume", "start"]
    assert {row["job"] for row in again}.isdisjoint({first["job"], second["job"]})


def test_a_cluster_that_does_not_answer_or_refuses(place: Place, cluster: Path, tmp_path: Path) -> None:
    settings = (cluster / "etc" / "slurm.conf").read_text()
    (tmp_path / "dead.conf").write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=1", settings))
    place.write()
    refused = place.harness("submit", "tiny.yaml", check=False, SLURM_CONF=str(tmp_path / "dead.conf"))
    assert refused.returncode == 2
    assert re.match("error: scontrol failed: ", refused.stderr)
    assert refused.stderr.count("\n") == 1
    place.write("partition: moon")
    refused = place.harness("submit", "tiny.yaml", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert ": no partition 'moon' on this cluster; it has gpu, " in refused.stderr
    assert not (place.folder / "runs" / ".slurm").exists()
    assert place.states() == ["NEW"]
    place.write("array_parallelism: 1", epochs=40)
    (row,) = place.submit()
    (lost,) = place.status(SLURM_CONF=str(tmp_path / "dead.conf"))
    assert f"job {row['job']}: squeue failed: " in lost["text"]
    assert output(f"squeue --noheader --jobs={row['job']}")
