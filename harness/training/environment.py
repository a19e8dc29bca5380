"""What a run was made with: versions, hardware, and the code's commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "opencv": "opencv-python-headless",
    "pycocotools": "pycocotools",
    "harness": "maskrcnn-harness",
}


def versions() -> dict[str, str]:
    """Name -> version, of what takes part in the numbers."""
    found = {"python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
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


def git_commit() -> dict[str, Any] | None:
    """The commit of the package's checkout and whether the package differs from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "harness"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def environment(device: torch.device, world: int) -> dict[str, Any]:
    """All of it, for the first row of a journal."""
    return {"versions": versions(), "hardware": hardware(device, world), "git": git_commit()}
