"""A cell: a point of the matrix. It carries the published name, and a name parses back to its cell."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import axes
from harness.errors import UserError
from harness.recipe import Recipe
from harness.wording import did_you_mean

PUBLISHED = frozenset(
    f"mask_rcnn_{row}_coco"
    for row in """
    r50_caffe_fpn_1x r50_fpn_1x r50_fpn_fp16_1x r50_fpn_2x r101_caffe_fpn_1x r101_fpn_1x r101_fpn_2x
    x101_32x4d_fpn_1x x101_32x4d_fpn_2x x101_64x4d_fpn_1x x101_64x4d_fpn_2x x101_32x8d_fpn_1x
    r50_caffe_fpn_mstrain-poly_2x r50_caffe_fpn_mstrain-poly_3x r50_fpn_mstrain-poly_3x
    r101_caffe_fpn_mstrain-poly_3x r101_fpn_mstrain-poly_3x x101_32x4d_fpn_mstrain-poly_3x
    x101_32x8d_fpn_mstrain-poly_1x x101_32x8d_fpn_mstrain-poly_3x x101_64x4d_fpn_mstrain-poly_3x
    """.split()
)
"""The cells with published results; the recipes of all others are derived by the rules."""
CELL_NAME = re.compile(r"mask_rcnn_[a-z0-9_-]+?_coco(?![a-z0-9])")
"""What a file's name begins with, where it names a cell."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value for each axis, in the order of the axes."""

    values: tuple[tuple[str, str | bool], ...]

    def __getitem__(self, axis: str) -> str | bool:
        return dict(self.values)[axis]

    @property
    def point(self) -> dict[str, str | bool]:
        """Axis name -> value."""
        return dict(self.values)

    @property
    def name(self) -> str:
        """The published form, such as mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco."""
        before, after = "", ""
        for axis in axes.AXES:
            piece = axis.value(self[axis.name]).piece
            before, after = (before, after + piece) if axis.after_fpn else (before + piece, after)
        return f"mask_rcnn{before}_fpn{after}_coco"

    @property
    def published(self) -> bool:
        """Whether others published results of this cell."""
        return self.name in PUBLISHED

    def recipe(self) -> Recipe:
        """The recipe that the rules give this cell."""
        return axes.resolve(self.point, self.name)


def make_cell(values: Mapping[str, str | bool]) -> Cell:
    """The cell with these values; an axis left out takes its first value that goes with the others.

    Raises ValueError, saying why, where the values do not go together.
    """
    given = {axis.name: values[axis.name] for axis in axes.AXES if axis.name in values}
    choices = [[given[axis.name]] if axis.name in given else [v.key for v in axis.values] for axis in axes.AXES]
    names = [axis.name for axis in axes.AXES]
    reasons: list[str] = []
    for keys in itertools.product(*choices):
        point = dict(zip(names, keys, strict=True))
        reason = refusal(point)
        if reason is None:
            return Cell(tuple(point.items()))
        reasons.append(reason)
    raise ValueError(reasons[0])


def refusal(point: axes.Point) -> str | None:
    """Why these values do not go together, or None."""
    reasons = (axis.value(point[axis.name]).refuse(point) for axis in axes.AXES)
    return next((reason for reason in reasons if reason), None)


@cache
def _by_name(known: tuple[axes.Axis, ...]) -> dict[str, Cell]:
    points = itertools.product(*([(axis.name, value.key) for value in axis.values] for axis in known))
    return {cell.name: cell for point in points if refusal(dict(point)) is None for cell in [Cell(point)]}


def all_cells() -> list[Cell]:
    """Every cell that the axes allow."""
    return list(_by_name(axes.AXES).values())


def parse_name(name: str) -> Cell:
    """The cell of a published-form name.

    Raises UserError with the nearest valid names.
    """
    cells = _by_name(axes.AXES)
    if name in cells:
        return cells[name]
    raise UserError(f"unknown cell {name!r}{did_you_mean(name, cells)}; the form is {form()}")


def name_doubts(path: Path, cell: str, texts: Mapping[str, str]) -> Iterator[str]:
    """A line for each text that begins with the name of another cell: the file's name, and `texts` by what they are."""
    for source, text in {"its name": path.name, **texts}.items():
        named = CELL_NAME.match(text)
        if named and named[0] != cell:
            yield f"{path}: {source} says {named[0]}, not {cell}"


def form() -> str:
    """The form of all names, such as mask_rcnn_{r50|...}[_caffe]_fpn[_fp16]..._{1x|2x|3x}_coco."""
    pieces = {False: "", True: ""}
    for axis in axes.AXES:
        texts = [value.piece for value in axis.values]
        kept = "|".join(dict.fromkeys(text.removeprefix("_") for text in texts if text))
        pieces[axis.after_fpn] += f"[_{kept}]" if "" in texts else f"_{{{kept}}}"
    return f"mask_rcnn{pieces[False]}_fpn{pieces[True]}_coco"
