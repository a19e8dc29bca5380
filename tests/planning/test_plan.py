"""What a plan says of cells that are new, half done, finished and without data; pilots."""

from dataclasses import replace
from pathlib import Path

import pytest
from training.tiny import write_place

from harness.files import write_json
from harness.launching.decide import decide
from harness.launching.prepare import prepare, write
from harness.matrix import load_experiment
from harness.planning.disk import room
from harness.planning.pilot import pilot_experiment
from harness.planning.plan import Plan, make_plan, plan_of, unmeasured
from harness.run_spec import Origin
from harness.run_state import State, write_state
from harness.settings import load_settings
from planning.conftest import attempt_row, finish, on_cluster, place, train_row, write_attempt


def sources(plan: Plan) -> list[str]:
    return [run.estimate.source.partition(",")[0] for run in plan.runs]


def test_new_runs(tmp_path: Path, shapes: Path) -> None:
    """12 images at batch 2 would be 6 iterations an epoch or more; the shortening says 3, of 2 epochs."""
    plan = make_plan(*place(tmp_path, shapes, seeds="[0, 1]"))
    assert [(run.seed, run.state, run.action, run.why) for run in plan.runs] == [
        (0, "NEW", "start", "new"),
        (1, "NEW", "start", "new"),
    ]
    assert [run.estimate.iterations for run in plan.runs] == [6, 6]
    assert sources(plan) == ["not known: harness submit --pilot measures it"] * 2
    assert (plan.gpu_hours, len(plan.unknown), plan.at_once) == (0.0, 2, 1)
    assert plan.room.free == pytest.approx(room(tmp_path / "not" / "there").free, rel=0.1)
    assert not (tmp_path / "runs").exists()


def test_without_the_data(tmp_path: Path) -> None:
    experiment, settings = place(tmp_path, tmp_path / "nowhere")
    plan = make_plan(experiment, settings)
    assert [(run.action, run.estimate.source) for run in plan.runs] == [
        ("cannot start", "not known: the data set is not at hand")
    ]
    assert "nowhere" in plan.missing[0]


def test_a_run_that_goes_on_tells_of_itself(tmp_path: Path, shapes: Path) -> None:
    """4 of 6 iterations are done, in 2 s each; one test of 4 images, of which nothing is known."""
    experiment, settings = place(tmp_path, shapes)
    (run,) = prepare(experiment, settings)
    write(run)
    write_attempt(run.paths, 1, [attempt_row(), train_row(1, 9.0), train_row(4, 2.0)])
    write_json(run.paths.checkpoints / "latest.json", [{"file": "x", "sha256": "", "epoch": 1, "step": 4}])
    write_state(run.paths, State.KILLED, attempt=1, reason="stopped")
    (found,) = make_plan(experiment, settings).runs
    assert (found.action, found.why) == ("resume", "killed: stopped")
    assert (found.estimate.iterations, found.estimate.iteration_s) == (2, 2.0)
    assert found.estimate.source == "measured: itself, on 1 x GPU"
    assert found.estimate.seconds == pytest.approx(2 * 2.0 + 10 + 120)  # and the assumed checkpoint and start


def test_the_nearest_source_counts(tmp_path: Path, shapes: Path) -> None:
    """A finished run of the experiment, before a pilot, before another experiment's; of the same cell and hardware."""
    experiment, settings = place(tmp_path, shapes, seeds="[0, 1]", multiscale="[false, true]")
    other = prepare(replace(experiment, name="other"), settings)
    finish(other[0], 1.0)
    plan = make_plan(experiment, settings)
    assert sources(plan)[0] == sources(plan)[1] == "measured: other/mask_rcnn_r18_fpn_1x_coco+tiny"
    assert sources(plan)[2] == "not known: harness submit --pilot measures it"
    pilots = prepare(pilot_experiment(experiment, settings), settings)
    finish(pilots[0], 2.0)
    assert sources(make_plan(experiment, settings))[0].startswith("measured by pilot: tiny-pilot/mask_rcnn_r18_fpn_1x")
    finish(prepare(experiment, settings)[0], 3.0)
    plan = make_plan(experiment, settings)
    assert [(run.action, run.estimate.iteration_s) for run in plan.runs[:2]] == [("skip", None), ("start", 3.0)]
    assert sources(plan)[0] == "finished"
    assert plan.runs[0].estimate.gpu_hours == 0.0


def test_other_hardware_does_not_count(tmp_path: Path, shapes: Path) -> None:
    """Of two processes, where this machine has one; on this machine, where a cluster is asked."""
    experiment, settings = place(tmp_path, shapes)
    (pilot,) = prepare(pilot_experiment(experiment, settings), settings)
    finish(pilot, 2.0, world=2)
    assert sources(make_plan(experiment, settings)) == ["not known: harness submit --pilot measures it"]
    experiment, settings = place(tmp_path, shapes, epochs=3)
    (pilot,) = prepare(pilot_experiment(experiment, settings), settings)
    finish(pilot, 2.0)
    assert sources(make_plan(experiment, settings))[0].startswith("measured by pilot")
    assert sources(make_plan(experiment, on_cluster(settings, tmp_path)))[0].startswith("assumed: published times")


def test_pilots(tmp_path: Path, shapes: Path) -> None:
    """One for each kind of cell: a longer schedule and a further seed make no other kind."""
    matrix = write_place(tmp_path, shapes, seeds="[3, 4]", multiscale="[false, true]", shorten=", eval_images: 500")
    matrix.write_text(matrix.read_text().replace("backbone: R-18,", "backbone: R-18, schedule: [1x, 2x],"))
    experiment, settings = load_experiment(matrix), load_settings(tmp_path, {})
    pilots = pilot_experiment(experiment, settings)
    assert (pilots.name, pilots.origin, pilots.seeds) == ("tiny-pilot", Origin.PILOT, (3,))
    assert [planned.cell.name for planned in pilots.cells] == [
        "mask_rcnn_r18_fpn_1x_coco",
        "mask_rcnn_r18_fpn_mstrain-poly_1x_coco",
    ]
    short = pilots.cells[0].shortening
    assert (short.epochs, short.iterations_per_epoch, short.eval_images, short.image_scale) == (2, 150, 200, 0.05)
    assert unmeasured(make_plan(experiment, settings)) == 2
    finish(prepare(pilots, settings)[0], 1.0)
    assert unmeasured(make_plan(experiment, settings)) == 1


def test_a_pilot_is_no_longer_than_its_cell(tmp_path: Path, shapes: Path) -> None:
    """2 epochs of 3 iterations are 6; one epoch of 5 becomes 2 of 2."""
    pilots = pilot_experiment(*place(tmp_path, shapes))
    assert pilots.cells[0].shortening.iterations_per_epoch == 3
    pilots = pilot_experiment(*place(tmp_path, shapes, epochs=1, shorten=", iterations_per_epoch: 5"))
    assert pilots.cells[0].shortening.iterations_per_epoch == 2


def test_tests_of_published_checkpoints_save_none(tmp_path: Path, shapes: Path) -> None:
    experiment, settings = place(tmp_path, shapes)
    decisions = decide(prepare(experiment, settings), settings)
    (run,) = plan_of(replace(experiment, origin=Origin.PUBLISHED), settings, decisions).runs
    (trained,) = plan_of(experiment, settings, decisions).runs
    assert run.checkpoint == 0 and (run.estimate.bytes or 0) < trained.checkpoint


def test_on_nodes(tmp_path: Path, shapes: Path) -> None:
    """Six runs of 8 GPUs and equal length: on one node one after the other, on four nodes in two rounds."""
    experiment, settings = place(tmp_path, shapes, seeds="[0, 1, 2, 3, 4, 5]")
    settings = on_cluster(settings, tmp_path)
    each = make_plan(experiment, settings).seconds
    assert make_plan(experiment, settings, nodes=1).seconds == pytest.approx(6 * each)
    assert make_plan(experiment, settings, nodes=4).seconds == pytest.approx(2 * each)


def test_another_number_of_gpus_tells(tmp_path: Path, shapes: Path) -> None:
    """A pilot on 2 GPUs, 4 s an iteration: on 8 at the ideal speed 1 s, at 0.965^2 of that 1.0738 s. Measured on 8 of

    another experiment, 1.25 s: that counts.
    """
    experiment, settings = place(tmp_path, shapes)
    cluster = on_cluster(settings, tmp_path)
    (pilot,) = prepare(pilot_experiment(experiment, cluster), cluster)
    finish(pilot, 4.0, world=2, device="cuda")
    write_json(pilot.paths.attempt(1) / "job.json", {})
    (run,) = make_plan(experiment, cluster).runs
    assert run.estimate.iteration_s == pytest.approx(1 / 0.965**2)
    assert run.estimate.source.endswith("on 2 x GPU, scaled to 8 GPUs (93% of the ideal, assumed)")
    (other,) = prepare(replace(experiment, name="other"), cluster)
    finish(other, 1.25, world=8, device="cuda")
    write_json(other.paths.attempt(1) / "job.json", {})
    (run,) = make_plan(experiment, cluster).runs
    assert run.estimate.iteration_s == 1.25 and run.estimate.measured is not None


def test_the_measured_efficiency_counts(tmp_path: Path, shapes: Path) -> None:
    """8 s on one GPU and 5 s on two are 80 % of the ideal a doubling: on 8, 5 x 2 / 8 s at 0.8^2 of that, 1.953 s."""
    experiment, settings = place(tmp_path, shapes)
    cluster = on_cluster(settings, tmp_path)
    for name, world, seconds in (("one", 1, 8.0), ("two", 2, 5.0)):
        (run,) = prepare(replace(experiment, name=name), cluster)
        finish(run, seconds, world=world, device="cuda")
        write_json(run.paths.attempt(1) / "job.json", {})
    (found,) = make_plan(experiment, cluster).runs
    assert found.estimate.iteration_s == pytest.approx(1.953125)
    assert found.estimate.source.endswith("on 2 x GPU, scaled to 8 GPUs (64% of the ideal, measured)")


def test_more_processes_than_a_batch_is_for(tmp_path: Path, shapes: Path) -> None:
    """Eight of a batch of 2 in one micro-batch: the runs would fail as soon as they start."""
    experiment, settings = place(tmp_path, shapes)
    plan = make_plan(experiment, on_cluster(settings, tmp_path))
    assert [(run.action, run.why) for run in plan.runs] == [("cannot start", "more processes than its batch is for")]
    assert plan.faults[0].endswith(":1:16: 8 processes (1 x 8): a batch of 2 in micro-batches of 2 is for at most 1")
    assert make_plan(*place(tmp_path, shapes)).faults == ()
