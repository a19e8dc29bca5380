"""Checkpoints in the published form, and a data set that they can be tested on; small by a tiny backbone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.cell import parse_name
from harness.files import sha256
from harness.launching import published as launching_published
from harness.published import published_rows
from harness.training.build import build_model
from training.tiny import make_shapes, tiny_backbone

CLASSES = tuple(f"thing {number}" for number in range(1, 81))


def make_coco(root: Path) -> Path:
    """Two images a split, with the 80 categories that a published model finds."""
    make_shapes(root, train=2, val=2)
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
        file.write_text(json.dumps(content))
    return root


def write_published(folder: Path, cell: str, **meta: object) -> Path:
    """A checkpoint in the published form and under a published name, of the tiny backbone."""
    with tiny_backbone():
        model = build_model(parse_name(cell).recipe(), seed=5)
    folder.mkdir(exist_ok=True, parents=True)
    content = {"meta": {"CLASSES": CLASSES, "epoch": 12, **meta}, "state_dict": model.state_dict()}
    torch.save(content, folder / "file.pth")
    return (folder / "file.pth").rename(folder / f"{cell}_20210607_161042-{sha256(folder / 'file.pth')[:8]}.pth")


def publish(patch: pytest.MonkeyPatch, file: Path, cell: str, url: str = "https://example.org") -> None:
    """Let a file stand for the published checkpoint of a cell."""
    rows = published_rows()
    known = {**rows, cell: replace(rows[cell], model_url=f"{url}/{file.name}")}
    patch.setattr(launching_published, "published_rows", lambda: known)
