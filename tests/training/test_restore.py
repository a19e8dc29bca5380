"""Models from checkpoints: ours, and those in the published form."""

from pathlib import Path

import pytest
import torch

from harness.cell import parse_name
from harness.errors import UserError
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


@pytest.mark.slow
def test_published_form(tmp_path: Path) -> None:
    """state_dict and meta with CLASSES, no recipe: the cell's name says which."""
    path = tmp_path / "published.pth"
    model = build_model(parse_name(CELL).recipe(), seed=5)
    classes = tuple(f"thing {number}" for number in range(80))
    torch.save({"meta": {"CLASSES": classes, "epoch": 12}, "state_dict": model.state_dict()}, path)
    with pytest.raises(UserError, match="name its cell with --cell NAME"):
        restore(path)
    restored = restore(path, cell=CELL)
    assert restored.classes == classes
    assert torch.equal(restored.model.rpn_head.rpn_cls.weight, model.rpn_head.rpn_cls.weight)
    with pytest.raises(UserError, match=r"published\.pth: does not fit its recipe: ") as caught:
        restore(path, cell="mask_rcnn_r101_fpn_1x_coco")
    assert "\n" not in str(caught.value)


def test_recipe_of_another_version(trained: Training, tmp_path: Path) -> None:
    assert trained.saved is not None
    content = checkpoint.load(trained.saved.path)
    content["meta"]["recipe"]["colour"] = "blue"
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: unknown recipe field 'colour'"):
        restore(tmp_path / "other.pth")
