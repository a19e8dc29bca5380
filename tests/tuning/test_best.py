"""The best trials, and the matrix file of one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from harness.errors import UserError
from harness.matrix import load_experiment
from harness.recipe import Recipe, diff
from harness.run_paths import RunPaths
from harness.run_spec import read_spec
from harness.run_state import State
from harness.settings import Settings
from harness.tuning.best import cell_of, front, matrix, winner, write_matrix
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial, TrialState, trials
from tuning.folders import place, trial


@pytest.fixture
def studied(tmp_path: Path, shapes: Path) -> tuple[Study, Settings]:
    """Four trials: the base, a better one, a worse one that is pruned, one that failed."""
    study, settings = place(tmp_path, shapes)
    trial(study, settings, 0, (0.1, 0.30))
    trial(study, settings, 1, (0.2, 0.35), lr=0.0037291, warmup_iters=73, multiscale_mode="range")
    trial(study, settings, 2, (0.01,), pruned="pruned after epoch 1", lr=0.009)
    trial(study, settings, 3, (), State.FAILED, failed="no room", lr=0.008)
    return study, settings


def test_the_best_finished_trial_wins(studied: tuple[Study, Settings]) -> None:
    study, settings = studied
    found = trials(study, settings)
    assert [entry.state for entry in found] == ["COMPLETE", "COMPLETE", "PRUNED", "FAILED"]
    assert [entry.number for entry in front(study, found)] == [1]
    assert winner(study, found, 0).number == 0
    with pytest.raises(UserError, match="no finished trial 2; finished are 0, 1"):
        winner(study, found, 2)
    with pytest.raises(UserError, match="no trial has finished yet; harness tune"):
        winner(study, found[2:])


def test_its_matrix_trains_its_recipe_at_full_length(studied: tuple[Study, Settings], tmp_path: Path) -> None:
    study, settings = studied
    best = winner(study, trials(study, settings))
    write_matrix(study, best, tmp_path / "best.yaml")
    experiment = load_experiment(tmp_path / "best.yaml")
    (planned,) = experiment.cells
    assert planned.recipe == read_spec(best.paths).recipe and not planned.shortening
    assert planned.name == "mask_rcnn_r18_fpn_1x_coco+tiny+trial001" and experiment.name == "small-best"
    assert diff(study.base.recipe, planned.recipe).keys() == {"lr", "warmup_iters", "multiscale_mode"}
    assert (planned.resources.gpus_per_node, planned.resources.minutes) == (0, 2880)  # minutes were of a short one
    text = (tmp_path / "best.yaml").read_text()
    assert "segm AP 35.0" in text and "shortened (epochs=2, image_scale=0.1)" in text
    assert "frozen_stages" not in text  # what random weights imply


def test_a_file_that_somebody_has_edited_stays(studied: tuple[Study, Settings], tmp_path: Path) -> None:
    study, settings = studied
    best, file = winner(study, trials(study, settings)), tmp_path / "best.yaml"
    write_matrix(study, best, file)
    write_matrix(study, best, file)
    file.write_text(file.read_text() + "# mine\n")
    with pytest.raises(UserError, match="nothing is written: name another file"):
        write_matrix(study, best, file)
    assert file.read_text().endswith("# mine\n")


def test_the_bases_own_matrix_has_no_trial_in_its_names(studied: tuple[Study, Settings], tmp_path: Path) -> None:
    study, settings = studied
    base = winner(study, trials(study, settings), 0)
    write_matrix(study, base, tmp_path / "base.yaml")
    (planned,) = load_experiment(tmp_path / "base.yaml").cells
    assert planned.recipe == study.base.recipe and planned.name == study.base.name
    assert cell_of(study, base).recipe == study.base.recipe


def test_of_several_objectives_all_that_none_beats(tmp_path: Path, shapes: Path) -> None:
    """Mask AP against memory: 1 and 2 trade one for the other, 3 is as 2 and comes later, 4 is worse than 1 in both."""
    study, settings = place(tmp_path, shapes, "[segm AP, memory]")
    for number, (ap, memory, lr) in enumerate(
        [(0.30, 500.0, 0.001), (0.35, 900.0, 0.002), (0.20, 100.0, 0.003), (0.20, 100.0, 0.004), (0.30, 950.0, 0.005)]
    ):
        trial(study, settings, number, (ap,), result={"memory_mb": memory}, lr=lr)
    assert [entry.number for entry in front(study, trials(study, settings))] == [1, 0, 2, 3]


@examples(deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
    directions=st.tuples(*[st.sampled_from(["maximize", "minimize"])] * 2),
)
def test_the_front_is_what_nothing_beats(values: list[tuple[int, int]], directions: tuple[str, str]) -> None:
    study: Any = SimpleNamespace(objectives=[SimpleNamespace(direction=direction) for direction in directions])
    found = [
        Trial(number=number, params={}, paths=RunPaths(Path()), state=TrialState.COMPLETE, values=(float(a), float(b)))
        for number, (a, b) in enumerate(values)
    ]
    kept = {entry.number for entry in front(study, found)}
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    goods = [[sign * value for sign, value in zip(signs, pair, strict=True)] for pair in values]
    for number, mine in enumerate(goods):
        beaten = any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in goods)
        assert (number in kept) != beaten


FIELDS = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-4, 1e-2),
        "warmup_iters": st.integers(0, 1000),
        "multiscale_mode": st.sampled_from(["fixed", "range"]),
    }
)


@examples(deadline=None, max_examples=10)
@given(params=FIELDS)
def test_any_recipe_comes_back_from_its_matrix(
    params: dict[str, object], tmp_path_factory: pytest.TempPathFactory, shapes: Path
) -> None:
    folder = tmp_path_factory.mktemp("any")
    study, settings = place(folder, shapes)
    paths = trial(study, settings, 5, (0.3,), **params)
    best = winner(study, trials(study, settings))
    (folder / "best.yaml").write_text(matrix(study, best))
    (planned,) = load_experiment(folder / "best.yaml").cells
    recipe: Recipe = planned.recipe
    assert recipe == read_spec(paths).recipe
