"""Hours worked out by hand."""

from dataclasses import replace

import pytest

from harness.cell import parse_name
from harness.launching.cluster import JobShape
from harness.planning import assumed
from harness.planning.estimate import Work, assumed_rates, estimate, seconds, work_left
from harness.planning.measured import Rates
from harness.recipe import Recipe

EIGHT = JobShape(nodes=1, gpus_per_node=8, cpus_per_gpu=5, minutes=2880)
FULL = Work(iterations=12 * 7330, tests=12, images=5000, timed=2000)
RATES = Rates(iteration_s=0.25, image_s=0.01, start_s=100.0, checkpoint_s=10.0)


def test_a_full_run() -> None:
    """12 x 7330 x 0.25 = 21,990 s of iterations; 12 tests of 5000 x 0.01 = 50 s and a checkpoint of 10 s = 720 s;

    2000 images one by one, which one of 8 processes tests in 0.08 s each = 160 s; a start of 100 s:
    22,970 s, on 8 GPUs 51.04 GPU-hours.
    """
    assert work_left(epochs=12, iterations=7330, images=5000, epoch=0, step=0) == FULL
    assert seconds(FULL, RATES, world=8, limit_s=172_800) == pytest.approx(22_970)
    found = estimate(FULL, Recipe(), RATES, "x", shape=EIGHT)
    assert (found.seconds, found.iterations, found.iteration_s) == (pytest.approx(22_970), 87_960, 0.25)
    assert found.gpu_hours == pytest.approx(22_970 * 8 / 3600)


def test_each_job_has_a_start() -> None:
    """Jobs of two hours work 7200 - 100 s each: 22,870 / 7100 = 3.2, so there are 4 of them."""
    assert seconds(FULL, RATES, world=8, limit_s=7200) == pytest.approx(22_870 + 4 * 100)


def test_each_job_but_the_first_resumes() -> None:
    """With 100 s to go on from a checkpoint a job works 7200 - 200 s: 22,870 / 7000 = 3.3, 4 of them."""
    rates = replace(RATES, resume_s=100.0)
    assert seconds(FULL, rates, world=8, limit_s=7200) == pytest.approx(22_870 + 4 * 100 + 3 * 100)


def test_what_is_left_of_a_resumed_run() -> None:
    """At the checkpoint of iteration 100 of epoch 11: 1 epoch less 100 iterations, and 2 tests."""
    left = work_left(epochs=12, iterations=7330, images=100, epoch=10, step=10 * 7330 + 100)
    assert left == Work(iterations=2 * 7330 - 100, tests=2, images=100, timed=100)


def test_assumptions() -> None:
    """R-50 on 8 GPUs: 0.265 s, and 5000 images at 16.1 a second each. R-101 by its fps, 16.1 / 13.5 of that; two GPUs

    take four times as long; FP16 16.1 / 24.1 of fp32.
    """
    base = assumed_rates(Recipe(), "fp32", 8)
    assert base is not None and base.iteration_s == pytest.approx(0.265)
    assert base.image_s == pytest.approx(1 / (8 * 16.1))
    r101 = parse_name("mask_rcnn_r101_fpn_1x_coco").recipe()
    assert assumed.iteration_s(r101, "fp32", 8) == pytest.approx(0.265 * 16.1 / 13.5)
    assert assumed.iteration_s(r101, "fp32", 2) == pytest.approx(4 * 0.265 * 16.1 / 13.5)
    assert assumed.iteration_s(Recipe(), "fp16", 8) == pytest.approx(0.265 * 16.1 / 24.1)
    assert assumed.iteration_s(replace(Recipe(), batch=8), "fp32", 8) == pytest.approx(0.265 / 2)
    assert assumed_rates(Recipe(), "fp32", 0) is None
    assert assumed_rates(replace(Recipe(), groups=7), "fp32", 8) is None


def test_what_nobody_knows() -> None:
    found = estimate(FULL, Recipe(), None, "x", shape=EIGHT)
    assert (found.seconds, found.gpu_hours) == (None, None)
    cpu = estimate(FULL, Recipe(), None, "x", shape=replace(EIGHT, gpus_per_node=0))
    assert (cpu.seconds, cpu.gpu_hours) == (None, 0.0)
