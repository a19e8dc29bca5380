"""What `import harness` offers to notebooks."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.matrix import Experiment, load_experiment
from harness.recipe import Recipe

if TYPE_CHECKING:
    import pandas

    from harness.detection.mask_rcnn import MaskRCNN

__all__ = ["build_model", "load_experiment", "recipe_for", "records"]


def recipe_for(name: str) -> Recipe:
    """The recipe of a cell by its name, such as "mask_rcnn_r50_fpn_1x_coco".

    Raises UserError with the nearest valid name.
    """
    from harness.cell import parse_name

    return parse_name(name).recipe()


def build_model(recipe: Recipe, *, weights_file: Path | None = None, seed: int = 0) -> "MaskRCNN":
    """The model of a recipe. weights_file: its pretrained backbone; seed: of all other weights."""
    from harness.training import build

    return build.build_model(recipe, weights_file=weights_file, seed=seed)


def records(experiment: Experiment) -> "pandas.DataFrame":
    """What the tracking store of harness.toml knows of an experiment's runs: one row a run.

    Raises UserError where the store cannot be reached or has no such experiment.
    """
    from harness.reporting.records import frame
    from harness.reporting.tracked_records import from_tracking
    from harness.settings import load_settings

    settings = load_settings()
    return frame(from_tracking(settings.tracking_uri, experiment.name, cache=settings.cache_root / "records"))
