"""ASSUMPTIONS, for what nothing has measured yet: the published times of 8 x V100 (2020), scaled.

One training time is published of a recipe that is close to ours: 0.265 s an iteration of 16 images on 8 V100
(mask_rcnn_r50_caffe_fpn mstrain-poly 1x, mmdetection's model zoo, comparison with Detectron2). Others are assumed to
stand to it as their published inference times (the tables' fps) stand to that of R-50, and n GPUs to take 8 / n of the
time. A pilot replaces all of this by what the cluster at hand does.
"""

from harness.recipe import Recipe

ITERATION_S = 0.265
IMAGES, GPUS = 16, 8
FPS = {
    (18, 1, 64): 16.1,  # of R-50: nothing is published
    (50, 1, 64): 16.1,
    (101, 1, 64): 13.5,
    (101, 32, 4): 11.3,
    (101, 64, 4): 8.0,
    (101, 32, 8): 8.0,  # of X-101-64x4d, whose published memory is within 1 % of its: nothing is published
}
"""Published inference, images a second on one V100, by depth, groups and base width."""
FP16 = 24.1 / 16.1
"""Published, of R-50."""
START_S = 120.0
"""From the start of a job to its first iteration, and a checkpoint: guesses."""
CHECKPOINT_S = 10.0
SOURCE = "assumed: published times of 8 x V100, scaled"


def image_s(recipe: Recipe, precision: str, gpus: int) -> float | None:
    """Seconds an image of a test takes on so many GPUs; None of a backbone that is not in the table."""
    fps = FPS.get((recipe.depth, recipe.groups, recipe.base_width))
    return None if fps is None else 1 / (fps * (1.0 if precision == "fp32" else FP16) * gpus)


def iteration_s(recipe: Recipe, precision: str, gpus: int) -> float | None:
    """Seconds an iteration takes on so many GPUs; None of a backbone that is not in the table."""
    own, base = image_s(recipe, precision, gpus), 1 / (FPS[50, 1, 64] * GPUS)
    return None if own is None else ITERATION_S * recipe.batch / IMAGES * own / base
