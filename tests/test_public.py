"""What `import harness` offers."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import harness
from harness import public
from harness.errors import UserError

SURFACE = {
    "recipe_for": "(name: str) -> harness.recipe.Recipe",
    "build_model": "(recipe: harness.recipe.Recipe, *, weights_file: pathlib.Path | None = None, seed: int = 0) -> "
    "'MaskRCNN'",
    "load_experiment": "(path: pathlib.Path | str) -> harness.matrix.Experiment",
    "records": "(experiment: harness.matrix.Experiment) -> 'pandas.DataFrame'",
}


def test_the_public_surface_is_frozen() -> None:
    assert set(harness.__all__) == set(public.__all__) == set(SURFACE)
    for name, signature in SURFACE.items():
        assert str(inspect.signature(getattr(harness, name))) == signature
        assert inspect.getdoc(getattr(harness, name))
    assert set(SURFACE) <= set(dir(harness))


def test_importing_the_package_imports_no_other() -> None:
    script = (
        "import sys; before = set(sys.modules); import harness\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert found.strip() == "{'harness'}"


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'nothing'"):
        harness.nothing  # noqa: B018


def test_recipes_and_experiments_in_a_notebook() -> None:
    recipe = harness.recipe_for("mask_rcnn_r101_caffe_fpn_1x_coco")
    assert (recipe.depth, recipe.style) == (101, "caffe")
    with pytest.raises(UserError, match="did you mean 'mask_rcnn_r50_fpn_1x_coco'"):
        harness.recipe_for("mask_rcnn_r50_fpn_1x")
    assert len(harness.load_experiment(ROOT / "experiments/zoo.yaml").cells) == 21


@pytest.mark.slow
def test_a_model_of_a_published_recipe_has_its_parameters() -> None:
    """R-50 has 44,396,336 parameters, as published."""
    model = harness.build_model(harness.recipe_for("mask_rcnn_r50_fpn_1x_coco"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 44_396_336


def test_records_of_an_experiment_that_nobody_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(UserError, match="nothing has been tracked there yet"):
        harness.records(harness.load_experiment(ROOT / "experiments/zoo.yaml"))
