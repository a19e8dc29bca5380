"""Other numbers of GPUs and nodes, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.planning.measured import Rates
from harness.planning.scaling import Efficiency, efficiency, makespan, scaled


def test_the_assumption() -> None:
    """0.965 of the ideal a doubling: on 8 GPUs 0.965^3 = 0.8986 of it, from 8 to 1 the inverse."""
    keeps = efficiency([])
    assert (keeps.measured, keeps.of(1, 8)) == (False, pytest.approx(0.8986, abs=1e-4))
    assert keeps.of(8, 1) == pytest.approx(1 / 0.8986, abs=1e-3)
    assert keeps.of(4, 4) == 1


def test_scaled() -> None:
    """2 s on one GPU are 0.25 s on 8 at the ideal speed, 0.3125 s at 80 % of it; an image 0.8 / 8; starts stay."""
    rates = Rates(iteration_s=2.0, image_s=0.8, start_s=30.0, checkpoint_s=1.0)
    found = scaled(rates, 1, 8, Efficiency(0.8 ** (1 / 3)))
    assert found.iteration_s == pytest.approx(0.3125)
    assert (found.image_s, found.start_s, found.checkpoint_s) == (pytest.approx(0.1), 30.0, 1.0)


def test_what_was_measured_counts() -> None:
    """1 s on one GPU and 0.15625 s on 8 are 80 % of the ideal; with a pair of 90 % and one of 70 % the median."""
    one = efficiency([(1, 1.0, 8, 0.15625)])
    assert (one.measured, one.of(1, 8)) == (True, pytest.approx(0.8))
    three = efficiency([(1, 1.0, 8, 1 / 8 / share) for share in (0.9, 0.8, 0.7)])
    assert three.of(1, 8) == pytest.approx(0.8)


def test_makespan() -> None:
    """Of 10, 1, 1 and 5 s on two places the second has the last three, 7 s; on one all, 17 s; on four each its own.

    16 places for 8, 16 and 8 of 3 s each: the second waits for the first, the third for the second.
    """
    times = [(1, 10.0), (1, 1.0), (1, 1.0), (1, 5.0)]
    assert [makespan(times, places) for places in (2, 1, 4)] == [10.0, 17.0, 10.0]
    assert makespan([(8, 3.0), (16, 3.0), (8, 3.0)], 16) == 9.0
    assert makespan([(8, 3.0), (8, 3.0), (8, 3.0)], 16) == 6.0
    assert makespan([(32, 3.0)], 16) == 3.0
    assert makespan([], 16) == 0.0


@given(
    st.lists(st.tuples(st.sampled_from((1, 2, 4, 8)), st.floats(0.1, 100)), min_size=1, max_size=20), st.integers(1, 4)
)
def test_makespan_lies_between_its_bounds(jobs: list[tuple[int, float]], nodes: int) -> None:
    """No shorter than the longest job and the work over all places, no longer than one after the other."""
    found = makespan(jobs, 8 * nodes)
    least = max(max(time for _, time in jobs), sum(width * time for width, time in jobs) / (8 * nodes))
    assert least <= found * (1 + 1e-9) and found <= sum(time for _, time in jobs) * (1 + 1e-9)
