"""Intervals against textbook cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.intervals import chance_of_drop, holm, image_interval, mean_interval, over_seeds, training_interval


def test_one_seed_each_rests_on_the_prior() -> None:
    """0.3 x sqrt(2) x 1.959964 = 0.83155."""
    found = training_interval([38.2], [39.4])
    assert (found.difference, found.low, found.high) == pytest.approx((1.2, 1.2 - 0.83155, 1.2 + 0.83155), abs=1e-4)
    assert found.assumed and found.excludes_zero


@pytest.mark.slow
def test_three_seeds_are_welch() -> None:
    """Variances 1 and 2 of 3 and 4 seeds: error sqrt(1/3 + 2/4) = 0.912871, its degrees of freedom

    (1/3 + 1/2)^2 / ((1/3)^2 / 2 + (1/2)^2 / 3) = 5 exactly, and t(0.975, 5) = 2.570582 in the tables.
    """
    found = training_interval([1.0, 2.0, 3.0], [5.0, 5.0, 5.0 + math.sqrt(3), 5.0 - math.sqrt(3)])
    assert not found.assumed
    assert found.high - found.difference == pytest.approx(2.570582 * 0.912871, rel=1e-5)


def test_the_mean_of_pairs_is_surer_than_each() -> None:
    """Four pairs of one seed each: 0.3 x sqrt(2) / sqrt(4) = 0.212132, x 1.959964 = 0.415773; the mean of

    1.0, 0.8, 1.2 and 0.6 is 0.9.
    """
    found = mean_interval([([38.0], [39.0]), ([40.0], [40.8]), ([41.0], [42.2]), ([42.0], [42.6])])
    assert (found.difference, found.low, found.high) == pytest.approx((0.9, 0.9 - 0.415773, 0.9 + 0.415773), abs=1e-5)


def test_three_seeds_have_students_interval() -> None:
    """38.0, 38.4, 38.5: deviation sqrt(.14 / 2) = .264575, t(0.975, 2) = 4.302653: +- 4.302653 x .264575 / sqrt(3)."""
    found = over_seeds([38.0, 38.4, 38.5], prior=False)
    assert (found.count, found.mean, found.deviation) == (3, pytest.approx(38.3), pytest.approx(0.264575, abs=1e-6))
    assert found.bounds == pytest.approx((38.3 - 0.657242, 38.3 + 0.657242), abs=1e-5) and not found.assumed


def test_fewer_rest_on_the_prior_or_have_no_interval() -> None:
    """0.3 x 1.959964 / sqrt(2) = 0.415773, and of one seed 0.587989."""
    two, one = over_seeds([38.0, 38.4]), over_seeds([38.0])
    assert two.bounds == pytest.approx((38.2 - 0.415773, 38.2 + 0.415773), abs=1e-5) and two.assumed
    assert one.bounds == pytest.approx((38 - 0.587989, 38 + 0.587989), abs=1e-5) and one.deviation is None
    assert over_seeds([16.0, 17.0], prior=False).bounds is None


def test_equal_seeds_without_scatter_do_not_divide_by_zero() -> None:
    assert chance_of_drop([40.0] * 3, [40.0] * 3) == 0.5
    assert chance_of_drop([40.0] * 3, [39.0] * 3) == 0.0
    assert training_interval([40.0] * 3, [40.0] * 3).excludes_zero is False


def test_the_chance_of_a_drop() -> None:
    """A drop of 0.7 with one seed each: z = 0.7 / 0.42426 = 1.64992, one-sided 0.04948."""
    assert chance_of_drop([38.2], [37.5]) == pytest.approx(0.04948, abs=1e-4)
    assert chance_of_drop([38.2], [38.9]) == pytest.approx(1 - 0.04948, abs=1e-4)


def test_holm_by_hand() -> None:
    """Holm's own steps at 5 %: 0.01 <= 0.05/4, 0.016 <= 0.05/3, 0.03 > 0.05/2: it and what is above stay."""
    assert holm([0.03, 0.01, 0.016, 0.2]) == [False, True, True, False]
    assert holm([]) == [] and holm([0.05]) == [True]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_lies_between_bonferroni_and_none(chances: list[float]) -> None:
    fallen = holm(chances)
    for chance, falls in zip(chances, fallen, strict=True):
        assert falls or chance > 0.05 / len(chances)
        assert not falls or chance <= 0.05


def test_an_image_interval_holds_the_middle_of_the_resamples() -> None:
    found = image_interval(0.5, np.arange(1001) / 1000)
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
