"""The best trial and the base, trained again with seeds of neither."""

from pathlib import Path

import pytest

from harness.cli.tune_results import conclude
from harness.failures import Failure
from harness.files import write_json
from harness.run_paths import RunPaths
from harness.run_state import read_state
from harness.tuning.best import winner
from harness.tuning.controller import control
from harness.tuning.remeasure import difference, experiment_of, is_base, remeasured, runs_left, verdict
from harness.tuning.trials import trials
from tuning.folders import place, rerun, trial
from tuning.launched import fail, finish, stand_in, write_study


def test_the_difference_has_welchs_interval(tmp_path: Path, shapes: Path) -> None:
    """In percent 1, 2, 3 against 5, 6, 7: variances 1, of the difference 2/3, four degrees of freedom, and

    t(0.975, 4) = 2.776445: +4 within 2.776445 x sqrt(2/3) = 2.266964.
    """
    study, settings = place(tmp_path, shapes)
    trial(study, settings, 0, (0.01, 0.02))
    trial(study, settings, 1, (0.01, 0.09), lr=0.003)
    best = winner(study, trials(study, settings))
    experiment = experiment_of(study, best)
    assert experiment.seeds == (101, 102, 103)
    assert [planned.name.partition("+")[2] for planned in experiment.cells] == ["tiny", "tiny+trial001"]
    assert [planned.shortening for planned in experiment.cells] == [study.base.shortening] * 2
    rerun(experiment, settings, [(0.01, 0.02, 0.03), (0.05, 0.06, 0.07)])
    again = remeasured(study, best, settings)
    found = difference(again, 0)
    assert found is not None and not again.base.others and not again.best.others
    assert (found.difference, found.low) == (pytest.approx(4), pytest.approx(4 - 2.266964, abs=1e-5))
    assert verdict(study.objectives[0], found) == "the trial is better"
    assert len(trials(study, settings)) == 2  # these runs are no trials


def test_too_few_seeds_say_nothing_and_what_is_missing_is_told(tmp_path: Path, shapes: Path) -> None:
    study, settings = place(tmp_path, shapes)
    trial(study, settings, 1, (0.01, 0.09), lr=0.003)
    best = winner(study, trials(study, settings))
    rerun(experiment_of(study, best), settings, [(0.01, 0.02, 0.03), (0.05, 0.06)])
    again = remeasured(study, best, settings)
    assert difference(again, 0) is None
    assert again.best.values == ((5.0, 6.0),)
    assert again.best.others == ("seed 103 has not been trained",)


def test_a_trial_of_the_bases_recipe_is_the_base(tmp_path: Path, shapes: Path) -> None:
    study, settings = place(tmp_path, shapes)
    trial(study, settings, 0, (0.1,))
    trial(study, settings, 1, (0.1,), lr=0.003)
    assert [is_base(study, entry) for entry in trials(study, settings)] == [True, False]


@pytest.mark.slow
def test_after_the_trials_the_best_and_the_base_are_trained_again_once(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The objective is the rate itself, so a rerun gives what its trial gave. Of six runs one has a bug, and is tried

    again by the next call alone; and one dies halfway, without a word, and is resumed.
    """
    study, settings = write_study(tmp_path, shapes)
    monkeypatch.chdir(tmp_path)

    def act(paths: RunPaths) -> None:
        name, attempt = paths.folder.name, read_state(paths).attempt
        if "+tiny-seed101" in name:
            fail(paths, "boom", Failure.BUG)
        elif "seed103" in name and "trial" in name and attempt == 1:
            write_json(paths.attempt(1) / "start.json", {"checkpoint": None})
            write_json(paths.checkpoints / "latest.json", [{"step": 1}])
            fail(paths, "gone", Failure.UNKNOWN)
        else:
            finish(paths)

    runs = stand_in(monkeypatch, settings, act)
    control(study, settings, lambda _: None)
    conclude(study, settings)
    reruns = [name.partition("+tiny")[2].rpartition("-")[0] for name in runs.begun[4:]]
    best = winner(study, trials(study, settings))
    mine = f"+trial{best.number:03d}-seed"
    wanted = ["-seed101", "-seed102", "-seed103", f"{mine}101", f"{mine}102", f"{mine}103", f"{mine}103"]
    assert sorted(reruns) == sorted(wanted)
    again = remeasured(study, best, settings)
    assert again.best.values == ((best.params["lr"],) * 3,) and not again.best.others
    assert again.base.values == ((0.001,) * 2,) and again.base.others == ("seed 101 failed: boom",)
    out = capsys.readouterr().out
    assert f"trial {best.number} is the best; it and the base are measured again with seeds 101, 102, 103" in out
    assert "measured again, lr: base 0.001000 ± 0.000000 (n=2 of 3), trial" in out
    assert ": -, fewer than 3 seeds of one say nothing\n" in out and out.count("seed 102 FINISHED") == 2
    assert "report: reports/tuned/README.md" in out and Path("reports/tuned/README.md").is_file()
    page = Path("reports/tuned/README.md").read_bytes()
    conclude(study, settings)
    assert len(runs.begun) == 4 + 7 + 1 and Path("reports/tuned/README.md").read_bytes() == page


def test_a_base_that_no_trial_beats_is_not_trained_again(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, settings = place(tmp_path, shapes)
    monkeypatch.chdir(tmp_path)
    trial(study, settings, 0, (0.2,))
    trial(study, settings, 1, (0.1,), lr=0.003)
    conclude(study, settings)
    assert "Trial 0 is the base itself." in Path("reports/small/README.md").read_text()
    assert runs_left(study, trials(study, settings), settings) == 0
