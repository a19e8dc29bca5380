"""Random sampling of candidates for a loss (RandomSampler of the recipes), as a function of the images' seeds alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.detection.matcher import BACKGROUND

Choice = Callable[[Tensor, Tensor, int, Tensor], Tensor]
"""choose(candidates B x N bool, counts B, slots, keys B x N) -> B x slots indices.

The first min(counts, candidates) entries of a row are the chosen ones; `slots` is at most N.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Chosen candidates in fixed slots: an image's positives first, then its negatives, then unused slots."""

    indices: Tensor  # B x S int64, into the candidates; ascending among positives and among negatives
    positive: Tensor  # B x S bool
    valid: Tensor  # B x S bool: positive or negative


def random_choice(candidates: Tensor, counts: Tensor, slots: int, keys: Tensor) -> Tensor:
    """A uniform choice without replacement: the candidates with the greatest random keys."""
    return keys.masked_fill(~candidates, -1).topk(slots, dim=1).indices


def sample(
    matches: Tensor,
    seeds: Tensor,
    *,
    number: int,
    positive_fraction: float,
    salt: int,
    choose: Choice = random_choice,
) -> Samples:
    """Choose at most `number` candidates an image, at most `number * positive_fraction` of them positive.

    Missing positives are replaced by negatives; where those run out too, fewer are chosen.

    matches: B x N from `match`. seeds: B int64. salt: sets uses of the same seed apart.
    """
    count = matches.shape[1]
    keys = random_keys(seeds, count, salt=salt)
    limit = min(int(number * positive_fraction), count)
    slots = min(number, count)
    pick = partial(_pick, keys=keys, choose=choose)
    positives, n_positive = pick(matches >= 0, torch.full_like(seeds, limit), slots=limit)
    negatives, n_negative = pick(matches == BACKGROUND, number - n_positive, slots=slots)

    slot = torch.arange(slots, device=matches.device).expand(len(seeds), -1)
    positive = slot < n_positive[:, None]
    before = torch.nn.functional.pad(positives, (0, slots - limit))
    after = negatives.gather(1, (slot - n_positive[:, None]).clamp(min=0))
    return Samples(
        indices=torch.where(positive, before, after),
        positive=positive,
        valid=slot < (n_positive + n_negative)[:, None],
    )


def random_keys(seeds: Tensor, count: int, *, salt: int) -> Tensor:
    """B x count uniform integers below 2^62: a counter-based hash of (seed, salt, index), the same on every device.

    Steele, Lea, Flood: Fast splittable pseudorandom number generators (SplitMix64), with wrapping int64 arithmetic.
    """
    stream = _mix(_mix(seeds) + salt)[:, None]
    index = torch.arange(1, count + 1, device=seeds.device)
    return _shift(_mix(stream + index * _GOLDEN), 2)


_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _pick(candidates: Tensor, counts: Tensor, *, slots: int, keys: Tensor, choose: Choice) -> tuple[Tensor, Tensor]:
    """Chosen indices in ascending order (B x slots, the used ones first), and how many are used (B)."""
    available = torch.minimum(counts, candidates.sum(dim=1))
    chosen = choose(candidates, available, slots, keys)
    unused = torch.arange(slots, device=chosen.device) >= available[:, None]
    ordered = chosen.masked_fill(unused, candidates.shape[1]).sort(dim=1).values
    return ordered.clamp(max=candidates.shape[1] - 1), available
