"""Many runs at once: the same as one by one, and from the local file what has not changed."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness.files import read_json, write_json
from harness.run_paths import RunPaths
from harness.run_state import State
from harness.tracking import fields, sql
from harness.tracking.query import TrackedRun, history, runs
from harness.tracking.reading import read
from harness.tracking.shipment import ship
from harness.tracking.store import NOTE

from . import folders

CURVES = ("val/epoch", "val/bbox_mAP", "val/never")
Asked = list[str]


@pytest.fixture
def three(tmp_path: Path, uri: str) -> str:
    """A store with three runs of "zoo", of which the second has only begun, and one of another experiment."""
    for seed in (0, 2):
        ship(folders.finished(tmp_path / "runs", folders.spec(seed=seed)), uri)
    begun = folders.folder(tmp_path / "runs", folders.spec(seed=1))
    folders.write_rows(begun, 1, [folders.attempt_row(1), folders.train_row(1, loss=float("nan"))])
    folders.set_state(begun, State.RUNNING)
    ship(begun, uri)
    ship(folders.finished(tmp_path / "runs", folders.spec(experiment="demo")), uri)
    return uri


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The runs that were read from the store, in order."""
    found: Asked = []
    whole = sql.read

    def noted(connection, run_ids, curves) -> Iterator[TrackedRun]:
        found.extend(run_ids)
        return whole(connection, run_ids, curves)

    monkeypatch.setattr(sql, "read", noted)
    return found


def one_by_one(uri: str) -> list[TrackedRun]:
    """As MLflow's client gives them."""
    return [
        replace(
            run,
            tags={key: value for key, value in run.tags.items() if key != NOTE},
            history={key: history(uri, run.run_id, key) for key in CURVES},
        )
        for run in runs(uri, "zoo")
    ]


def same(found: list[TrackedRun], wanted: list[TrackedRun]) -> bool:
    """Whether they are equal, not a number being itself."""
    return repr([_sorted(run) for run in found]) == repr([_sorted(run) for run in wanted])


def _sorted(run: TrackedRun) -> TrackedRun:
    parts = {name: dict(sorted(getattr(run, name).items())) for name in ("tags", "params", "metrics", "history")}
    return replace(run, **parts)


def test_as_the_client_gives_them_and_again_from_the_file(three: str, tmp_path: Path, asked: Asked) -> None:
    wanted = one_by_one(three)
    assert [run.status for run in wanted] == ["FINISHED", "RUNNING", "FINISHED"]
    assert wanted[0].history["val/bbox_mAP"] == [(100, 0.1), (200, 0.2)]
    for _ in range(2):
        assert same(read(three, "zoo", CURVES, cache=tmp_path / "cache"), wanted)
    assert sorted(asked) == sorted(run.run_id for run in wanted)
    assert same(read(three, "zoo", CURVES), wanted)  # without a file all are read again
    assert len(asked) == 6


def test_only_what_is_new_is_read(three: str, tmp_path: Path, asked: Asked) -> None:
    first, second, _ = read(three, "zoo", CURVES, cache=tmp_path)
    asked.clear()
    begun = next(path for path in (tmp_path / "runs" / "zoo").iterdir() if "-seed1-" in path.name)
    paths = folders.RunPaths(begun)
    folders.write_rows(paths, 1, [folders.train_row(2)])
    ship(paths, three)
    found = read(three, "zoo", CURVES, cache=tmp_path)
    assert asked == [second.run_id] and found[1].metrics["train/loss"] == 0.5
    folders.set_state(paths, State.FAILED, reason="out of memory")  # a new state, but no new measurement
    ship(paths, three)
    assert read(three, "zoo", CURVES, cache=tmp_path)[1].tags["harness.reason"] == "out of memory"
    MlflowClient(three).set_tag(first.run_id, "harness.files", "{}")
    assert read(three, "zoo", CURVES, cache=tmp_path)[0].files == {}
    assert asked == [second.run_id, second.run_id, first.run_id]


@pytest.mark.parametrize("how", ["by MLflow", "for good"])
def test_deleted_runs_go(three: str, tmp_path: Path, asked: Asked, how: str) -> None:
    first, *others = read(three, "zoo", CURVES, cache=tmp_path)
    asked.clear()
    if how == "by MLflow":
        MlflowClient(three).delete_run(first.run_id)
    else:
        with closing(sqlite3.connect(three.removeprefix("sqlite:///"))) as store, store:
            for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
                store.execute(f"delete from {table} where run_uuid = ?", (first.run_id,))
    assert same(read(three, "zoo", CURVES, cache=tmp_path), others)
    assert asked == []
    (file,) = tmp_path.glob("*.json")
    assert first.run_id not in file.read_text()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_text(file.read_text()[:1000]),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text('{"schema": 1, "runs": [["mark", {"run_id": "x"}]]}'),
        lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 0})),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["deleted", "cut", "a list", "lacking", "another schema", "a folder"],
)
def test_the_file_may_be_deleted_or_spoilt(three: str, tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    wanted = read(three, "zoo", CURVES, cache=tmp_path)
    (file,) = tmp_path.glob("*.json")
    spoil(file)
    assert same(read(three, "zoo", CURVES, cache=tmp_path), wanted)


@pytest.mark.parametrize("anew", [False, True])
def test_a_finished_run_that_is_shipped_again_is_read_again(
    three: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """By newer code, which says more in tags and, where another store came between (anew), in params."""
    cache = tmp_path / "cache"
    first = read(three, "zoo", CURVES, cache=cache)[0]
    paths = next(RunPaths(one) for one in (tmp_path / "runs" / "zoo").iterdir() if "-seed0-" in one.name)
    if anew:
        write_json(paths.tracking, read_json(paths.tracking) | {"uri": "another"})
        params = fields.params
        monkeypatch.setattr(fields, "params", lambda spec: params(spec) | {"new": "1"})
    else:
        tags = fields.tags
        monkeypatch.setattr(fields, "tags", lambda seen: tags(seen) | {"harness.codes": "new"})
    assert ship(paths, three) is not None
    found = read(three, "zoo", CURVES, cache=cache)[0]
    assert found.run_id == first.run_id
    assert same([found], [one_by_one(three)[0]])
    assert (found.params if anew else found.tags) != (first.params if anew else first.tags)
    assert ship(paths, three) is None
