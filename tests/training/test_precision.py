"""Mixed precision: what is executed, and scales that do what the recipe says. Loss scaling is tested on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from harness.training.precision import LossScaler, autocast, executed_precision

CPU = torch.device("cpu")


def test_executed_precision() -> None:
    assert executed_precision("fp16", "cuda") == "fp16"
    assert executed_precision("fp16", "cpu") == "bf16"
    assert [executed_precision("fp32", device) for device in ("cuda", "cpu")] == ["fp32", "fp32"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, "cpu"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def weight_after(scaler: LossScaler, *gradients: float) -> Tensor:
    """A weight of 1 after SGD steps of rate 1 with the given gradients; an infinite one overflows."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for gradient in gradients:
        optimizer.zero_grad()
        scaler.backward((weight * gradient).sum())
        scaler.step(optimizer)
    return weight.detach()


def test_static_scale_never_changes() -> None:
    """1 - 0.25, an overflow that is skipped and counted, - 0.25 again."""
    scaler = LossScaler("fp16", 512.0, CPU)
    assert weight_after(scaler, 0.25, float("inf"), 0.25).item() == 0.5
    assert scaler.scaler.get_scale() == 512.0
    assert scaler.overflows.item() == 1


def test_dynamic_scale_halves_on_overflow() -> None:
    scaler = LossScaler("fp16", "dynamic", CPU)
    assert weight_after(scaler, float("inf"), 0.25).item() == 0.75
    assert scaler.scaler.get_scale() == 32768.0
    other = LossScaler("fp16", "dynamic", CPU)
    other.load_state_dict(scaler.state_dict())
    assert weight_after(other, 0.25).item() == 0.75
    assert other.scaler.get_scale() == 32768.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_scaling_without_fp16(precision: str) -> None:
    scaler = LossScaler(precision, 512.0, CPU)
    assert weight_after(scaler, 0.25).item() == 0.75
    assert scaler.state_dict() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_static_scale_on_a_gpu() -> None:
    scaler = LossScaler("fp16", 512.0, torch.device("cuda"))
    weight = nn.Parameter(torch.ones(1, device="cuda"))
    optimizer = torch.optim.SGD([weight], lr=1.0, fused=True)
    for gradient in (0.25, float("inf"), 0.25):
        optimizer.zero_grad()
        scaler.backward((weight * gradient).sum())
        scaler.step(optimizer)
    assert weight.item() == 0.5
    assert (scaler.scaler.get_scale(), scaler.overflows.item()) == (512.0, 1)
