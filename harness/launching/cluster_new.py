"""A first cluster file, from what the cluster says of itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.files import write_text
from harness.launching.cluster import FOLDER, JobShape
from harness.launching.slurm_limits import charge, charged_to
from harness.launching.slurm_site import NodeKind, Partition, Site, look
from harness.matrix_file import NAME, Resources
from harness.settings import LOCAL
from harness.wording import count

SIGNAL_DELAY = 120
"""Seconds: several times what a checkpoint takes."""
MAX_GPUS = 8
"""A node: the published recipes are of eight."""


def write_draft(name: str) -> Path:
    """Write slurm/clusters/NAME.yaml for the cluster at hand; its path.

    Raises UserError where SLURM does not answer, the name is none, or there is such a file.
    """
    if not NAME.fullmatch(name) or name == LOCAL:
        raise UserError(f"{name!r} is no name for a cluster: letters, digits, '.', '_', '-'; and not 'local'")
    path = FOLDER / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path}: is there already; give another name, or remove it")
    write_text(path, draft(look()))
    return path


@dataclass(frozen=True, slots=True)
class _Key:
    """A line of the file, and what was found."""

    name: str
    value: object  # None: the line is a comment
    found: str


def draft(site: Site) -> str:
    """The file: every key with what was found for it, and what to check.

    Raises UserError where the cluster has no partition with nodes.
    """
    partition = _partition(site)
    kind = max(partition.kinds, key=lambda kind: (kind.gpus, kind.nodes))
    release = site.config.get("SLURM_VERSION", "?")
    lines = [
        f"# Drafted from what SLURM {release} says of cluster {site.config['ClusterName']}: look at every line.",
        "# All keys: slurm/clusters/example-8gpu.yaml in the project, slurm/README.md",
    ]
    for key in _keys(site, partition, kind):
        text = f"# {key.name}:" if key.value is None else f"{key.name}: {_plain(key.value)}"
        lines.append(f"{text:<24}# {key.found}")
    lines += ["", *(f"# {line}" for line in _remarks(site, partition))]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    """As YAML reads it back: a name that could be a number, in quotes."""
    text = str(value)
    return text if isinstance(value, int) or text[0].isalpha() else f'"{text}"'


def _partition(site: Site) -> Partition:
    """The default one, if it has GPUs or none has; else the largest with GPUs."""
    here = site.partitions.values()
    usable = [found for found in here if found.kinds and found.state == "UP" and " " not in found.name]
    if not usable:
        raise UserError("no partition of this cluster is up and has nodes; see sinfo")
    return max(usable, key=lambda found: (_gpus(found) > 0, found.default, _gpus(found)))


def _gpus(partition: Partition) -> int:
    return sum(kind.nodes * kind.gpus for kind in partition.kinds)


def _keys(site: Site, partition: Partition, kind: NodeKind) -> Iterator[_Key]:
    up = [found.name for found in site.partitions.values() if found.state == "UP"]
    yield _Key("partition", partition.name, f"{'the default; ' if partition.default else ''}up: {', '.join(up)}")
    yield from _account_keys(site, partition)
    gpus = min(kind.gpus, MAX_GPUS)
    cpus = max(1, kind.cpus // max(1, kind.gpus))
    nodes = ", ".join(f"{one.nodes} x {count(one.gpus, 'GPU')}" for one in partition.kinds)
    features = ", ".join(sorted(kind.features)) or "none"
    yield _Key("constraint", None, f"features of the nodes taken as a model: {features}")
    yield _Key("nodes", 1, f"partition {partition.name} has {nodes}")
    yield _Key("gpus_per_node", gpus, "a process each; 0: one process on CPUs")
    yield _Key("cpus_per_gpu", cpus, f"a node has {kind.cpus} CPUs")
    memory = kind.memory_mb // 1024 * max(1, gpus) // max(1, kind.gpus)
    yield _Key("memory_gb", max(1, memory), f"a node has {kind.memory_mb / 1024:.1f}; a job gets its GPUs' share")
    minutes, why = _minutes(site, partition)
    yield _Key("minutes", minutes, f"{why}; a run that needs more goes on in its next job")
    yield _Key("array_parallelism", None, "runs at the same time; not limited")
    grace = f"; a preempted job has {partition.grace_s} s (GraceTime)" if partition.grace_s else ""
    yield _Key("signal_delay_s", min(SIGNAL_DELAY, minutes * 20), f"a checkpoint must be written within it{grace}")
    yield _Key("staging", None, "a folder on the nodes' own disks for the data set, such as /scratch/$USER/harness")


def _account_keys(site: Site, partition: Partition) -> Iterator[_Key]:
    if site.accounts is None:
        yield _Key("account", None, f"not known, {site.silence}")
        yield _Key("qos", None, "not known either")
        return
    names = sorted({found.account for found in site.accounts.associations})
    charged = charge(_shape(partition, 1), partition, site)
    enforced = "" if charged_to(site) else "; not enforced"
    may = f"{site.accounts.user} may charge: {', '.join(names) or 'none'}{enforced}"
    yield _Key("account", charged.association.account if charged else None, may)
    qoses = ", ".join(charged.association.qoses) if charged else "not known"
    known = charged is not None and charged.qos in charged.association.qoses
    yield _Key("qos", charged.qos if charged and known else None, f"there are: {qoses or 'none'}")


def _minutes(site: Site, partition: Partition) -> tuple[int, str]:
    """The most that a job may have, and why."""
    charged = charge(_shape(partition, 1), partition, site)
    limit = charged.limit("minutes") if charged else None
    bounds = [(Resources().minutes, "no limit found below that")]
    if partition.minutes is not None and not (charged and charged.beyond_partition):
        bounds.append((partition.minutes, f"MaxTime of partition {partition.name}"))
    if limit:
        bounds.append((limit.number, f"MaxWall of {limit.owner}"))
    return min(bounds, key=lambda bound: bound[0])


def _shape(partition: Partition, minutes: int) -> JobShape:
    return JobShape(partition=partition.name, nodes=1, gpus_per_node=0, cpus_per_gpu=1, minutes=minutes)


def _remarks(site: Site, partition: Partition) -> Iterator[str]:
    config = site.config
    yield f"MaxArraySize {config['MaxArraySize']}: larger arrays are split."
    charged = charge(_shape(partition, 1), partition, site)
    if charged and (limit := charged.limit("submitted")):
        yield f"MaxSubmitJobs {limit.number} of {limit.owner}: each run counts."
    user = "preempt_send_user_signal" in config.get("SlurmctldParameters", "")
    told = "tells jobs before" if user else "does not tell jobs before: they go on from their last checkpoint"
    yield f"PreemptMode {config.get('PreemptMode', '?')}: SLURM {told}."
    default = "" if config.get("JobRequeue") == "1" else " (not the default here; our scripts ask for it)"
    yield f"JobRequeue {config.get('JobRequeue', '?')}: whether jobs may be requeued{default}."
    if (plugins := config.get("JobSubmitPlugins", "(null)")) not in ("(null)", ""):
        yield f"JobSubmitPlugins {plugins}: it may change or refuse what jobs ask for."
