"""A sixth axis and a sixth backbone, by the very lines in CONTRIBUTING.md, through the whole road to the table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from harness.data.shapes import generate_shapes

MATRIX = """\
name: extended
axes: {backbone: [R-18, X-50-32x4d], neck: [plain, GN]}
recipe:
  label: tiny
  dataset: shapes
  num_classes: 3
  pretrained: none
  fpn_channels: 32
  box_fc_channels: 32
  mask_channels: 32
  mask_convs: 1
  roi_samples: 8
  batch: 2
shorten: {epochs: 1, iterations_per_epoch: 1, image_scale: 0.08, eval_images: 2}
resources: {gpus_per_node: 0, workers: 0}
"""


def snippet(name: str) -> str:
    """The code block of this name in CONTRIBUTING.md."""
    found = re.search(rf"```python {name}\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert found, name
    return found[1]


def extend(package: Path) -> int:
    """Put the three blocks where CONTRIBUTING.md says; the number of lines added or changed."""
    path = package / "axes.py"
    text = path.read_text()
    below = re.search(r'        _backbone\("R-18".*\n', text)
    assert below
    text = text.replace(below[0], below[0] + snippet("backbone"))
    place = re.search(r"AXES: tuple.*\n", text)
    assert place
    text = text.replace(place[0], snippet("axis") + "\n" + snippet("axes"))
    path.write_text(text)
    return sum(snippet(name).count("\n") for name in ("backbone", "axis", "axes"))


@pytest.mark.slow
def test_a_sixth_axis_and_a_sixth_backbone_reach_the_table(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    assert extend(tmp_path / "harness") < 30
    generate_shapes(tmp_path / "shapes", train=4, val=2)
    (tmp_path / "extended.yaml").write_text(MATRIX)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HARNESS_DATASET_SHAPES": str(tmp_path / "shapes")}

    def harness(*words: str) -> str:
        command = [sys.executable, "-m", "harness", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "fpn_norm" in harness(
        "show", "mask_rcnn_x50_32x4d_fpn_gn-neck_1x_coco", "--diff", "mask_rcnn_r50_fpn_1x_coco"
    )
    harness("submit", "extended.yaml", "--wait")
    harness("report", "extended.yaml")
    page = (tmp_path / "reports" / "extended" / "README.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| Backbone"))
    assert [cell.strip() for cell in header.split("|")][1:4] == ["Backbone", "Style", "Neck"]
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in page.splitlines()
        if line.startswith(("| R-18", "| X-50"))
    ]
    assert [(row[1].split(" +")[0], row[3]) for row in rows] == [
        ("R-18-FPN", "plain"),
        ("R-18-FPN", "GN"),
        ("X-50-32x4d-FPN", "plain"),
        ("X-50-32x4d-FPN", "GN"),
    ]
    assert all("model" in row[-2] for row in rows)
