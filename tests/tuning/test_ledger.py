"""Trials as optuna has them: what is chosen does not depend on crashes, and is told once."""

from pathlib import Path

import optuna
import pytest

from harness.errors import UserError
from harness.tuning.ledger import Asked, Ledger
from harness.tuning.study_file import Study
from tuning.launched import write_study

SEARCH = """\
  lr: {low: 0.0001, high: 0.1, log: true}
  warmup_iters: {low: 0, high: 100, step: 10}
  weight_decay: {low: 0.0, high: 0.001}
  lr_steps: [[1], [1, 2]]"""


def study_of(folder: Path, sampler: str = "random", **words: str) -> Study:
    more = f"sampler: {{kind: {sampler}, seed: 5}}\n{words.pop('more', '')}"
    return write_study(folder, folder, search=SEARCH, more=more, **words)[0]


def ledger(folder: Path, name: str = "a", **words: str) -> Ledger:
    return Ledger(study_of(folder, **words), f"sqlite:///{folder}/{name}.db")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_controller_that_comes_back_chooses_as_one_that_never_left(tmp_path: Path, sampler: str) -> None:
    whole = ledger(tmp_path, "whole", sampler=sampler)
    expected = [whole.ask() for _ in range(3)]
    assert expected[0].params == {"lr": 0.001, "warmup_iters": 0, "weight_decay": 0.0001, "lr_steps": "[1]"}  # the base
    assert len({asked.params["lr"] for asked in expected}) == 3
    found = [ledger(tmp_path, "parts", sampler=sampler).ask() for _ in range(3)]
    assert found == expected


@pytest.mark.slow
def test_a_trial_whose_asking_was_cut_short(tmp_path: Path) -> None:
    """It has one value of four; the others are chosen then, and are the same ever after."""
    made = ledger(tmp_path)
    made.ask()
    trial = made.study.ask()
    trial.suggest_float("lr", 0.0001, 0.1, log=True)
    (_, cut) = ledger(tmp_path).running()
    assert (cut.number, cut.params["lr"], len(cut.params)) == (1, trial.params["lr"], 4)
    assert ledger(tmp_path).running()[1] == cut


def test_telling_twice_tells_once(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    for _ in range(3):
        made.ask()
    for _ in range(2):
        made.tell_complete(0, (0.5,))
        made.tell_pruned(1, "worse")
        made.tell_failed(2, "no room")
    made.tell_failed(0, "late")
    assert [trial.state.name for trial in made.study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert made.study.trials[0].value == 0.5
    assert (made.running(), made.count) == ([], 3)


@pytest.mark.slow
def test_equal_parameters(tmp_path: Path) -> None:
    made = ledger(tmp_path)
    first = made.ask()
    made.study.enqueue_trial(first.params)
    again = made.ask()
    assert again == Asked(1, first.params)
    assert (made.first_like(again), made.first_like(made.ask())) == (0, 2)


@pytest.mark.slow
def test_pruning(tmp_path: Path) -> None:
    """The median of two trials at step 1 is 0.35: 0.3 is below it. Step 0 is of the warm-up."""
    pruner = "pruner: {kind: median, startup_trials: 2, warmup: 1}"
    made = ledger(tmp_path, objective="segm AP", more=pruner)
    for value in (0.3, 0.4):
        number = made.ask().number
        assert not made.report(number, {0: value, 1: value})
        made.tell_complete(number, (value,))
    bad, good = made.ask().number, made.ask().number
    assert not made.report(bad, {0: 0.0})
    assert not made.report(good, {0: 0.0, 1: 0.36})
    assert made.report(bad, {0: 0.0, 1: 0.3})
    made.tell_pruned(bad, "")
    assert made.study.trials[bad].value == 0.3  # the last that was reported
    assert [trial.state.name for trial in made.study.trials] == ["COMPLETE"] * 2 + ["PRUNED", "RUNNING"]


def test_anybody_can_read_it(tmp_path: Path) -> None:
    made = ledger(tmp_path, objective="[segm AP, fps]")
    made.ask()
    made.tell_complete(0, (0.1, 5.0))
    (summary,) = optuna.get_all_study_summaries(storage=made.url)
    assert summary.study_name == "tuned"
    found = optuna.load_study(study_name="tuned", storage=made.url)
    assert found.metric_names == ["segm AP", "fps"]
    assert found.best_trials[0].values == [0.1, 5.0]


@pytest.mark.slow
def test_another_definition_is_refused(tmp_path: Path) -> None:
    """Once there are trials."""
    ledger(tmp_path)
    ledger(tmp_path, objective="segm AP", name="a2")
    made = ledger(tmp_path)
    made.ask()
    for name, words, changed in (
        ("objective", {"objective": "loss"}, "objective changed since"),
        ("seed", {"more": "seed: 3"}, "seed changed since"),
    ):
        with pytest.raises(UserError, match=rf"study 'tuned' began with other trials: {changed}"):
            ledger(tmp_path, **words)
        assert name in changed
    ledger(tmp_path, budget="{trials: 9}")


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "oracle://host/x", "sqlite:////proc/x.db"])
def test_a_storage_out_of_reach_is_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=rf"^storage of the study, {url}: ") as refused:
        Ledger(study_of(tmp_path), url)
    assert "\n" not in str(refused.value)
