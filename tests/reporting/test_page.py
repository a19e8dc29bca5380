"""The page against a hand-written one, byte for byte and whatever the surroundings."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.matrix import Experiment
from harness.reporting.check import check_report
from harness.reporting.page import BEGIN, END, splice, write_report
from harness.reporting.records import Record, read_snapshot
from reporting.conftest import Load, finished, on_cpu, unfinished

GOLDEN = Path(__file__).parent / "golden" / "page.md"
MATRIX = """
name: golden
description: Five cells on their way.
include:
  - {backbone: R-50, style: caffe, schedule: 1x}
  - {backbone: R-50, schedule: 1x, fp16: [false, true]}
  - {backbone: R-101, schedule: 2x}
  - {backbone: R-50, style: caffe, multiscale: true, schedule: 2x}
overrides:
  - cells: "*r101*"
    recipe: {label: slow, lr: 0.01, test_scale: [1000, 600], lr_steps: [16, 22, 23]}
"""


def golden_records(experiment: Experiment) -> list[Record]:
    caffe, plain, fp16, r101, multiscale = experiment.cells
    own = replace(finished(r101), name=r101.cell.name, run_id="the-published-recipe", full=True)
    found = [
        finished(caffe, box=0.3804, mask=0.3449, fps=None),
        unfinished(plain, "RUNNING", epoch=3),
        on_cpu(finished(fp16, box=0.2, mask=0.1, precision="bf16", full=False)),
        on_cpu(finished(r101, box=0.4121, mask=0.361)),
        unfinished(multiscale, "FAILED", reason="RuntimeError: <lambda> *broke*\n a | b"),
        own,
    ]
    return [replace(record, history=()) for record in found]


def test_the_page_is_the_hand_written_one(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(MATRIX)
    monkeypatch.setattr("harness.reporting.page.figures", lambda *rows, **others: {})
    paths = write_report(experiment, golden_records(experiment), Path("reports/golden"), run_root=Path("runs"))
    assert paths.page.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")
    assert not paths.plots


def test_no_generated_file_names_this_machine(load: Load) -> None:
    experiment = load(MATRIX)
    paths = write_report(experiment, golden_records(experiment), Path("reports/small"), run_root=Path("runs"))
    for path in (paths.page, paths.site, paths.records, paths.manifest, *paths.plots):
        assert str(Path.cwd()) not in path.read_text(encoding="utf-8")


def test_the_order_of_runs_changes_no_byte(load: Load) -> None:
    experiment = load(MATRIX)
    records = golden_records(experiment)
    write_report(experiment, records, Path("one"))
    shuffled = random.Random(3).sample(records, len(records))
    assert shuffled != records
    one = everything(Path("one"))
    shutil.rmtree("one")
    write_report(experiment, shuffled, Path("one"))
    assert one == everything(Path("one"))
    assert {
        "README.md",
        "records.json",
        "manifest.json",
        "model-index.yml",
        "tables/1-multi-scale-no.csv",
    } <= one.keys()


def everything(folder: Path) -> dict[str, bytes]:
    """The content of every file of a report."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_locale_time_zone_and_user_settings_change_no_byte(load: Load, tmp_path: Path) -> None:
    experiment = load(MATRIX)
    history = finished(experiment.cells[0]).history
    records = [replace(record, history=history) for record in golden_records(experiment)]
    first = write_report(experiment, records, Path("reports/small"), run_root=Path("runs"))
    assert [path.name for path in first.plots] == ["speed.svg", "memory.svg", "curves-1.svg", "curves-2.svg"]
    before = everything(first.page.parent)
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\n")
    script = (
        "from pathlib import Path; from harness.matrix import load_experiment\n"
        "from harness.reporting.page import write_report; from harness.reporting.records import read_snapshot\n"
        "records = read_snapshot(Path('reports/small/records.json')).records\n"
        "write_report(load_experiment('experiments/small.yaml'), reversed(records), Path('reports/small'),"
        " run_root=Path('runs'))\n"
    )
    changed = {
        "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Tokyo", "MPLCONFIGDIR": str(tmp_path), "PYTHONHASHSEED": "7",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | changed)
    assert before == everything(first.page.parent)


def test_text_around_the_markers_stays(load: Load) -> None:
    experiment = load(MATRIX)
    output = Path("reports/small")
    output.mkdir(parents=True)
    page = output / "README.md"
    page.write_bytes(f"My words.\r\n{BEGIN}\nstale text\n{END}\r\nMore words.".encode())
    write_report(experiment, [], output)
    text = page.read_bytes().decode()
    assert text.startswith(f"My words.\r\n{BEGIN}\n# golden\n")
    assert text.endswith(f"{END}\r\nMore words.")
    assert "stale text" not in text


def test_a_page_without_markers_gets_them_at_its_end() -> None:
    assert splice("Mine.\n", "new\n") == f"Mine.\n\n{BEGIN}\nnew\n{END}\n"
    assert splice("", "new\n") == f"{BEGIN}\nnew\n{END}\n"


@pytest.mark.parametrize("page", [BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_broken_markers_are_the_users_to_mend(page: str) -> None:
    with pytest.raises(UserError, match=r"README\.md: expected one"):
        splice(page, "new\n")


def test_a_picture_is_copied_and_shown(load: Load) -> None:
    Path("found.png").write_bytes(b"a picture")
    paths = write_report(load(MATRIX), [], Path("out"), picture=Path("found.png"))
    assert paths.picture is not None
    assert paths.picture.read_bytes() == b"a picture"
    assert "![Predicted boxes and masks](sample.png)" in paths.page.read_text(encoding="utf-8")


def test_plots_of_an_earlier_report_go(load: Load) -> None:
    old = Path("out/plots/curves-9.svg")
    old.parent.mkdir(parents=True)
    old.write_text("old")
    write_report(load(MATRIX), [], Path("out"))
    assert not old.exists()


def test_the_manifest_has_every_file_of_every_finished_run_in_a_row(load: Load) -> None:
    experiment = load(MATRIX)
    paths = write_report(experiment, golden_records(experiment), Path("reports/small"), run_root=Path("runs"))
    manifest = json.loads(paths.manifest.read_text(encoding="utf-8"))
    assert manifest["run_root"] == "../../runs"
    assert [row["name"] for row in manifest["rows"]] == [
        "mask_rcnn_r50_caffe_fpn_1x_coco", "mask_rcnn_r101_fpn_2x_coco+slow"
    ]  # fmt: skip
    first = manifest["rows"][0]
    assert first["files"]["checkpoint"] == {
        "path": "small/mask_rcnn_r50_caffe_fpn_1x_coco-seed0/checkpoints/epoch_12.pth", "size": 10, "sha256": "ab" * 32
    }  # fmt: skip
    assert list(first["files"]) == ["checkpoint", "config", "detections", "log"]
    del first["files"]
    assert first == {
        "name": "mask_rcnn_r50_caffe_fpn_1x_coco", "seed": 0, "full": True,
        "run_id": "run-of-mask_rcnn_r50_caffe_fpn_1x_coco-0",
        "key": "0123456789", "identity": "fedcba9876543210", "commit": "1234567890abcdef",
        "metrics": {"bbox_mAP": 0.3804, "segm_mAP": 0.3449},
    }  # fmt: skip
    assert [row["full"] for row in manifest["rows"]] == [True, False]


@pytest.mark.slow
def test_an_imported_curve_is_kept_and_drawn_beside_ours(load: Load, tmp_path: Path) -> None:
    """After epochs 1 and 2 the imported log has box AP 1/40 and 2/40; the report is rebuilt without it."""
    from launching.test_import_log import CELL, epochs, write

    from harness.launching.import_log import import_log

    import_log(write(tmp_path, epochs(1, 12)), Path("runs"), cell=CELL)
    experiment = load("include: [{backbone: R-50, style: caffe, schedule: [1x, 2x]}]\n")
    paths = write_report(experiment, list(map(finished, experiment.cells)), Path("out"), run_root=Path("runs"))
    ((cell, curve),) = read_snapshot(paths.records).published.items()
    assert (cell, [point.bbox_mAP for point in curve[:2]]) == (CELL, [1 / 40, 2 / 40])
    shutil.rmtree("runs")
    assert check_report(experiment, Path("out")) == []
    drawn = Path("out/plots/curves-1.svg").read_text(encoding="utf-8")
    assert drawn.count("line dashed s0") == 3 and "line dashed s1" not in drawn  # two panels and the legend
