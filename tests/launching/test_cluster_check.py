"""What a cluster cannot do of what a cluster file asks, by hand-made clusters."""

from dataclasses import replace
from pathlib import Path

from harness.launching.cluster import Cluster, load_cluster
from harness.launching.cluster_check import cluster_faults, script_fault, share_fault
from harness.launching.slurm_site import Allowed, Limits, Qos, Site
from harness.matrix_file import Resources
from harness.recipe import Recipe
from launching.sites import CPU, LAB, MAIN, NONE, accounts, site


def cluster(folder: Path, text: str) -> Cluster:
    (folder / "mine.yaml").write_text(text)
    return load_cluster(str(folder / "mine.yaml"))


def faults(folder: Path, text: str, found: Site, cells: int = 1, **asked: int) -> list[str]:
    """Of as many cells, by the places in the file."""
    mine = cluster(folder, text)
    wanted = [(f"cell{number}", mine.shape_of(f"cell{number}", Resources(**asked))) for number in range(cells)]
    return [line.replace(f"{folder}/", "") for line in cluster_faults(mine, wanted, found)]


def test_what_fits_has_no_fault(tmp_path: Path) -> None:
    text = "partition: main\naccount: lab\nqos: normal\nconstraint: a100&ib\nnodes: 8\nmemory_gb: 250\nminutes: 2880\n"
    assert faults(tmp_path, text, site(), 84) == []
    assert faults(tmp_path, "description: all left to the cluster\n", site()) == []


def test_everything_at_once(tmp_path: Path) -> None:
    text = """partition: main
account: labs
constraint: h100&ib
nodes: 9
gpus_per_node: 16
cpus_per_gpu: 5
memory_gb: 500
minutes: 4000
"""
    assert faults(tmp_path, text, site()) == [
        "mine.yaml:4:8: 9 nodes: a job of partition main has at most 8 nodes (MaxNodes)",
        "mine.yaml:3:13: no node of partition main has h100; its features: a100, ib, v100",
        "mine.yaml:5:16: 16 GPUs a node: a node of partition main has at most 8",
        "mine.yaml:6:15: 5 CPUs for each of 16 processes a node: a node of partition main has at most 64",
        "mine.yaml:7:12: 500 GB a node: a node of partition main has at most 250.0",
        "mine.yaml:2:10: ann has no account 'labs', did you mean 'lab'?; may charge lab",
        "mine.yaml:8:10: 4000 minutes: a job of partition main has at most 2880 (MaxTime); "
        "lower minutes: a run that needs more goes on in its next job",
    ]


def test_where_no_single_node_has_it_all(tmp_path: Path) -> None:
    """The v100 nodes have 4 GPUs; ten have 8, and a job of 8 GPUs on each of 12 cannot be."""
    wide = replace(MAIN, max_nodes=None)
    assert faults(tmp_path, "nodes: 12\n", site(partition=wide)) == [
        "mine.yaml:1:8: 12 nodes: 10 of the 14 nodes of partition main have all that a job asks of one; "
        "there are 10 x 8 GPUs, 64 CPUs, 250 GB, 4 x 4 GPUs, 32 CPUs, 125 GB"
    ]
    (line,) = faults(tmp_path, "constraint: v100\n", site(), nodes=2)
    assert line.startswith("the matrix file's resources: 2 nodes: 0 of the 14 nodes of partition main have all")
    assert faults(tmp_path, "constraint: v100|a100\n", site(), nodes=2) == []


def test_partitions(tmp_path: Path) -> None:
    assert faults(tmp_path, "partition: mian\n", site()) == [
        "mine.yaml:1:12: no partition 'mian', did you mean 'main'? on this cluster; it has main, cpu"
    ]
    assert faults(tmp_path, "partition: cpu\n", site(), gpus_per_node=0) == [
        "mine.yaml:1:12: partition cpu is DOWN: no job of it starts; wait, or name another one"
    ]
    none = site(partitions={"cpu": CPU})
    assert faults(tmp_path, "qos: normal\n", none) == ["mine.yaml: no default partition on this cluster; it has cpu"]


def test_an_override_is_told_at_its_own_place(tmp_path: Path) -> None:
    text = "minutes: 100\noverrides:\n  - {cells: cell1, minutes: 3000}\n"
    (line,) = faults(tmp_path, text, site(), 3)
    assert line.startswith("mine.yaml:3:29: 3000 minutes: ")


def test_accounts_and_qualities_of_service(tmp_path: Path) -> None:
    assert faults(tmp_path, "qos: shrt\n", site()) == [
        "mine.yaml:1:6: account lab has no qos 'shrt', did you mean 'short'?; it has normal, short"
    ]
    closed = replace(MAIN, accounts=Allowed(only=frozenset({"vip"}), never=frozenset()))
    assert faults(tmp_path, "account: lab\n", site(partition=closed)) == [
        "mine.yaml:1:10: partition main does not take account lab"
    ]
    denied = replace(MAIN, qoses=Allowed(only=None, never=frozenset({"normal"})))
    assert faults(tmp_path, "qos: normal\n", site(partition=denied)) == [
        "mine.yaml:1:6: partition main does not take qos normal"
    ]
    elsewhere = site(accounts=accounts(replace(LAB, partition="cpu")))
    assert faults(tmp_path, "account: lab\n", elsewhere) == [
        "mine.yaml:1:10: account lab is for partition cpu, not main"
    ]


def test_what_is_not_enforced_or_not_known_is_no_fault(tmp_path: Path) -> None:
    text = "account: any\nqos: any\n"
    assert faults(tmp_path, text, site("none")) == []
    assert faults(tmp_path, text, site(accounts=None, silence="sacctmgr: no such command")) == []


def test_whose_time_limit_counts(tmp_path: Path) -> None:
    """The first that has one: the partition's quality of service, the job's, the association."""
    day = replace(LAB, limits=replace(NONE, minutes=1440))
    (line,) = faults(tmp_path, "minutes: 2000\n", site(accounts=accounts(day)))
    assert "a job of account lab has at most 1440" in line
    assert faults(tmp_path, "minutes: 2000\n", site("associations,qos", accounts=accounts(day))) == []
    (line,) = faults(tmp_path, "minutes: 100\nqos: short\n", site(accounts=accounts(day)))
    assert line.startswith("mine.yaml:1:10: 100 minutes: a job of qos short has at most 30;")
    part = replace(MAIN, qos="gpu")
    held = accounts(day, gpu=replace(NONE, minutes=60))
    assert [
        "qos gpu" in line
        for line in faults(tmp_path, "minutes: 100\nqos: short\n", site(partition=part, accounts=held))
    ] == [True]
    over = {
        "short": Qos(
            limits=Limits(minutes=3000, submitted=None), flags=frozenset({"OverPartQOS", "PartitionTimeLimit"})
        )
    }
    free = replace(held, qoses={**held.qoses, **over})
    assert faults(tmp_path, "minutes: 3000\nqos: short\n", site(partition=part, accounts=free)) == []


def test_arrays_and_scripts(tmp_path: Path) -> None:
    mine = cluster(tmp_path, "qos: normal\n")
    none = site(config={"MaxArraySize": "0"})
    (line,) = cluster_faults(mine, [("x", mine.shape_of("x", Resources()))], none)
    assert line.endswith("mine.yaml: this cluster takes no arrays of jobs (MaxArraySize=0); ask its administrator")
    assert script_fault(mine, "x" * 2**22, site()) == ""
    small = site(config={"SchedulerParameters": "bf_continue,max_script_size=1000"})
    assert "a script has 1001 bytes, this cluster takes 1000 (max_script_size)" in script_fault(mine, "x" * 1001, small)


def test_several_partitions(tmp_path: Path) -> None:
    """A job that names several may start in any of them: each must be able to take it."""
    assert faults(tmp_path, "partition: main,cpu\n", site()) == [
        "mine.yaml:1:12: partition cpu is DOWN: no job of it starts; wait, or name another one",
        "the matrix file's resources: 8 GPUs a node: a node of partition cpu has at most 0",
        "the matrix file's resources: 5 CPUs for each of 8 processes a node: a node of partition cpu has at most 32",
    ]
    (line,) = faults(tmp_path, "partition: main,xyzzy\n", site())
    assert line == "mine.yaml:1:12: no partition 'xyzzy' on this cluster; it has main, cpu"


def test_a_partition_of_large_jobs(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "nodes: 1\n", site(partition=replace(MAIN, min_nodes=2)))
    assert line == "mine.yaml:1:8: 1 node: a job of partition main has at least 2 nodes (MinNodes)"


def test_a_user_without_a_default_account(tmp_path: Path) -> None:
    nobody = replace(accounts(LAB), default=None)
    assert faults(tmp_path, "partition: main\n", site(accounts=nobody)) == [
        "mine.yaml: no account is named, and ann has no default one; may charge lab"
    ]


def test_more_processes_than_micro_batches(tmp_path: Path) -> None:
    """A batch of 16 in micro-batches of 2 is for 8 processes; one of 16 in ones is for 16."""
    two = cluster(tmp_path, "gpus_per_node: 8\nnodes: 2\n")
    shape = two.shape_of("x", Resources())
    said = share_fault(two, "x", shape, Recipe())
    assert said.endswith("mine.yaml:2:8: 16 processes (2 x 8): a batch of 16 in micro-batches of 2 is for at most 8")
    assert share_fault(two, "x", shape, replace(Recipe(), micro_batch=1)) == ""
    assert share_fault(two, "x", replace(shape, nodes=1), Recipe()) == ""
