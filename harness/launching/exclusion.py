"""The nodes that a job is to keep away from, at a submit and when it is requeued."""

import re
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.launching.ends import suspects
from harness.launching.slurm import rows
from harness.launching.slurm_ask import ask

_FIELDS = ("%N", "%t", "%R")
NODES = ["sinfo", "--all", "--noheader", "--Node", "--format", "|".join(_FIELDS)]
"""sinfo for the nodes of all partitions, hidden ones too; it refuses to be asked so about one."""
_OUT = re.compile(r"down|drain|drng|fail|maint|unk|pow|err", re.IGNORECASE)
"""In the states of nodes that start no job now."""


def to_exclude(run_root: Path, partitions: str | None, nodes: int) -> tuple[str, ...]:
    """The suspect nodes that a job of so many nodes can do without, in order.

    Those with the most failures go first, as long as nodes enough are left of those that work. partitions: where it
    may start, between commas.
    Raises UserError where SLURM does not answer.
    """
    found = suspects(run_root)
    if not found:
        return ()
    there = _states(partitions)
    working = [node for node, state in there.items() if not _OUT.search(state)]
    room, chosen = len(working) - nodes, []
    for node in sorted(found.keys() & there.keys(), key=lambda node: (-found[node], node)):
        if node not in working:
            chosen.append(node)
        elif room > 0:
            chosen.append(node)
            room -= 1
    return tuple(sorted(chosen))


def next_time(run_root: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The nodes that the job of this environment is to keep away from at its next start; none where SLURM is silent."""
    try:
        return to_exclude(run_root, environ.get("SLURM_JOB_PARTITION"), int(environ.get("SLURM_JOB_NUM_NODES", "1")))
    except UserError:
        return ()


def own_nodes(environ: Mapping[str, str]) -> set[str]:
    """The nodes of the job of this environment.

    Raises UserError where SLURM does not answer.
    """
    return set(ask(["scontrol", "show", "hostnames", environ["SLURM_JOB_NODELIST"]]).split())


def _states(partitions: str | None) -> dict[str, str]:
    """The nodes of partitions (between commas; None: of all) and their states."""
    wanted = partitions.split(",") if partitions else None
    found = rows(ask(NODES), _FIELDS)
    return {row["%N"]: row["%t"] for row in found if wanted is None or row["%R"] in wanted}
