"""Files that are missing, changed or unexpected; servers that answer, and that do not."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    assert summary(read_manifest(folder / "manifest.json"), []) == "4 files of 1 row: all as the manifest says"


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


def test_files_beside_the_report_that_nobody_knows(folder: Path) -> None:
    """A picture that the README's own text shows is known; one that it does not name is not, nor is an old plot."""
    page = folder / "README.md"
    page.write_text(page.read_text() + "\n![mine](my%20picture.png)\n")
    for name in ("my picture.png", "other.png", "plots/old.svg", "pictures/0123456789.jpg", "pictures/9999999999.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert [text.split(": ")[0] for kind, text in found(folder) if kind == Kind.UNEXPECTED] == [
        f"{folder}/{name}" for name in ("other.png", "pictures/9999999999.jpg", "plots/old.svg")
    ]


def test_folders_of_harness_publish(folder: Path) -> None:
    """One as it was written, one of the same cell with other weights, log and files, one of another experiment."""
    run = Path("runs/small/mask_rcnn_r50_fpn_1x_coco-seed0-0123456789")
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    good, bad, foreign = (
        Path("published") / name
        for name in (
            f"mask_rcnn_r50_fpn_1x_coco_20260203_040506-{digits}",
            "mask_rcnn_r50_fpn_1x_coco+shortened_20260204_040506-00000000",
            "mask_rcnn_r50_fpn_1x_coco+lr=0.1_20260204_040506-00000000",
        )
    )
    for place in (good, bad, foreign):
        place.mkdir(parents=True)
        (place / f"{place.name}.pth").write_bytes(b"weights")
        for name in ("config.json", "log.json", "README.md"):
            (place / name).write_bytes((run / name).read_bytes() if name != "README.md" else b"")
    (bad / "config.json").unlink()
    (bad / "log.json").write_text("of another run")
    (bad / "notes.txt").write_text("mine")
    findings = verify(read_manifest(folder / "manifest.json"), folder, published=Path("published"))
    assert [(finding.kind, finding.text.removeprefix(f"published: {bad}/")) for finding in findings] == [
        (Kind.CHANGED, f"{bad.name}.pth: sha256 {hashlib.sha256(b'weights').hexdigest()[:16]}..., "
                       "expected 00000000..."),
        (Kind.MISSING, "config.json"),
        (Kind.UNEXPECTED, "log.json: the log of no run in the manifest"),
        (Kind.UNEXPECTED, "notes.txt: not made by harness publish"),
    ]  # fmt: skip


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
    assert [(finding.kind, finding.text) for finding in findings] == [
        (Kind.NOT_CHECKED, "6 files on download.openmmlab.com: cannot be reached: no network"),
        (Kind.NOT_CHECKED, "3 files on github.com: cannot be reached: no network"),
    ]
    assert not any(finding.is_fault for finding in findings)
    assert len(asked) == 2
    assert summary(links(3), findings) == "9 files of 3 rows: 9 not checked"


class Files(BaseHTTPRequestHandler):
    """A server of one file of 10 bytes, and of one that it does not say the length of; a third is forbidden."""

    def do_HEAD(self) -> None:
        name = self.path.removeprefix("/")
        self.send_response({"there.pth": 200, "long.pth": 200, "forbidden.pth": 403}.get(name, 404))
        if name == "there.pth":
            self.send_header("Content-Length", "10")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def test_a_real_server_and_one_that_is_dead(tmp_path: Path) -> None:
    """Of the 10 bytes that a manifest may mean as 10, as 11, or not at all; the second server was closed."""
    server, dead = (ThreadingHTTPServer(("127.0.0.1", 0), Files) for _ in range(2))
    dead.server_close()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    alive, gone = (f"http://127.0.0.1:{one.server_address[1]}" for one in (server, dead))
    files = {
        "same": (f"{alive}/there.pth", 10),
        "unsaid": (f"{alive}/there.pth", None),
        "changed": (f"{alive}/there.pth", 11),
        "silent": (f"{alive}/long.pth", 11),
        "forbidden": (f"{alive}/forbidden.pth", 10),
        "lost": (f"{alive}/lost.pth", 10),
        "one": (f"{gone}/a.pth", 1),
        "two": (f"{gone}/b.pth", 1),
    }
    (row,) = links(1).rows
    row = replace(
        row, files={role: FileRecord(path=url, size=size, sha256=None) for role, (url, size) in files.items()}
    )
    try:
        findings = list(verify(replace(links(1), rows=(row,)), tmp_path))
    finally:
        server.shutdown()
        server.server_close()
    assert [(finding.kind, finding.text.replace(alive, "A")) for finding in findings] == [
        (Kind.CHANGED, f"{row.name}: changed: A/there.pth: 10 bytes, the manifest says 11"),
        (Kind.NOT_CHECKED, f"{row.name}: forbidden: A/forbidden.pth (the server answers 403 Forbidden)"),
        (Kind.MISSING, f"{row.name}: lost: A/lost.pth: the server answers 404 Not Found"),
        (Kind.NOT_CHECKED, f"2 files on {gone[7:]}: cannot be reached: [Errno 111] Connection refused"),
    ]


def test_a_copy_whose_hash_disagrees_with_the_published_name(tmp_path: Path) -> None:
    row = published_rows()[ODD]
    (tmp_path / row.model_file).write_bytes(b"other weights")
    findings = list(verify(published_manifest([row]), tmp_path, copies=tmp_path, ask=lambda url: None))
    digest = hashlib.sha256(b"other weights").hexdigest()[:16]
    assert findings == [
        Finding(
            kind=Kind.CHANGED,
            text=f"{ODD}: checkpoint: {tmp_path / row.model_file}: sha256 {digest}..., expected 8bd2c639...",
        )
    ]


@pytest.mark.parametrize("text", ["[]", '{"schema": 9}', '{"schema": 1, "experiment": "x", "run_root": null}', "{"])
def test_a_broken_manifest_is_answered_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: ") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
