"""Models from checkpoints: ours, and those in the published form."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import sha256
from harness.training import checkpoint
from harness.training.build import build_model
from harness.training.restore import restore
from harness.training.session import Training
from training.tiny import tiny_backbone

CELL = "mask_rcnn_r50_fpn_1x_coco"


def test_own_checkpoint(trained: Training) -> None:
    assert trained.saved is not None
    with tiny_backbone():
        restored = restore(trained.saved.path)
    assert restored.recipe == trained.recipe
    assert restored.classes == ("circle", "square", "triangle")
    assert not restored.model.training
    expected = checkpoint.load(trained.saved.path)["state_dict"]
    assert all(torch.equal(value, expected[name]) for name, value in restored.model.state_dict().items())


def published(folder: Path, name: str = "published.pth", **meta: object) -> Path:
    """A checkpoint in the published form: state_dict and meta with CLASSES, no recipe of ours."""
    path = folder / name
    model = build_model(parse_name(CELL).recipe(), seed=5)
    classes = tuple(f"thing {number}" for number in range(80))
    torch.save({"meta": {"CLASSES": classes, "epoch": 12, **meta}, "state_dict": model.state_dict()}, path)
    return path


@pytest.mark.slow
def test_published_form(tmp_path: Path) -> None:
    """The cell's name says which recipe it is."""
    path = published(tmp_path, exp_name=f"{CELL}.py", best=np.float64(0.382))
    with pytest.raises(UserError, match="name its cell with --cell NAME"):
        restore(path)
    restored = restore(path, cell=CELL)
    assert (restored.cell, restored.classes[79], restored.doubts) == (CELL, "thing 79", ())
    assert restored.meta["best"] == 0.382
    expected = build_model(parse_name(CELL).recipe(), seed=5).rpn_head.rpn_cls.weight
    assert torch.equal(restored.model.rpn_head.rpn_cls.weight, expected)
    with pytest.raises(
        UserError, match=r"published\.pth: does not fit mask_rcnn_r101_fpn_1x_coco; missing: "
    ) as caught:
        restore(path, cell="mask_rcnn_r101_fpn_1x_coco")
    assert "\n" not in str(caught.value)
    assert "backbone.layer3.10.bn1.bias" in str(caught.value) and "and 303 more" in str(caught.value)
    with pytest.raises(UserError, match=r"x101_32x4d_fpn_1x_coco; missing: .*; of another shape: ") as caught:
        restore(path, cell="mask_rcnn_x101_32x4d_fpn_1x_coco")


@pytest.mark.slow
def test_doubts_about_a_file(tmp_path: Path) -> None:
    """Another cell's name on the file and in its meta, and a digest that the file does not have; it loads all the same,
    as R-50 1x and 2x differ in no tensor.
    """
    with tiny_backbone():
        name = "mask_rcnn_r50_fpn_2x_coco_bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40.pth"
        path = published(tmp_path, name, exp_name="mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco.py")
        doubts = restore(path, cell=CELL).doubts
        digest = sha256(path)[:8]
        assert doubts == (
            f"{path}: its name says mask_rcnn_r50_fpn_2x_coco, not {CELL}",
            f"{path}: its meta (exp_name) says mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco, not {CELL}",
            doubts[2],
        )
        assert f"sha256 {digest}" in doubts[2] and "expected 3e542a40" in doubts[2]
        good = path.rename(tmp_path / f"{CELL}_20200205-{digest}.pth")
        assert len(restore(good, cell=CELL).doubts) == 1


@pytest.mark.parametrize("content", [{"meta": {}}, {"state_dict": [1]}, {"state_dict": {"a": 1}}])
def test_no_state_dict(tmp_path: Path, content: dict[str, object]) -> None:
    torch.save(content, tmp_path / "none.pth")
    with tiny_backbone(), pytest.raises(UserError, match=r"none\.pth: does not fit .*: holds no state_dict"):
        restore(tmp_path / "none.pth", cell=CELL)


def test_another_cell_than_the_file_says(trained: Training) -> None:
    assert trained.saved is not None
    with pytest.raises(UserError, match=r"is of the cell mask_rcnn_r18_fpn_1x_coco\+tiny, not mask_rcnn_r50"):
        restore(trained.saved.path, cell=CELL)


def test_recipe_of_another_version(trained: Training, tmp_path: Path) -> None:
    assert trained.saved is not None
    content = checkpoint.load(trained.saved.path)
    content["meta"]["recipe"]["colour"] = "blue"
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: unknown recipe field 'colour'"):
        restore(tmp_path / "other.pth")
