"""init, doctor, fetch, sync, ui: a working place."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.experiment import ExperimentFile, load
from harness.cli.output import Json, print_json, print_table
from harness.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (init, doctor, fetch, sync, ui):
        app.command()(command)


def init(folder: Annotated[Path, typer.Argument(help="An empty folder.")] = Path()) -> None:
    """Write harness.toml and a two-cell matrix into an empty folder."""
    from harness.init import NEXT_STEPS
    from harness.init import init as write

    for path in write(folder):
        print(f"wrote {path}")
    print(f"\n{NEXT_STEPS}", end="")


def doctor(json: Json = False) -> None:
    """Show every setting and where it came from, and check what a submit needs: ok, or what to do."""
    from dataclasses import asdict

    from harness.doctor import diagnose
    from harness.settings import load_settings
    from harness.tracking import store

    settings = load_settings()
    values = {name: getattr(settings, name) for name in settings.origins if not name.startswith("datasets.")}
    values["tracking_uri"] = store.shown(settings.tracking_uri)  # without its password
    values |= {f"datasets.{name}": paths.root for name, paths in settings.datasets.items()}
    checks = diagnose(settings)
    if json:
        shown = {name: {"value": str(value), "origin": settings.origins[name]} for name, value in values.items()}
        print_json({"settings": shown, "checks": [asdict(check) for check in checks]})
    else:
        print_table(("setting", "value", "from"), [(n, v, settings.origins[n]) for n, v in values.items()])
        print()
        print_table(("", "check", "found"), [(check.status, check.name, check.detail) for check in checks])
        for check in checks:
            if check.todo:
                print(f"\n{check.status}: {check.name}: {check.todo}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def fetch(experiment: ExperimentFile) -> None:
    """Download and verify the pretrained weights that a matrix file needs (on a machine with a network)."""
    from harness.cli.progress import download_bar
    from harness.detection import weights
    from harness.recipe import FROM_SCRATCH
    from harness.settings import load_settings

    cache = load_settings().cache_root
    sources = sorted({planned.recipe.pretrained for planned in load(experiment).cells} - {FROM_SCRATCH})
    for source in sources:
        with download_bar(source) as progress:
            print(f"{source}: {weights.fetch(source, cache, progress=progress)}")
    if not sources:
        print("nothing to fetch: every cell starts from random weights")


def sync(
    experiment: ExperimentFile,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until every run has ended.")] = False,
) -> None:
    """Ship what MLflow does not have yet of an experiment's runs."""
    from harness.runs import experiment_runs, read_state
    from harness.settings import load_settings
    from harness.tracking.shipper import follow as follow_run
    from harness.tracking.shipper import ship

    settings, name = load_settings(), load(experiment).name
    runs = list(experiment_runs(settings.run_root, name))
    if not runs:
        raise UserError(f"no runs of {name} in {settings.run_root}; now run: harness submit {experiment}")
    behind = False
    for paths in runs:
        if follow and not read_state(paths).state.ended:
            behind |= not follow_run(paths, settings.tracking_uri)
            continue
        shipped = ship(paths, settings.tracking_uri)
        news = f"{shipped.points} points, {shipped.artifacts} artifacts" if shipped else "nothing new"
        print(f"{paths.folder.name}: {news}")
    if behind:
        raise typer.Exit(1)


def ui(port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1.")] = None) -> None:
    """Open MLflow's pages on the tracking store."""
    from harness.settings import load_settings
    from harness.tracking.ui import open_ui

    raise typer.Exit(open_ui(load_settings().tracking_uri, port))
