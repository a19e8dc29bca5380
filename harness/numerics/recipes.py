"""Checks of a row's recipe and of what follows from it: keys, frozen sets, rates, iterations, input."""

import re

import numpy as np
import torch

from harness.data.batches import plan_epoch
from harness.data.transforms import Augmentation, choose_scale, normalise, padded, rescale_size
from harness.numerics.compare import differs, differs_by_name, far, few
from harness.numerics.expected import Row, expected, golden, keys, recipe_of
from harness.recipe import to_dict
from harness.training.build import build_augmentation, build_schedule

DRAWS = 6000  # of 161 short sides; that one of them never comes has a chance of 1e-14


def check_recipe(row: Row) -> list[str]:
    """Every number of the recipe."""
    wanted, found = recipe_of(row.name), to_dict(row.recipe)
    return differs_by_name({name: found[name] for name in wanted if name in found}, wanted)


def check_keys(row: Row) -> list[str]:
    """Names and shapes of the state_dict, and the number of parameters."""
    found = {name: list(value.shape) for name, value in row.model.state_dict().items()}
    count = sum(parameter.numel() for parameter in row.model.parameters())
    return [
        *differs_by_name(found, keys()[row.backbone]),
        *differs("number of parameters", count, expected()["parameters"][row.backbone]),
    ]


def check_frozen(row: Row) -> list[str]:
    """Which parameters are trained, and that batch norm runs on its statistics in training too."""
    rules = expected()["frozen"]
    frozen = "|".join(re.escape(start) for start in rules["always"])
    if not row.expected["recipe"]["bn_affine_trained"]:
        frozen += "|" + rules["where batch norm is not trained"]
    wanted = {name: not re.match(frozen, name) for name, _ in row.model.named_parameters()}
    found = {name: parameter.requires_grad for name, parameter in row.model.named_parameters()}
    row.model.train()
    modes = {f"{name}.training": module.training for name, module in row.model.backbone.named_modules()}
    normalising = {name: mode for name, mode in modes.items() if re.search(r"bn\d|downsample\.1", name)}
    row.model.eval()
    return [
        *(f"trained: {line}" for line in differs_by_name(found, wanted)),
        *differs_by_name(normalising, dict.fromkeys(normalising, False)),
    ]


def check_rates(row: Row) -> list[str]:
    """The learning rate of iterations all over the schedule."""
    points, schedule = golden()["rates"][row.name], build_schedule(row.recipe)
    lines = []
    for epoch, iteration, rate in points.tolist():
        step = int(epoch) * golden()["iterations_of_rates"] + int(iteration)
        found = schedule.rate(epoch=int(epoch), step=step)
        if abs(found - rate) > 1e-9 * rate:
            lines.append(f"rate in epoch {epoch:g}, iteration {iteration:g} is {found:.6g}, expected {rate:.6g}")
    return few(lines)


def check_length(row: Row) -> list[str]:
    """Passes over the data, and iterations of an epoch where both aspect-ratio groups have to be filled up."""
    rule, published = expected()["epoch"], row.expected["recipe"]
    landscape = np.arange(rule["landscape"] + rule["portrait"]) < rule["landscape"]
    recipe = row.recipe
    plan = plan_epoch(
        landscape,
        seed=0,
        epoch=0,
        micro_batch=recipe.micro_batch,
        total_batch=recipe.batch,
        repeats=recipe.repeats,
    )
    passes = published["epochs"] * published["repeats"]
    return [
        *differs("passes over the data", recipe.epochs * recipe.repeats, passes),
        *differs("iterations an epoch", len(plan), rule["iterations"][str(published["repeats"])]),
    ]


def check_input(row: Row) -> list[str]:
    """Scales drawn, sizes after resizing and padding, normalised pixels."""
    augmentation = build_augmentation(row.recipe)
    return [*_drawn(row, augmentation), *_sizes(row, augmentation), *_normalised(row, augmentation)]


def _drawn(row: Row, augmentation: Augmentation) -> list[str]:
    resize = expected()["resize"][row.expected["resize"]]
    wanted = {tuple(scale) for scale in resize["train_scales"]}
    if resize["multiscale_mode"] == "range":
        wanted = {(1333, side) for side in range(640, 801)}
    random = np.random.default_rng(0)
    found = {choose_scale(augmentation, random) for _ in range(DRAWS)}
    lines = [f"never draws the scale {scale}" for scale in sorted(wanted - found)]
    return few([*lines, *(f"draws the scale {scale}, which is none of the row's" for scale in sorted(found - wanted))])


def _sizes(row: Row, augmentation: Augmentation) -> list[str]:
    lines = []
    for width, height, long, short, *wanted in golden()["sizes"].tolist():
        new = rescale_size((width, height), (long, short))
        found = [*new, *(padded(side, augmentation.pad_divisor) for side in new)]
        lines += differs(f"{width} x {height} resized to ({long}, {short}) and padded", found, wanted)
    return few(lines)


def _normalised(row: Row, augmentation: Augmentation) -> list[str]:
    case = golden()["normalise"]
    pixels = case["bgr"].numpy()
    out = torch.empty(3, *pixels.shape[:2])
    normalise(pixels, out, channel_order=augmentation.channel_order, mean=augmentation.mean, std=augmentation.std)
    return far("normalised pixels", out, case[row.expected["input"]], tolerance=1e-5)
