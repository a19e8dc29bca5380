"""The gate: which results have dropped against others, with a false alarm in at most 5 % of all tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.intervals import LEVEL, PRIOR, chance_of_drop, chances_of_drop, holm

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
    missing: tuple[int, int] = (0, 0)  # further seeds here and there that have not finished


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
    """The gate's error rates for one table of these numbers with as many seeds as they have, simulated.

    Every AP scatters with the prior over seeds, the AP of one training with correlation TOGETHER, and is judged as
    `judge` does. A miss: one row of the table has truly dropped by so much in all its AP, and none of them is told.
    """
    generator = np.random.default_rng(seed)
    rows = list(dict.fromkeys(number.row for number in numbers))
    owner = np.array([rows.index(number.row) for number in numbers])
    before = _trainings(generator, tables, owner, [len(number.before) for number in numbers])
    now = _trainings(generator, tables, owner, [len(number.now) for number in numbers])
    fallen = owner == generator.integers(len(rows), size=(tables, 1))

    def told(drop: float) -> NDArray[np.bool_]:
        moved = (seeds - drop * fallen[:, [index]] for index, seeds in enumerate(now))
        return _told(np.stack(list(map(chances_of_drop, before, moved)), axis=1))

    missed = (1 - (told(drop) & fallen).any(axis=1).mean() for drop in DROPS)
    return Rates(false_alarm=float(told(0.0).any(axis=1).mean()), missed=tuple(map(float, missed)))


def _trainings(
    generator: np.random.Generator, tables: int, owner: NDArray[np.int64], seeds: Sequence[int]
) -> list[NDArray[np.float64]]:
    """Of each number tables x seeds, around 0; those of one row share what its trainings have in common."""
    shared = generator.standard_normal((tables, int(owner.max()) + 1, max(seeds)))
    own = generator.standard_normal((tables, len(owner), max(seeds)))
    noise = PRIOR * (np.sqrt(TOGETHER) * shared[:, owner] + np.sqrt(1 - TOGETHER) * own)
    return [noise[:, index, :count] for index, count in enumerate(seeds)]


def _told(chances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Holm's decision for each row of chances, as `holm` makes it."""
    order = np.argsort(chances, axis=1)
    steps = (1 - LEVEL) / np.arange(chances.shape[1], 0, -1)
    falls = np.logical_and.accumulate(np.take_along_axis(chances, order, axis=1) <= steps, axis=1)
    told = np.zeros_like(falls)
    np.put_along_axis(told, order, falls, axis=1)
    return told
