"""One iteration: accumulated gradients are the mean of the micro-batches' own."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from harness.launching.prepare import PreparedRun
from harness.structures import Batch
from harness.training.distributed import Ranks
from harness.training.precision import LossScaler
from harness.training.step import iterate
from training.tiny import changed, session


@pytest.fixture
def frozen(run: PreparedRun) -> tuple[nn.Module, list[Batch]]:
    """A model with frozen batch norm, and 4 micro-batches of 2."""
    paths, spec = changed(run, run.paths.folder.parent / "frozen", batch=8, bn_eval=True, bn_affine_trained=False)
    training = session(paths, spec)
    training.model.train()
    return training.model, next(training.images.epoch(0, Ranks(), start=0))


def step(model: nn.Module, batches: list[Batch], *, micro_batches: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients and losses of one iteration on a copy."""
    model = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = iterate(
        model,
        batches,
        optimizer,
        LossScaler("fp32", 1.0, torch.device("cpu")),
        precision="fp32",
        micro_batches=micro_batches,
        ranks=Ranks(),
    )
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, losses


@pytest.mark.slow
def test_accumulation_is_the_mean(frozen: tuple[nn.Module, list[Batch]]) -> None:
    model, batches = frozen
    assert [len(batch.images) for batch in batches] == [2, 2, 2, 2]
    together, losses = step(model, batches, micro_batches=4)
    alone = [step(model, [batch], micro_batches=1) for batch in batches]
    assert together.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum(float(value.norm()) > 0 for value in together.values()) > 30
    for name, gradient in together.items():
        mean = torch.stack([gradients[name] for gradients, _ in alone]).mean(0)
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)
    for name, value in losses.items():
        assert value.item() == pytest.approx(sum(other[name].item() for _, other in alone) / 4, rel=1e-5)


def test_each_iteration_starts_from_no_gradient(frozen: tuple[nn.Module, list[Batch]]) -> None:
    """A rate of 0 leaves the weights, so a second iteration has the first one's gradients, not their double."""
    model, batches = frozen
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    seen = []
    for _ in range(2):
        scaler = LossScaler("fp32", 1.0, torch.device("cpu"))
        iterate(model, batches[:1], optimizer, scaler, precision="fp32", micro_batches=1, ranks=Ranks())
        seen.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
