"""From the loader to a GPU: pinned there, copied without waiting, and waited for by nothing in an iteration."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from detection.test_mask_rcnn import Waits
from torch import Tensor

from harness.data import loading
from harness.data.loading import DataLoader
from harness.launching.prepare import PreparedRun
from harness.structures import Batch, Polygons
from harness.training.distributed import Ranks
from harness.training.meter import Meter
from harness.training.precision import LossScaler
from harness.training.step import iterate
from training.tiny import changed, session

GPU = Ranks(device=torch.device("cuda"))


@pytest.mark.parametrize("ranks", [GPU, Ranks()])
def test_the_loader_pins_for_a_gpu_alone(
    tiny: None, run: PreparedRun, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and in testing; the loader itself pins nothing where there is no GPU."""
    asked: list[bool] = []

    def loader(*args: Any, pin_memory: bool, **more: Any) -> DataLoader[Any]:
        asked.append(pin_memory)
        return DataLoader(*args, **more)

    monkeypatch.setattr(loading, "DataLoader", loader)
    training = session(run.paths, run.spec)
    next(training.images.epoch(0, ranks, start=0))
    next(training.validation.samples(ranks))
    assert asked == [ranks is GPU] * 2


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a batch, those of its polygons, too."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for field in fields(value) for tensor in tensors(getattr(value, field.name))]


@pytest.mark.parametrize("mask_format", ["bitmap", "polygon"])
def test_a_whole_iteration_with_its_transfer_waits_for_one_suppression_only(
    tiny: None, run: PreparedRun, mask_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which a CPU plays: every tensor pinned by the loader, each copied from there without blocking."""
    paths, spec = changed(run, run.paths.folder.parent / mask_format, mask_format=mask_format)
    training = session(paths, spec)
    training.model.train()
    head = training.model.roi_head
    training.model.rpn_head.compact = head.compact = head.listed = False
    pinned: list[Tensor] = []
    copied: list[Tensor] = []
    plain = Tensor.to

    def pin(self: Tensor) -> Tensor:
        pinned.append(self.clone())
        return pinned[-1]

    def to(self: Tensor, *args: Any, non_blocking: bool = False, **more: Any) -> Tensor:
        if args[:1] != (GPU.device,):
            return plain(self, *args, non_blocking=non_blocking, **more)
        assert non_blocking
        copied.append(self)
        return self

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    batches: list[Batch] = [batch.pin_memory() for batch in next(training.images.epoch(0, Ranks(), start=0))]
    scaler, meter = LossScaler("fp32", 1.0, torch.device("cpu")), Meter()
    fused = torch.optim.SGD(training.model.parameters(), lr=0.01, momentum=0.9, fused=True)
    for number in (1, 2):  # the first one makes the optimiser's state
        copied.clear()
        with Waits() as waits:
            losses = iterate(training.model, batches, fused, scaler, precision="fp32", micro_batches=1, ranks=GPU)
            meter.add(losses, step=number, seconds=1.0, data_seconds=0.0)
    assert waits.seen == {"nms": len(batches)}
    own = [tensor for batch in batches for tensor in tensors(batch)]
    assert len(own) == (7 if mask_format == "polygon" else 6) * len(batches)
    assert [id(tensor) for tensor in copied] == [id(tensor) for tensor in own]
    assert {id(tensor) for tensor in own} == {id(tensor) for tensor in pinned}
    assert isinstance(batches[0].masks, Polygons) == (mask_format == "polygon")
