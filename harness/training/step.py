"""One iteration: forward and backward over this rank's micro-batches, then one optimiser step."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from harness.structures import Batch
from harness.training.distributed import Ranks, without_sync
from harness.training.precision import LossScaler, autocast


def iterate(
    model: nn.Module,
    batches: Sequence[Batch],
    optimizer: torch.optim.Optimizer,
    scaler: LossScaler,
    *,
    precision: str,
    micro_batches: int,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """Train on this rank's micro-batches of one iteration; losses whose mean over ranks is that of the iteration.

    micro_batches: of the whole iteration, over all ranks. Gradients and losses are the mean over all of them, whatever
    the ranks: the arithmetic of the published runs, in which a micro-batch is a GPU.
    """
    optimizer.zero_grad(set_to_none=True)
    weight = ranks.world / micro_batches  # the ranks' sums are averaged afterwards, also where their shares differ
    totals: dict[str, Tensor] = {}
    for batch in batches:
        moved = batch.to(ranks.device, non_blocking=True)
        with nullcontext() if batch is batches[-1] else without_sync(model):
            with autocast(precision, ranks.device.type):
                losses = model(moved)
            scaler.backward(losses["loss"] * weight)
        for name, value in losses.items():
            part = value.detach() * weight
            totals[name] = totals[name] + part if name in totals else part
    scaler.step(optimizer)
    return totals
