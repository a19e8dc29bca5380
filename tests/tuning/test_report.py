"""The report of a study, from the folders of its runs."""

import csv
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.reporting.page import END
from harness.run_state import State
from harness.settings import Settings
from harness.tuning.best import winner
from harness.tuning.remeasure import experiment_of
from harness.tuning.report import write_study_report
from harness.tuning.study_file import Study
from harness.tuning.trials import trials
from tuning.folders import place, rerun, trial


@pytest.fixture
def studied(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Settings]:
    """One trial of each fate beside the base, and the reruns, of which one failed."""
    monkeypatch.chdir(tmp_path)
    study, settings = place(tmp_path, shapes)
    trial(study, settings, 0, (0.1, 0.30))
    trial(study, settings, 1, (0.2, 0.35), lr=0.0037291, warmup_iters=73, multiscale_mode="range")
    trial(study, settings, 2, (0.01,), pruned="pruned after epoch 1: segm AP 0.01, by median", lr=0.009)
    trial(study, settings, 3, (), State.FAILED, failed="oom: no <room>", lr=0.008)
    trial(study, settings, 4, (0.1,), State.KILLED, lr=0.002)
    best = winner(study, trials(study, settings))
    rerun(experiment_of(study, best), settings, [(0.29, 0.30, 0.31), (0.32, 0.33, 0.34)])
    return study, settings


def test_the_page_says_what_became_of_every_trial(studied: tuple[Study, Settings], tmp_path: Path) -> None:
    """Measured again: 30 against 33, deviations 1, the difference within 2.776445 x sqrt(2/3) = 2.267."""
    page = write_study_report(*studied, tmp_path / "out")
    text = page.read_text()
    assert "5 trials: 2 finished, 1 pruned, 1 failed, 1 running. 0.0 GPU-hours," in text
    assert "- trial 1: segm AP 35.0" in text
    assert "30.0 ± 1.0 \\[27.5, 32.5\\] (n=3)" in text and "33.0 ± 1.0 \\[30.5, 35.5\\] (n=3)" in text
    assert "| +3.0 \\[+0.7, +5.3\\] | the trial is better |" in text
    assert "with seeds that no trial had (101, 102, 103)" in text and "(epochs=2, image_scale=0.1)" in text
    assert "| lr | 0.001 | 0.0001 to 0.01, log | 0.003729 |" in text
    assert "too few finished trials (2) to say how much each of 3 fields matters: it takes 10 a field." in text
    assert "failed: oom: no &lt;room> |" in text
    assert "sqlite:///runs/.studies/small/study.db" in text and str(tmp_path) not in text
    plots = sorted(path.name for path in (tmp_path / "out" / "plots").iterdir())
    assert plots == ["curves.svg", "fields.svg", "history.svg"]
    with (tmp_path / "out" / "tables" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["segm AP"] for row in rows] == ["30.0", "35.0", "-", "-", "-"]
    fates = ["finished", "finished", "pruned after epoch 1", "failed", "running"]
    assert [row["State"].partition(":")[0] for row in rows] == fates
    assert (page.parent / rows[1]["config"]).is_file()


def test_the_same_folders_give_the_same_bytes_and_own_text_stays(
    studied: tuple[Study, Settings], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    page = write_study_report(*studied, out)
    page.write_text(page.read_text() + "\nmine\n")
    (out / "plots" / "yesterday.svg").write_text("")
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.name != "yesterday.svg"}
    write_study_report(*studied, out)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    page.write_text(page.read_text() + END)
    with pytest.raises(UserError, match="expected one"):
        write_study_report(*studied, out)


def test_a_study_without_trials_or_without_finished_ones(tmp_path: Path, shapes: Path) -> None:
    study, settings = place(tmp_path, shapes)
    with pytest.raises(UserError, match="no trial has been started; harness tune"):
        write_study_report(study, settings, tmp_path / "out")
    trial(study, settings, 0, (), State.FAILED, failed="no room")
    text = write_study_report(study, settings, tmp_path / "out").read_text()
    assert "No trial has finished yet." in text and not list((tmp_path / "out").glob("plots/*"))


def test_several_objectives_show_what_none_beats(tmp_path: Path, shapes: Path) -> None:
    study, settings = place(tmp_path, shapes, "[segm AP, memory]")
    for number, (ap, memory, lr) in enumerate([(0.30, 500.0, 0.001), (0.35, 900.0, 0.002), (0.20, 950.0, 0.003)]):
        trial(study, settings, number, (ap,), result={"memory_mb": memory}, lr=lr)
    text = write_study_report(study, settings, tmp_path / "out").read_text()
    assert "Beaten by none in all objectives:" in text
    assert "- trial 1: segm AP 35.0, memory 900.0\n- trial 0: segm AP 30.0, memory 500.0\n" in text
    assert "| segm AP (maximize) | - | - | - | fewer than 3 seeds of one say nothing |" in text
    assert "- trial 1: seed 101 has not been trained" in text
    plots = sorted(path.name for path in (tmp_path / "out" / "plots").iterdir())
    assert plots == ["fields-1.svg", "fields-2.svg", "history-1.svg", "history-2.svg", "tradeoff-2.svg"]


@pytest.mark.slow
def test_with_trials_enough_the_page_says_what_mattered(tmp_path: Path, shapes: Path) -> None:
    study, settings = place(tmp_path, shapes)
    for number in range(30):
        trial(study, settings, number, (0.01 * number,), lr=0.0001 + 0.0003 * number, warmup_iters=number * 37 % 1000)
    text = write_study_report(study, settings, tmp_path / "out").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| lr |") and line.endswith("% |")]
    assert int(row.split()[3].removesuffix("%")) >= 80
