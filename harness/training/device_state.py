"""The settings that speed and memory of a device depend on besides its name: arithmetic, driver, clocks, power."""

import subprocess
from collections.abc import Sequence
from typing import Any

import psutil
import torch

QUERIES = {
    "driver": "driver_version",
    "sm_mhz": "clocks.sm",
    "max_sm_mhz": "clocks.max.sm",
    "memory_mhz": "clocks.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
}
"""What nvidia-smi is asked: our name -> its name."""


def device_state(device: torch.device) -> dict[str, Any]:
    """TF32 and cudnn.benchmark as this process has them, cuDNN's version, and the GPU as it is now ("gpu").

    Read it right after the work: an idle GPU lowers its clocks.
    """
    return {
        **arithmetic(),
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,  # type: ignore[no-untyped-call]
        "gpu": ask_gpu(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None,
    }


def arithmetic() -> dict[str, Any]:
    """What of a GPU's arithmetic this process has switched on; torch's own choice is TF32 for convolutions alone."""
    return {
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def ask_gpu(uuid: str) -> dict[str, str] | None:
    """QUERIES of one GPU, as nvidia-smi answers: MHz, W. None where it is not there, or does not answer."""
    said = _ask(uuid, list(QUERIES.values()))
    return None if said is None else dict(zip(QUERIES, said, strict=True))


def others_share(device: torch.device) -> float | None:
    """The share (0 to 1) of a device that is at work while this process is idle: of the CPU cores in a second, of a GPU

    in the last sample of nvidia-smi. None where a GPU does not tell.
    """
    if device.type == "cpu":
        return psutil.cpu_percent(interval=1) / 100
    said = _ask(str(torch.cuda.get_device_properties(device).uuid), ["utilization.gpu"])
    return int(said[0]) / 100 if said and said[0].isdecimal() else None


def _ask(uuid: str, queries: Sequence[str]) -> list[str] | None:
    command = ["nvidia-smi", f"--id=GPU-{uuid.removeprefix('GPU-')}", f"--query-gpu={','.join(queries)}"]
    try:
        said = subprocess.run(
            [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return [value.strip() for value in said.strip().split(",")]
