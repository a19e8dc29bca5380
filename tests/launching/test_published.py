"""Published checkpoints as an ordinary experiment: found, verified, tested, reported; never taken for trainings."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from training.published_files import make_coco, publish, write_published

from harness.cell import PUBLISHED
from harness.errors import UserError
from harness.files import read_json, sha256
from harness.launching import job
from harness.launching.job import USER_ERROR, run_attempt
from harness.launching.prepare import PreparedRun, prepare, write
from harness.launching.published import fetch_checkpoint, published_experiment
from harness.launching.status import status_rows
from harness.matrix import Experiment, load_experiment
from harness.reporting.page import write_report
from harness.reporting.rows import match
from harness.reporting.tracked_records import from_tracking
from harness.run_log import merged_rows
from harness.run_spec import Origin, read_spec
from harness.run_state import State, read_state
from harness.settings import Settings, load_settings
from harness.training import tested
from harness.training.reevaluate import Verdict, reevaluate
from harness.training.restore import restore

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
ODD = "mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco"
MATRIX = """
name: small
seeds: [3, 4]
include: [{backbone: X-101-32x8d, multiscale: true, schedule: 3x}, {backbone: R-50, multiscale: true, schedule: 1x}]
shorten: {image_scale: 0.1}
resources: {gpus_per_node: 0, workers: 0}
tables: [{title: Both, cells: "*"}, {title: Derived, cells: "*r50*"}]
"""


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with 80 categories, and no images to train on: a test needs none."""
    root = make_coco(tmp_path_factory.mktemp("coco") / "coco")
    for file in (root / "annotations").glob("*train*"):
        file.unlink()
    return root


@pytest.fixture
def place(tmp_path: Path, coco: Path) -> tuple[Experiment, Settings]:
    """A matrix of a published and a derived cell."""
    (tmp_path / "harness.toml").write_text(f'cache_root = "cache"\n[datasets.coco2017]\nroot = "{coco}"\n')
    (tmp_path / "small.yaml").write_text(MATRIX)
    return published_experiment(load_experiment(tmp_path / "small.yaml")), load_settings(tmp_path, {})


def test_the_zoos_published_experiment() -> None:
    zoo = load_experiment(ZOO)
    tests = published_experiment(zoo)
    assert (tests.name, tests.origin, tests.seeds) == ("zoo-published", Origin.PUBLISHED, (0,))
    assert {planned.name for planned in tests.cells} == PUBLISHED
    assert tests.tables == zoo.tables


def test_only_published_cells_with_their_own_recipe(place: tuple[Experiment, Settings], tmp_path: Path) -> None:
    assert [planned.name for planned in place[0].cells] == [ODD]
    assert [(table.title, table.rows) for table in place[0].tables] == [("Both", (ODD,))]
    (tmp_path / "own.yaml").write_text("include: [{backbone: R-50, schedule: 1x}]\nrecipe: {lr: 0.01}\n")
    with pytest.raises(UserError, match=r"own\.yaml: none of its cells is published with its own recipe"):
        published_experiment(load_experiment(tmp_path / "own.yaml"))


def test_all_that_is_missing_is_told_at_once(place: tuple[Experiment, Settings]) -> None:
    with pytest.raises(UserError) as caught:
        prepare(published_experiment(load_experiment(ZOO)), place[1])
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and all("--published-checkpoints" in line for line in lines)
    assert f"no {place[1].cache_root}/published/{ODD}_20210607_161042-8bd2c639.pth; " in "\n".join(lines)
    assert [row.state for row in status_rows(*place)] == ["NEW"]


def test_a_file_that_is_not_the_published_one(place: tuple[Experiment, Settings]) -> None:
    file = place[1].cache_root / "published" / f"{ODD}_20210607_161042-8bd2c639.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=f"sha256 {sha256(file)}, expected 8bd2c639.*fetch it again"):
        prepare(*place)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder `remote`."""
    (tmp_path / "remote").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "remote"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_fetch(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote" / "file.pth"
    remote.write_bytes(b"weights")
    remote = remote.rename(tmp_path / "remote" / f"{ODD}_2021-{sha256(remote)[:8]}.pth")
    publish(monkeypatch, remote, ODD, server)
    found = fetch_checkpoint(ODD, tmp_path / "cache")
    assert found == tmp_path / "cache" / "published" / remote.name
    assert found.read_bytes() == b"weights"
    found.unlink()
    remote.write_bytes(b"others")
    with pytest.raises(UserError, match="what was received is removed"):
        fetch_checkpoint(ODD, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "published").iterdir())


@pytest.fixture
def run(place: tuple[Experiment, Settings], monkeypatch: pytest.MonkeyPatch) -> PreparedRun:
    """The test of a file that stands for the published one; its shipper is a process that does nothing."""
    file = write_published(place[1].cache_root / "published", ODD, iter=263880)
    publish(monkeypatch, file, ODD)
    monkeypatch.setattr(job, "_start_shipper", lambda *_: subprocess.Popen([sys.executable, "-c", ""]))
    (found,) = prepare(*place)
    write(found)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("tiny", "signals")
def test_a_tested_file_leaves_what_a_training_leaves(
    run: PreparedRun, place: tuple[Experiment, Settings], tmp_path: Path
) -> None:
    from harness.tracking.shipment import ship

    spec, paths = read_spec(run.paths), run.paths
    assert spec == run.spec and spec.source is not None
    assert (spec.origin, spec.full, spec.weights, spec.source.sha256) == (
        Origin.PUBLISHED, False, None, sha256(Path(spec.source.path)),
    )  # fmt: skip
    assert replace(spec, origin=Origin.TRAINED, source=None).key != spec.key
    assert run_attempt(paths.folder, "http://127.0.0.1:9") == 0
    assert read_state(paths).state == State.FINISHED
    attempt, val = merged_rows(paths)
    assert (attempt["mode"], val["mode"], val["epoch"], val["step"]) == ("attempt", "val", 12, 263880)
    assert val["checkpoint_sha256"] == spec.source.sha256 == read_json(paths.evaluation)["checkpoint_sha256"]
    assert reevaluate(paths.detections).verdict == Verdict.EQUAL
    result = read_json(paths.result)
    assert (result["memory_mb"], result["files"]["checkpoint"]["path"]) == (None, spec.source.url)
    assert (paths.predictions / "sheet.jpg").exists()

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ship(paths, uri)
    (record,) = from_tracking(uri, "small-published")
    assert (record.origin, record.full, record.finished, record.epoch) == ("published", False, True, 12)
    trained = load_experiment(tmp_path / "small.yaml")
    rows, others = match(replace(trained, seeds=(0,)), [record])
    assert not any(row.finished for row in rows)
    assert [other.why for other in others] == ["published, where the rows are trained"]
    page = write_report(place[0], [record], tmp_path / "report", run_root=place[1].run_root).page.read_text()
    now = round(100 * record.metrics["bbox_mAP"], 1)
    (line,) = (line for line in page.splitlines() if line.startswith("| X-101-32x8d-FPN"))
    assert [cell.strip() for cell in line.split("|")[4:7]] == ["44.3", f"{now:.1f}", f"{now - 44.3:+.1f}"]
    assert "the published file tests at 40.4 / 35.9" in page
    assert str(tmp_path) not in json.dumps(read_json(tmp_path / "report" / "manifest.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny", "signals")
def test_a_file_that_changed_since_fails_and_a_stopped_test_begins_anew(
    run: PreparedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.spec.source is not None
    file = Path(run.spec.source.path)
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert run_attempt(run.paths.folder, "http://127.0.0.1:9") == USER_ERROR
    assert "is not the file that this run was made for" in capsys.readouterr().err
    assert read_state(run.paths).state == State.FAILED and not run.paths.result.exists()
    file.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(tested, "restore", lambda *a, **o: [os.kill(os.getpid(), signal.SIGTERM), restore(*a, **o)][1])
        assert run_attempt(run.paths.folder, "http://127.0.0.1:9") == job.STOPPED
    assert read_state(run.paths).state == State.KILLED and not merged_rows(run.paths)
    assert run_attempt(run.paths.folder, "http://127.0.0.1:9") == 0
    assert (read_state(run.paths).state, read_state(run.paths).attempt) == (State.FINISHED, 3)
