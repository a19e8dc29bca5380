"""The random choice: uniform, of the right size, and a function of the seed alone."""

import pytest
import torch
from torch import Tensor

from harness.detection.matcher import BACKGROUND, IGNORED
from harness.detection.sampler import _GOLDEN, Samples, _mix, random_keys, sample


def draw(matches: Tensor, seeds: Tensor, number: int = 8, salt: int = 0) -> Samples:
    return sample(matches, seeds, number=number, positive_fraction=0.25, salt=salt)


def test_the_hash_is_splitmix64() -> None:
    # The first outputs for seed 1234567, as published with the algorithm's reference implementations.
    state = 1234567 + torch.arange(1, 4) * _GOLDEN
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    assert [value % 2**64 for value in _mix(state).tolist()] == list(published)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (50, 50, (2, 6)),  # a quarter of 8, the rest negative
        (1, 50, (1, 7)),  # a missing positive becomes a negative
        (0, 50, (0, 8)),
        (50, 3, (2, 3)),  # too few negatives: fewer in all, not more positives
        (1, 1, (1, 1)),
        (0, 0, (0, 0)),
    ],
)
def test_sizes(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    matches = torch.tensor([[IGNORED] * 3 + [0] * positives + [BACKGROUND] * negatives])
    samples = draw(matches, torch.tensor([3]))
    chosen = matches.gather(1, samples.indices)
    assert (samples.positive.sum().item(), (samples.valid & ~samples.positive).sum().item()) == expected
    assert (chosen[samples.positive] == 0).all()
    assert (chosen[samples.valid & ~samples.positive] == BACKGROUND).all()
    assert len(set(samples.indices[samples.valid].tolist())) == sum(expected)


def test_order_is_positives_then_negatives_each_ascending() -> None:
    matches = torch.tensor([[BACKGROUND, 0] * 40])
    samples = draw(matches, torch.tensor([9]), number=16)
    indices = samples.indices[0].tolist()
    assert indices[:4] == sorted(indices[:4])
    assert indices[4:] == sorted(indices[4:])
    assert samples.positive[0].tolist() == [True] * 4 + [False] * 12


def test_the_choice_is_uniform() -> None:
    # 20,000 seeds choose 2 of 20 positives: a chi-square with 19 degrees of freedom exceeds 43.8 once in a thousand.
    draws = 20_000
    matches = torch.tensor([0] * 20 + [BACKGROUND] * 30).expand(draws, -1)
    samples = draw(matches, torch.arange(draws))
    counts = torch.bincount(samples.indices[samples.positive], minlength=20).double()
    assert counts.sum() == 2 * draws
    expected = 2 * draws / 20
    # Without replacement the counts vary less, by 18 / 19.
    assert ((counts - expected) ** 2 / expected).sum() * 19 / 18 < 43.8
    # 6 of 30 negatives: 29 degrees of freedom exceed 58.3 once in a thousand, and vary less by 24 / 29.
    chosen = samples.indices[samples.valid & ~samples.positive] - 20
    counts = torch.bincount(chosen, minlength=30).double()
    assert counts.sum() == 6 * draws
    assert ((counts - draws / 5) ** 2 / (draws / 5)).sum() * 29 / 24 < 58.3
    pairs = samples.indices[:, :2] @ torch.tensor([20, 1])
    counts = torch.bincount(pairs)[torch.bincount(pairs) > 0].double()
    assert len(counts) == 190
    # 189 degrees of freedom: 254 once in a thousand.
    assert ((counts - draws / 190) ** 2 / (draws / 190)).sum() < 254


def test_seed_and_salt_alone_decide() -> None:
    matches = torch.tensor([[0, BACKGROUND] * 100]).expand(3, -1)
    together = draw(matches, torch.tensor([5, 6, 5])).indices
    alone = draw(matches[:1], torch.tensor([6])).indices
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(draw(matches[:1], torch.tensor([6]), salt=1).indices, alone)
    torch.manual_seed(0)
    assert torch.equal(draw(matches[:1], torch.tensor([6])).indices, alone)


def test_keys_of_neighbouring_seeds_are_unrelated() -> None:
    keys = random_keys(torch.arange(4) + 2**40, 1000, salt=1).double()
    assert (keys >= 0).all()
    correlation = torch.corrcoef(keys) - torch.eye(4, dtype=torch.double)
    assert correlation.abs().max() < 0.12  # 1000 independent pairs: 0.12 is nearly four standard deviations
