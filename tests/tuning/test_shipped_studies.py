"""The studies that come with the package."""

from pathlib import Path

import pytest

from harness.recipe import diff
from harness.shipped import find_experiment
from harness.shortening import shortened
from harness.tuning.study_file import load_study


@pytest.mark.parametrize("name", ["tune-demo", "tune-few-gpus"])
def test_a_shipped_study_parses_and_begins_with_its_base(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(find_experiment(Path(name)))
    assert study.name == name and study.prunes and study.base.shortening
    assert set(study.base_params) == {"lr", "warmup_iters"}


def test_few_gpus_is_the_published_recipe_by_the_linear_rule() -> None:
    """0.02 for 16 images is 0.005 for 4; 500 iterations of 16 images are 2000 of 4; an epoch of 7,330 iterations of 16

    images is a quarter with 4; steps 8 and 11 of 12 epochs are 3 and 4 of 4, of which the last never comes.
    """
    study = load_study(find_experiment(Path("tune-few-gpus")))
    changed = diff(study.base.cell.recipe(), study.base.recipe)
    assert study.base.cell.name == "mask_rcnn_r50_fpn_1x_coco"
    assert changed == {"lr": (0.02, 0.02 * 4 / 16), "batch": (16, 4), "warmup_iters": (500, 500 * 16 // 4)}
    assert study.base.resources.gpus_per_node * study.base.recipe.micro_batch == study.base.recipe.batch
    assert study.base.shortening.iterations_per_epoch == 7330
    assert shortened(study.base.recipe, study.base.shortening).lr_steps == (3, 4)
