"""harness benchmark of a matrix file: one command to MLflow and a table; what is known is not measured again."""

from pathlib import Path

import pytest
from training.tiny import make_shapes, write_place

from cli.conftest import Harness
from harness.files import read_json
from harness.run_paths import RunPaths, experiment_runs
from harness.tracking.store import Store

CELL = "mask_rcnn_r18_fpn_1x_coco+tiny"


def runs(place: Path) -> list[RunPaths]:
    return [
        paths for folder in sorted((place / "runs").glob("*")) for paths in experiment_runs(place / "runs", folder.name)
    ]


@pytest.mark.slow
def test_all_cells_of_an_experiment(harness: Harness, place: Path) -> None:
    write_place(place, make_shapes(place / "shapes", val=8), shorten=", iterations_per_epoch: 1")
    code, out, err = harness("benchmark", "tiny.yaml")
    assert code == 0, err
    assert f"{CELL}: 1 of 1" in err and "on a CPU: no number for the published tables" in out
    (run,) = runs(place)
    found = read_json(run.benchmark)
    assert found["fps_images"] == 3 and found["gpu"] is None

    (page,) = (place / "reports" / "tiny-benchmark").glob("*.md")
    row = next(line for line in page.read_text().splitlines() if line.startswith(f"| {CELL} "))
    assert f" {found['fps']:.1f} " in row
    assert "not comparable" in page.read_text()

    client = Store(f"sqlite:///{place}/mlflow.db").client
    (there,) = client.search_runs(
        [e.experiment_id for e in client.search_experiments()], "tags.`harness.origin` = 'benchmark'"
    )
    assert there.data.metrics["benchmark/fps"] == pytest.approx(found["fps"])
    assert there.data.tags["harness.benchmark_device"] == found["hardware"]["device"]
    assert there.info.status == "FINISHED"

    before = run.benchmark.stat().st_mtime_ns
    assert harness("benchmark", "tiny.yaml", "--output", str(place / "other"))[0] == 0
    assert run.benchmark.stat().st_mtime_ns == before
    assert (place / "other" / page.name).read_text() == page.read_text()


@pytest.mark.slow
def test_what_cannot_be_measured_is_told_and_leaves_nothing(harness: Harness, place: Path) -> None:
    """The data set has 4 images to test on, of which 5 are warm-up."""
    code, out, err = harness("benchmark", "tiny.yaml")
    assert (code, out) == (2, "")
    assert err.count(f"error: {CELL}: ") == err.count("4 images to time, of which 5 are left out") == 1
    assert err.count(CELL) == 2 and "Traceback" not in err  # once as it begins
    assert runs(place) == [] and not (place / "reports").exists()
