"""What `harness benchmark` measured, on its way to MLflow."""

from pathlib import Path

import pytest

from harness.files import read_json, write_json
from harness.run_paths import RunPaths
from harness.run_spec import Origin
from harness.run_state import State
from harness.tracking.fields import joined, tags
from harness.tracking.points import benchmark_points
from harness.tracking.shipment import ship
from harness.tracking.snapshot import look
from harness.tracking.store import Store

from .folders import START, finished, folder, set_state, spec

MEASURED = {
    "time": START + 1000,
    "memory_mb": 2048,
    "memory_kind": "cuda",
    "fps": 20.0,
    "fps_images": 1995,
    "median_s": 0.04,
    "p90_s": 0.06,
}


def measured(paths: RunPaths, device: str) -> None:
    write_json(paths.benchmark, MEASURED | {"hardware": {"kind": "cuda", "device": device, "count": 1}})


def test_on_the_same_device_its_fps_count_and_the_memory_of_the_training(tmp_path: Path) -> None:
    paths = finished(tmp_path)
    before = look(paths)
    assert before.result is not None
    measured(paths, before.result["hardware"]["device"])
    after = look(paths)
    assert after.result is not None
    assert (after.result["fps"], after.result["fps_images"]) == (20.0, 1995)
    assert after.result["memory_mb"] == before.result["memory_mb"]
    assert after.status == f"{before.status} {START + 1000}"  # so it is shipped again
    assert after.last_stamp == round(1000 * (START + 1000))  # so it stands above what was there


def test_on_another_device_it_fills_no_table(tmp_path: Path) -> None:
    paths = finished(tmp_path)
    before = look(paths).result
    measured(paths, "another")
    assert look(paths).result == before


def test_memory_where_nothing_was_trained(tmp_path: Path) -> None:
    paths = finished(tmp_path)
    result = read_json(paths.result) | {"memory_mb": None, "memory_kind": None}
    write_json(paths.result, result)
    measured(paths, result["hardware"]["device"])
    found = look(paths).result
    assert found is not None and (found["memory_mb"], found["memory_kind"]) == (2048, "cuda")


def test_points() -> None:
    """2048 MB are 2 GB."""
    points = {point.key: (point.value, point.timestamp) for point in benchmark_points(MEASURED)}
    stamp = round(1000 * (START + 1000))
    assert points["benchmark/memory_gb"] == (pytest.approx(2.0), stamp)
    assert points["benchmark/fps"] == (20.0, stamp)


def test_tags_say_on_what_it_was_measured(tmp_path: Path) -> None:
    paths = finished(tmp_path)
    assert not any("benchmark" in name for name in tags(look(paths)))
    measured(paths, "another")
    found = tags(look(paths))
    assert found["harness.benchmark_device"] == "another"
    assert joined("harness.benchmark", found) == read_json(paths.benchmark)


def test_a_run_that_was_only_measured_has_no_log(tmp_path: Path, uri: str) -> None:
    paths = folder(tmp_path, spec(origin=Origin.BENCHMARK, train=None))
    measured(paths, "a device")
    set_state(paths, State.FINISHED)
    shipped = ship(paths, uri)
    assert shipped is not None
    names = [artifact.path for artifact in Store(uri).client.list_artifacts(shipped.run_id)]
    assert names == ["benchmark.json", "config.json"]
    assert not paths.log.exists()
