"""The descriptions (Markdown) that the MLflow pages of a run and of an experiment open with."""

from collections.abc import Iterable, Mapping
from colorsys import hls_to_rgb
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from harness.cell import parse_name
from harness.errors import UserError
from harness.identity import digest
from harness.recipe import Recipe, diff, to_dict
from harness.run_spec import Origin, RunSpec
from harness.run_state import RunState, State
from harness.wording import count, percent


def note(spec: RunSpec, state: RunState, result: Mapping[str, Any] | None, folder: Path) -> str:
    """What a run is, where it stands or what came out, its recipe in words, where it lies, how to repeat it."""
    lines = [_title(spec), _standing(state) if result is None else _outcome(spec, result)]
    if spec.shortening:
        lines.append(f"Shortened ({spec.shortening.describe()}): not a result of the full recipe.")
    if spec.precision != spec.recipe.precision:
        lines.append(f"The recipe asks for {spec.recipe.precision}; this device ran {spec.precision}.")
    lines.append("\n".join(f"- {line}" for line in (*_facts(spec), f"run folder: `{folder}`", _repeat(spec))))
    return "\n\n".join(lines)


def _title(spec: RunSpec) -> str:
    recipe = "published recipe" if spec.published and not spec.suffix else "derived recipe"
    kind = {
        Origin.PUBLISHED: "the published checkpoint, tested here",
        Origin.IMPORTED: "an imported log, not trained here",
        Origin.PILOT: "a pilot, to measure what a training takes",
        Origin.BENCHMARK: "memory and speed alone",
    }.get(spec.origin, recipe)
    return f"**{spec.name}**, seed {spec.seed}, {kind}, {spec.precision}."


def _standing(state: RunState) -> str:
    doing = f"{state.state.value.lower()}, attempt {state.attempt}"
    return ", ".join(part for part in (doing, waiting(state), state.progress, state.reason[:1000]) if part) + "."


def waiting(state: RunState) -> str:
    """What a queued run waits for; "" for others."""
    if state.state != State.QUEUED:
        return ""
    return (
        "waits for its first attempt" if state.attempt == 0 else f"stopped in attempt {state.attempt}, waits to go on"
    )


def _outcome(spec: RunSpec, result: Mapping[str, Any]) -> str:
    numbers = {"box AP": result["metrics"].get("bbox_mAP"), "mask AP": result["metrics"].get("segm_mAP")}
    scores = [f"{name} {percent(value)}" for name, value in numbers.items() if value is not None]
    hardware = result["hardware"]
    done = "tested" if spec.origin == Origin.PUBLISHED else count(result["iterations"], "iteration")
    where = [f"{done} on {hardware['count']} x {hardware['device']}"] if hardware else []
    return ", ".join([*scores, *where]) + "."


def _facts(spec: RunSpec) -> list[str]:
    recipe = spec.executed
    axes = ", ".join(f"{name} {_plain(value)}" for name, value in spec.axes.items())
    drops = ", ".join(map(str, recipe.lr_steps)) or "none"
    return [
        axes,
        f"batch {recipe.batch}, rate {recipe.lr:g} after {recipe.warmup_iters} iterations of warm-up, falling by "
        f"{recipe.lr_gamma:g} at epochs {drops}; {count(recipe.epochs, 'epoch')}"
        + (f" of {recipe.repeats} passes each" if recipe.repeats > 1 else ""),
        f"training images {_scales(recipe)}, test images {recipe.test_scale[0]}x{recipe.test_scale[1]}; "
        f"{recipe.dataset}, annotations {' and '.join(split.digest[:12] for split in spec.splits.values())}",
        "all numbers: the parameters, and config.json among the artifacts",
    ]


def _scales(recipe: Recipe) -> str:
    sizes = [f"{long}x{short}" for long, short in recipe.train_scales]
    if len(sizes) > 3:
        sizes = [sizes[0], "...", sizes[-1]]
    return {"fixed": "", "value": "one of ", "range": "between "}[recipe.multiscale_mode] + ", ".join(sizes)


def _repeat(spec: RunSpec) -> str:
    """The command that does the same again, in words where it takes the matrix file."""
    if spec.origin == Origin.IMPORTED:
        return f"from: `{spec.source.path if spec.source else ''}`"
    if spec.origin == Origin.PUBLISHED:
        return f"tested: `{spec.source.url if spec.source else ''}`"
    if spec.origin == Origin.BENCHMARK:
        return "again: `harness benchmark` with the matrix file and `--again`, or with the cell"
    if spec.shortening:
        return f"again: `harness submit` with the matrix file of {spec.experiment} (a shortened run)"
    try:
        changed = diff(parse_name(spec.cell).recipe(), spec.recipe)
    except UserError:
        return f"again: `harness submit` with the matrix file of {spec.experiment}"
    written = to_dict(spec.recipe)
    options = "".join(f" --set '{name}={_plain(written[name])}'" for name in changed)
    return f"again: `harness train {spec.cell} --seed {spec.seed}{options}`"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Child(NamedTuple):
    """A run in its experiment's description."""

    name: str
    status: str
    box: float | None
    mask: float | None


def experiment_note(description: str, experiment_id: str, children: Iterable[Child]) -> str:
    """What an experiment is, links to MLflow's pages that compare its runs, and where they stand."""
    rows = [f"| {c.name} | {c.status} | {percent(c.box)} | {percent(c.mask)} |" for c in sorted(children, key=_order)]
    if not rows:
        return description
    # Sorted by a metric, MLflow shows the runs themselves; by time they would be folded away below their parent.
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&orderByAsc=false&orderByKey=" + quote(
        BY_AP
    )
    links = f"Compare [curves]({page}&compareRunsMode=CHART), [runs by box AP]({page})."
    table = ["| run | status | box AP | mask AP |", "|---|---|---|---|", *rows]
    return "\n\n".join([description, links, "\n".join(table)])


BY_AP = "metrics.`val/bbox_mAP`"


def _order(child: Child) -> tuple[str, str]:
    return child.name, child.status


def colour(spec: RunSpec) -> str:
    """A colour for the run's curves: one hue a cell, the seeds lighter and darker."""
    hue = int(digest(spec.name)[:4], 16) / 0xFFFF
    lightness = (0.4, 0.55, 0.7)[spec.seed % 3]
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, lightness, 0.6))
