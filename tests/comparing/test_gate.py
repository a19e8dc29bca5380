"""The gate: what it tells, and that its simulated rates are those of theory where theory has them."""

from statistics import NormalDist

import numpy as np
import pytest

from harness.comparing.gate import Number, judge, rates
from harness.intervals import PRIOR

NORMAL = NormalDist()


def number(row: str, now: float, before: float, metric: str = "box AP", table: str = "t") -> Number:
    return Number(table=table, row=row, metric=metric, now=(now,), before=(before,))


def test_it_tells_a_large_drop_and_a_result_too_good() -> None:
    found = judge([number("a", 36.0, 38.2), number("b", 38.1, 38.2), number("c", 41.0, 38.2)])
    assert [(v.dropped, v.too_good) for v in found] == [(True, False), (False, False), (False, True)]
    assert found[0].difference == pytest.approx(-2.2)


def test_each_table_has_its_own_five_percent() -> None:
    """A drop of 0.75 (chance 0.0386) is told alone in its table, and not beside nineteen others."""
    alone = number("a", 37.45, 38.2, table="one")
    crowd = [number(str(n), 38.2, 38.2, table="two") for n in range(19)] + [number("b", 37.45, 38.2, table="two")]
    told = [verdict.number.row for verdict in judge([alone, *crowd]) if verdict.dropped]
    assert told == ["a"]


def test_the_rates_of_one_number_are_the_normal_law() -> None:
    """One number: false alarms 5 %; a drop d is missed with Phi(1.645 - d / 0.4243)."""
    found = rates([number("a", 38.2, 38.2)], tables=40000)
    assert found.false_alarm == pytest.approx(0.05, abs=0.004)
    expected = [NORMAL.cdf(1.6449 - drop / 0.42426) for drop in (0.3, 0.5, 1.0)]
    assert found.missed == pytest.approx(expected, abs=0.01)


def test_many_numbers_keep_the_false_alarms_and_cost_power() -> None:
    rows = [number(str(n), 38.2, 38.2, metric) for n in range(10) for metric in ("box AP", "mask AP")]
    found = rates(rows)
    assert found.false_alarm < 0.06
    assert found.missed[2] > rates(rows[:2]).missed[2]


@pytest.mark.slow
def test_the_rates_are_those_of_the_gate_itself() -> None:
    """Three seeds now, published before: `judge` on draws of its own does as often what `rates` says of it."""
    generator, draws, drop = np.random.default_rng(5), 600, 1.0
    alarms = misses = 0
    for _ in range(draws):
        now, before = generator.normal(0, PRIOR, (2, 3)), generator.normal(0, PRIOR, (2, 1))
        for fall in (0.0, drop):
            told = [
                verdict.dropped
                for verdict in judge(
                    [
                        Number(table="t", row=str(row), metric="box AP", now=tuple(now[row] - fall * (row == 0)),
                               before=tuple(before[row]))
                        for row in (0, 1)
                    ]
                )
            ]  # fmt: skip
            alarms += fall == 0 and any(told)
            misses += fall == drop and not told[0]
    numbers = [Number(table="t", row=str(row), metric="box AP", now=(0.0,) * 3, before=(0.0,)) for row in (0, 1)]
    found = rates(numbers, tables=20000)
    assert found.false_alarm == pytest.approx(alarms / draws, abs=0.03)
    assert found.missed[2] == pytest.approx(misses / draws, abs=0.07)
    assert found.missed[2] < rates([number("0", 0, 0), number("1", 0, 0)]).missed[2]  # more seeds, fewer misses
