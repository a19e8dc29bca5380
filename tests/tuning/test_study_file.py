"""A study file and its mistakes."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness.cell import parse_name
from harness.errors import UserError
from harness.matrix import load_experiment
from harness.recipe import Recipe, diff
from harness.tuning.objective import Objective
from harness.tuning.space import Choice, Range
from harness.tuning.study_file import Budget, is_matrix, is_study, load_study

GOOD = """\
cell: {backbone: R-50, style: caffe}
recipe: {warmup_iters: 1000}
shorten: {epochs: 1, iterations_per_epoch: 500}
resources: {gpus_per_node: 2}
search:
  lr: {low: 0.001, high: 0.1, log: true}
  warmup_iters: {low: 500, high: 2000, step: 500}
  weight_decay: {low: 0, high: 0.001}
  lr_steps: [[8, 11], [9, 11]]
  optimizer: [SGD, AdamW]
objective: [segm AP, {metric: fps}, {metric: memory, direction: minimize}]
budget: {trials: 20, gpu_hours: 1.5}
sampler: {kind: nsga2, seed: 3}
storage: sqlite:///studies.db
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tune-a.yaml"
    path.write_text(text)
    return path


def test_a_study(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, GOOD))
    assert (study.name, study.seed, study.confirm_seeds) == ("tune-a", 0, (101, 102, 103))
    assert study.base.name == "mask_rcnn_r50_caffe_fpn_1x_coco+warmup_iters=1000"
    assert (study.base.resources.gpus_per_node, study.base.shortening.iterations_per_epoch) == (2, 500)
    assert study.space == (
        Range(field="lr", low=0.001, high=0.1, log=True),
        Range(field="warmup_iters", low=500, high=2000, step=500, whole=True),
        Range(field="weight_decay", low=0.0, high=0.001),
        Choice(field="lr_steps", values=((8, 11), (9, 11))),
        Choice(field="optimizer", values=("SGD", "AdamW")),
    )
    assert study.objectives == (
        Objective(metric="segm AP", direction="maximize", key="segm_mAP", mode="val"),
        Objective(metric="fps", direction="maximize", key="fps", mode="result"),
        Objective(metric="memory", direction="minimize", key="memory_mb", mode="result"),
    )
    assert study.budget == Budget(trials=20, gpu_hours=1.5, parallel=None)
    assert study.storage == f"sqlite:///{tmp_path}/studies.db"
    base = {"lr": 0.02, "warmup_iters": 1000, "weight_decay": 0.0001, "lr_steps": "[8, 11]", "optimizer": "SGD"}
    assert study.base_params == base


def test_a_trial_is_the_base_with_other_values(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, GOOD))
    cell = study.cell(7, study.base_params | {"lr": 0.05, "lr_steps": "[9, 11]"})
    assert diff(study.base.recipe, cell.recipe) == {"lr": (0.02, 0.05), "lr_steps": ((8, 11), (9, 11))}
    assert cell.name == "mask_rcnn_r50_caffe_fpn_1x_coco+warmup_iters=1000+trial007"
    assert cell.shortening == study.base.shortening and not cell.full
    assert study.cell(0, study.base_params).recipe == study.base.recipe
    assert study.base.cell == parse_name("mask_rcnn_r50_caffe_fpn_1x_coco")


def test_a_base_outside_of_what_is_searched(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, GOOD.replace("step: 500}", "step: 300}")))
    assert study.base_params == {}  # 1000 is not 500 + n 300


BAD = """\
cell: {backbone: R-52}
recipe: {lrr: 3, momentum: a}
search:
  lr: {low: 1, high: 0.1, log: true}
  lrx: [1]
  warmup_iters: {low: 0, high: 6, log: true}
  optimizer: [SGD, Adam]
  style: {low: 1, high: 3}
  batch: {low: 2, high: 16.5}
  epochs: [12, 12]
  momentum: 3
  repeats: {low: 1, high: 3, step: 9}
  flip_probability: {low: 0.5, high: 1.5}
objective: [segm ap, {metric: lr}, fps, fps]
budget: {parallel: 0}
sampler: {kind: grid, startup_trials: 3}
pruner: {kind: hyperband, percentile: 3}
confirm_seeds: [0, 1, 1]
storage: postgresql://anna:secret@host/x
sed: 3
"""
MISTAKES = """\
1:18: unknown backbone 'R-52', did you mean 'R-50'?
2:10: unknown recipe field 'lrr', did you mean 'lr'?
2:28: momentum is 'a', expected a number from 0 to 1
4:7: lr: low 1 is not below high 0.1
5:3: unknown recipe field 'lrx', did you mean 'lr'?
6:17: warmup_iters: a log range starts above 0, not at 0
7:20: optimizer is 'Adam', expected one of 'SGD', 'AdamW'
8:10: style is 'pytorch', no number: give a list of values
9:10: batch: low, high and step must be whole numbers
10:11: epochs needs two values or more, none of them twice
11:13: search.momentum is 3, expected a mapping or a list
12:12: repeats: step 9 must be above 0 and at most high - low
13:38: flip_probability is 1.5, expected a number from 0 to 1
14:13: unknown metric 'segm ap'; expected one of segm AP, bbox AP, memory, fps
14:31: lr has no usual direction: add direction: maximize or minimize
14:41: fps is an objective already
15:9: budget.trials is missing: how many trials there are to be
15:20: budget.parallel is 0, expected at least 1
16:17: sampler.kind is 'grid', expected 'tpe', 'gp', 'nsga2' or 'random'
17:9: fps is measured once, at the end of a run: remove the pruner
17:39: a pruner of kind hyperband has no percentile
18:17: seed 0 is the trials' own; expected unused ones
18:23: seed 1 is there already; expected unused ones
19:10: a password is seen by all who read this file
20:1: unknown key 'sed', did you mean 'seed'?
"""


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    with pytest.raises(UserError) as refused:
        load_study(path)
    told, expected = str(refused.value).splitlines(), MISTAKES.splitlines()
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(f"{path}:{start}"), line


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{low: 500, high: 2000, step: 500}", "{low: 0.5, high: 2}", "7:17: warmup_iters: low, high and step must be"),
        ("objective: [", "pruner: {kind: median}\nobjective: [", "11:9: trials with several objectives are not pruned"),
        ("nsga2,", "random, startup_trials: 3,", "13:41: a random sampler has no startup_trials"),
        ("  optimizer: [SGD", "  batch: {low: 2, high: 16}\n  optimizer: [SGD", "10:10: batch: batch 3 is no multiple"),
        ("  lr: {", "  depth: {low: 50, high: 101}\n  lr: {", "6:10: depth: depth is 51, expected one of 18, 50, 101"),
        ("sqlite:///studies.db", "studies.db", "14:10: storage is 'studies.db', expected sqlite:///FILE or postgres"),
        ("sqlite:///studies.db", "postgresql://[bad", "14:10: storage is no address; expected sqlite:///FILE or post"),
    ],
)
def test_further_mistakes(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError) as refused:
        load_study(path)
    assert re.fullmatch(rf"{re.escape(f'{path}:{told}')}.*", str(refused.value)), refused.value


def test_what_makes_trials_comparable(tmp_path: Path) -> None:
    """Budget, sampler and pruner may change while a study goes on; what is searched, and to what end, may not."""
    study = load_study(write(tmp_path, GOOD))
    same = load_study(write(tmp_path, GOOD.replace("trials: 20", "trials: 40").replace("seed: 3", "seed: 4")))
    assert same.definition == study.definition
    for old, new in (("high: 0.1,", "high: 0.2,"), ("[segm AP,", "[bbox AP,"), ("caffe", "pytorch"), ("500}", "400}")):
        changed = load_study(write(tmp_path, GOOD.replace(old, new, 1)))
        assert changed.definition != study.definition, old
    assert dataclasses.replace(study, seed=1).definition != study.definition


def test_which_file_is_a_study(tmp_path: Path) -> None:
    assert is_study(write(tmp_path, GOOD))
    with pytest.raises(UserError, match="unknown key 'search'"):
        load_experiment(write(tmp_path, GOOD))
    (tmp_path / "a.yaml").write_text("axes: {}\n")
    assert not is_study(tmp_path / "a.yaml")
    assert is_matrix(tmp_path / "a.yaml") and not is_matrix(write(tmp_path, GOOD))


def test_the_default_recipe_is_the_base(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, "search:\n  lr: [0.01, 0.02]\nobjective: segm AP\nbudget: {trials: 2}\n"))
    assert (study.base.recipe, study.base.suffix, study.prunes) == (Recipe(), "", False)
