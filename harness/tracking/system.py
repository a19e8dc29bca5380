"""What a job uses of its machine, sampled into a file of its attempt: the rows that MLflow shows as system metrics.

Each node of an attempt appends to its own attempts/N/system-NODE.json, from a thread of the node's first process.
psutil always; NVML where the job has GPUs and nvidia-ml-py is installed.
"""

import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import psutil

from harness.files import disk_full
from harness.run_log import read_log
from harness.tracking.points import window

SECONDS = 10.0
"""Between two samples."""
WINDOWS = 1500
"""Windows of the thinning rule (points.py), shared by the values of all nodes: the more values, the fewer rows."""

Probe = Callable[[], dict[str, float]]


def find_node(environ: Mapping[str, str] | None = None) -> tuple[int, int]:
    """(this node, nodes) as torchrun or SLURM say it in the environment."""
    env = os.environ if environ is None else environ
    for names in (("GROUP_RANK", "GROUP_WORLD_SIZE"), ("SLURM_NODEID", "SLURM_NNODES")):
        if all(name in env for name in names):
            return int(env[names[0]]), int(env[names[1]])
    return 0, 1


@contextmanager
def sampling(attempt: Path, *, gpus: bool, interval: float = SECONDS) -> Iterator[None]:
    """Sample this machine into the attempt's folder for the length of the block. It never fails the training.

    gpus: look at the GPUs of this job, too.
    """
    over = threading.Event()
    thread = threading.Thread(target=_sample_until, args=(over, attempt, gpus, interval), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=2)  # a probe that hangs (a broken driver) must not keep the job from leaving


def _sample_until(over: threading.Event, attempt: Path, gpus: bool, interval: float) -> None:
    try:
        probes = [host_probe(attempt), *(gpu_probes() if gpus else [])]
        node, nodes = find_node()
        with (attempt / f"system-{node}.json").open("a", encoding="utf-8") as file:
            _record(over, file, probes, interval, node=node, nodes=nodes, first=_first_stamp(attempt, node))
    except Exception as error:  # NVML has many
        if not disk_full(error):  # of that the training itself tells
            sys.stderr.write(f"system metrics end here: {type(error).__name__}: {error}\n")


def _first_stamp(attempt: Path, node: int) -> float:
    """When the first attempt of the run began to sample on a node of this number: now, if this is the first."""
    segments = sorted(attempt.parent.glob(f"*/system-{node}.json"))
    return next((row["stamp"] - row["seconds"] for segment in segments for row in read_log(segment)), time.time())


def _record(
    over: threading.Event, file: TextIO, probes: list[Probe], interval: float, *, node: int, nodes: int, first: float
) -> None:
    """Write the means of the samples of every window once it is over, and the last ones at the end."""
    samples: list[dict[str, float]] = []
    present = None
    wait = min(1.0, interval)  # even a run of seconds has a sample
    while True:
        ending = over.wait(wait)
        wait = interval
        now = time.time()
        samples.append({name: value for probe in probes for name, value in probe().items()})
        seconds = round(now - first)
        where = window(seconds, max(1, WINDOWS // (len(samples[-1]) * nodes)))
        if where != present or ending:
            row = {"mode": "system", "node": node, "nodes": nodes, "host": socket.gethostname(), "seconds": seconds}
            file.write(json.dumps(row | {"values": _means(samples), "stamp": round(now, 3)}) + "\n")
            file.flush()
            samples, present = [], where
        if ending:
            return


def _means(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(sample[name] for sample in samples), 1) for name in samples[-1]}


def host_probe(folder: Path) -> Probe:
    """Processor, memory, network, and the disk that holds `folder`, in MLflow's names and units."""
    psutil.cpu_percent()  # the next call tells the mean since this one
    start = psutil.net_io_counters()

    def probe() -> dict[str, float]:
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(str(folder)), psutil.net_io_counters()
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent,
            "network_receive_megabytes": (network.bytes_recv - start.bytes_recv) / 1e6,
            "network_transmit_megabytes": (network.bytes_sent - start.bytes_sent) / 1e6,
        }

    return probe


def gpu_probes() -> list[Probe]:
    """One for each GPU of this job, numbered as the job's local ranks are; none without nvidia-ml-py or a driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    return [_gpu_probe(pynvml, number, handle) for number, handle in enumerate(_handles(pynvml))]


def _handles(pynvml: Any) -> list[Any]:
    """NVML's handles of the visible devices: CUDA_VISIBLE_DEVICES has indices or UUIDs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return [
        pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID(name)
        for name in filter(None, visible.split(","))
    ]


def _gpu_probe(pynvml: Any, number: int, handle: Any) -> Probe:
    def probe() -> dict[str, float]:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            f"gpu_{number}_utilization_percentage": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            f"gpu_{number}_memory_usage_megabytes": memory.used / 1e6,
            f"gpu_{number}_memory_usage_percentage": 100 * memory.used / memory.total,
            f"gpu_{number}_power_usage_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }

    return probe
