"""Hand-made clusters: what they would say of themselves."""

from dataclasses import replace
from typing import Any

from harness.launching.slurm_site import Accounts, Allowed, Association, Limits, NodeKind, Partition, Qos, Site

ALL = Allowed(only=None, never=frozenset())
NONE = Limits(minutes=None, submitted=None)
BIG = NodeKind(nodes=10, cpus=64, memory_mb=256000, gpus=8, features=frozenset({"a100", "ib"}))
OLD = NodeKind(nodes=4, cpus=32, memory_mb=128000, gpus=4, features=frozenset({"v100"}))
MAIN = Partition(
    name="main",
    default=True,
    state="UP",
    minutes=2880,
    min_nodes=0,
    max_nodes=8,
    grace_s=0,
    qos=None,
    accounts=ALL,
    qoses=ALL,
    kinds=(BIG, OLD),
)
CPU = replace(MAIN, name="cpu", default=False, state="DOWN", kinds=(replace(OLD, gpus=0, features=frozenset()),))
LAB = Association(account="lab", partition=None, qoses=("normal", "short"), default_qos=None, limits=NONE)


def site(enforce: str = "associations,limits,qos", *, partition: Partition = MAIN, **changes: Any) -> Site:
    values: dict[str, Any] = {
        "config": {"MaxArraySize": "1001", "AccountingStorageEnforce": enforce},
        "partitions": {"main": partition, "cpu": CPU},
        "accounts": accounts(LAB),
        "silence": "",
        "queued": (),
    }
    return Site(**(values | changes))


def accounts(*associations: Association, **qoses: Limits) -> Accounts:
    known = {"normal": NONE, "short": replace(NONE, minutes=30)} | qoses
    made = {name: Qos(limits=limits, flags=frozenset()) for name, limits in known.items()}
    return Accounts(user="ann", default="lab", associations=associations, qoses=made)
