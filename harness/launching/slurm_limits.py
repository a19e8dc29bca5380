"""What a job is charged to, and whose limits it meets there, as SLURM's guide to resource limits orders them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.launching.cluster import JobShape
from harness.launching.slurm_site import Accounts, Association, Partition, Qos, Queued, Site
from harness.wording import count

DEFAULT_QOS = "normal"
"""Of associations that name none: the one that every SLURM database begins with."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and who has it: a quality of service or, of this user, an account (in one partition, or in all)."""

    number: int
    field: Literal["qos", "account"]
    name: str
    partition: str | None = None

    @property
    def owner(self) -> str:
        """In words."""
        return f"{self.field} {self.name}"

    def counts(self, job: Queued) -> bool:
        """Whether a job of this user counts here."""
        return getattr(job, self.field) == self.name and self.partition in (None, job.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a job is charged to."""

    association: Association
    qos: str
    qoses: tuple[tuple[str, Qos], ...]  # those that have a say, the first one first
    limited: bool  # whether the cluster enforces limits

    @property
    def beyond_partition(self) -> bool:
        """Whether the job may take longer than its partition allows."""
        return self.limited and any("PartitionTimeLimit" in qos.flags for _, qos in self.qoses)

    def limit(self, kind: Literal["minutes", "submitted"]) -> Limit | None:
        """The limit that counts: that of the first in order that has one. None: there is none."""
        if not self.limited:
            return None
        for name, qos in self.qoses:
            if (number := getattr(qos.limits, kind)) is not None:
                return Limit(number, "qos", name)
        number, own = getattr(self.association.limits, kind), self.association
        return None if number is None else Limit(number, "account", own.account, own.partition)


def charged_to(site: Site) -> Accounts | None:
    """The accounts of this user, where the cluster holds jobs to them and tells of them."""
    return site.accounts if _enforced(site) & {"associations", "limits", "qos", "safe"} else None


def charge(shape: JobShape, partition: Partition, site: Site) -> Charge | None:
    """What a job of this shape is charged to; None where no account is, or none of this user's is for the partition."""
    accounts = charged_to(site)
    if accounts is None:
        return None
    mine = [found for found in accounts.associations if found.account == (shape.account or accounts.default)]
    mine.sort(key=lambda found: found.partition is None)  # one for the partition goes first
    here = next((found for found in mine if found.partition in (partition.name, None)), None)
    if here is None:
        return None
    qos = shape.qos or here.default_qos or DEFAULT_QOS
    names = list(dict.fromkeys(name for name in (partition.qos, qos) if name in accounts.qoses))
    if qos in accounts.qoses and "OverPartQOS" in accounts.qoses[qos].flags:
        names.reverse()
    return Charge(
        association=here,
        qos=qos,
        qoses=tuple((name, accounts.qoses[name]) for name in names if name is not None),
        limited=bool(_enforced(site) & {"limits", "safe"}),
    )


def full(shapes: Iterable[JobShape], site: Site) -> list[str]:
    """Of jobs of these shapes, in order, why there is no place for one: "" where it can be submitted.

    Each element of an array is a job, and counts from its submit to its end.
    """
    taken: dict[Limit, int] = {}
    found = []
    for shape in shapes:
        partitions = site.chosen(shape.partition)
        charged = charge(shape, partitions[0], site) if partitions else None
        limit = charged.limit("submitted") if charged else None
        if limit is None:
            found.append("")
            continue
        before = sum(limit.counts(job) for job in site.queued)
        if before + taken.setdefault(limit, 0) < limit.number:
            taken[limit] += 1
            found.append("")
        else:
            found.append(
                f"{limit.owner} may have {count(limit.number, 'job')} (MaxSubmitJobs), and {before} wait or work"
            )
    return found


def _enforced(site: Site) -> set[str]:
    return set(site.config.get("AccountingStorageEnforce", "").split(","))
