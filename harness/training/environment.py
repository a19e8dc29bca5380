"""What a run is made with: versions, hardware, code; and how its attempts say so."""

import platform
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness.files import read_json
from harness.provenance import running_code
from harness.run_paths import RunPaths
from harness.run_spec import RunSpec
from harness.training.device_state import arithmetic
from harness.training.distributed import Ranks
from harness.training.journal import attempt_row

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv": "opencv-python-headless",
    "pycocotools": "pycocotools",
    "hotcoco": "hotcoco",
    "harness": "maskrcnn-harness",
}


def versions(device: torch.device) -> dict[str, str]:
    """Name -> version, of what takes part in the numbers on a device."""
    found = {"python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    if device.type == "cuda" and torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def hardware(device: torch.device, world: int) -> dict[str, Any]:
    """The devices that a run used."""
    if device.type == "cuda":
        return {"kind": "cuda", "device": torch.cuda.get_device_name(device), "count": world, "host": platform.node()}
    threads = torch.get_num_threads()
    return {"kind": "cpu", "device": cpu_name(), "count": world, "threads": threads, "host": platform.node()}


def cpu_name() -> str:
    """The processor's name, such as "AMD EPYC 7763 64-Core Processor"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment(device: torch.device, world: int) -> dict[str, Any]:
    """Both, for the first row of a journal, and on a GPU its arithmetic."""
    found = {"versions": versions(device), "hardware": hardware(device, world)}
    return found | arithmetic() if device.type == "cuda" else found


def own_attempt_row(
    paths: RunPaths, spec: RunSpec, ranks: Ranks, *, attempt: int, step: int, **more: Any
) -> dict[str, Any]:
    """The first row of an attempt of these processes.

    "matrix" is the matrix file as it was submitted; None in the foreground, where the code is not a frozen copy either.
    """
    code = running_code()
    return attempt_row(
        spec,
        attempt=attempt,
        time=time.time(),
        step=step,
        env_info=environment(ranks.device, ranks.world),
        code=asdict(code),
        matrix=read_json(paths.submission)["matrix"] if code.frozen and paths.submission.exists() else None,
        world=ranks.world,
        device=ranks.device.type,
        **more,
    )
