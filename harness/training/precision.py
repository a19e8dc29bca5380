"""Mixed precision as the recipes have it: fp16 on a GPU, bf16 on a CPU, and never one for the other unsaid."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from harness.errors import UserError
from harness.failures import Failure


def executed_precision(precision: str, device_type: str) -> str:
    """The precision that a recipe's `precision` becomes on a device: fp16 is bf16 on a CPU, which has no fp16 units."""
    return "bf16" if precision == "fp16" and device_type != "cuda" else precision


def require_precision(precision: str, device_type: str) -> None:
    """Raise UserError where a run that was prepared for a GPU finds none."""
    if executed_precision(precision, device_type) != precision:
        text = f"this run is to be trained in {precision}, and its process sees no GPU; mend the node or the job"
        raise UserError(text, failure=Failure.NODE)


def autocast(precision: str, device_type: str) -> AbstractContextManager[Any]:
    """The context of a forward pass in the executed precision."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device_type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


class LossScaler:
    """Loss scaling under fp16: a static scale, as mmdetection 2.x trained, or a dynamic one; nothing otherwise.

    Overflowing steps are skipped and counted on the device, so that counting never waits for it.
    """

    def __init__(self, precision: str, loss_scale: float | Literal["dynamic"], device: torch.device) -> None:
        self.static = None if loss_scale == "dynamic" else float(loss_scale)
        initial = 65536.0 if self.static is None else self.static
        self.scaler = torch.amp.GradScaler(device.type, init_scale=initial, enabled=precision == "fp16")
        self.overflows = torch.zeros((), device=device)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the scaled loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One optimiser step, skipped on the device where a gradient overflowed."""
        self.scaler.step(optimizer)
        if self.scaler.is_enabled():
            found = self.scaler._found_inf_per_device(optimizer)
            self.overflows += torch.stack(list(found.values())).amax()
            self.scaler.update(new_scale=self.static)

    def state_dict(self) -> dict[str, Any]:
        """The dynamic scale's state (empty where there is none)."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        if state:
            self.scaler.load_state_dict(state)
