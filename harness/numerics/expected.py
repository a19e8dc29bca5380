"""The shipped numbers: expected.json (recipes), keys.json.xz (state_dict), golden.pth (inputs and outputs of blocks).

tests/numerics/make_golden.py makes the last two of the reference oracle; each file says where its numbers are from.
"""

import json
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.detection.mask_rcnn import MaskRCNN
from harness.recipe import Recipe
from harness.tensorfile import load_tensors

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published row: what this package makes of it, beside the name under which the shipped numbers know it."""

    name: str
    recipe: Recipe
    model: MaskRCNN  # of the recipe, its weights by formula.fill
    cache_root: Path  # where pretrained weights are

    @property
    def expected(self) -> dict[str, Any]:
        """The row's entry in expected.json."""
        entry: dict[str, Any] = expected()["rows"][self.name]
        return entry

    @property
    def backbone(self) -> str:
        """Such as x101_32x4d."""
        return str(self.expected["architecture"].split()[0])


@cache
def expected() -> dict[str, Any]:
    """The content of expected.json."""
    content: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    return content


@cache
def keys() -> dict[str, dict[str, list[int]]]:
    """Backbone -> state_dict key -> shape."""
    content: dict[str, dict[str, list[int]]] = json.loads(lzma.decompress((FOLDER / "keys.json.xz").read_bytes()))
    return content


@cache
def golden() -> dict[str, Any]:
    """The content of golden.pth."""
    content: dict[str, Any] = load_tensors(FOLDER / "golden.pth")
    return content


def recipe_of(row: str) -> dict[str, Any]:
    """Every recipe field of a published row but the data set's name."""
    content, entry = expected(), expected()["rows"][row]
    return {
        **content["all"],
        **content["architectures"][entry["architecture"]],
        **content["input"][entry["input"]],
        **content["resize"][entry["resize"]],
        **entry["recipe"],
    }
