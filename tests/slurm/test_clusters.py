"""A cluster file drafted from a real cluster, checked against it, and its nodes looked at from a job."""

import json
from pathlib import Path

import pytest

from slurm.conftest import eventually
from slurm.place import Place, run, steps

pytestmark = pytest.mark.slurm


@pytest.mark.slow
def test_a_drafted_file_goes_at_once(place: Place) -> None:
    place.write()
    said = place.harness("cluster", "new", "drafted").stdout
    assert said.startswith("wrote slurm/clusters/drafted.yaml: look at every line\n")
    script = place.harness("submit", "tiny.yaml", "--cluster", "drafted", "--dry-run").stdout
    assert "#SBATCH --partition=gpu\n" in script and "#SBATCH --gpus-per-node=8\n" in script
    again = place.harness("cluster", "new", "drafted", check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "slurm/clusters/drafted.yaml: is there already" in again.stderr


def test_what_can_never_run_is_refused_with_its_place(place: Place) -> None:
    """All at once, though `sbatch --test-only` agrees to the time and to the quality of service."""
    place.write(
        "partition: debug\nconstraint: a100\nnodes: 3\ngpus_per_node: 9\nmemory_gb: 90\nminutes: 31\nqos: short"
    )
    refused = place.harness("submit", "tiny.yaml", check=False)
    assert refused.returncode == 2
    lines = refused.stderr.partition("error: ")[2].splitlines()
    file = (place.folder / "here.yaml").read_text().splitlines()
    keys = [file[int(line.split(":")[1]) - 1].split(":")[0] for line in lines]
    assert keys == ["nodes", "constraint", "gpus_per_node", "cpus_per_gpu", "memory_gb", "minutes", "minutes"]
    assert "31 minutes: a job of partition debug has at most 30 (MaxTime)" in lines[5]
    assert "31 minutes: a job of qos short has at most 30" in lines[6]
    assert not (place.folder / "runs" / ".slurm").exists()


@pytest.mark.slow
def test_the_doctor_looks_at_a_node(place: Place) -> None:
    place.write()
    said = place.harness("doctor", "--cluster", "here.yaml", "--json", check=False).stdout
    found = {check["name"]: check for check in json.loads(said)["checks"]}
    (node,) = {name.split(":")[0] for name in found if name.startswith("node ")}
    assert "torch 2" in found[node]["detail"]
    assert found[f"{node}: next job"]["detail"] == "scontrol requeue: allowed; sbatch: allowed"
    assert found[f"{node}: run_root"]["status"] == "ok"
    left = sorted(path.name for path in Path(place.folder / "runs").iterdir())
    assert left == [".code", ".slurm"]


@pytest.mark.slow
def test_the_doctor_of_a_cluster_whose_jobs_can_do_nothing(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "scontrol"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'not from here' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    place.write(f"setup: ['export PATH={tmp_path}/bin:$PATH']")
    said = place.harness("doctor", "--cluster", "here.yaml", "--json", check=False).stdout
    (found,) = [check for check in json.loads(said)["checks"] if check["name"].endswith("next job")]
    assert (found["status"], found["detail"]) == (
        "warn",
        "scontrol requeue: scontrol failed: not from here; sbatch: sbatch failed: not from here",
    )
    warned = place.harness("submit", "tiny.yaml").stderr
    assert "note: jobs of here cannot start their next one" in warned


@pytest.mark.slow
def test_jobs_share_the_copy_of_their_node(place: Place, tmp_path: Path) -> None:
    """Two at once, the folder named by a variable of the job."""
    place.write(f"staging: $HERE/staged\nsetup: ['export HERE={tmp_path}']", multiscale="[false, true]")
    rows = place.submit()
    eventually(lambda: place.states() == ["FINISHED"] * 2, 300)
    assert len(list((tmp_path / "staged").glob("*/complete.json"))) == 2  # train and val
    for row, status in zip(rows, place.status(), strict=True):
        assert steps(run(row), "train") == [1, 2, 3, 4, 5, 6]
        assert f"data set read from {tmp_path}/staged/" in Path(status["output"]).read_text()
        assert f"{tmp_path}/shapes/" in run(row).spec.read_text()
