"""plan: what a submit would do, and what it takes."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.experiment import Budget, ExperimentFile, load
from harness.cli.output import Json, count, print_json, print_table

if TYPE_CHECKING:
    from harness.matrix import Experiment, PlannedCell
    from harness.planning.plan import Plan, RunPlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    experiment: ExperimentFile,
    cluster: Annotated[str | None, typer.Option(help="Where to run it (default: the setting `cluster`).")] = None,
    budget: Budget = None,
    json: Json = False,
) -> None:
    """Show what a submit would do and why, and the GPU-hours, the time and the room on the disk that it takes."""
    from harness.planning.plan import make_plan, require_budget
    from harness.settings import load_settings

    settings = load_settings()
    settings = replace(settings, cluster=cluster) if cluster else settings
    loaded = load(experiment)
    made = make_plan(loaded, settings)
    if json:
        print_json(_plain(loaded, made))
    else:
        _show(loaded, made)
    if budget is not None:
        require_budget(made, budget)
    if not json:
        print(f"now run: {_next(made, experiment, cluster)}")


def _next(made: "Plan", experiment: Path, cluster: str | None) -> str:
    typed = shlex.quote(str(experiment))
    if made.missing:
        return f"harness fetch {typed}, where it can bring what is missing"
    there = f" --cluster {shlex.quote(cluster)}" if cluster else ""
    return f"harness submit {typed}{there}" if made.starting else f"harness status {typed}"


def _plain(loaded: "Experiment", made: "Plan") -> dict[str, Any]:
    cells = [_cell(entry) for entry in loaded.cells]
    plan = [_run(run) for run in made.runs]
    totals = {"gpu_hours": made.gpu_hours, "seconds": made.seconds, "bytes": made.size, "free_bytes": made.free}
    own = {"experiment": loaded.name, "seeds": list(loaded.seeds), "runs": len(made.runs), "cells": cells}
    return own | {"plan": plan, "totals": totals, "unknown": len(made.unknown), "missing": list(made.missing)}


def _run(run: "RunPlan") -> dict[str, Any]:
    own = {name: getattr(run, name) for name in ("name", "seed", "state", "action", "why", "gpus")}
    return own | asdict(run.estimate)


def _cell(entry: "PlannedCell") -> dict[str, Any]:
    recipe = entry.executed
    return {
        "name": entry.name,
        "cell": entry.cell.name,
        "axes": entry.cell.point,
        "published": entry.cell.published,
        "full": entry.full,
        "epochs": recipe.epochs,
        "repeats": recipe.repeats,
        "lr_steps": list(recipe.lr_steps),
        "precision": recipe.precision,
        "dataset": recipe.dataset,
        "shortened": entry.shortening.describe(),
        "resources": entry.resources.model_dump(),
    }


def _show(loaded: "Experiment", made: "Plan") -> None:
    from harness.wording import duration

    sources = list(dict.fromkeys(run.estimate.source for run in made.runs))
    cells = {entry.name: entry for entry in loaded.cells}
    table = []
    for run in made.runs:
        entry, own = cells[run.name], run.estimate
        table.append(
            (
                run.name,
                run.seed,
                "overridden" if entry.suffix else "published" if entry.cell.published else "derived",
                f"{run.action} ({run.why})",
                run.gpus,
                "-" if own.iterations is None else own.iterations,
                "-" if own.iteration_s is None else f"{own.iteration_s:.3g}",
                "-" if own.seconds is None else duration(own.seconds),
                "-" if own.gpu_hours is None else f"{own.gpu_hours:.1f}",
                "-" if own.bytes is None else size(own.bytes),
                f"[{sources.index(own.source) + 1}]",
            )
        )
    header = ("cell", "seed", "recipe", "submit would", "GPUs", "iterations", "s/iter", "time", "GPU-h", "disk", "by")
    print_table(header, table)
    print()
    for number, source in enumerate(sources, 1):
        print(f"[{number}] {source}")
    _totals(loaded, made)


def _totals(loaded: "Experiment", made: "Plan") -> None:
    from harness.planning.plan import MISSING

    cells, seeds = count(len(loaded.cells), "cell"), count(len(loaded.seeds), "seed")
    print(f"\n{loaded.name}: {cells} x {seeds} = {count(len(made.runs), 'run')}{_shortened(loaded)}")
    room = f"{size(made.size)} of disk, {size(made.free)} are free"
    at_once = f"with {made.at_once} at a time" if made.at_once else "if all run at once"
    able = [run for run in made.starting if run.action != MISSING]
    would = "a submit starts" if len(able) == len(made.starting) else f"{len(able)} can start; all would be"
    print(f"{would} {len(made.starting)}: {_taken(made, at_once)}, {room}")
    if made.size > made.free:
        print("warning: they do not fit on the disk of the run root")
    if made.unknown and len(made.unknown) < len(made.starting):
        print(f"not counted, as nothing tells how long they take: {count(len(made.unknown), 'run')}")
    for text in made.missing:
        print(text if text.startswith(" ") else f"missing: {text}")


def _taken(made: "Plan", at_once: str) -> str:
    from harness.wording import duration

    if made.starting and len(made.unknown) == len(made.starting):
        return "nothing tells how long they take"
    return f"{made.gpu_hours:.1f} GPU-hours, {duration(made.seconds)} {at_once}"


def _shortened(loaded: "Experiment") -> str:
    shortening = loaded.cells[0].shortening
    return f", shortened ({shortening.describe()})" if shortening else ""


def size(number: int) -> str:
    """Bytes, such as 12 MB or 1.4 TB."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB" if value < 1000 else f"{value / 1000:.1f} TB"
