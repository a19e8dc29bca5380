"""Files that are missing, changed or unexpected; servers that answer, and that do not."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.downloads import GoneError, UnreachableError
from harness.errors import UserError
from harness.published import published_rows
from harness.reporting.manifest import Manifest, published_manifest, read_manifest
from harness.reporting.page import write_report
from harness.reporting.records import FileRecord
from harness.reporting.verify import Finding, Kind, summary, verify
from reporting.conftest import Load, finished

ODD = "mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco"


@pytest.fixture
def folder(load: Load) -> Path:
    """The folder of a report of one run whose files are there."""
    experiment = load("include: [{backbone: R-50}]\n")
    record = finished(experiment.cells[0])
    run = Path("runs/small/mask_rcnn_r50_fpn_1x_coco-seed0-0123456789")
    files = {}
    names = {"checkpoint": "checkpoints/epoch_12.pth", "config": "config.json", "log": "log.json"}
    for role, name in (names | {"detections": "detections.json.gz"}).items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(role)
        files[role] = FileRecord(
            path=str(path.resolve()), size=len(role), sha256=hashlib.sha256(role.encode()).hexdigest()
        )
    (run / "result.json").write_text("{}")
    write_report(experiment, [replace(record, files=files)], Path("reports/small"), run_root=Path("runs"))
    return Path("reports/small")


def found(folder: Path) -> list[tuple[Kind, str]]:
    findings = verify(read_manifest(folder / "manifest.json"), folder)
    return [(finding.kind, finding.text) for finding in findings]


def test_all_is_well(folder: Path) -> None:
    assert found(folder) == []
    assert summary(read_manifest(folder / "manifest.json"), []) == "4 files of 1 rows: all as the manifest says"


def test_missing_and_changed_files(folder: Path) -> None:
    run = Path("runs/small/mask_rcnn_r50_fpn_1x_coco-seed0-0123456789")
    (run / "config.json").unlink()
    (run / "log.json").write_text("gol")  # as long, but another one
    (run / "checkpoints/epoch_12.pth").write_text("cut")
    row = "mask_rcnn_r50_fpn_1x_coco seed 0"
    by_role = {text.split(": ")[1]: (kind, text) for kind, text in found(folder)}
    assert by_role["config"] == (Kind.MISSING, f"{row}: config: {run}/config.json")
    assert by_role["checkpoint"] == (
        Kind.CHANGED,
        f"{row}: checkpoint: {run}/checkpoints/epoch_12.pth: 3 bytes, the manifest says 10",
    )
    assert by_role["log"][0] == Kind.CHANGED and "sha256" in by_role["log"][1]


def test_a_finished_run_that_nobody_reported_is_unexpected(folder: Path) -> None:
    other = Path("runs/small/mask_rcnn_r50_fpn_1x_coco-seed1-9876543210")
    other.mkdir()
    assert found(folder) == []  # it has not finished
    (other / "result.json").write_text("{}")
    ((kind, text),) = found(folder)
    assert kind == Kind.UNEXPECTED and text.startswith(f"{other}: a finished run that is not in the manifest")


def test_a_run_that_the_report_leaves_out_with_a_reason_is_known(folder: Path, load: Load) -> None:
    experiment = load("include: [{backbone: R-50}]\n")
    write_report(experiment, [finished(experiment.cells[0], seed=7)], folder, run_root=Path("runs"))
    assert read_manifest(folder / "manifest.json").rows == ()
    assert found(folder) == []


def links(rows: int) -> Manifest:
    return published_manifest(list(published_rows().values())[:rows])


def test_servers_that_answer(tmp_path: Path) -> None:
    """The log is gone; the size of the checkpoint is not the one that the manifest gives it."""
    (row,) = links(1).rows
    sized = replace(row.files["checkpoint"], size=100)
    asked: list[str] = []

    def ask(url: str) -> int | None:
        asked.append(url)
        if url.endswith(".json"):
            raise GoneError(f"{url}: the server answers 404 Not Found")
        return 99 if url.endswith(".pth") else None

    findings = list(
        verify(replace(links(1), rows=(replace(row, files=row.files | {"checkpoint": sized}),)), tmp_path, ask=ask)
    )
    assert [finding.kind for finding in findings] == [Kind.CHANGED, Kind.MISSING]
    assert "99 bytes, the manifest says 100" in findings[0].text and "404" in findings[1].text
    assert asked == [file.path for file in row.files.values()]


def test_offline_nothing_is_checked_and_no_server_is_asked_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(url: str) -> int | None:
        asked.append(url)
        raise UnreachableError("cannot be reached: no network")

    findings = list(verify(links(3), tmp_path, ask=ask))
    assert [finding.kind for finding in findings] == [Kind.NOT_CHECKED] * 9
    assert not any(finding.is_fault for finding in findings)
    assert len(asked) == 2  # of download.openmmlab.com and github.com
    assert summary(links(3), findings) == "9 files of 3 rows: 9 not checked"


def test_a_copy_whose_hash_disagrees_with_the_published_name(tmp_path: Path) -> None:
    row = published_rows()[ODD]
    (tmp_path / row.model_file).write_bytes(b"other weights")
    findings = list(verify(published_manifest([row]), tmp_path, copies=tmp_path, ask=lambda url: None))
    digest = hashlib.sha256(b"other weights").hexdigest()[:16]
    assert findings == [
        Finding(
            kind=Kind.CHANGED,
            text=f"{ODD}: checkpoint: {tmp_path / row.model_file}: sha256 {digest}..., the manifest says 8bd2c639...",
        )
    ]


@pytest.mark.parametrize("text", ["[]", '{"schema": 9}', '{"schema": 1, "experiment": "x", "run_root": null}', "{"])
def test_a_broken_manifest_is_answered_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: ") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
