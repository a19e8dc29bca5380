"""Whether a cluster can ever run the jobs that a cluster file asks for.

`sbatch --test-only` does not tell: it agrees to jobs that wait for ever.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.launching.cluster import Cluster, JobShape
from harness.launching.slurm_limits import charge, charged_to
from harness.launching.slurm_site import NodeKind, Partition, Site
from harness.recipe import Recipe
from harness.wording import count, did_you_mean

SCRIPT_BYTES = 4 * 2**20
"""What a script may have where SchedulerParameters does not say max_script_size (slurm.conf(5))."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The jobs of one shape, and a cell that has them."""

    cluster: Cluster
    cell: str
    shape: JobShape

    def fault(self, name: str, text: str) -> str:
        """A line about a field of the shape, with its place."""
        return f"{self.cluster.place(self.cell, name)}: {text}"


def cluster_faults(cluster: Cluster, wanted: Sequence[tuple[str, JobShape]], site: Site) -> list[str]:
    """Why jobs could not start, ever, or would not be taken: a line each, with the place of what asks for it.

    wanted: cell and shape of every job that is to be submitted.
    """
    if site.config.get("MaxArraySize") == "0":
        return [f"{cluster.path}: this cluster takes no arrays of jobs (MaxArraySize=0); ask its administrator"]
    shapes = {shape: cell for cell, shape in reversed(wanted)}
    asked = [_Asked(cluster, cell, shape) for shape, cell in shapes.items()]
    lines = [line for one in reversed(asked) for line in _faults(one, site)]
    return list(dict.fromkeys(lines))


def share_fault(cluster: Cluster, cell: str, shape: JobShape, recipe: Recipe) -> str:
    """Why a training of the recipe (as executed) could not use all processes of such a job; "" where it could."""
    wanted, share = shape.nodes * shape.tasks_per_node, recipe.batch // recipe.micro_batch
    if wanted <= share:
        return ""
    place = cluster.place(cell, "nodes" if shape.nodes > 1 else "gpus_per_node")
    batch = f"a batch of {recipe.batch} in micro-batches of {recipe.micro_batch}"
    return (
        f"{place}: {count(wanted, 'process')} ({shape.nodes} x {shape.tasks_per_node}): {batch} is for at most {share}"
    )


def script_fault(cluster: Cluster, script: str, site: Site) -> str:
    """Why the cluster would not take a script of this size; "" where it would."""
    found = re.search(r"max_script_size=(\d+)", site.config.get("SchedulerParameters", ""))
    limit, size = int(found[1]) if found else SCRIPT_BYTES, len(script.encode())
    if size <= limit:
        return ""
    return (
        f"{cluster.path}: a script has {size} bytes, this cluster takes {limit} (max_script_size); submit fewer cells"
    )


def _faults(asked: _Asked, site: Site) -> Iterator[str]:
    """A job that names several partitions starts in any of them, so it must fit all."""
    names = asked.shape.partition.split(",") if asked.shape.partition else [None]
    for name in names:
        if (partition := site.partition(name)) is not None:
            yield from _partition_faults(asked, partition, site)
            continue
        known = ", ".join(site.partitions)
        what = f"no partition {name!r}{did_you_mean(name, site.partitions)}" if name else "no default partition"
        yield asked.fault("partition", f"{what} on this cluster; it has {known}")


def _partition_faults(asked: _Asked, partition: Partition, site: Site) -> Iterator[str]:
    if partition.state != "UP":
        text = f"partition {partition.name} is {partition.state}: no job of it starts; wait, or name another one"
        yield asked.fault("partition", text)
    yield from _node_faults(asked, partition)
    yield from _account_faults(asked, partition, site)
    yield from _time_faults(asked, partition, site)


def _node_faults(asked: _Asked, partition: Partition) -> Iterator[str]:
    shape, kinds = asked.shape, partition.kinds
    if partition.max_nodes is not None and shape.nodes > partition.max_nodes:
        text = f"a job of partition {partition.name} has at most {count(partition.max_nodes, 'node')} (MaxNodes)"
        yield asked.fault("nodes", f"{count(shape.nodes, 'node')}: {text}")
    if shape.nodes < partition.min_nodes:
        text = f"a job of partition {partition.name} has at least {count(partition.min_nodes, 'node')} (MinNodes)"
        yield asked.fault("nodes", f"{count(shape.nodes, 'node')}: {text}")
    features = frozenset[str]().union(*(kind.features for kind in kinds))
    if missing := sorted(_features(shape.constraint) - features):
        text = f"no node of partition {partition.name} has {', '.join(missing)}"
        yield asked.fault("constraint", f"{text}; its features: {', '.join(sorted(features)) or 'none'}")
    single = list(_single_faults(asked, partition))
    yield from single
    fitting, total = sum(kind.nodes for kind in kinds if _fits(shape, kind)), sum(kind.nodes for kind in kinds)
    if not (missing or single) and fitting < shape.nodes:
        text = f"{fitting} of the {total} nodes of partition {partition.name} have all that a job asks of one"
        yield asked.fault("nodes", f"{count(shape.nodes, 'node')}: {text}; {_kinds(partition)}")


def _single_faults(asked: _Asked, partition: Partition) -> Iterator[str]:
    """What no node has enough of."""
    shape = asked.shape
    cpus = max((kind.cpus for kind in partition.kinds), default=0)
    gpus = max((kind.gpus for kind in partition.kinds), default=0)
    memory = max((kind.memory_mb for kind in partition.kinds), default=0)
    where = f"a node of partition {partition.name} has at most"
    if shape.gpus_per_node > gpus:
        yield asked.fault("gpus_per_node", f"{count(shape.gpus_per_node, 'GPU')} a node: {where} {gpus}")
    if shape.tasks_per_node * shape.cpus_per_gpu > cpus:
        needed = f"{count(shape.cpus_per_gpu, 'CPU')} for each of {count(shape.tasks_per_node, 'process')} a node"
        yield asked.fault("cpus_per_gpu", f"{needed}: {where} {cpus}")
    if (shape.memory_gb or 0) * 1024 > memory:
        yield asked.fault("memory_gb", f"{shape.memory_gb} GB a node: {where} {memory / 1024:.1f}")


def _fits(shape: JobShape, kind: NodeKind) -> bool:
    """Whether a node of this kind can take its share of a job. Of alternatives in a constraint nothing is known."""
    together = not re.search(r"[|\[]", shape.constraint or "")
    return (
        shape.gpus_per_node <= kind.gpus
        and shape.tasks_per_node * shape.cpus_per_gpu <= kind.cpus
        and (shape.memory_gb or 0) * 1024 <= kind.memory_mb
        and (not together or _features(shape.constraint) <= kind.features)
    )


def _features(constraint: str | None) -> frozenset[str]:
    """The names in a constraint such as a100&ib or [rack1*2&rack2*2]."""
    words = re.split(r"[&|,\[\]()]", constraint or "")
    return frozenset(word.partition("*")[0] for word in words if word)


def _kinds(partition: Partition) -> str:
    return "there are " + ", ".join(
        f"{kind.nodes} x {count(kind.gpus, 'GPU')}, {count(kind.cpus, 'CPU')}, {kind.memory_mb // 1024} GB"
        for kind in partition.kinds
    )


def _account_faults(asked: _Asked, partition: Partition, site: Site) -> Iterator[str]:
    accounts = charged_to(site)
    if accounts is None:
        return
    account = asked.shape.account or accounts.default or ""
    mine = [found for found in accounts.associations if found.account == account]
    if not mine:
        names = sorted({found.account for found in accounts.associations})
        text = f"{accounts.user} has no account {account!r}{did_you_mean(account, names)}"
        if not account:
            text = f"no account is named, and {accounts.user} has no default one"
        yield asked.fault("account", f"{text}; may charge {', '.join(names) or 'nothing'}")
        return
    if account not in partition.accounts:
        yield asked.fault("account", f"partition {partition.name} does not take account {account}")
    charged = charge(asked.shape, partition, site)
    if charged is None:
        places = ", ".join(sorted(str(found.partition) for found in mine))
        yield asked.fault("account", f"account {account} is for partition {places}, not {partition.name}")
    elif charged.qos not in charged.association.qoses:
        known, near = charged.association.qoses, did_you_mean(charged.qos, charged.association.qoses)
        text = f"account {account} has no qos {charged.qos!r}{near}; it has {', '.join(known) or 'none'}"
        yield asked.fault("qos", text)
    elif charged.qos not in partition.qoses:
        yield asked.fault("qos", f"partition {partition.name} does not take qos {charged.qos}")


def _time_faults(asked: _Asked, partition: Partition, site: Site) -> Iterator[str]:
    charged, wanted = charge(asked.shape, partition, site), asked.shape.minutes
    todo = "lower minutes: a run that needs more goes on in its next job"
    free = charged is not None and charged.beyond_partition
    if partition.minutes is not None and wanted > partition.minutes and not free:
        text = f"a job of partition {partition.name} has at most {partition.minutes} (MaxTime)"
        yield asked.fault("minutes", f"{count(wanted, 'minute')}: {text}; {todo}")
    limit = charged and charged.limit("minutes")
    if limit and wanted > limit.number:
        yield asked.fault(
            "minutes", f"{count(wanted, 'minute')}: a job of {limit.owner} has at most {limit.number}; {todo}"
        )
