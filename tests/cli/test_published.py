"""Published files on the command line: tested beside their row."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from training.published_files import make_coco, write_published
from training.tiny import tiny_backbone

from cli.conftest import Harness

ODD = "mask_rcnn_x101_32x8d_fpn_mstrain-poly_3x_coco"


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with 80 categories."""
    return make_coco(tmp_path_factory.mktemp("coco") / "coco")


@pytest.mark.slow
def test_evaluate_beside_the_published_row(harness: Harness, place: Path, coco: Path) -> None:
    file = write_published(place, ODD)
    with tiny_backbone():
        code, _, err = harness("evaluate", str(file), "--cell", ODD)
        assert code == 2 and "[datasets.coco2017]" in err
        with (place / "harness.toml").open("a") as settings:
            settings.write(f'[datasets.coco2017]\nroot = "{coco}"\n')
        code, out, err = harness("evaluate", str(file), "--cell", ODD)
        assert (code, err) == (0, "")
        assert "now  published  difference" in out and "44.3" in out
        assert "known of this row: the published file tests at 40.4 / 35.9" in out
        assert "these of 2 images" in out and "tested in fp32" in out
        shutil.move(file, place / f"{ODD}_20210607_161042-00000000.pth")
        other = "mask_rcnn_x101_32x8d_fpn_1x_coco"
        words = ("evaluate", str(place / f"{ODD}_20210607_161042-00000000.pth"), "--cell", other, "--json")
        code, out, err = harness(*words)
        found = json.loads(out)
        now = round(100 * max(0, found["numbers"]["bbox_mAP"]), 1)
        box = found["published"]["compared"][0]
        assert (box["published"], box["now"], box["difference"]) == (42.8, now, round(now - 42.8, 1))
        assert len(found["doubts"]) == 2 and err.count("warning: ") == 2 and f"says {ODD}, not {other}" in err


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_file_that_would_execute_code(harness: Harness, place: Path) -> None:
    torch.save({"meta": {"hook": Evil()}, "state_dict": {}}, "evil.pth")
    code, _, err = harness("evaluate", "evil.pth", "--cell", ODD)
    assert code == 2 and err.startswith("error: evil.pth: ") and "would execute posix.system" in err
    assert err.count("\n") == 1 and not (place / "executed").exists()
