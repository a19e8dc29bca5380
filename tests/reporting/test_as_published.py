"""The published tables, cell for cell."""

import csv
import re
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.matrix import load_experiment
from harness.reporting.as_published import published_tables, write_published_tables
from harness.reporting.page import BEGIN, END
from reporting.conftest import Load

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"
BASE = "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn"
FP16 = BASE.replace("mask_rcnn", "fp16") + "/mask_rcnn_r50_fpn_fp16_1x_coco/mask_rcnn_r50_fpn_fp16_1x_coco_20200205"
CONFIGS = "https://github.com/open-mmlab/mmdetection/tree/master/configs/mask_rcnn"
POLY = "mask_rcnn_x101_32x8d_fpn_mstrain-poly_1x_coco"


def test_lines_of_the_published_readme(tmp_path: Path) -> None:
    """An FP16 row with its speed, and a linked backbone whose link is the wrong one, as published."""
    page = write_published_tables(load_experiment(ZOO), tmp_path / "out").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Results and Models", "## Pre-trained Models", "## Plots", "## Known of these rows",
    ]  # fmt: skip
    assert (
        f"| R-50-FPN (FP16) | pytorch | 1x | 3.6 | 24.1 | 38.1 | 34.7 "
        f"| [config]({CONFIGS}/mask_rcnn_r50_fpn_fp16_1x_coco.py) "
        f"| [model]({FP16}-59faf7e4.pth) &#124; [log]({FP16}_130539.log.json) |\n"
    ) in page
    assert (
        "| [X-101-32x8d-FPN](./mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco.py) | pytorch | 1x "
        f"| 10.4 | - | 43.4 | 39.0 | [config]({CONFIGS}/{POLY}.py) "
        f"| [model]({BASE}/{POLY}/{POLY}_20220630_170346-b4637974.pth) "
        f"&#124; [log]({BASE}/{POLY}/{POLY}_20220630_170346.log.json) |\n"
    ) in page
    assert "the published file tests at 40.4 / 35.9" in page


def test_every_cell_of_every_row(shared: Path, tmp_path: Path) -> None:
    """The rows of the page, read back from markdown, are those of the reference; a blank and "-" both are "-"."""
    page = write_published_tables(load_experiment(ZOO), tmp_path).read_text()
    shown = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("|") and ": |" not in line]
    shown = [[cell.strip() for cell in line] for line in shown if not line[0].startswith((" Backbone", " :"))]
    with (shared / "reference" / "published.csv").open(encoding="utf-8", newline="") as file:
        reference = list(csv.DictReader(file))
    assert len(shown) == len(reference) == 21
    for found, row in zip(shown, reference, strict=True):
        texts = [row[name] or "-" for name in ("backbone", "style", "schedule", "mem_gb", "fps", "box_ap", "mask_ap")]
        assert found[:7] == texts
        links = dict(re.findall(r"\[(\w+)\]\((.+?)\)", " ".join(found[7:])))
        assert links == {"config": row["config_url"], "model": row["model_url"], "log": row["log_url"]}


def test_only_cells_of_the_experiment_that_are_published(load: Load) -> None:
    experiment = load("axes: {backbone: [R-50, R-101], fp16: [false, true]}\n")
    (table,) = published_tables(experiment)
    assert [row.name for row in table.rows] == [
        "mask_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_fpn_fp16_1x_coco", "mask_rcnn_r101_fpn_1x_coco",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"small\.yaml: none of its cells is published with its own recipe"):
        published_tables(load("axes: {backbone: R-50}\nrecipe: {lr: 0.01}\n"))


def test_written_twice_and_text_around_it_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Mine.\n")
    page = write_published_tables(load_experiment(ZOO), tmp_path)
    first = page.read_bytes()
    assert first.startswith(b"Mine.\n") and BEGIN.encode() in first and END.encode() in first
    assert write_published_tables(load_experiment(ZOO), tmp_path).read_bytes() == first
