"""Each rule of links finds its fault, and what others published breaks those that are known, and no other."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.published import published_rows
from harness.reporting.link_rules import link_faults
from harness.reporting.manifest import Entry, manifest, published_manifest
from harness.reporting.records import FileRecord
from harness.reporting.rows import match
from reporting.conftest import Load, finished

R50 = "mask_rcnn_r50_caffe_fpn_1x_coco"
BASE = f"https://example.org/v2.0/mask_rcnn/{R50}"
WEIGHTS = f"{BASE}/{R50}_bbox_mAP-0.38__segm_mAP-0.344_20200504_231812-0ebd1859.pth"
LOG = f"{BASE}/{R50}_20200504_231812.log.json"


def entry(**links: str) -> Entry:
    """A published row with these links in place of the right ones."""
    paths = {"checkpoint": WEIGHTS, "config": f"https://example.org/configs/{R50}.py", "log": LOG} | links
    files = {role: FileRecord(path=path, size=None, sha256=None) for role, path in paths.items()}
    files["checkpoint"] = replace(files["checkpoint"], sha256="0ebd1859")
    return Entry(
        name=R50, seed=None, full=False, run_id="", key="", identity="", commit="",
        metrics={"bbox_mAP": 0.38, "segm_mAP": 0.344}, files=files,
    )  # fmt: skip


def test_the_published_links_break_what_is_known_and_nothing_else() -> None:
    """The rules find every fault of a link that faults.csv lists, and propose the target that it gives."""
    found = list(link_faults(published_manifest(published_rows().values()).rows))
    known = [fault for row in published_rows().values() for fault in row.faults if fault.kind == "link"]
    assert [text.split(":")[0] for text in found] == [fault.name for fault in known]
    assert [re.search(r"its (\w+) link", text)[1] for text in found] == ["log", "backbone"]  # type: ignore[index]
    assert [text.split("; expected ")[1] for text in found] == [fault.value for fault in known]


def test_right_links_break_no_rule() -> None:
    assert list(link_faults([entry()])) == []


@pytest.mark.parametrize(
    ("links", "fault"),
    [
        ({"log": LOG.replace("/mask_rcnn/", "/")}, rf"its log link is outside its folder: .*; expected {LOG}$"),
        ({"config": f"x://y/{R50.replace('1x', '2x')}.py"}, rf"its config link is of .*2x_coco: .*pected .*{R50}.py"),
        ({"log": LOG.replace("r50", "r101")}, "its log link is of mask_rcnn_r101_caffe_fpn_1x_coco"),
        ({"checkpoint": WEIGHTS.replace("0.344", "0.345")}, "name says segm AP 34.5, the row 34.4"),
        ({"checkpoint": WEIGHTS.replace("-0.38_", "-0.381_")}, "name says bbox AP 38.1, the row 38.0"),
        ({"checkpoint": WEIGHTS.replace("0ebd1859", "0ebd1858")}, "ends with 0ebd1858, its sha256 .* 0ebd1859"),
        ({"log": LOG.replace("20200504", "20200505")}, "checkpoint is of 20200504, its log of 20200505: two trainings"),
    ],
)  # fmt: skip
def test_each_rule_finds_its_fault(links: dict[str, str], fault: str) -> None:
    found = list(link_faults([entry(**links)]))
    assert any(re.search(fault, text) for text in found), found
    assert all(text.startswith(f"{R50}: ") for text in found)


def test_two_rows_with_the_same_checkpoint() -> None:
    other = replace(entry(), name=R50, seed=1)
    assert list(link_faults([entry(), other])) == [
        f"{R50} and {R50} seed 1 have the same checkpoint {WEIGHTS}",
        f"{R50} and {R50} seed 1 have the same log {LOG}",
    ]


def ours(load: Load, files: dict[str, Any] | None = None) -> list[str]:
    """The faults of a run of ours, with some of its files changed."""
    experiment = load("include: [{backbone: R-50}]\n")
    record = finished(experiment.cells[0])
    here = f"{Path.cwd()}/"
    own = {role: replace(file, path=file.path.removeprefix(here)) for role, file in record.files.items()}
    record = replace(record, files={role: file for role, file in (own | (files or {})).items() if file})
    return list(link_faults(manifest("small", match(experiment, [record])[0], "../../runs").rows))


def test_what_a_run_leaves_breaks_no_rule(load: Load) -> None:
    assert ours(load) == []


def test_a_full_result_names_every_file(load: Load) -> None:
    assert ours(load, {"detections": None}) == ["mask_rcnn_r50_fpn_1x_coco seed 0: names no detections"]


def test_a_file_of_another_run_is_outside(load: Load) -> None:
    log = FileRecord(path="runs/small/mask_rcnn_r50_fpn_1x_coco-seed1/log.json", size=1, sha256="c" * 64)
    (fault,) = ours(load, {"log": log})
    assert "its log link is outside its folder" in fault
    assert fault.endswith("expected runs/small/mask_rcnn_r50_fpn_1x_coco-seed0/log.json")
