"""The front, and the points on each kind of hardware."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from harness.matrix import Experiment
from harness.reporting.pareto import MEMORY, SPEED, Point, front, points
from harness.reporting.records import Record
from harness.reporting.rows import Row, match
from reporting.conftest import V100, Load, finished, on_cpu

TWO = "include: [{backbone: R-50, schedule: [1x, 2x]}]\n"
MANY = st.lists(
    st.builds(Point, cost=st.floats(1, 50), precision=st.floats(0, 60), label=st.text(max_size=2)), max_size=12
)


def rows(experiment: Experiment, *records: Record) -> list[Row]:
    return match(experiment, records)[0]


def point(cost: float, precision: float, label: str, **others: bool) -> Point:
    return Point(cost=cost, precision=precision, label=label, **others)


def test_front_of_a_hand_worked_case() -> None:
    slow, fast, beaten = point(8, 44, "slow"), point(20, 38, "fast"), point(7, 43, "beaten")
    twin = point(8, 44, "twin")
    assert front([beaten, slow, fast, twin], SPEED) == [fast, slow]
    assert front([beaten, slow, fast, twin], MEMORY) == [
        beaten,
        slow,
    ]  # 7 GB for 43, 8 GB for 44; 20 GB for 38 is beaten
    assert front([], SPEED) == []


def test_no_shortened_result_stands_in_front_of_a_full_one() -> None:
    full, short = point(10, 38, "full"), point(30, 90, "short", marked=True)
    assert front([full, short], SPEED) == [full]
    assert front([short], SPEED) == [short]


@given(MANY)
def test_front_is_what_nothing_beats(found: list[Point]) -> None:
    def beaten(one: Point, by: Point) -> bool:
        better = by.cost >= one.cost and by.precision >= one.precision
        return better and (by.cost, by.precision) != (one.cost, one.precision)

    wanted = {(p.cost, p.precision) for p in found if not any(beaten(p, other) for other in found)}
    assert {(p.cost, p.precision) for p in front(found, SPEED)} == wanted


def test_published_points_stand_beside_full_results_on_their_own_hardware(load: Load) -> None:
    """Published of R-50 1x: 4.4 GB, 16.1 images a second, 38.2; of 2x neither speed nor memory."""
    experiment = load(TWO)
    found = points(rows(experiment, *map(finished, experiment.cells)), SPEED)
    assert {place: [p.label for p in there] for place, there in found.items()} == {
        "H100": ["r50_fpn_1x", "r50_fpn_2x"], "V100": ["r50_fpn_1x, published"]
    }  # fmt: skip
    assert found["V100"] == [point(16.1, 38.2, "r50_fpn_1x, published", published=True)]
    ours = replace(finished(experiment.cells[0]), hardware=V100)
    assert [p.published for p in points(rows(experiment, ours), MEMORY)["V100"]] == [False, True]


def test_overridden_cells_are_not_held_against_published_ones(load: Load) -> None:
    experiment = load(TWO + "recipe: {lr: 0.01}\n")
    assert list(points(rows(experiment, finished(experiment.cells[0])), SPEED)) == ["H100"]


def test_memory_of_a_process_is_no_memory_of_a_gpu(load: Load) -> None:
    experiment = load(TWO + "shorten: {epochs: 1}\n")
    odd = replace(finished(experiment.cells[0]), memory_kind="rss")
    assert points(rows(experiment, odd), MEMORY) == {}
    assert list(points(rows(experiment, on_cpu(odd)), MEMORY)) == ["AMD EPYC"]


def test_seeds_are_one_point_at_their_mean(load: Load) -> None:
    experiment = load("seeds: [0, 1]\n" + TWO + "shorten: {epochs: 1}\n")
    runs = [finished(experiment.cells[0], seed, box=0.38 + 0.02 * seed, fps=10.0 + 4 * seed) for seed in (0, 1)]
    ((found,),) = points(rows(experiment, *runs), SPEED).values()
    assert (found.cost, round(found.precision, 9)) == (12.0, 39.0)
