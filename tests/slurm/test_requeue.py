"""Who starts the next attempt where a job may not requeue itself, on a real SLURM."""

import json
from pathlib import Path

import pytest

from harness.run_log import merged_rows
from harness.run_state import State, read_state
from slurm.conftest import call, eventually, output
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_a_job_that_may_not_be_requeued_submits_the_next_one(place: Place) -> None:
    """By SLURM's own word for the job (Requeue=0), which forbids `scontrol requeue`."""
    place.write(epochs=3)
    (row,) = place.submit()
    paths, job = run(row), row["job"]
    call(f"scontrol update JobId={job} Requeue=0")
    eventually(lambda: steps(paths, "train"), 240)
    call(f"scancel --signal=USR2 {job}")
    eventually(lambda: json.loads(paths.job.read_text())["id"] not in (None, job), 120)
    new = json.loads(paths.job.read_text())
    assert place.submit()[0]["action"] in ("leave alone", "skip")
    eventually(lambda: read_state(paths).state == State.FINISHED, 240)
    assert steps(paths, "train") == list(range(1, 10))
    assert steps(paths, "val") == [3, 6, 9]
    first, second = (json.loads((paths.attempt(number) / "job.json").read_text()) for number in (1, 2))
    assert (first["id"], second["id"]) == (job, new["id"])
    assert new["id"].partition("_")[0] != job.partition("_")[0]
    assert (second["restarts"], second["code"]) == (0, first["code"])
    assert [entry["replayed"] for entry in merged_rows(paths) if entry["mode"] == "attempt"] == [None] * 2
    assert "epoch 3/3" in Path(new["output"]).read_text()


@pytest.mark.slow
def test_where_neither_is_allowed_the_run_says_so(place: Place, tmp_path: Path) -> None:
    """sbatch and scontrol of the jobs are scripts that refuse."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "scontrol"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho '{name}: error: not from here' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    place.write(f"setup: ['export PATH={tmp_path}/bin:$PATH']", epochs=40)
    (row,) = place.submit()
    paths = run(row)
    eventually(lambda: steps(paths, "train"), 240)
    call(f"scancel --signal=USR2 {row['job']}")
    eventually(lambda: read_state(paths).state == State.KILLED, 120)
    reason = read_state(paths).reason
    assert "it could not start the next job: scontrol failed: error: not from here; nor could it submit" in reason
    eventually(lambda: not output(f"squeue --noheader --jobs={row['job']}"))
    assert place.submit()[0]["action"] == "resume"
