"""The batch script, word for word, and how runs become arrays."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from harness.launching.cluster import Cluster, JobShape, load_cluster
from harness.launching.slurm_script import Batch, arrays, batch_script, sbatch_command, submission_environment
from harness.matrix_file import Resources

CLUSTERS = ROOT / "slurm" / "clusters"
GOLDEN = Path(__file__).parent / "golden"


def example(name: str, cell: str, **changes: object) -> Batch:
    found = load_cluster(name, (CLUSTERS,))
    values: dict[str, object] = {
        "name": "zoo",
        "cluster": found,
        "shape": found.shape_of(cell, Resources()),
        "folders": (Path("/runs/zoo/first-seed0-0123"), Path("/runs/zoo/with space")),
        "entry": ("harness.launching.job", "http://tracking:5000"),
        "code": Path("/runs/.code/89ab"),
        "python": "/venv/bin/python",
        "logs": Path("/runs/.slurm/100%"),
    }
    return Batch(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("golden", "batch"),
    [
        ("testbed.sh", example("testbed", "mask_rcnn_r50_fpn_1x_coco")),
        ("example-8gpu.sh", example("example-8gpu", "mask_rcnn_x101_64x4d_fpn_2x_coco")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_script_is_the_golden_one(golden: str, batch: Batch) -> None:
    """After a change on purpose: HARNESS_WRITE_GOLDEN=1, and read the difference."""
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        (GOLDEN / golden).write_text(batch_script(batch))
    assert batch_script(batch) == (GOLDEN / golden).read_text()


def test_nodes_to_keep_away_from() -> None:
    kept = batch_script(example("testbed", "mask_rcnn_r50_fpn_1x_coco"))
    text = batch_script(example("testbed", "mask_rcnn_r50_fpn_1x_coco", exclude=("n2", "n4")))
    assert set(text.splitlines()) - set(kept.splitlines()) == {"#SBATCH --exclude=n2,n4"}


def cluster(**changes: object) -> Cluster:
    plain = replace(load_cluster("testbed", (CLUSTERS,)), array_parallelism=None, environment={})
    return replace(plain, **changes)  # type: ignore[arg-type]


SHAPE = JobShape(nodes=1, gpus_per_node=0, cpus_per_gpu=3, minutes=10)


def test_what_the_script_runs(tmp_path: Path) -> None:
    """bash runs it, with an srun that shows its words, one a line: nothing is split or expanded twice."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$A" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    folders = (Path("/runs/zero"), Path("/runs/it's $HOME"))
    text = batch_script(
        example(
            "testbed",
            "x",
            shape=SHAPE,
            folders=folders,
            cluster=cluster(environment={"A": "b  c $HOME"}, container="apptainer exec --nv image.sif"),
            python="/my venv/python",
        )
    )
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1", "USER": "ann", "PYTHONPATH": "/own"}
    said = subprocess.run(["bash"], input=text, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        *("/runs/.code/89ab:/own", "b  c $HOME", "--kill-on-bad-exit=1", "--wait=0", "--cpus-per-task=3"),
        *("apptainer", "exec", "--nv", "image.sif", "/my venv/python", "-P", "-m", "harness.launching.job"),
        *("/runs/it's $HOME", "http://tracking:5000"),
    ]


def test_a_setup_line_that_fails_ends_the_job(tmp_path: Path) -> None:
    text = batch_script(example("testbed", "x", cluster=cluster(setup=("false", "echo went on"))))
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (1, "")


def test_what_is_not_given_is_not_asked_for() -> None:
    text = batch_script(example("testbed", "x", cluster=cluster(), shape=SHAPE))
    options = [line.split("--")[1].split("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        *("job-name", "array", "nodes", "ntasks-per-node", "cpus-per-task"),
        *("time", "signal", "requeue", "open-mode", "output"),
    ]
    assert "#SBATCH --array=0-1\n" in text


def test_84_cells_of_two_shapes_are_two_arrays_and_a_limit_splits_them() -> None:
    big = JobShape(nodes=2, gpus_per_node=8, cpus_per_gpu=3, minutes=10)
    wanted = [(Path(f"/runs/{number}"), big if number % 4 == 0 else SHAPE) for number in range(84)]
    found = list(arrays(wanted, 1001))
    assert [(shape, len(folders)) for shape, folders in found] == [(big, 21), (SHAPE, 63)]
    assert [len(folders) for _, folders in arrays(wanted, 25)] == [21, 25, 25, 13]
    assert sorted(folder for _, folders in arrays(wanted, 25) for folder in folders) == sorted(f for f, _ in wanted)


def test_commands() -> None:
    assert sbatch_command(Path("/a b")) == ["sbatch", "--parsable", "/a b"]
    assert sbatch_command(Path("x"), after=("12", "13_4"), only_test=True) == [
        *("sbatch", "--parsable", "--dependency=afterany:12:13_4", "--kill-on-invalid-dep=yes", "--test-only", "x")
    ]


def test_a_job_around_us_leaves_no_trace_but_the_cluster_is_the_same() -> None:
    around = {"SLURM_JOB_ID": "1", "SBATCH_PARTITION": "x", "SRUN_DEBUG": "1", "CUDA_VISIBLE_DEVICES": "0"}
    kept = {"SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin", "HARNESS_RUN_ROOT": "/runs"}
    assert submission_environment(around | kept) == kept
