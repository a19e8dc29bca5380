"""The files of a run, its attempts, and the runs of an experiment."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.files import write_json
from harness.run_paths import RunPaths, experiment_runs, last_attempt, next_attempt


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


def test_attempts_are_claimed_once_each(paths: RunPaths) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: next_attempt(paths), range(24)))
    assert sorted(numbers) == list(range(1, 25))
    assert next_attempt(paths) == 25
    assert paths.segment(3) == paths.folder / "attempts/0003/log.json"


def test_the_last_attempt(paths: RunPaths) -> None:
    assert last_attempt(paths) == 0
    assert [next_attempt(paths) for _ in range(3)] == [1, 2, 3]
    assert last_attempt(paths) == 3


def test_the_runs_of_an_experiment(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_json(tmp_path / "zoo" / name / "run.json", {})
    (tmp_path / "zoo/not-a-run").mkdir()
    assert [paths.folder.name for paths in experiment_runs(tmp_path, "zoo")] == ["a", "b"]
    assert not list(experiment_runs(tmp_path, "other"))


def test_a_run_keeps_each_file_in_its_own_place() -> None:
    paths = RunPaths(Path("r"))
    names = "spec config state log checkpoints detections evaluation predictions curves result tracking".split()
    assert len({getattr(paths, name) for name in names}) == len(names)
    assert asdict(paths) == {"folder": Path("r")}
