"""The model card of a published run: what it is, what it scored, what it was made with, in markdown."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.files import sha256
from harness.provenance import several_codes
from harness.published import compare, published_rows
from harness.run_spec import RunSpec
from harness.wording import count, percent

METRICS = {
    "mAP": "AP",
    "mAP_50": "AP 50",
    "mAP_75": "AP 75",
    "mAP_s": "AP small",
    "mAP_m": "AP medium",
    "mAP_l": "AP large",
}


def card(spec: RunSpec, result: Mapping[str, Any], weights: Path) -> str:
    """The text; the same run gives the same bytes."""
    lines = [f"# {spec.name}", "", _kind(spec), ""]
    reservations = list(_reservations(spec, result))
    if reservations:
        lines += ["**Not a full result of the cell:**", "", *(f"- {text}" for text in reservations), ""]
    lines += ["## Results", "", *_numbers(spec, result), "", "## Made with", ""]
    lines += [f"- {name}: {text}" for name, text in _facts(spec, result) if text]
    lines += ["", "## Files", "", f"- `{weights.name}`: {weights.stat().st_size} bytes, sha256 `{sha256(weights)}`"]
    lines += ["- `config.json`: every number of the recipe", "- `log.json`: the training log, JSON lines", ""]
    lines += ["## Use", "", f"    harness evaluate {weights.name}", f"    harness predict {weights.name} photo.jpg", ""]
    lines.append("The keys of `state_dict` are those of mmdetection 2.x; `meta` holds the recipe and the classes.")
    return "\n".join(lines) + "\n"


def _kind(spec: RunSpec) -> str:
    recipe = "with the published recipe" if spec.published and not spec.suffix else "with a recipe of its own"
    values = ((name, str(value).lower() if isinstance(value, bool) else value) for name, value in spec.axes.items())
    axes = ", ".join(f"{name} {value}" for name, value in values)
    return f"Mask R-CNN ({axes}), trained {recipe}, seed {spec.seed}."


def _reservations(spec: RunSpec, result: Mapping[str, Any]) -> Iterator[str]:
    if spec.suffix:
        yield f"overridden: {spec.suffix.removeprefix('+').replace('+', ', ')}"
    if spec.shortening:
        yield f"shortened: {spec.shortening.describe()}"
    if spec.precision != spec.recipe.precision:
        yield f"ran in {spec.precision}, where the recipe says {spec.recipe.precision}"
    if result["hardware"]["kind"] != "cuda":
        yield f"trained on a {result['hardware']['kind'].upper()}, not on a GPU"
    if len(result["codes"]) > 1:
        yield several_codes(result["codes"])
    if result["code"]["dirty"]:
        yield "the code had changes that its commit lacks"


def _numbers(spec: RunSpec, result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    rows = [
        f"| {text} | {percent(metrics[f'bbox_{name}'])} | {percent(metrics[f'segm_{name}'])} |"
        for name, text in METRICS.items()
    ]
    lines = ["| | box | mask |", "| --- | ---: | ---: |", *rows]
    if spec.full and spec.published and len(result["codes"]) == 1:
        box, mask = compare(published_rows()[spec.cell], metrics)
        lines.append(f"| AP, published | {box.published:.1f} | {mask.published:.1f} |")
    return [*lines, "", f"COCO AP in percent of the last epoch, computed by {result['evaluation_library']}."]


def _facts(spec: RunSpec, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    hardware, code = result["hardware"], result["code"]
    digests = ", ".join(f"{split.digest[:16]} ({part})" for part, split in spec.splits.items())
    fps = f"{result['fps']:.1f} images a second at batch 1" if result["fps"] else ""
    return [
        ("Data", f"{spec.recipe.dataset}, annotations sha256 {digests}"),
        ("Training", f"{count(result['iterations'], 'iteration')} of {spec.recipe.batch} images in {spec.precision}"),
        ("Hardware", f"{hardware['count']} x {hardware['device']}"),
        ("Inference", fps),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(result["versions"].items()))),
        ("Code", f"{code['digest']}, commit {code['commit'] or 'unknown'}"),
        ("Identity of the recipe", f"{spec.identity}, of the run {spec.key}"),
    ]
