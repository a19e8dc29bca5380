"""What is left to do of a run, and how long that takes."""

import math
from dataclasses import dataclass

from harness.launching.cluster import JobShape
from harness.planning import assumed
from harness.planning.cost import gpus, processes
from harness.planning.footprint import run_bytes
from harness.planning.measured import Measured, Rates
from harness.recipe import Recipe
from harness.training.bill import allocated

SPEED_IMAGES = 2000
"""Timed one by one at the end of a run, by one of its processes (evaluation/speed.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is left of a run."""

    iterations: int
    tests: int
    images: int  # of a test
    timed: int  # at the end
    trained: bool = True  # else a published checkpoint is tested


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the rest of a run takes; None where nothing tells."""

    source: str  # of the times
    iterations: int | None = None
    iteration_s: float | None = None
    seconds: float | None = None  # at work, over all starts
    gpu_hours: float | None = None
    bytes: int | None = None  # of its folder at its largest
    measured: Measured | None = None  # by what, where the times are of a run
    steps_s: float | None = None  # of the seconds, in training steps, where that was measured


def work_left(*, epochs: int, iterations: int, images: int, epoch: int, step: int, trained: bool = True) -> Work:
    """Of a run of `epochs` of `iterations`, at its newest checkpoint: `epoch` epochs done, `step` iterations in all."""
    return Work(
        iterations=max(0, epochs * iterations - step),
        tests=epochs - epoch,
        images=images,
        timed=min(images, SPEED_IMAGES),
        trained=trained,
    )


def seconds(work: Work, rates: Rates, *, world: int, limit_s: float) -> float:
    """At work: iterations, tests, checkpoints, the timing at the end, a start for each job of at most `limit_s`, and

    going on from a checkpoint for each but the first. What is not known of the rates is taken from the assumptions, or
    left out.
    """
    start = assumed.START_S if rates.start_s is None else rates.start_s
    saving = assumed.CHECKPOINT_S if rates.checkpoint_s is None else rates.checkpoint_s
    an_image = rates.image_s or 0.0
    tests = work.tests * (work.images * an_image + saving) + work.timed * an_image * world
    busy = work.iterations * rates.iteration_s + tests
    resume = rates.resume_s or 0.0
    starts = max(1, math.ceil(busy / max(1.0, limit_s - start - resume)))
    return busy + starts * start + (starts - 1) * resume


def assumed_rates(recipe: Recipe, precision: str, gpus: int) -> Rates | None:
    """By the published times; None on CPUs, and of a backbone of which nothing is published."""
    if gpus == 0 or (an_iteration := assumed.iteration_s(recipe, precision, gpus)) is None:
        return None
    return Rates(iteration_s=an_iteration, image_s=assumed.image_s(recipe, precision, gpus))


def estimate(
    work: Work, recipe: Recipe, rates: Rates | None, source: str, *, shape: JobShape, measured: Measured | None = None
) -> Estimate:
    """Of the rest of a run. recipe: as executed; measured: what the rates are of."""
    size = run_bytes(recipe, iterations=work.iterations, images=work.images, trained=work.trained)
    time = None if rates is None else seconds(work, rates, world=processes(shape), limit_s=60.0 * shape.minutes)
    return Estimate(
        source=source,
        iterations=work.iterations,
        iteration_s=None if rates is None else rates.iteration_s,
        seconds=time,
        gpu_hours=allocated(gpus(shape), time) if time is not None else None if gpus(shape) else 0.0,
        bytes=size,
        measured=measured,
        steps_s=None if measured is None else work.iterations * measured.rates.iteration_s * (1 - measured.data_share),
    )
