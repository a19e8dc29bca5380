"""What a retry changes, according to why the run failed.

More GPUs never help against too little GPU memory: each holds one micro-batch, however many there are.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.failures import Failure
from harness.launching.cluster import Cluster, JobShape
from harness.launching.frozen_code import Submission
from harness.launching.prepare import PreparedRun
from harness.launching.restarts import fruitless, newest_checkpoint
from harness.launching.retries import Retry, environment, read_retries
from harness.launching.slurm_limits import charge
from harness.launching.slurm_site import Site
from harness.matrix_file import Resources
from harness.run_paths import RunPaths, last_attempt

MORE_MEMORY, MORE_TIME = 1.5, 2
"""Factors, at a retry for want of either."""
NO_FRAGMENTS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
"""Gives back what torch's allocator loses to images of varying sizes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that is to be queued."""

    run: PreparedRun
    submission: Submission
    retry: Retry | None = None  # what is new with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The most that a job of some shape can ask for; None: nobody knows, or there is no limit."""

    memory_gb: int | None = None
    minutes: int | None = None


def room(shape: JobShape, site: Site) -> Room:
    """What the cluster has for a job of this shape."""
    memory: list[int] = []
    minutes: list[int | None] = []
    for partition in site.chosen(shape.partition):
        charged = charge(shape, partition, site)
        limit = charged.limit("minutes") if charged else None
        minutes.append(None if charged and charged.beyond_partition else partition.minutes)
        minutes.append(limit.number if limit else None)
        memory.append(max((kind.memory_mb for kind in partition.kinds), default=0) // 1024)
    known = (found for found in minutes if found is not None)
    return Room(memory_gb=min(memory, default=0) or None, minutes=min(known, default=None))


def plan_retry(run: PreparedRun, kind: Failure, cluster: Cluster | None, site: Callable[[], Site]) -> Retry:
    """What to change for the next attempt of a run that failed so.

    cluster: where its job would go; None for this machine, where nothing is asked for. site: looks at the cluster,
    which is done only where its limits matter.
    """
    paths = run.paths
    shape = job_shape(run, cluster) if cluster else None
    answer = _Answer("unchanged")
    if kind == Failure.GPU_MEMORY:
        answer = _without_fragments(paths)
    elif shape and kind == Failure.MEMORY:
        answer = _more("memory_gb", shape.memory_gb, MORE_MEMORY, room(shape, site()).memory_gb)
    elif shape and kind == Failure.TIME and last_attempt(paths) in fruitless(paths):
        answer = _more("minutes", shape.minutes, MORE_TIME, room(shape, site()).minutes)
    elif kind in (Failure.BUG, Failure.MISTAKE, Failure.DISK, Failure.MEMORY):
        answer = _Answer("unchanged: mend the cause first")
    return Retry(
        attempt=last_attempt(paths),
        kind=kind,
        change=answer.change,
        shape=answer.shape,
        environment=answer.environment,
        checkpoint=newest_checkpoint(paths),
        time=time.time(),
    )


class _Answer(NamedTuple):
    change: str
    shape: Mapping[str, int] = {}
    environment: Mapping[str, str] = {}


def _without_fragments(paths: RunPaths) -> _Answer:
    if environment(paths).items() >= NO_FRAGMENTS.items():
        return _Answer("unchanged: it takes a GPU with more memory (partition or constraint of the cluster file)")
    return _Answer(" ".join(f"{name}={value}" for name, value in NO_FRAGMENTS.items()), environment=NO_FRAGMENTS)


def _more(name: str, now: int | None, factor: float, limit: int | None) -> _Answer:
    """More of something; of what the cluster file leaves to the cluster, all there is."""
    wanted = limit if now is None else math.ceil(now * factor)
    if wanted is None:
        return _Answer(f"unchanged: how much it had is not known; give {name} in the cluster file")
    wanted = min(wanted, limit or wanted)
    if now is not None and wanted <= now:
        return _Answer(f"unchanged: {name} {now} is all that its partition gives")
    return _Answer(f"{name} {now or 'as the cluster has it'} -> {wanted}", shape={name: wanted})


def job_shape(run: PreparedRun, cluster: Cluster, retry: Retry | None = None) -> JobShape:
    """What the next job of a run asks for: as the files say, but no less than its retries and this one came to."""
    shape = cluster.shape_of(run.spec.cell, Resources(**run.spec.resources))
    for entry in [*read_retries(run.paths), *([retry] if retry else [])]:
        more: dict[str, Any] = {name: max(value, getattr(shape, name) or 0) for name, value in entry.shape.items()}
        shape = replace(shape, **more)
    return shape
