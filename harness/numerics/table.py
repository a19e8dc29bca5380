"""The table of published rows and checks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell import parse_name
from harness.numerics import blocks, model, recipes
from harness.numerics.expected import Row, expected
from harness.numerics.formula import fill
from harness.training.build import build_model

CHECKS: dict[str, Callable[[Row], list[str] | None]] = {
    "recipe": recipes.check_recipe,
    "keys": recipes.check_keys,
    "frozen": recipes.check_frozen,
    "rates": recipes.check_rates,
    "length": recipes.check_length,
    "input": recipes.check_input,
    "anchors": blocks.check_anchors,
    "coder": blocks.check_coder,
    "assigner": blocks.check_assigner,
    "pooling": blocks.check_pooling,
    "nms": blocks.check_suppression,
    "losses": blocks.check_losses,
    "masks": blocks.check_masks,
    "forward": model.check_forward,
    "weights": model.check_weights,
}
"""The columns. Each gives what differs, a line a difference, or None where it could not be checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """What the checks found in one row: by column what differs, or None where it was not checked."""

    name: str
    columns: dict[str, list[str] | None]

    @property
    def differences(self) -> list[str]:
        """All that differs, a line each, with row and column."""
        return [f"{self.name}, {column}: {line}" for column, found in self.columns.items() for line in found or []]

    def shown(self, column: str) -> str:
        """ok, DIFFERS or not checked."""
        found = self.columns[column]
        return "not checked" if found is None else "DIFFERS" if found else "ok"

    def plain(self) -> dict[str, dict[str, Any]]:
        """For JSON: column -> status and differences."""
        return {name: {"status": self.shown(name), "differences": found or []} for name, found in self.columns.items()}


def short(name: str) -> str:
    """r50_fpn_1x for mask_rcnn_r50_fpn_1x_coco."""
    return name.removeprefix("mask_rcnn_").removesuffix("_coco")


def published_rows() -> list[str]:
    """The names of the 21 rows."""
    return list(expected()["rows"])


def check_rows(names: Iterable[str], cache_root: Path) -> Iterator[RowResult]:
    """Check the named rows one after the other, each with the model of its own recipe (about 3 GB of memory)."""
    for name in names:
        recipe = parse_name(name).recipe()
        built = build_model(recipe)
        fill(built)
        row = Row(name=name, recipe=recipe, model=built, cache_root=cache_root)
        yield RowResult(name=name, columns={column: _found(check, row) for column, check in CHECKS.items()})


def _found(check: Callable[[Row], list[str] | None], row: Row) -> list[str] | None:
    """A check that cannot be carried out at all has found a difference."""
    try:
        return check(row)
    except Exception as error:
        return [f"fails with {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"]
