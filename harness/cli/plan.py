"""plan: what a submit would do, and what it takes."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.experiment import Budget, ExperimentFile, load
from harness.cli.output import Json, print_json, print_table
from harness.wording import count

if TYPE_CHECKING:
    from harness.matrix import Experiment, PlannedCell
    from harness.planning.measured import Measured
    from harness.planning.plan import Plan, RunPlan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    experiment: ExperimentFile,
    cluster: Annotated[str | None, typer.Option(help="Where to run it (default: the setting `cluster`).")] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="How long it takes on so many nodes of 8 GPUs, without others' jobs.")
    ] = None,
    budget: Budget = None,
    json: Json = False,
) -> None:
    """Show what a submit would do and why, and the GPU-hours, the time and the room on the disk that it takes."""
    from harness.planning.bounds import require_budget
    from harness.planning.plan import make_plan
    from harness.settings import load_settings

    settings = load_settings()
    settings = replace(settings, cluster=cluster) if cluster else settings
    loaded = load(experiment)
    made = make_plan(loaded, settings, nodes=nodes)
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
    if made.faults:
        return f"harness plan {typed} again, when the cluster file is mended"
    if made.missing:
        return f"harness fetch {typed}, where it can bring what is missing"
    there = f" --cluster {shlex.quote(cluster)}" if cluster else ""
    return f"harness submit {typed}{there}" if made.starting else f"harness status {typed}"


def _plain(loaded: "Experiment", made: "Plan") -> dict[str, Any]:
    cells = [_cell(entry) for entry in loaded.cells]
    plan = [_run(run) for run in made.runs]
    totals: dict[str, Any] = {
        "gpu_hours": made.gpu_hours,
        "seconds": made.seconds,
        "nodes": made.nodes,
        "bytes": made.size,
    }
    totals |= {"overhead": made.overhead, "free_bytes": made.room.free, "free_by": made.room.limit}
    own = {"experiment": loaded.name, "seeds": list(loaded.seeds), "runs": len(made.runs), "cells": cells}
    return own | {
        "plan": plan,
        "totals": totals,
        "unknown": len(made.unknown),
        "missing": list(made.missing),
        "faults": list(made.faults),
    }


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
    sources = list(dict.fromkeys(run.estimate.source for run in made.runs))
    header = ("cell", "seed", "recipe", "submit would", "GPUs", "iterations", "s/iter", "time", "GPU-h", "disk", "by")
    print_table(header, list(_rows(loaded, made, sources)))
    print()
    for number, source in enumerate(sources, 1):
        print(f"[{number}] {source}")
        told = {run.estimate.measured for run in made.runs if run.estimate.source == source}
        if len(told) == 1 and (measured := told.pop()) is not None:  # runs that go on tell each of itself
            print(f"    {_measured(measured)}")
    _totals(loaded, made)


def _rows(loaded: "Experiment", made: "Plan", sources: list[str]) -> Iterator[tuple[object, ...]]:
    from harness.wording import duration, hours, size

    cells = {entry.name: entry for entry in loaded.cells}
    for run in made.runs:
        entry, own = cells[run.name], run.estimate
        yield (
            run.name,
            run.seed,
            "overridden" if entry.suffix else "published" if entry.cell.published else "derived",
            f"{run.action} ({run.why})",
            run.gpus,
            "-" if own.iterations is None else own.iterations,
            "-" if own.iteration_s is None else f"{own.iteration_s:.3g}",
            "-" if own.seconds is None else duration(own.seconds),
            "-" if own.gpu_hours is None else hours(own.gpu_hours),
            "-" if own.bytes is None else size(own.bytes),
            f"[{sources.index(own.source) + 1}]",
        )


def _measured(measured: "Measured") -> str:
    """What a run has measured besides the time of an iteration."""
    rates = measured.rates
    parts = {
        "from start to first iteration": rates.start_s,
        "to go on from a checkpoint": rates.resume_s,
        "a checkpoint": rates.checkpoint_s,
        "a test image": rates.image_s,
    }
    memory = f"{measured.memory_mb / 1024:.1f} GB {'on a GPU' if measured.device == 'cuda' else 'a process'}"
    times = [f"{seconds:.2g} s {what}" for what, seconds in parts.items() if seconds is not None]
    return ", ".join([f"{measured.data_share:.1%} of an iteration waits for data", memory, *times])


def _totals(loaded: "Experiment", made: "Plan") -> None:
    from harness.planning.bounds import crowded
    from harness.planning.plan import MISSING
    from harness.wording import size

    cells, seeds = count(len(loaded.cells), "cell"), count(len(loaded.seeds), "seed")
    print(f"\n{loaded.name}: {cells} x {seeds} = {count(len(made.runs), 'run')}{_shortened(loaded)}")
    room = f"{size(made.size)} of disk; {made.room.limit} has {size(made.room.free)} left"
    able = [run for run in made.starting if run.action != MISSING]
    would = "a submit starts" if len(able) == len(made.starting) else f"{len(able)} can start; all would be"
    print(f"{would} {len(made.starting)}: {_taken(made)}, {room}")
    if made.overhead is not None:
        print(
            f"{made.overhead:.1%} of the time of what was measured is no training step: start, data, tests, checkpoints"
        )
    if doubt := crowded(made):
        print(f"warning: {doubt}")
    if made.unknown and len(made.unknown) < len(made.starting):
        print(f"not counted, as nothing tells how long they take: {count(len(made.unknown), 'run')}")
    for text in made.faults:
        print(f"error: {text}")
    for text in made.missing:
        print(text if text.startswith(" ") else f"missing: {text}")


def _taken(made: "Plan") -> str:
    from harness.planning.plan import NODE_GPUS
    from harness.wording import duration, hours

    if made.starting and len(made.unknown) == len(made.starting):
        return "nothing tells how long they take"
    at_once = f"with {made.at_once} at a time" if made.at_once else "if all run at once"
    if made.nodes is not None:
        at_once = f"on {count(made.nodes, 'node')} of {NODE_GPUS} GPUs"
    return f"{hours(made.gpu_hours)} GPU-hours, {duration(made.seconds)} {at_once}"


def _shortened(loaded: "Experiment") -> str:
    shortening = loaded.cells[0].shortening
    return f", shortened ({shortening.describe()})" if shortening else ""
