"""The batch script of an array of attempts, and the command that submits it.

SLURM keeps the script: a requeue, whoever asks for it, runs it again with the same code, Python and run folders.
"""

import shlex
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.launching.cluster import Cluster, JobShape

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Runs of one shape and one code, which go as one array: element i works on folders[i]."""

    name: str  # of the jobs
    cluster: Cluster
    shape: JobShape
    exclude: tuple[str, ...] = ()  # nodes to keep away from
    folders: tuple[Path, ...]  # of the runs, absolute
    entry: tuple[str, ...]  # the module that works on a run, and what follows the run's folder
    code: Path  # the folder that holds the `harness` to run
    python: str  # where the cluster names none
    logs: Path  # a file each job: JOB_INDEX.out, where a requeue goes on writing


def arrays(wanted: Iterable[tuple[Path, Kind]], limit: int) -> Iterator[tuple[Kind, tuple[Path, ...]]]:
    """Run folders grouped by the kind of their jobs, in order, at most `limit` (SLURM's MaxArraySize) together."""
    groups: dict[Kind, list[Path]] = {}
    for folder, kind in wanted:
        groups.setdefault(kind, []).append(folder)
    for kind, folders in groups.items():
        for start in range(0, len(folders), limit):
            yield kind, tuple(folders[start : start + limit])


def batch_script(batch: Batch) -> str:
    """The script: sbatch's options, the environment, and one step of a process a GPU on every node.

    srun gets each signal to every process (the batch shell alone would get TERM), and ends all when one fails, but not
    because the first have finished: rank 0 writes the outcome when the others have left.
    """
    cluster, shape = batch.cluster, batch.shape
    python = cluster.python or batch.python
    module, *arguments = batch.entry
    lines = ["#!/bin/bash", *(f"#SBATCH --{option}" for option in _options(batch))]
    lines += ["", "runs=(", *(f"  {shlex.quote(str(folder))}" for folder in batch.folders), ")", ""]
    if cluster.modules:
        lines.append("type module > /dev/null 2>&1 || . /etc/profile")
    lines.append("set -e")
    lines += [f"module load {shlex.quote(name)}" for name in cluster.modules]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    lines.append(f"export PYTHONPATH={shlex.quote(str(batch.code))}${{PYTHONPATH:+:$PYTHONPATH}}")
    if cluster.staging:
        lines.append(f"export HARNESS_STAGING={shlex.quote(cluster.staging)}")
    lines += cluster.setup
    lines += [
        f"exec srun --kill-on-bad-exit=1 --wait=0 --cpus-per-task={shape.cpus_per_gpu} \\",
        *([f"  {cluster.container} \\"] if cluster.container else []),
        f"  {shlex.quote(python)} -P -m {module} \\",
        f'  "${{runs[$SLURM_ARRAY_TASK_ID]}}" {shlex.join(arguments)}'.rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _options(batch: Batch) -> Iterator[str]:
    cluster, shape = batch.cluster, batch.shape
    parallel = f"%{cluster.array_parallelism}" if cluster.array_parallelism else ""
    yield f"job-name={shlex.quote(batch.name)}"
    yield f"array=0-{len(batch.folders) - 1}{parallel}"
    for name in ("partition", "account", "qos", "constraint"):
        if value := getattr(shape, name):
            yield f"{name}={shlex.quote(value)}"
    if batch.exclude:
        yield f"exclude={','.join(batch.exclude)}"
    yield f"nodes={shape.nodes}"
    yield f"ntasks-per-node={shape.tasks_per_node}"
    yield f"cpus-per-task={shape.cpus_per_gpu}"
    if shape.gpus_per_node:
        yield f"gpus-per-node={shape.gpus_per_node}"
    if shape.memory_gb:
        yield f"mem={shape.memory_gb}G"
    yield f"time={shape.minutes}"
    yield f"signal=USR2@{cluster.signal_delay_s}"
    yield "requeue"
    yield "open-mode=append"
    yield f"output={shlex.quote(str(batch.logs).replace('%', '%%'))}/%A_%a.out"


def sbatch_command(script: Path, *, after: tuple[str, ...] = (), only_test: bool = False) -> list[str]:
    """The command that submits a script; it says JOB, or JOB;CLUSTER.

    after: jobs whose end, however it comes, it waits for. only_test: ask whether it could ever run; exit code 1 if not.
    """
    command = ["sbatch", "--parsable"]
    if after:
        command += [f"--dependency=afterany:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    if only_test:
        command.append("--test-only")
    return [*command, str(script)]


def submission_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for sbatch, which the job inherits: without what a job around us, or the user's defaults for

    sbatch, would set above the script.
    """
    kept = ("SLURM_CONF",)
    slurm = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "CUDA_VISIBLE_DEVICES")
    ranks = ("HARNESS_CONTINUES", "SUBMITIT_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    return {name: value for name, value in environ.items() if name in kept or not name.startswith(slurm + ranks)}
