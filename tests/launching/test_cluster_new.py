"""Drafts of cluster files: they load, and the cluster that they were drafted from can run what they ask for."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.launching import cluster_new
from harness.launching.cluster import Cluster, load_cluster
from harness.launching.cluster_check import cluster_faults
from harness.launching.cluster_new import draft, write_draft
from harness.launching.slurm_site import Limits, Site
from harness.matrix_file import Resources
from launching.sites import CPU, LAB, MAIN, NONE, accounts, site

CONFIG = {"ClusterName": "one", "SLURM_VERSION": "23.02.7", "MaxArraySize": "1001", "JobRequeue": "1"}
CONFIG |= {"AccountingStorageEnforce": "associations,limits", "PreemptMode": "OFF"}


def drafted(folder: Path, found: Site) -> Cluster:
    path = folder / "drafted.yaml"
    path.write_text(draft(found))
    cluster = load_cluster(str(path))
    assert cluster_faults(cluster, [("x", cluster.shape_of("x", Resources()))], found) == []
    return cluster


def test_a_cluster_with_everything(tmp_path: Path) -> None:
    found = site(config=CONFIG, accounts=accounts(replace(LAB, limits=Limits(minutes=600, submitted=50))))
    values = drafted(tmp_path, found).layers[0].values
    assert values == {
        "partition": "main",
        "account": "lab",
        "qos": "normal",
        "nodes": 1,
        "gpus_per_node": 8,
        "cpus_per_gpu": 8,  # 64 of 8
        "memory_gb": 250,  # 256000 MB
        "minutes": 600,
    }
    text = draft(found)
    assert "# MaxWall of account lab; a run that needs more" in text
    assert "# MaxSubmitJobs 50 of account lab: each run counts.\n" in text


def test_without_accounting(tmp_path: Path) -> None:
    found = site(config=CONFIG, accounts=None, silence="sacctmgr failed: not supported")
    assert drafted(tmp_path, found).layers[0].values["minutes"] == 2880
    assert "# account:              # not known, sacctmgr failed: not supported\n" in draft(found)


def test_the_default_partition_has_no_gpu_and_a_node_has_sixteen(tmp_path: Path) -> None:
    """The job takes half of the node: eight GPUs of sixteen, and half of its 256000 MB."""
    wide = tuple(replace(kind, gpus=16, cpus=64) for kind in MAIN.kinds[:1])
    parts = {
        "cpu": replace(CPU, default=True, state="UP"),
        "7": replace(MAIN, name="7", default=False, kinds=wide, minutes=90),
        "big gpu": replace(MAIN, name="big gpu", default=False, kinds=MAIN.kinds * 9),
    }
    values = drafted(tmp_path, site(config=CONFIG, partitions=parts)).layers[0].values
    assert (values["partition"], values["gpus_per_node"], values["cpus_per_gpu"]) == ("7", 8, 4)
    assert (values["memory_gb"], values["minutes"]) == (125, 90)


def test_a_cluster_without_gpus_and_with_short_jobs(tmp_path: Path) -> None:
    parts = {"cpu": replace(CPU, default=True, state="UP", minutes=3)}
    cluster = drafted(tmp_path, site(config=CONFIG, partitions=parts, accounts=accounts(LAB, normal=NONE)))
    assert (cluster.layers[0].values["gpus_per_node"], cluster.layers[0].values["cpus_per_gpu"]) == (0, 32)
    assert cluster.signal_delay_s == 60


def test_nothing_to_draft_from() -> None:
    with pytest.raises(UserError, match="no partition of this cluster is up and has nodes"):
        draft(site(config=CONFIG, partitions={"cpu": CPU}))


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster_new, "look", lambda: site(config=CONFIG))
    assert write_draft("mine") == Path("slurm/clusters/mine.yaml")
    assert load_cluster("mine").shape_of("x", Resources()).partition == "main"
    with pytest.raises(UserError, match=r"mine\.yaml: is there already"):
        write_draft("mine")
    for name in ("local", "../x", ""):
        with pytest.raises(UserError, match="is no name for a cluster"):
            write_draft(name)
