"""Jobs that share a node, submits that share a cluster, and a submit from inside a job."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run_state import State, read_state
from slurm.conftest import output
from slurm.faults import node_of, partition, processes
from slurm.outcome import assert_whole
from slurm.place import Place, finished, run, steps
from slurm.waiting import eventually

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_two_jobs_of_two_processes_on_one_node(cluster: Path, place: Place) -> None:
    """They meet at ports of their own, and each process has a device that no other has: its local rank's."""
    with partition("pair", "Nodes=n4"):
        place.write("partition: pair\ngpus_per_node: 2", multiscale="[false, true]", batch=4)
        rows = place.submit()
        eventually(lambda: all(steps(run(row), "train") for row in rows), 240)
        assert {node_of(row["job"]) for row in rows} == {"n4"}
        devices = []
        for row in rows:
            ranks = [process.environ() for process in processes(row["job"])]
            assert [rank["SLURM_LOCALID"] for rank in ranks] == ["0", "1"]
            devices += [rank["CUDA_VISIBLE_DEVICES"].split(",")[int(rank["SLURM_LOCALID"])] for rank in ranks]
        assert len(set(devices)) == 4
        for row in rows:
            eventually(lambda row=row: read_state(run(row)).state == State.FINISHED, 300)  # type: ignore[misc]
            assert_whole(place, run(row), weights=False)


OUTER = "sbatch --wait --partition=debug --job-name=outer --ntasks=3 --cpus-per-task=2 --gpus=4 --mem=2G --time=5"


@pytest.mark.slow
def test_a_submit_from_inside_a_job(place: Place) -> None:
    """What the job around it has asked for is not what the run's job gets."""
    place.write(epochs=2)
    script = place.folder / "outer.sh"
    inner = f"cd {place.folder} && {sys.executable} -m harness submit tiny.yaml --json > submitted.json"
    script.write_text(f"#!/bin/bash\nsrun --ntasks=1 --exact bash -c '{inner}'\n")
    subprocess.run([*OUTER.split(), f"--output={place.folder}/outer.out", script], check=True, timeout=120)
    (row,) = json.loads((place.folder / "submitted.json").read_text())
    eventually(lambda: processes(row["job"]), 120)
    (environ,) = (process.environ() for process in processes(row["job"]))
    assert (environ["SLURM_NTASKS"], environ["SLURM_JOB_PARTITION"], environ["SLURM_CPUS_PER_TASK"]) == (
        "1",
        "gpu",
        "1",
    )
    assert environ["SLURM_JOB_NAME"] != "outer" and "SLURM_GPUS" not in environ
    assert len(environ["CUDA_VISIBLE_DEVICES"].split(",")) == 1
    finished(run(row), 1)


@pytest.mark.slow
def test_two_machines_submit_at_the_same_moment(place: Place) -> None:
    place.write("array_parallelism: 1", multiscale="[false, true]", epochs=40)
    submit = f"{sys.executable} -m harness submit tiny.yaml --json"
    elsewhere = ["unshare", "--uts", "bash", "-c", f"hostname elsewhere && exec {submit}"]
    both = [subprocess.Popen(command, cwd=place.folder, stdout=-1) for command in (submit.split(), elsewhere)]
    rows = [row for one in both for row in json.loads(one.communicate(timeout=120)[0])]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted(row["action"] for row in rows) == ["leave alone", "leave alone", "start", "start"]
    (array,) = (place.folder / "runs" / ".slurm").iterdir()
    names = output("squeue --me --array --noheader --Format=Name:60").split()
    assert names.count(array.name) == 2
    started = {row["folder"]: row["job"] for row in rows if row["action"] == "start"}
    assert {row["folder"]: row["job"] for row in rows if row["action"] == "leave alone"} == started


ALL = """\
name: all
axes:
  backbone: [R-50, R-101, X-101-32x4d, X-101-64x4d, X-101-32x8d]
  style: [caffe, pytorch]
  schedule: [1x, 2x, 3x]
  fp16: [false, true]
  multiscale: [false, true]
exclude:
  - {backbone: [X-101-32x4d, X-101-64x4d, X-101-32x8d], style: caffe, because: there is none}
recipe: {dataset: shapes, num_classes: 3, pretrained: none}
"""


@pytest.mark.slow
def test_84_cells_take_a_handful_of_calls(
    place: Place, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scontrol", "sinfo"):
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (commands / name).write_text(f'#!/bin/sh\necho {name} >> {tmp_path}/called\nexec {real} "$@"\n')
        (commands / name).chmod(0o755)
    place.write("array_parallelism: 1")
    (place.folder / "tiny.yaml").write_text(ALL)
    before = os.times().elapsed
    rows = place.submit(PATH=f"{commands}:{os.environ['PATH']}")
    seconds = os.times().elapsed - before
    called = (tmp_path / "called").read_text().split()
    record_property("counts", f"{len(rows)} cells in {seconds:.1f} s, {called.count('sbatch')} sbatch calls")
    assert len(rows) == len({row["job"] for row in rows}) == 84
    assert called.count("sbatch") <= 4 and len(called) <= 10
    assert seconds < 50
