"""How many bytes a run leaves, from its recipe alone: its parameters are counted without building a model."""

from collections.abc import Iterator
from functools import cache

from harness.recipe import Recipe

FLOAT = 4
KEPT = 3
"""Checkpoints at a time: the two that are kept (training/checkpoint.py), and the one that is being written."""
SLOTS = {"SGD": 1, "AdamW": 2}
"""Numbers that an optimiser keeps of each parameter it trains."""
ROW_BYTES = 450
"""A train row of log.json, as measured on runs here; the journal is there twice (the attempt's, and merged)."""
ROW_EACH = 50
DETECTION_BYTES = 100
"""Of a detection in detections.json.gz, an assumption."""
PICTURES = 2_000_000
"""Sample predictions and curves, an assumption."""

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
PLANES = (64, 128, 256, 512)


@cache
def checkpoint_bytes(recipe: Recipe) -> int:
    """Of one checkpoint: weights, batch norm's statistics, and what the optimiser keeps."""
    frozen, trained, statistics = parameters(recipe)
    return FLOAT * (frozen + trained + statistics + SLOTS[recipe.optimizer] * trained)


def run_bytes(recipe: Recipe, *, iterations: int, images: int, trained: bool = True) -> int:
    """Of a run's folder at its largest. iterations: of the whole training; images: of a test; trained: there."""
    log = 2 * ROW_BYTES * (iterations // ROW_EACH + 2 * recipe.epochs)
    checkpoints = KEPT * checkpoint_bytes(recipe) if trained else 0
    return checkpoints + images * recipe.test_detections * DETECTION_BYTES + log + PICTURES


@cache
def parameters(recipe: Recipe) -> tuple[int, int, int]:
    """Of the recipe's model: parameters that are frozen, those that are trained, and batch norm's statistics."""
    frozen = trained = statistics = 0
    for stage, weights, channels in _backbone(recipe):
        statistics += 2 * channels
        is_frozen = stage <= recipe.frozen_stages
        affine = 2 * channels
        frozen += (weights + affine) if is_frozen else 0 if recipe.bn_affine_trained else affine
        trained += 0 if is_frozen else weights + (affine if recipe.bn_affine_trained else 0)
    return frozen, trained + _neck(recipe) + _rpn(recipe) + _box_head(recipe) + _mask_head(recipe), statistics


def _backbone(recipe: Recipe) -> Iterator[tuple[int, int, int]]:
    """(stage, weights, channels of its batch norm) of every convolution; stage 0 is the stem."""
    yield 0, 3 * 64 * 49, 64
    channels = 64
    for stage, (planes, blocks) in enumerate(zip(PLANES, BLOCKS[recipe.depth], strict=True), 1):
        for _ in range(blocks):
            convs = _block(recipe, channels, planes)
            out = convs[-1][1]
            if channels != out:
                convs.append((channels * out, out))
            yield from ((stage, weights, count) for weights, count in convs)
            channels = out


def _block(recipe: Recipe, channels: int, planes: int) -> list[tuple[int, int]]:
    """(weights, output channels) of the convolutions of a residual block, the shortcut's apart."""
    if recipe.style == "-":
        return [(9 * channels * planes, planes), (9 * planes * planes, planes)]
    width = planes * recipe.base_width // 64 * recipe.groups
    grouped = 9 * width * width // recipe.groups
    return [(channels * width, width), (grouped, width), (width * 4 * planes, 4 * planes)]


def _conv(inside: int, outside: int, area: int = 1) -> int:
    """Parameters of a convolution with bias."""
    return inside * outside * area + outside


def _neck(recipe: Recipe) -> int:
    inside = [planes * (1 if recipe.style == "-" else 4) for planes in PLANES]
    out = recipe.fpn_channels
    norm = 2 * len(inside) * out if recipe.fpn_norm == "GN" else 0  # a weight more, for each bias
    return norm + sum(_conv(channels, out) + _conv(out, out, 9) for channels in inside)


def _rpn(recipe: Recipe) -> int:
    width, anchors = recipe.fpn_channels, len(recipe.anchor_ratios)
    return _conv(width, width, 9) + _conv(width, anchors) + _conv(width, 4 * anchors)


def _box_head(recipe: Recipe) -> int:
    width, classes = recipe.box_fc_channels, recipe.num_classes
    first = _conv(recipe.fpn_channels * recipe.box_roi_size**2, width)
    return first + _conv(width, width) + _conv(width, classes + 1) + _conv(width, 4 * classes)


def _mask_head(recipe: Recipe) -> int:
    total, inside, width = 0, recipe.fpn_channels, recipe.mask_channels
    for _ in range(recipe.mask_convs):
        total, inside = total + _conv(inside, width, 9), width
    return total + _conv(inside, width, 4) + _conv(width, recipe.num_classes)
