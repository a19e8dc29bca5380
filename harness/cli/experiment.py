"""plan, show, submit, status: a matrix file and its runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import Json, count, print_json, print_note, print_table

if TYPE_CHECKING:
    from harness.launching.prepare import PreparedRun
    from harness.matrix import Experiment, PlannedCell
    from harness.recipe import Recipe
    from harness.settings import Settings

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="A matrix file, such as experiments/zoo.yaml.")
]

PublishedCheckpoints = Annotated[
    bool,
    typer.Option(
        "--published-checkpoints", help="Of its published cells: test the published checkpoints instead of training."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (plan, show, submit, status):
        app.command()(command)


def load(path: Path, *, published: bool = False) -> "Experiment":
    """The experiment of a matrix file, or one of those that come with the package by its bare name.

    published: instead, the experiment that tests the published checkpoints of its published cells.
    """
    from harness.matrix import load_experiment
    from harness.shipped import find_experiment

    loaded = load_experiment(find_experiment(path))
    if not published:
        return loaded
    from harness.launching.published import published_experiment

    return published_experiment(loaded)


def plan(experiment: ExperimentFile, json: Json = False) -> None:
    """Show the cells of a matrix file, and what each would train."""
    loaded = load(experiment)
    rows = [_planned(entry) for entry in loaded.cells]
    runs = len(loaded.cells) * len(loaded.seeds)
    if json:
        print_json({"experiment": loaded.name, "seeds": list(loaded.seeds), "runs": runs, "cells": rows})
        return
    table = [
        (
            row["name"],
            "overridden" if row["name"] != row["cell"] else "published" if row["published"] else "derived",
            f"{row['epochs']} x {row['repeats']}",
            ",".join(map(str, row["lr_steps"])),
            row["precision"],
            row["resources"]["nodes"] * row["resources"]["gpus_per_node"],
            row["resources"]["minutes"],
        )
        for row in rows
    ]
    print_table(("cell", "recipe", "epochs", "lr steps", "precision", "GPUs", "minutes"), table)
    total = f"{count(len(loaded.cells), 'cell')} x {count(len(loaded.seeds), 'seed')} = {count(runs, 'run')}"
    print(f"\n{loaded.name}: {total}{_shortened(loaded)}; now run: harness submit {experiment}")


def _shortened(loaded: "Experiment") -> str:
    shortening = loaded.cells[0].shortening
    return f", shortened ({shortening.describe()})" if shortening else ""


def _planned(entry: "PlannedCell") -> dict[str, Any]:
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


def show(
    cell: Annotated[str | None, typer.Argument(help="A cell's name.")] = None,
    diff: Annotated[str | None, typer.Option(metavar="CELL", help="Show only what differs from this cell.")] = None,
    experiment: Annotated[Path | None, typer.Option(help="Resolve the names in this matrix file.")] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rules that derive recipes from axes.")] = False,
    json: Json = False,
) -> None:
    """Show every number of a cell's recipe, or what differs between two cells."""
    if rules:
        from harness.axes import RULES

        print(RULES, end="")
        return
    if cell is None:
        raise typer.BadParameter("name a cell, or ask for --rules")
    recipe, facts = _recipe(cell, experiment)
    if diff is not None:
        _show_diff(cell, recipe, diff, _recipe(diff, experiment)[0], json=json)
        return
    if json:
        from harness.recipe import to_dict

        print_json(facts | {"recipe": to_dict(recipe)})
        return
    _show_recipe(recipe, facts)


def _recipe(name: str, experiment: Path | None) -> "tuple[Recipe, dict[str, Any]]":
    """The recipe of a name, as it would be executed, and what is to be said of it."""
    from harness.cell import parse_name

    if experiment is not None:
        entry = load(experiment).find(name)
        facts = {"cell": entry.name, "published": entry.cell.published, "axes": entry.cell.point}
        return entry.executed, facts | {"shortened": entry.shortening.describe()}
    cell = parse_name(name)
    return cell.recipe(), {"cell": cell.name, "published": cell.published, "axes": cell.point, "shortened": ""}


def _show_recipe(recipe: "Recipe", facts: dict[str, Any]) -> None:
    from dataclasses import fields

    kind = "published recipe" if facts["published"] else "derived by the rules (harness show --rules)"
    print(f"{facts['cell']}: {kind}" + (f", shortened ({facts['shortened']})" if facts["shortened"] else ""))
    section = ""
    for entry in fields(recipe):
        if entry.metadata["section"] != section:
            section = entry.metadata["section"]
            print(f"\n[{section}]")
        print(f"  {entry.name:<20} {_shown(getattr(recipe, entry.name)):<34} {entry.metadata['text']}".rstrip())


def _show_diff(one: str, recipe: "Recipe", other: str, second: "Recipe", *, json: bool) -> None:
    from harness.recipe import diff

    changed = diff(recipe, second)
    if json:
        print_json({name: {one: a, other: b} for name, (a, b) in changed.items()})
        return
    print_table(("field", one, other), [(name, _shown(a), _shown(b)) for name, (a, b) in changed.items()])
    if not changed:
        print("no field differs")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def submit(
    experiment: ExperimentFile,
    cluster: Annotated[str | None, typer.Option(help="Where to run it (default: the setting `cluster`).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the runs until all have ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a cluster's scripts and sbatch commands; submit nothing.")
    ] = False,
    published_checkpoints: PublishedCheckpoints = False,
    json: Json = False,
) -> None:
    """Start every run of a matrix file that is not finished; returns at once."""
    from dataclasses import replace

    from harness.launching.submit import scripts
    from harness.launching.submit import submit as submit_runs
    from harness.settings import load_settings
    from harness.tracking.repair import repair

    settings = load_settings()
    settings = replace(settings, cluster=cluster) if cluster else settings
    loaded = load(experiment, published=published_checkpoints)
    if dry_run:
        print(scripts(loaded, settings), end="")
        return
    decisions = submit_runs(loaded, settings)
    typed = _typed(experiment, published_checkpoints)
    rows = [(d.run.spec.name, d.run.spec.seed, str(d.state.state), str(d.action), _job_id(d.run)) for d in decisions]
    if json:
        names = ("name", "seed", "state", "action", "job")
        print_json(
            [
                dict(zip(names, row, strict=True)) | {"folder": str(d.run.paths.folder)}
                for row, d in zip(rows, decisions, strict=True)
            ]
        )
    else:
        shown = 5 if any(row[4] for row in rows) else 4
        print_table(("run", "seed", "was", "now", "job")[:shown], [row[:shown] for row in rows])
    if wait:
        _follow(decisions, settings, typed)
    elif not json:
        print(f"\nnow run: harness status {typed}, and harness report {typed} when it has finished")
    repair([decision.run.paths for decision in decisions], settings.tracking_uri, print_note)


def _job_id(run: "PreparedRun") -> str:
    """Of the batch job that has the run, or had it last; "" where none has."""
    from harness.launching.slurm_jobs import read_job

    job = read_job(run.paths)
    return job.id or "" if job else ""


def _typed(experiment: Path, published: bool) -> str:
    """The experiment as further commands name it."""
    return f"{experiment} --published-checkpoints" if published else str(experiment)


def _follow(decisions: list[Any], settings: "Settings", experiment: str) -> None:
    from harness.launching.submit import wait
    from harness.runs import State

    def changed(run: Any, state: Any) -> None:
        print(
            f"{run.spec.name} seed {run.spec.seed}: {state.state} {state.progress or state.reason}".rstrip(), flush=True
        )

    try:
        states = wait([decision.run for decision in decisions], settings, changed)
    except KeyboardInterrupt:
        print(f"the runs go on without this command; see harness status {experiment}", file=sys.stderr)
        raise typer.Exit(130) from None
    failed = [state for state in states if state.state != State.FINISHED]
    if failed:
        print(
            f"{count(len(failed), 'run')} of {len(states)} did not finish; see harness status {experiment}",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print(f"all finished; now run: harness report {experiment}")


def status(experiment: ExperimentFile, published_checkpoints: PublishedCheckpoints = False, json: Json = False) -> None:
    """Show where every run of a matrix file stands."""
    from harness.launching.status import status_rows
    from harness.runs import experiment_runs
    from harness.settings import load_settings
    from harness.tracking.repair import repair

    loaded, settings = load(experiment, published=published_checkpoints), load_settings()
    rows = status_rows(loaded, settings)
    if json:
        print_json(rows)
    else:
        _show_status(rows, _typed(experiment, published_checkpoints))
    repair(experiment_runs(settings.run_root, loaded.name), settings.tracking_uri, print_note)


def _show_status(rows: list[dict[str, Any]], experiment: str) -> None:
    columns = {"name": "run", "seed": "seed", "state": "state", "attempt": "attempt", "box_ap": "box AP"}
    columns |= {"mask_ap": "mask AP", "minus_published": "minus published", "text": ""}
    if not any(row["minus_published"] for row in rows):  # no log of these cells was imported
        del columns["minus_published"]
    print_table(tuple(columns.values()), [tuple(row[name] for name in columns) for row in rows])
    failed = [row for row in rows if row["state"] in ("FAILED", "KILLED")]
    for row in failed:
        print(f"\n{row['name']} seed {row['seed']}: output in {row['output']}")
    if failed:
        print(f"\nnow run: harness submit {experiment} (resumes what failed)")
