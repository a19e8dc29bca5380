"""Cluster files: what they mean, and how their mistakes are told."""

from pathlib import Path

import pytest
from conftest import ROOT

from harness.errors import UserError
from harness.launching.cluster import JobShape, load_cluster
from harness.matrix_file import Resources

CLUSTERS = ROOT / "slurm" / "clusters"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(UserError) as error:
        load_cluster(path)
    return str(error.value).replace(path, "FILE").splitlines()


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_clusters_of_the_project_load(path: Path) -> None:
    cluster = load_cluster(path.stem, (CLUSTERS,))
    assert cluster.name == path.stem
    assert cluster.shape_of("mask_rcnn_r50_fpn_1x_coco", Resources()).partition == "gpu"


def test_matrix_below_cluster_below_its_overrides_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "partition: gpu\ngpus_per_node: 4\n"
        "overrides:\n"
        "  - {cells: '*_r101_*', minutes: 100, constraint: big}\n"
        "  - {cells: ['*_2x_*', 'nothing'], minutes: 200}\n",
    )
    cluster = load_cluster(path)
    asked = Resources(cpus_per_gpu=7, minutes=50)
    plain = JobShape(partition="gpu", nodes=1, gpus_per_node=4, cpus_per_gpu=7, minutes=50)
    assert cluster.shape_of("mask_rcnn_r50_fpn_1x_coco", asked) == plain
    both = JobShape(partition="gpu", constraint="big", nodes=1, gpus_per_node=4, cpus_per_gpu=7, minutes=200)
    assert cluster.shape_of("mask_rcnn_r101_fpn_2x_coco", asked) == both
    places = [cluster.place(cell, "minutes") for cell in ("x", "mask_rcnn_r101_fpn_1x_coco", "a_2x_b")]
    assert places == ["the matrix file's resources", f"{path}:4:34", f"{path}:5:45"]
    assert (cluster.place("x", "partition"), cluster.place("x", "qos")) == (f"{path}:1:12", path)


def test_an_empty_mapping_is_a_cluster_that_decides_everything_itself(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, "description: any\n"))
    shape = cluster.shape_of("x", Resources(gpus_per_node=0))
    assert (shape.partition, shape.memory_gb, shape.tasks_per_node) == (None, None, 1)


def test_a_job_must_have_time_to_work(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, "signal_delay_s: 300\nminutes: 10\n"))
    with pytest.raises(UserError, match="get 10 minutes, and are told to save 300 s before their end; raise minutes"):
        cluster.shape_of("x", Resources())


def test_every_mistake_at_once_with_its_place(tmp_path: Path) -> None:
    text = """partition: gpu nodes
gpu_per_node: 8
minutes: soon
memory_gb: 0
modules: cuda
environment:
  2FAST: x
  SLURM_CPUS_PER_TASK: 3
overrides:
  - {cells: "*"}
  - {cells: "*", account: --uid=0}
  - {cells: [], minutes: 5}
python: ~/venv/bin/python
container: "apptainer exec 'my image.sif"
staging: scratch
"""
    assert refused(tmp_path, text) == [
        "FILE:1:12: partition 'gpu nodes' must be one word without spaces that does not begin with '-'",
        "FILE:2:1: unknown key 'gpu_per_node', did you mean 'gpus_per_node'?; expected 'partition', 'account', "
        "'qos', 'constraint', 'nodes', 'gpus_per_node', 'cpus_per_gpu', 'memory_gb', 'minutes', 'description', "
        "'overrides', 'array_parallelism', 'signal_delay_s', 'modules', 'setup', 'environment', 'container', "
        "'python' or 'staging'",
        "FILE:3:10: minutes is 'soon', expected a whole number",
        "FILE:4:12: memory_gb is 0, expected at least 1",
        "FILE:5:10: modules is 'cuda', expected a list",
        "FILE:7:3: '2FAST' is no name of an environment variable: letters, digits, '_', no digit first",
        "FILE:8:3: SLURM_CPUS_PER_TASK belongs to SLURM; use the keys of this file",
        "FILE:10:5: this override gives nothing besides its cells",
        "FILE:11:27: account '--uid=0' must be one word without spaces that does not begin with '-'",
        "FILE:12:13: cells has no pattern, so this override is for none",
        "FILE:13:9: python '~/venv/bin/python' is taken word for word: give its path without '~' and '$'",
        'FILE:14:12: container "apptainer exec \'my image.sif" has a quote that is not closed',
        "FILE:15:10: staging 'scratch' must be an absolute path, or begin with a variable",
    ]


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    write(tmp_path, "partition: gpu\n")
    with pytest.raises(UserError) as error:
        load_cluster("mien", (tmp_path, tmp_path / "none"))
    assert str(error.value) == (
        f"unknown cluster 'mien', did you mean 'mine'?; known: local, mine (looked in {tmp_path}, {tmp_path}/none)"
    )


def test_the_first_folder_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.yaml").write_text(f"partition: {name}\n")
    assert load_cluster("mine", (tmp_path / "one", tmp_path / "two")).layers[0].values["partition"] == "one"


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_cluster(str(tmp_path / "no.yaml"))
