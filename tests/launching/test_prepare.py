"""From a matrix to runs: everything missing at once, and identities that follow content."""

import shutil
from pathlib import Path

import pytest
from training.tiny import write_place

from harness.errors import UserError
from harness.launching.foreground import parse_overrides, single_run
from harness.launching.prepare import PreparedRun, prepare, write
from harness.matrix import load_experiment
from harness.recipe import Recipe
from harness.run_spec import read_spec
from harness.settings import Settings, load_settings

CELL = "mask_rcnn_r18_fpn_1x_coco"


@pytest.fixture
def settings(tmp_path: Path, shapes: Path) -> Settings:
    write_place(tmp_path, shapes, multiscale="[false, true]", seeds="[0, 3]")
    return load_settings(tmp_path, {})


def test_a_run_for_each_cell_and_seed(settings: Settings, tmp_path: Path) -> None:
    runs = prepare(load_experiment(tmp_path / "tiny.yaml"), settings)
    assert [(run.spec.cell, run.spec.seed) for run in runs] == [
        (name, seed) for name in (CELL, "mask_rcnn_r18_fpn_mstrain-poly_1x_coco") for seed in (0, 3)
    ]
    assert len({run.spec.key for run in runs}) == 4
    assert len({run.spec.identity for run in runs}) == 2
    assert not (tmp_path / "runs").exists()
    write(runs[0])
    assert read_spec(runs[0].paths) == runs[0].spec


def test_identity_follows_annotations_not_paths(settings: Settings, tmp_path: Path, shapes: Path) -> None:
    matrix = tmp_path / "tiny.yaml"
    before = prepare(load_experiment(matrix), settings)[0].spec

    def of_copy(name: str, change: str) -> str:
        copy = tmp_path / name
        shutil.copytree(shapes, copy)
        file = copy / "annotations/instances_train.json"
        file.write_text(file.read_text().replace("circle", change))
        environ = {"HARNESS_DATASET_SHAPES": str(copy)}
        return prepare(load_experiment(matrix), load_settings(tmp_path, environ))[0].spec.identity

    assert of_copy("same", "circle") == before.identity
    assert of_copy("other", "disc") != before.identity


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "harness.toml").write_text('cache_root = "cache"\n[datasets.coco2017]\nroot = "nowhere"\n')
    matrix = tmp_path / "zoo.yaml"
    matrix.write_text(
        "axes: {backbone: R-50, schedule: [1x, 2x]}\n"
        "overrides: [{cells: '*_2x_*', recipe: {dataset: mine, pretrained: none}}]\n"
    )
    with pytest.raises(UserError) as caught:
        prepare(load_experiment(matrix), load_settings(tmp_path, {}))
    told = str(caught.value)
    assert "nowhere" in told and "unknown data set 'mine'" in told
    assert "pretrained weights torchvision://resnet50 are missing" in told  # of the same cell


def test_missing_weights_name_the_command(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    write_place(tmp_path, shapes)
    settings = load_settings(tmp_path, {})
    overrides = ["dataset=shapes", "num_classes=3"]
    with pytest.raises(UserError, match="resnet50"):
        single_run("mask_rcnn_r50_fpn_1x_coco", settings, experiment=None, seed=None, batch=None, overrides=overrides)


def single(settings: Settings, tmp_path: Path, **options: object) -> PreparedRun:
    words = {"experiment": load_experiment(tmp_path / "tiny.yaml"), "seed": None, "batch": None, "overrides": []}
    return single_run(CELL, settings, **(words | options))  # type: ignore[arg-type]


def test_a_cell_as_the_experiment_has_it(settings: Settings, tmp_path: Path) -> None:
    run = single(settings, tmp_path)
    assert run == prepare(load_experiment(tmp_path / "tiny.yaml"), settings)[0]
    assert single(settings, tmp_path, seed=3).spec.seed == 3


def test_batch_scales_the_rate_and_shows(settings: Settings, tmp_path: Path) -> None:
    """lr 0.001 for a batch of 2: 0.004 for 8."""
    spec = single(settings, tmp_path, batch=8).spec
    assert (spec.recipe.batch, spec.recipe.lr) == (8, pytest.approx(0.004))
    assert spec.name == f"{CELL}+tiny+batch=8+lr=0.004"
    assert not spec.full
    assert single(settings, tmp_path, batch=2).spec == single(settings, tmp_path).spec
    own = single(settings, tmp_path, batch=8, overrides=["lr=0.5"]).spec
    assert own.recipe.lr == 0.5
    with pytest.raises(UserError, match="batch 3 is no multiple of micro_batch 2"):
        single(settings, tmp_path, batch=3)


def test_a_cell_by_its_name_alone(settings: Settings) -> None:
    run = single_run(
        CELL,
        settings,
        experiment=None,
        seed=None,
        batch=None,
        overrides=["dataset=shapes", "num_classes=3", "pretrained=none"],
    )
    assert run.paths.folder.parent.name == "single"
    assert run.spec.recipe.bn_eval is False  # implied by random weights
    assert run.spec.name == f"{CELL}+dataset=shapes+num_classes=3+pretrained=none"


def test_overrides() -> None:
    texts = ["lr=1e-3", "lr_steps=[8, 11]", "style=caffe", "bn_eval=false", "loss_scale=dynamic", "momentum=0"]
    found = parse_overrides(texts)
    assert found == {
        "lr": 0.001,
        "lr_steps": (8, 11),
        "style": "caffe",
        "bn_eval": False,
        "loss_scale": "dynamic",
        "momentum": 0,
    }
    assert isinstance(found["lr"], float) and Recipe(**found).lr == 0.001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr", "expected FIELD=VALUE"),
        ("=3", "unknown recipe field ''"),
        ("learning=3", "unknown recipe field 'learning'"),
        ("lr_step=[8]", "did you mean 'lr_steps'"),
        ("lr=", "expected a number above 0"),
        ("lr=-1", "expected a number above 0"),
        ("lr=[1", "not YAML"),
        ("lr={a: b", "not YAML"),
        ("depth=51", "expected one of"),
        ("epochs=1.5", "expected a whole number"),
    ],
)
def test_wrong_overrides(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        parse_overrides([text])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--set {text}: ")
