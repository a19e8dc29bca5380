"""harness manifest verify: what it says, and its exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reporting.conftest import Load, finished, load

from cli.conftest import Harness
from harness.downloads import UnreachableError
from harness.reporting import verify
from harness.reporting.page import write_report
from harness.reporting.records import FileRecord

__all__ = ["load"]

ONE = "include: [{backbone: R-50}]\n"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server answers, and no published file was fetched."""
    monkeypatch.setenv("HARNESS_CACHE_ROOT", str(tmp_path / "cache"))

    def silent(url: str) -> int | None:
        raise UnreachableError("cannot be reached: no network")

    monkeypatch.setattr(verify.verify, "__kwdefaults__", verify.verify.__kwdefaults__ | {"ask": silent})


def test_the_published_links(harness: Harness) -> None:
    code, out, _ = harness("manifest", "verify", "--source", "published")
    lines = out.splitlines()
    assert code == 1
    assert [line.split(": ")[:2] for line in lines if line.startswith("wrong")] == [
        ["wrong", "mask_rcnn_r101_caffe_fpn_mstrain-poly_3x_coco"],
        ["wrong", "mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco"],
    ]
    assert lines[-1] == "72 files of 21 rows: 2 wrong, 63 not checked"


def test_what_is_not_checked_is_no_fault(harness: Harness, load: Load) -> None:
    load(ONE)
    code, out, _ = harness("manifest", "verify", "experiments/small.yaml", "--source", "published", "--json")
    assert code == 0
    assert [(finding["kind"], finding["files"]) for finding in json.loads(out)] == [
        ("not checked", 2),
        ("not checked", 1),
    ]


def test_a_report_by_its_experiment_and_by_its_file(harness: Harness, load: Load) -> None:
    experiment = load(ONE)
    record = finished(experiment.cells[0])
    kept = Path("runs/small/mask_rcnn_r50_fpn_1x_coco-seed0/log.json")
    kept.parent.mkdir(parents=True)
    kept.write_text("{}\n")
    log = FileRecord(path=str(kept.resolve()), size=3, sha256=None)
    write_report(
        experiment, [replace(record, full=False, files={"log": log})], Path("reports/small"), run_root=Path("runs")
    )
    for target in ("experiments/small.yaml", "reports/small/manifest.json"):
        assert harness("manifest", "verify", target)[:2] == (0, "1 file of 1 row: all as the manifest says\n")
    kept.unlink()
    code, out, _ = harness("manifest", "verify", "experiments/small.yaml")
    assert (code, out.splitlines()[0]) == (1, f"missing: mask_rcnn_r50_fpn_1x_coco seed 0: log: {kept}")
    Path("experiments/small.yaml").write_text("include: [{backbone: R-101}]\n")
    code, out, _ = harness("manifest", "verify", "experiments/small.yaml")
    assert (code, out.splitlines()[0]) == (1, "unexpected: mask_rcnn_r50_fpn_1x_coco: the matrix file has no such cell")


def test_what_a_check_says_to_run_names_the_folder(harness: Harness, load: Load) -> None:
    experiment = load(ONE)
    page = write_report(experiment, [finished(experiment.cells[0])], Path("other")).page
    page.write_text(page.read_text(encoding="utf-8").replace("| 38.0 |", "| 39.0 |", 1), encoding="utf-8")
    code, _, err = harness("report", "experiments/small.yaml", "--check", "--output", "other")
    assert code == 1 and err.endswith("\nnow run: harness report experiments/small.yaml --output other\n")


def test_mistakes(harness: Harness, load: Load) -> None:
    code, _, err = harness("manifest", "verify")
    assert code == 2 and "name a matrix file or a manifest.json" in err
    load(ONE)
    code, _, err = harness("manifest", "verify", "experiments/small.yaml")
    expected = "reports/small/manifest.json: no such file; harness report experiments/small.yaml makes it"
    assert (code, err) == (2, f"error: {expected}, or name another report's manifest.json\n")
    for target, said in {
        "experiments": "is a folder; name its manifest.json",
        "harness.toml": "expected a matrix",
    }.items():
        code, _, err = harness("manifest", "verify", target)
        assert code == 2 and err.startswith(f"error: {target}: {said}") and err.count("\n") == 1
    assert harness("manifest", "verify", "a.json", "--source", "published")[0] == 2
