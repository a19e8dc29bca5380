"""A model from a checkpoint: ours, or one in the published form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.cell import name_doubts, parse_name
from harness.detection.mask_rcnn import MaskRCNN
from harness.detection.weights import misfit, verify_name
from harness.errors import UserError
from harness.recipe import Recipe, from_dict
from harness.training import checkpoint
from harness.training.build import build_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A trained model and what its checkpoint says of it."""

    model: MaskRCNN
    recipe: Recipe
    cell: str  # its name, with the overrides of a run of this package
    classes: tuple[str, ...]
    meta: dict[str, Any]
    doubts: tuple[str, ...]  # why the file may not be what it is taken for, a line each


def restore(path: Path, *, cell: str | None = None) -> Restored:
    """Load a checkpoint strictly.

    cell: the name of its cell, needed for a checkpoint that was not written by this package.
    Raises UserError where the file is broken, would execute code, says nothing of its recipe, or does not fit it.
    """
    content = checkpoint.load(path)
    found = content.get("meta")
    meta: dict[str, Any] = found if isinstance(found, dict) else {}
    named = meta.get("CLASSES")
    classes = tuple(map(str, named)) if isinstance(named, list | tuple) else ()
    name, recipe = _recipe(path, meta, classes, cell)
    model = build_model(recipe)
    _load(model, content.get("state_dict", content), f"{path}: does not fit {name}")
    names = classes or tuple(f"class {number}" for number in range(recipe.num_classes))
    doubts = tuple(_doubts(path, meta, name.partition("+")[0]))
    return Restored(model=model.eval(), recipe=recipe, cell=name, classes=names, meta=meta, doubts=doubts)


def _recipe(path: Path, meta: dict[str, Any], classes: tuple[str, ...], cell: str | None) -> tuple[str, Recipe]:
    """The cell's name and the recipe, as the file says or, where it is silent, as `cell` says."""
    if isinstance(meta.get("recipe"), dict):
        own = str(meta.get("cell", ""))
        if cell is not None and cell not in (own, own.partition("+")[0]):
            raise UserError(f"{path}: says that it is of the cell {own}, not {cell}; leave --cell out")
        try:
            return own, from_dict(meta["recipe"])
        except UserError as error:
            raise UserError(f"{path}: {error} (written by another version of this package?)") from None
    if cell is None:
        raise UserError(f"{path}: does not say which recipe it is of; name its cell with --cell NAME")
    recipe = parse_name(cell).recipe()
    return cell, replace(recipe, num_classes=len(classes)) if classes else recipe


def _load(model: MaskRCNN, state: Any, what: str) -> None:
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{what}: holds no state_dict, expected tensors by name")
    if fault := misfit(state, model.state_dict()):
        raise UserError(f"{what}; {fault}")
    model.load_state_dict(state)


def _doubts(path: Path, meta: dict[str, Any], cell: str) -> Iterator[str]:
    yield from name_doubts(path, cell, {"its meta (exp_name)": str(meta.get("exp_name", ""))})
    try:
        verify_name(path)
    except UserError as error:
        yield f"{error} (the digits at the end of its name)"
