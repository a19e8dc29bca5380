"""Which record may fill which row."""

from dataclasses import replace

from harness.matrix import Experiment
from harness.recipe import Recipe
from harness.reporting.records import Record
from harness.reporting.rows import match
from reporting.conftest import Load, finished

ONE = "include: [{backbone: R-50}]\n"
FP16 = "include: [{backbone: R-50, fp16: true}]\n"


def filled(experiment: Experiment, *records: Record) -> tuple[list[str], dict[str, str]]:
    """The runs in the only row, and run -> why of the others."""
    (row,), others = match(experiment, records)
    return [run.run_id for _, run in row.runs if run], {other.record.run_id: other.why for other in others}


def test_a_run_of_the_present_recipe_fills_its_row(load: Load) -> None:
    experiment = load(ONE)
    run = finished(experiment.cells[0])
    assert filled(experiment, run) == ([run.run_id], {})


def test_an_overridden_run_never_fills_the_published_row_nor_the_other_way_round(load: Load) -> None:
    overridden = finished(load(ONE + "recipe: {lr: 0.01}\n").cells[0])
    experiment = load(ONE)
    assert filled(experiment, overridden)[1] == {overridden.run_id: "no such cell in the matrix file"}
    renamed = replace(overridden, name=overridden.cell)
    assert filled(experiment, renamed)[1] == {overridden.run_id: "the recipe has changed since: lr"}
    own = finished(experiment.cells[0])
    assert filled(load(ONE + "recipe: {lr: 0.01}\n"), own)[0] == []


def test_runs_of_an_older_recipe_are_not_current(load: Load) -> None:
    experiment = load(ONE)
    run = finished(experiment.cells[0])
    old = replace(run, recipe=run.recipe | {"roi_samples": 128, "pixel_mean": [0.0, 0.0, 0.0]})
    assert filled(experiment, old) == ([], {run.run_id: "the recipe has changed since: pixel_mean, roi_samples"})
    unknown = replace(run, recipe=run.recipe | {"gone": 1})
    assert filled(experiment, unknown) == ([], {run.run_id: "the recipe has changed since: gone"})


def test_a_field_added_later_at_its_default_changes_nothing(load: Load) -> None:
    experiment = load("include: [{backbone: R-50, schedule: 2x}]\n")
    run = finished(experiment.cells[0])
    without = {name: value for name, value in run.recipe.items() if name != "fpn_norm"}
    assert filled(experiment, replace(run, recipe=without))[0] == [run.run_id]
    assert run.recipe["epochs"] != Recipe().epochs  # but one that is not at its default does
    without = {name: value for name, value in run.recipe.items() if name != "epochs"}
    assert filled(experiment, replace(run, recipe=without))[0] == []


def test_shortening_and_seed_are_those_of_the_file(load: Load) -> None:
    short = finished(load(ONE + "shorten: {eval_images: 50}\n").cells[0])
    experiment = load(ONE)
    assert filled(experiment, short)[1] == {short.run_id: "shortening was eval_images=50, is none"}
    other = finished(experiment.cells[0], seed=7)
    assert filled(experiment, other)[1] == {other.run_id: "seed 7 is not in the matrix file"}


def test_bf16_is_never_reported_in_an_fp16_row(load: Load) -> None:
    experiment = load(FP16)
    gpu = finished(experiment.cells[0])
    cpu = replace(gpu, run_id="cpu", precision="bf16", full=False, started=gpu.started + 1)
    why = {"cpu": "ran in bf16, the recipe says fp16"}
    assert filled(experiment, cpu, gpu) == ([gpu.run_id], why)
    assert filled(experiment, cpu) == ([], why)


def test_identities_are_never_mixed_in_a_row(load: Load) -> None:
    experiment = load("seeds: [0, 1]\n" + ONE)
    first, second = (finished(experiment.cells[0], seed) for seed in (0, 1))
    newer = replace(second, identity="another", started=second.started + 1)
    why = "data, weights or numerics differ from the newest run's"
    assert filled(experiment, first, newer) == ([newer.run_id], {first.run_id: why})


def test_of_two_runs_of_a_seed_the_newer_counts(load: Load) -> None:
    experiment = load(ONE)
    old = finished(experiment.cells[0])
    new = replace(old, run_id="new", started=old.started + 1)
    assert filled(experiment, new, old) == (["new"], {old.run_id: "superseded by run new"})
