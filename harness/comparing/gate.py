"""The gate: which results have dropped against others, with a false alarm in at most 5 % of all tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.intervals import LEVEL, PRIOR, chance_of_drop, holm

DROPS = (0.3, 0.5, 1.0)
"""True drops, in AP, for which the gate says how often it would miss one."""
TOGETHER = 0.9
"""Correlation of box and mask AP over seeds, assumed by the simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One AP in percent of a row: of each seed here, and what it is held against."""

    table: str
    row: str
    metric: str  # box AP, mask AP
    now: tuple[float, ...]
    before: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of a number."""

    number: Number
    difference: float  # now minus before, of the means
    chance: float  # of a drop this large without cause
    dropped: bool
    too_good: bool  # as unlikely as a drop, the other way: the wrong data, or the test set trained on?


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the gate does in simulated tables of this size: fractions of tables and of dropped rows."""

    false_alarm: float
    missed: tuple[float, ...]  # of each of DROPS


def judge(numbers: Sequence[Number]) -> list[Verdict]:
    """Every number, Holm-corrected over those of its table, at 5 % a table and direction."""
    found: list[Verdict] = []
    for table in dict.fromkeys(number.table for number in numbers):
        members = [number for number in numbers if number.table == table]
        chances = [chance_of_drop(number.before, number.now) for number in members]
        rises = holm([1 - chance for chance in chances])
        for number, chance, dropped, too_good in zip(members, chances, holm(chances), rises, strict=True):
            difference = float(np.mean(number.now) - np.mean(number.before))
            verdict = Verdict(number=number, difference=difference, chance=chance, dropped=dropped, too_good=too_good)
            found.append(verdict)
    return found


def rates(numbers: Sequence[Number], tables: int = 4000, seed: int = 0) -> Rates:
    """The gate's error rates for one table of these numbers, simulated under what it assumes.

    Every AP scatters with the prior over seeds, the AP of a row with correlation TOGETHER. A miss: one row of the
    table has truly dropped by so much in all its AP, and none of them is told. The deviation is taken as known.
    """
    rows = list(dict.fromkeys(number.row for number in numbers))
    owner = np.array([rows.index(number.row) for number in numbers])
    errors = np.array([PRIOR * np.sqrt(1 / len(number.now) + 1 / len(number.before)) for number in numbers])
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((tables, len(rows)))[:, owner]
    own = generator.standard_normal((tables, len(numbers)))
    noise = np.sqrt(TOGETHER) * shared + np.sqrt(1 - TOGETHER) * own
    first = owner == 0
    missed = (1 - _told(noise + np.where(first, drop / errors, 0))[:, first].any(axis=1).mean() for drop in DROPS)
    return Rates(false_alarm=float(_told(noise).any(axis=1).mean()), missed=tuple(map(float, missed)))


def _told(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Holm's decision for each row of z scores, as `holm` makes it."""
    from scipy.stats import norm

    order = np.argsort(-scores, axis=1)
    chances = norm.sf(np.take_along_axis(scores, order, axis=1))
    falls = np.logical_and.accumulate(chances <= (1 - LEVEL) / np.arange(scores.shape[1], 0, -1), axis=1)
    told = np.zeros_like(falls)
    np.put_along_axis(told, order, falls, axis=1)
    return told
