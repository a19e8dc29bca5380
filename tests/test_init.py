"""The first working folder."""

import tomllib
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.init import NEXT_STEPS, init
from harness.matrix import load_experiment
from harness.settings import load_settings


def test_what_is_written_can_be_used(tmp_path: Path) -> None:
    assert init(tmp_path) == [tmp_path / "harness.toml", tmp_path / "experiments/first.yaml"]
    found = load_settings(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert found.datasets["shapes"].root == tmp_path / "data/shapes"
    one, other = load_experiment(tmp_path / "experiments/first.yaml").cells
    assert (one.name, other.name) == (
        "mask_rcnn_r18_fpn_1x_coco+demo",
        "mask_rcnn_r18_fpn_mstrain-poly_1x_coco+demo",
    )
    for planned in (one, other):
        recipe = planned.recipe
        assert (recipe.dataset, recipe.num_classes, recipe.pretrained) == ("shapes", 3, "none")
        assert (recipe.frozen_stages, recipe.bn_eval, planned.full) == (-1, False, False)
        assert planned.resources.gpus_per_node == 0
    assert one.recipe.multiscale_mode == "fixed"
    assert len(one.recipe.train_scales) == 1
    assert other.recipe.multiscale_mode != "fixed"
    assert len(other.recipe.train_scales) > 1


def test_the_settings_show_every_key_with_its_default(tmp_path: Path) -> None:
    init(tmp_path)
    lines = (tmp_path / "harness.toml").read_text().splitlines()
    opened = [
        line.removeprefix("# ") for line in lines if not line.startswith("# ") or " = " in line or "[" in line[:3]
    ]
    keys = tomllib.loads("\n".join(opened))
    defaults = load_settings(tmp_path / "none", {"XDG_CONFIG_HOME": str(tmp_path)})
    (tmp_path / "harness.toml").write_text("\n".join(opened) + "\n")
    found = load_settings(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert set(keys) == {*defaults.origins, "datasets"}
    assert (found.cache_root, found.cluster, found.local_jobs) == (
        defaults.cache_root,
        defaults.cluster,
        defaults.local_jobs,
    )
    assert (found.run_root, found.tracking_uri) == (tmp_path / "runs", f"sqlite:///{tmp_path}/mlflow.db")
    assert None not in (found.datasets["coco2017"].train_images, found.datasets["coco2017"].val_annotations)


@pytest.mark.parametrize("there", ["harness.toml", "experiments/first.yaml"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=f"{there} already there; nothing is written"):
        init(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / there]
    assert (tmp_path / there).read_text() == "mine"


def test_the_next_steps_name_what_was_written() -> None:
    assert NEXT_STEPS.count("experiments/first.yaml") == 3
    assert "harness data shapes data/shapes" in NEXT_STEPS
