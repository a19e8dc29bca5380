"""A model from a checkpoint: ours, or one in the published form."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.cell import parse_name
from harness.detection.mask_rcnn import MaskRCNN
from harness.errors import UserError
from harness.recipe import Recipe, from_dict
from harness.training import checkpoint
from harness.training.build import build_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A trained model and what its checkpoint says of it."""

    model: MaskRCNN
    recipe: Recipe
    classes: tuple[str, ...]
    meta: dict[str, Any]


def restore(path: Path, *, cell: str | None = None) -> Restored:
    """Load a checkpoint strictly.

    cell: the name of its cell, needed for a checkpoint that was not written by this package.
    Raises UserError where the file is broken, says nothing of its recipe, or does not fit it.
    """
    content = checkpoint.load(path)
    found = content.get("meta")
    meta: dict[str, Any] = found if isinstance(found, dict) else {}
    classes = tuple(str(name) for name in meta.get("CLASSES") or ())
    recipe = _recipe(path, meta, classes, cell)
    model = build_model(recipe)
    try:
        model.load_state_dict(content.get("state_dict", content))
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{path}: does not fit its recipe: {' '.join(lines[1:3])[:300]}") from None
    names = classes or tuple(f"class {number}" for number in range(recipe.num_classes))
    return Restored(model=model.eval(), recipe=recipe, classes=names, meta=meta)


def _recipe(path: Path, meta: dict[str, Any], classes: tuple[str, ...], cell: str | None) -> Recipe:
    if isinstance(meta.get("recipe"), dict):
        try:
            return from_dict(meta["recipe"])
        except UserError as error:
            raise UserError(f"{path}: {error} (written by another version of this package?)") from None
    if cell is None:
        raise UserError(f"{path}: does not say which recipe it is of; name its cell with --cell NAME")
    recipe = parse_name(cell).recipe()
    return replace(recipe, num_classes=len(classes)) if classes else recipe
