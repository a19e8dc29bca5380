"""What tests do to jobs, nodes and daemons of the testbed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from slurm.conftest import STATE, call, eventually, output, run_testbed


def processes(job: str) -> list[psutil.Process]:
    """The trainings of an element of an array that live, by rank (of two starts, those of both)."""
    found = []
    for process in psutil.process_iter():
        try:
            environ, command = process.environ(), process.cmdline()
        except psutil.Error:
            continue
        own = f"{environ.get('SLURM_ARRAY_JOB_ID')}_{environ.get('SLURM_ARRAY_TASK_ID')}"
        if own == job and "harness.launching.slurm_entry" in command and "srun" not in command[0]:
            found.append((int(environ.get("SLURM_PROCID", -1)), process))
    return [process for _, process in sorted(found, key=lambda entry: (entry[0], entry[1].pid))]


def node_of(job: str) -> str:
    """The node of a job that works."""
    return output(f"squeue --noheader --jobs={job} --Format=NodeList:").strip()


def preempt(job: str) -> None:
    """Take the job's node for three seconds, by a job of the partition that goes first."""
    urgent = f"sbatch --parsable --partition=high --nodelist={node_of(job)} --exclusive --time=5 --output=/dev/null"
    subprocess.run([*urgent.split(), "--wrap", "sleep 3"], check=True, capture_output=True)


@contextmanager
def partition(name: str, settings: str) -> Iterator[None]:
    """A partition of a test's own."""
    call(f"scontrol delete PartitionName={name}", check=False)  # of a session that was killed
    call(f"scontrol create PartitionName={name} MaxTime=60 State=UP {settings}")
    try:
        yield
    finally:
        call(f"scancel --partition={name}", check=False)
        eventually(lambda: call(f"scontrol delete PartitionName={name}", check=False).returncode == 0)


@contextmanager
def without_daemon(node: str) -> Iterator[None]:
    """Kill a node's slurmd; what it has started lives. In the end it is there again.

    SLURM would see by itself that the node is down, in 20 s to a minute: it is told.
    """
    from daemons import working

    try:
        (daemon,) = working(STATE, node)
        os.kill(daemon, signal.SIGKILL)
        call(f"scontrol update NodeName={node} State=DOWN Reason=test")
        yield
    finally:
        run_testbed("up")


@contextmanager
def dead_node(node: str, job: str) -> Iterator[None]:
    """Kill all that a job of one node has there, SLURM's own processes first, as they would tell, and slurmd."""
    (raw,) = {process.environ()["SLURM_JOB_ID"] for process in processes(job)}
    everything = list(psutil.process_iter(["cmdline", "environ"]))
    for process in everything:
        if f"[{raw}." in " ".join(process.info["cmdline"] or ()):
            process.kill()
    for process in everything:
        if (process.info["environ"] or {}).get("SLURM_JOB_ID") == raw:
            process.kill()
    with without_daemon(node):
        yield


def hurrying(jobs: list[str]) -> Callable[[], bool]:
    """To be called again and again: spares jobs that are requeued their two minutes, but for some seconds (see

    start_now). It answers yes.
    """
    since: dict[str, float] = {}

    def hurry() -> bool:
        for job in jobs:
            told = call(f"squeue --noheader --array --jobs={job} --format=%T|%r", check=False).stdout.strip()
            if told != "PENDING|BeginTime":
                since.pop(job, None)
            elif time.monotonic() - since.setdefault(job, time.monotonic()) > 3:
                call(f"scontrol update JobId={job} StartTime=now", check=False)
        return True

    return hurry
