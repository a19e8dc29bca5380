"""The doctor on a compute node: a small job there and this process try the shared disk, and it tells what it finds."""

import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.doctor import Check, met
from harness.errors import UserError
from harness.files import read_json, write_json, write_text
from harness.launching import slurm
from harness.launching.cluster import Cluster, load_cluster
from harness.launching.cluster_check import cluster_faults
from harness.launching.frozen_code import freeze
from harness.launching.slurm_ask import ask
from harness.launching.slurm_script import Batch, batch_script, sbatch_command, submission_environment
from harness.launching.slurm_site import look
from harness.matrix_file import Resources
from harness.processes import node_name
from harness.settings import Settings
from harness.shared_disk import follow, lead, wait_for

QUEUE_SECONDS = 300.0
"""For the job to start; Ctrl-C ends the waiting before."""
START_SECONDS = 120.0
"""From there to its first word: modules, the container, Python and torch are loaded."""
MINUTES = 10
MEMORY_GB = 4


def check_node(settings: Settings, name: str) -> list[Check]:
    """Send a job to the cluster and tell what it finds, or why that cannot be known.

    Nothing stays in the run root but what submit is to know of it.
    """
    try:
        return list(_check_node(settings, name))
    except UserError as error:
        detail = str(error).replace("\n", "; ")
        return [Check(name=f"cluster {name}", status="fail", detail=detail, todo="mend that, then ask again")]


def _check_node(settings: Settings, name: str) -> Iterator[Check]:
    cluster = load_cluster(name)
    settings.run_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".doctor.", dir=settings.run_root) as temporary:
        folder = Path(temporary)
        places = [*(paths.root for paths in settings.datasets.values()), settings.cache_root]
        write_json(folder / "wanted.json", [str(place) for place in places if place.exists()])
        job = _submit(cluster, folder, settings)
        try:
            _await(job, folder)
            facts = read_json(folder / "facts.json")
            meeting = lead(folder)
        except TimeoutError as error:
            said = f"; {text}" if (text := _last_words(folder)) else ""
            raise UserError(f"job {job.id} of {name}: {error}{said}; see sinfo, and the cluster file") from None
        finally:
            with suppress(UserError):
                ask(["scancel", "--quiet", job.id])
    _remember(settings, cluster, facts)
    yield from _told(facts)
    yield met(f"node {facts['node']}: run_root", meeting)


@dataclass(frozen=True, slots=True)
class _Job:
    id: str
    name: str


def _submit(cluster: Cluster, folder: Path, settings: Settings) -> _Job:
    """A job of one process, on a GPU if the file asks for any.

    Raises UserError with what the cluster cannot do of it.
    """
    shape = cluster.shape_of("doctor", Resources())
    minutes = max(1, min(MINUTES, shape.minutes))
    memory = shape.memory_gb and min(MEMORY_GB, shape.memory_gb)
    shape = replace(shape, nodes=1, gpus_per_node=min(1, shape.gpus_per_node), minutes=minutes, memory_gb=memory)
    if faults := cluster_faults(cluster, [("doctor", shape)], look()):
        raise UserError("\n".join(faults))
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    batch = Batch(
        name=name,
        cluster=replace(cluster, signal_delay_s=1, array_parallelism=None),
        shape=shape,
        folders=(folder,),
        entry=("harness.node_check",),
        code=freeze(settings.run_root),
        python=sys.executable,
        logs=folder,
    )
    write_text(folder / "script.sh", batch_script(batch))
    array = slurm.parse_submitted(ask(sbatch_command(folder / "script.sh"), submission_environment(os.environ)))
    return _Job(f"{array}_0", name)


def _await(job: _Job, folder: Path) -> None:
    """Until the job has told its facts.

    Raises TimeoutError where it does not start or says nothing in time, or is gone.
    """
    began: float | None = None
    deadline = time.monotonic() + QUEUE_SECONDS
    while not (folder / "facts.json").exists():
        found = [queued for queued in slurm.parse_queue(ask(slurm.queue_command())) if queued.name == job.name]
        state = slurm.phase(found[0].state) if found else slurm.Phase.ENDED
        if state == slurm.Phase.WAITING and time.monotonic() > deadline:
            raise TimeoutError(f"did not start within {QUEUE_SECONDS:.0f} s: {found[0].reason or 'no reason given'}")
        if state == slurm.Phase.WORKING:
            began = began or time.monotonic()
        if state == slurm.Phase.ENDED:
            wait_for(folder / "facts.json", 60)  # a shared disk may hide it for a while
        elif began is not None and time.monotonic() - began > START_SECONDS:
            raise TimeoutError(f"runs on {found[0].nodes}, but no file of it was seen within {START_SECONDS:.0f} s")
        time.sleep(0.5)


def _last_words(folder: Path) -> str:
    """The last line of the job's output."""
    lines = [line for file in folder.glob("*.out") for line in file.read_text(errors="replace").splitlines() if line]
    return lines[-1] if lines else ""


def _told(facts: dict[str, Any]) -> Iterator[Check]:
    node = f"node {facts['node']}"
    gpus = ", ".join(facts["gpus"]) or "no GPU that torch can use"
    detail = f"Python {facts['python']} ({facts['executable']}), torch {facts['torch']}, {gpus}"
    missing_gpu = facts["asked"] and not facts["gpus"]
    todo = "look at the node's driver and this torch build" if missing_gpu else ""
    yield Check(name=node, status="warn" if missing_gpu else "ok", detail=detail, todo=todo)
    for place in facts["missing"]:
        todo = "put it on a disk that the nodes see, or set another path in harness.toml"
        yield Check(name=node, status="fail", detail=f"{place} is not seen there", todo=todo)
    requeue, submit = not facts["no_requeue"], not facts["no_submit"]
    detail = f"scontrol requeue: {facts['no_requeue'] or 'allowed'}; sbatch: {facts['no_submit'] or 'allowed'}"
    todo = "" if requeue or submit else "at its time limit a run saves and ends: run harness submit again then"
    yield Check(name=f"{node}: next job", status="ok" if requeue or submit else "warn", detail=detail, todo=todo)


def _remember(settings: Settings, cluster: Cluster, facts: dict[str, Any]) -> None:
    known = {name: facts[name] for name in ("node", "no_requeue", "no_submit")}
    write_json(_memory(settings, cluster.name), known | {"time": time.strftime("%Y-%m-%d %H:%M")})


def cannot_go_on(settings: Settings) -> str:
    """What to know before submitting: that jobs can start no next one there, as far as the doctor has found; or ""."""
    if not (memory := _memory(settings, name := Path(settings.cluster).stem)).exists():
        return ""
    known = read_json(memory)
    if not (known["no_requeue"] and known["no_submit"]):
        return ""
    found = f"scontrol requeue: {known['no_requeue']}; sbatch: {known['no_submit']}"
    return (
        f"jobs of {name} cannot start their next one ({found}; node {known['node']}, {known['time']}): a run "
        "that reaches its time limit saves and ends, and goes on with the next harness submit"
    )


def _memory(settings: Settings, cluster: str) -> Path:
    return settings.run_root / ".slurm" / f"doctor-{cluster}.json"


def main() -> None:
    """On the node: tell what is there, then try the disk."""
    folder = Path(sys.argv[1])
    write_json(folder / "facts.json", _facts(folder))
    follow(folder)


def _facts(folder: Path) -> dict[str, Any]:
    import torch

    wanted = read_json(folder / "wanted.json")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "node": node_name(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "torch": torch.__version__,
        "gpus": [torch.cuda.get_device_name(index) for index in range(count)],
        "asked": bool(os.environ.get("CUDA_VISIBLE_DEVICES")),
        "missing": [place for place in wanted if not Path(place).exists()],
        "no_requeue": _no_requeue(),
        "no_submit": _no_submit(folder / "script.sh"),
    }


def _no_requeue() -> str:
    """Why this job may not be requeued; "" where it may, as far as can be known without doing it."""
    try:
        job = slurm.parse_job(ask(["scontrol", "--all", "--oneliner", "show", "job", os.environ["SLURM_JOB_ID"]]))
    except UserError as error:
        return str(error)
    return "" if job.get("Requeue") == "1" else f"not for jobs of this cluster (Requeue={job.get('Requeue')})"


def _no_submit(script: Path) -> str:
    """Why no job can be submitted from here; "" where one can."""
    try:
        ask(sbatch_command(script, only_test=True), submission_environment(os.environ))
    except UserError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
