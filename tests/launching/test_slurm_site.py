"""What clusters say of themselves, as captured and as quoted by others (slurm_outputs/README.md)."""

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.launching import slurm_site
from harness.launching.slurm import parse_config
from harness.launching.slurm_site import Limits, NodeKind, Queued, parse_partitions

OUTPUTS = Path(__file__).parent / "slurm_outputs"
HERE = OUTPUTS / "22.05.8"
RELEASES = sorted(path for path in OUTPUTS.iterdir() if path.name[0].isdigit())


def read(folder: Path, name: str) -> str:
    return (folder / f"{name}.txt").read_text(encoding="utf-8")


release = pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)


@release
def test_the_partitions_of_the_testbed(folder: Path) -> None:
    """As slurm/testbed/slurm.conf declares them."""
    gpu, high, debug = parse_partitions(read(folder, "partition"), read(folder, "sinfo"))
    assert [(part.name, part.default, part.minutes, part.grace_s) for part in (gpu, high, debug)] == [
        ("gpu", True, None, 20),
        ("high", False, None, 0),
        ("debug", False, 30, 0),
    ]
    assert (gpu.state, gpu.max_nodes, gpu.qos) == ("UP", None, None)
    assert "anything" in gpu.accounts and "anything" in gpu.qoses
    kind = {"cpus": 8, "memory_mb": 64000, "gpus": 8, "features": frozenset()}
    assert gpu.kinds == (NodeKind(nodes=4, **kind),)  # type: ignore[arg-type]
    assert debug.kinds == (NodeKind(nodes=2, **kind),)  # type: ignore[arg-type]


def test_partitions_of_25_11() -> None:
    """Without --oneliner; one has no nodes at all."""
    cpu, gpu = parse_partitions(read(OUTPUTS / "found", "partition-25.11.4"), "cpu|up|infinite|2|12|7837|(null)|cpu\n")
    assert (cpu.default, cpu.minutes, cpu.qos, gpu.default, gpu.kinds) == (True, None, None, False, ())
    assert cpu.kinds[0].features == {"cpu"}
    assert parse_config(read(OUTPUTS / "found", "config-25.11.4"))["SLURM_VERSION"] == "25.11.4"


def test_a_configuration_of_23_02() -> None:
    found = parse_config(read(OUTPUTS / "found", "config-23.02.7"))
    assert (found["SLURM_VERSION"], found["ClusterName"], found["MaxArraySize"]) == ("23.02.7", "demo-cluster", "1001")


def test_partitions_of_large_clusters() -> None:
    large, gpu = parse_partitions(read(OUTPUTS / "found", "partition-puhti"), "")
    assert (large.minutes, large.max_nodes, large.qos) == (3 * 24 * 60, 26, "accrue_large")
    assert (gpu.max_nodes, gpu.qos) == (20, "gputres_accrue")
    found = parse_partitions(read(OUTPUTS / "found", "partition-skypilot"), "")
    assert [part.name for part in found] == ["dev", "CPU nodes (amd)"]


def test_who_may_go_there() -> None:
    line = "PartitionName=a {} Default=NO QoS=N/A MaxNodes=1 MaxTime=1:00:00 State=DRAIN"
    (only,) = parse_partitions(line.format("AllowAccounts=x,y AllowQos=ALL"), "")
    (but,) = parse_partitions(line.format("DenyAccounts=x DenyQos=short"), "")
    assert ["x" in only.accounts, "z" in only.accounts, "short" in only.qoses] == [True, False, True]
    assert ["x" in but.accounts, "z" in but.accounts, "short" in but.qoses] == [False, True, False]
    assert (only.state, only.minutes) == ("DRAIN", 60)


def test_nodes_that_differ() -> None:
    """Two kinds of GPU node in one partition, as a heterogeneous cluster shows them."""
    text = (
        "main|up|2-00:00:00|10|64|256000|gpu:a100:8(S:0-1)|a100,ib\n"
        "main|up|2-00:00:00|4|32+|128000+|gpu:v100:4,gpu:t4:2|v100\n"
    )
    (main,) = parse_partitions("PartitionName=main Default=NO QoS=N/A MaxNodes=1 MaxTime=UNLIMITED State=UP", text)
    assert [(kind.nodes, kind.cpus, kind.gpus) for kind in main.kinds] == [(10, 64, 8), (4, 32, 6)]
    assert main.kinds[1].features == {"v100"}


@release
def test_associations_with_what_they_inherit(folder: Path) -> None:
    """The account h3 has MaxWall 1-00:00:00 and MaxSubmitJobs 7; root's association in debug has 2."""
    found = slurm_site.parse_associations(read(folder, "associations"))
    debug, h3, lab, _ = sorted(found, key=lambda one: (one.account, str(one.partition or "none")))
    assert (debug.account, debug.partition, debug.limits) == ("h3", "debug", Limits(minutes=1440, submitted=2))
    assert (h3.partition, h3.qoses, h3.default_qos) == (None, ("h3qos", "normal"), "h3qos")
    assert h3.limits == Limits(minutes=1440, submitted=7)
    assert (lab.default_qos, lab.limits) == (None, Limits(minutes=None, submitted=None))


@release
def test_qualities_of_service(folder: Path) -> None:
    found = slurm_site.parse_qoses(read(folder, "qos"))
    assert {name: qos.limits.minutes for name, qos in found.items()} == {"normal": None, "short": 30, "h3qos": 10}
    assert found["h3qos"].limits.submitted == 3
    assert found["h3qos"].flags == {"DenyOnLimit", "PartitionTimeLimit"}


@release
def test_what_is_queued(folder: Path) -> None:
    found = slurm_site.parse_queued(read(folder, "queued"))
    assert Queued(account="root", partition="high", qos="normal") in found
    assert {(job.account, job.partition) for job in found} >= {("lab", "gpu"), ("root", "high")}


def test_a_cluster_without_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(command: list[str]) -> str:
        if command[0] == "sacctmgr":
            raise UserError("sacctmgr failed: You are not running a supported accounting_storage plugin")
        names = {"squeue": "queued", "sinfo": "sinfo", "scontrol": "config" if "config" in command else "partition"}
        return read(HERE, names[command[0]])

    monkeypatch.setattr(slurm_site, "ask", ask)
    site = slurm_site.look()
    assert site.accounts is None
    assert "supported accounting_storage" in site.silence
    assert [getattr(site.partition(name), "name", None) for name in (None, "debug", "moon")] == ["gpu", "debug", None]
