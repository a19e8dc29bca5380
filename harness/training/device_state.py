"""The settings that speed and memory of a device depend on besides its name: arithmetic, driver, clocks, power."""

import subprocess
from typing import Any

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
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,  # type: ignore[no-untyped-call]
        "gpu": ask_gpu(str(torch.cuda.get_device_properties(device).uuid)) if device.type == "cuda" else None,
    }


def ask_gpu(uuid: str) -> dict[str, str] | None:
    """QUERIES of one GPU, as nvidia-smi answers: MHz, W. None where it is not there, or does not answer."""
    command = ["nvidia-smi", f"--id=GPU-{uuid.removeprefix('GPU-')}", f"--query-gpu={','.join(QUERIES.values())}"]
    try:
        said = subprocess.run(
            [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(QUERIES, (value.strip() for value in said.strip().split(",")), strict=True))
