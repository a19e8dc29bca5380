"""The batch script on a real SLURM: who gets which signal, and what a requeue runs."""

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from harness.launching import slurm
from harness.launching.cluster import load_cluster
from harness.launching.slurm_script import Batch, batch_script, sbatch_command
from harness.matrix_file import Resources
from slurm.conftest import call, eventually, output, start_now

pytestmark = pytest.mark.slurm

PROBE = """
import os, signal, subprocess, sys, time
from pathlib import Path

folder, rank, start = Path(sys.argv[1]), os.environ["SLURM_PROCID"], os.environ.get("SLURM_RESTART_COUNT", "0")

def told(number, frame):
    (folder / f"told.{rank}").touch()

signal.signal(signal.SIGUSR2, told)
(folder / f"start{start}.{rank}").write_text(f"{os.environ['SLURMD_NODENAME']} {os.environ['CUDA_VISIBLE_DEVICES']}")
if start == "0" and folder.name == "first":
    while len(list(folder.glob("told.*"))) < 4:
        time.sleep(0.1)
    if rank == "0":
        job = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
        subprocess.run(["scontrol", "requeue", job], check=True)
    time.sleep(100)
print("done", rank, flush=True)
"""


@pytest.fixture
def name() -> str:
    """A name of jobs that no other job of the testbed has: ids come again when slurmctld was killed."""
    return f"probe-{uuid.uuid4().hex}"


def submitted(folder: Path, runs: tuple[Path, ...], code: Path, name: str) -> str:
    """Submit runs of the module `probe`, each on 2 nodes x 2 processes; the array's id."""
    testbed = load_cluster("testbed", (ROOT / "slurm" / "clusters",))
    batch = Batch(
        name=name,
        cluster=testbed,
        shape=replace(testbed.shape_of("x", Resources()), nodes=2, gpus_per_node=2),
        folders=runs,
        entry=("probe",),
        code=code,
        python="/usr/bin/python3",
        logs=folder,
    )
    script = folder / "script.sh"
    script.write_text(batch_script(batch))
    return slurm.parse_submitted(output(" ".join(sbatch_command(script))))


def states(array: str, name: str) -> dict[str, str]:
    """The state of the last start of each element."""
    jobs = slurm.parse_accounting(output(" ".join(slurm.accounting_command([array]))))
    return {job.id: job.state for job in jobs if job.name == name}


def test_every_process_is_told_and_a_requeue_runs_the_same_script(cluster: Path, tmp_path: Path, name: str) -> None:
    """Two runs of 2 nodes x 2 processes; the first is told to save, requeues itself, and ends at its second start."""
    folders = (tmp_path / "first", tmp_path / "second")
    for folder in (*folders, tmp_path / "code"):
        folder.mkdir()
    (tmp_path / "code" / "probe.py").write_text(PROBE)
    array = submitted(tmp_path, folders, tmp_path / "code", name)
    eventually(lambda: len(list(folders[0].glob("start0.*"))) == 4)
    call(f"scancel --signal=USR2 {array}_0")
    (tmp_path / "script.sh").write_text("exit 1")  # SLURM has its own copy
    start_now(f"{array}_0")
    eventually(lambda: states(array, name) == {f"{array}_0": "COMPLETED", f"{array}_1": "COMPLETED"}, 120)
    one, same, other, too = ((folders[0] / f"start0.{rank}").read_text() for rank in range(4))
    assert one == same != other == too and {one.split()[1], other.split()[1]} == {"0,1"}
    assert len(list(folders[0].glob("start1.*"))) == len(list(folders[1].glob("start0.*"))) == 4
    said = (tmp_path / f"{array}_0.out").read_text()
    assert sorted(line for line in said.splitlines() if line.startswith("done")) == [f"done {n}" for n in range(4)]
    assert "CANCELLED" in said  # of the first start, before it in the same file


def test_one_process_that_fails_ends_the_others(cluster: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "probe.py").write_text("import os, sys, time\nif os.environ['SLURM_PROCID'] == '3': sys.exit(7)\n")
    with (tmp_path / "probe.py").open("a") as file:
        file.write("time.sleep(100)\n")
    array = submitted(tmp_path, (tmp_path,), tmp_path, name)
    eventually(lambda: states(array, name) == {f"{array}_0": "FAILED"}, 50)
