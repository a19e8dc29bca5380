"""What a SLURM cluster says of itself: its settings, its partitions and their nodes, and the limits of this user."""

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import UserError
from harness.launching.slurm import gpus, parse_config, parse_job, rows, seconds, value
from harness.launching.slurm_ask import ask


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """Nodes of a partition that are alike."""

    nodes: int
    cpus: int  # a node, as below
    memory_mb: int
    gpus: int
    features: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The accounts, or the qualities of service, that a partition takes."""

    only: frozenset[str] | None  # None: all
    never: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return (self.only is None or name in self.only) and name not in self.never


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Where jobs may go. None in a limit: there is none."""

    name: str
    default: bool  # where jobs go that name none
    state: str  # UP, DOWN, DRAIN or INACTIVE
    minutes: int | None  # a job
    min_nodes: int  # a job, as below
    max_nodes: int | None
    grace_s: int  # between a preemption's warning and its end
    qos: str | None  # whose limits stand above those of a job's own
    accounts: Allowed
    qoses: Allowed
    kinds: tuple[NodeKind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of an association or a quality of service; None: no limit there."""

    minutes: int | None
    submitted: int | None  # jobs that wait and work; each element of an array is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """An account that this user may charge, in one partition or (None) in all."""

    account: str
    partition: str | None
    qoses: tuple[str, ...]
    default_qos: str | None
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Qos:
    """A quality of service."""

    limits: Limits
    flags: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What the accounting knows of this user."""

    user: str
    default: str | None
    associations: tuple[Association, ...]
    qoses: Mapping[str, Qos]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A job of this user that waits or works."""

    account: str
    partition: str
    qos: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A cluster at this moment."""

    config: Mapping[str, str]
    partitions: Mapping[str, Partition]
    accounts: Accounts | None
    silence: str  # why there are no accounts; else ""
    queued: tuple[Queued, ...]

    def partition(self, name: str | None) -> Partition | None:
        """The partition of that name; where jobs go that name none, if there is one."""
        if name is not None:
            return self.partitions.get(name)
        return next((partition for partition in self.partitions.values() if partition.default), None)

    def chosen(self, names: str | None) -> list[Partition]:
        """The partitions in which a job may start: those that it names, between commas, or the default one."""
        return [found for name in (names.split(",") if names else [None]) if (found := self.partition(name))]


_KINDS = ("%R", "%a", "%l", "%D", "%c", "%m", "%G", "%b")
_ASSOCIATIONS = ("Account", "Partition", "QOS", "DefaultQOS", "MaxWall", "MaxSubmitJobs")
_QOSES = ("Name", "MaxWall", "MaxSubmitJobsPerUser", "Flags")
_QUEUED = ("Account", "Partition", "QOS")

CONFIG = ["scontrol", "show", "config"]
PARTITIONS = ["scontrol", "--all", "--oneliner", "show", "partition"]
KINDS = ["sinfo", "--all", "--exact", "--noheader", "--format", "|".join(_KINDS)]
QUEUED = ["squeue", "--all", "--me", "--array", "--noheader", "--Format", ",".join(f"{name}:|" for name in _QUEUED)]
_ACCOUNTING = ["sacctmgr", "--readonly", "--noheader", "--parsable2", "show"]
QOSES = [*_ACCOUNTING, "qos", f"format={','.join(_QOSES)}"]


def associations_command(user: str, cluster: str) -> list[str]:
    """sacctmgr for what a user may charge; limits of the accounts above are among the answers."""
    return [*_ACCOUNTING, "assoc", f"user={user}", f"cluster={cluster}", f"format={','.join(_ASSOCIATIONS)}"]


def default_account_command(user: str, cluster: str) -> list[str]:
    """sacctmgr for the account that is charged where a job names none."""
    return [*_ACCOUNTING, "user", f"user={user}", f"cluster={cluster}", "format=DefaultAccount"]


def look() -> Site:
    """Ask the cluster.

    Raises UserError where it does not answer. The accounting need not.
    """
    config = parse_config(ask(CONFIG))
    accounts, silence = _accounts(config["ClusterName"])
    return Site(
        config=config,
        partitions={found.name: found for found in parse_partitions(ask(PARTITIONS), ask(KINDS))},
        accounts=accounts,
        silence=silence,
        queued=parse_queued(ask(QUEUED)),
    )


def _accounts(cluster: str) -> tuple[Accounts | None, str]:
    user = pwd.getpwuid(os.getuid()).pw_name
    try:
        default = ask(default_account_command(user, cluster)).strip()
        found = Accounts(
            user=user,
            default=default or None,
            associations=parse_associations(ask(associations_command(user, cluster))),
            qoses=parse_qoses(ask(QOSES)),
        )
    except UserError as error:
        return None, str(error)
    return found, ""


def parse_partitions(partitions: str, kinds: str) -> list[Partition]:
    """What PARTITIONS and KINDS answer: the partitions, and a line each kind of node in one."""
    nodes: dict[str, list[NodeKind]] = {}
    for row in rows(kinds, _KINDS):
        kind = NodeKind(
            nodes=int(row["%D"]),
            cpus=_least(row["%c"]),
            memory_mb=_least(row["%m"]),
            gpus=gpus(row["%G"]),
            features=_words(row["%b"]),
        )
        nodes.setdefault(row["%R"], []).append(kind)
    records = (parse_job(text) for text in re.split(r"(?m)^(?=PartitionName=)", partitions) if text.strip())
    return [_partition(record, tuple(nodes.get(record["PartitionName"], ()))) for record in records]


def _partition(record: Mapping[str, str], kinds: tuple[NodeKind, ...]) -> Partition:
    nodes, grace = record["MaxNodes"], record.get("GraceTime", "0")
    return Partition(
        name=record["PartitionName"],
        default=record["Default"] == "YES",
        state=record["State"],
        minutes=_minutes(record["MaxTime"]),
        min_nodes=int(record.get("MinNodes", "0")),
        max_nodes=int(nodes) if nodes.isdigit() else None,
        grace_s=int(grace) if grace.isdigit() else 0,
        qos=value(record["QoS"]),
        accounts=_allowed(record, "Accounts"),
        qoses=_allowed(record, "Qos"),
        kinds=kinds,
    )


def _allowed(record: Mapping[str, str], what: str) -> Allowed:
    only = record.get(f"Allow{what}", "ALL")
    return Allowed(only=None if only == "ALL" else _words(only), never=_words(record.get(f"Deny{what}", "")))


def parse_associations(text: str) -> tuple[Association, ...]:
    """What associations_command answers."""
    return tuple(
        Association(
            account=row["Account"],
            partition=row["Partition"] or None,
            qoses=tuple(row["QOS"].split(",")) if row["QOS"] else (),
            default_qos=row["DefaultQOS"] or None,
            limits=Limits(minutes=_minutes(row["MaxWall"]), submitted=_number(row["MaxSubmitJobs"])),
        )
        for row in rows(text, _ASSOCIATIONS)
    )


def parse_qoses(text: str) -> dict[str, Qos]:
    """What QOSES answers, by name."""
    return {
        row["Name"]: Qos(
            limits=Limits(minutes=_minutes(row["MaxWall"]), submitted=_number(row["MaxSubmitJobsPerUser"])),
            flags=_words(row["Flags"]),
        )
        for row in rows(text, _QOSES)
    }


def parse_queued(text: str) -> tuple[Queued, ...]:
    """What QUEUED answers."""
    found = rows(text, _QUEUED)
    return tuple(
        Queued(account=row["Account"], partition=row["Partition"], qos=row["QOS"].removesuffix("|")) for row in found
    )


def _minutes(text: str) -> int | None:
    """Whole minutes of a duration; None where it is no limit."""
    found = seconds(text)
    return None if found is None else found // 60


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if value(text) else frozenset()


def _least(text: str) -> int:
    """Of "8", or of "8+", which sinfo writes where nodes differ."""
    return int(text.rstrip("+"))
