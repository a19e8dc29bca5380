"""init, doctor, fetch, sync, ui: a working place."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.experiment import ExperimentFile, PublishedCheckpoints, experiment_name, load
from harness.cli.output import Json, print_json, print_table
from harness.errors import UserError
from harness.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.run_paths import RunPaths
    from harness.settings import Settings


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


def doctor(
    numerics: Annotated[
        bool,
        typer.Option("--numerics", help="Check recipes, model and blocks of the 21 published rows by their numbers."),
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(help="Send a small job there and check node, disk and queue from it.")
    ] = None,
    json: Json = False,
) -> None:
    """Show every setting and where it came from, and check what a submit needs: ok, or what to do."""
    if numerics:
        _check_numerics(json)
        return
    from dataclasses import asdict, replace

    from harness.doctor import diagnose
    from harness.settings import LOCAL, load_settings
    from harness.tracking import store

    settings = load_settings()
    values = {name: getattr(settings, name) for name in settings.origins if not name.startswith("datasets.")}
    values["tracking_uri"] = store.shown(settings.tracking_uri)  # without its password
    values |= {f"datasets.{name}": paths.root for name, paths in settings.datasets.items()}
    checks = diagnose(replace(settings, cluster=cluster) if cluster else settings)
    if cluster and cluster != LOCAL:
        from harness.node_check import check_node

        checks += check_node(settings, cluster)
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


def _check_numerics(json: bool) -> None:
    """The table of rows and checks, and what differs; exit code 1 where something does."""
    from harness.cli.progress import count_bar
    from harness.numerics.table import CHECKS, check_rows, published_rows, short
    from harness.settings import load_settings

    names, results = published_rows(), []
    with count_bar("published rows") as progress:
        for result in check_rows(names, load_settings().cache_root):
            results.append(result)
            progress(len(results), len(names))
    if json:
        print_json({result.name: result.plain() for result in results})
    else:
        rows = [(short(result.name), *map(result.shown, CHECKS)) for result in results]
        print_table(("row", *CHECKS), rows)
        print("".join(f"\n{line}" for result in results for line in result.differences))
        shown = [status for _, *columns in rows for status in columns]
        counts = ", ".join(f"{shown.count(status)} {status}" for status in ("ok", "DIFFERS", "not checked"))
        print(f"{len(shown)} checks: {counts}")
        if "not checked" in shown:
            print("weights are not checked where their file is not here: harness fetch zoo")
    if any(result.differences for result in results):
        raise typer.Exit(1)


def fetch(experiment: ExperimentFile, published_checkpoints: PublishedCheckpoints = False) -> None:
    """Fetch and verify the weights and data of a matrix file."""
    if published_checkpoints:
        _fetch_published(experiment)
        return
    from harness.recipe import FROM_SCRATCH
    from harness.settings import load_settings

    settings, recipes = load_settings(), [planned.recipe for planned in load(experiment).cells]
    sources = sorted({recipe.pretrained for recipe in recipes} - {FROM_SCRATCH})
    datasets = sorted({recipe.dataset for recipe in recipes})
    _fetch_each(
        [*((_fetch_weights, source) for source in sources), *((_fetch_dataset, name) for name in datasets)], settings
    )


def _fetch_each(wanted: "Sequence[tuple[Callable[[str, Settings], Path], str]]", settings: "Settings") -> None:
    """Fetch each by its name; where one cannot be had, the others are fetched all the same."""
    faults = []
    for fetch_one, name in wanted:
        try:
            print(f"{name}: {fetch_one(name, settings)}")
        except UserError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise UserError("\n".join(faults))


def _fetch_weights(source: str, settings: "Settings") -> Path:
    from harness.cli.progress import download_bar
    from harness.detection import weights

    with download_bar(source) as progress:
        return weights.fetch(source, settings.cache_root, progress=progress)


def _fetch_dataset(name: str, settings: "Settings") -> Path:
    """COCO 2017 is fetched to the root that harness.toml gives it; any other set has to be there."""
    from harness.cli.progress import share_on_terminal
    from harness.data.fetch import fetch_coco
    from harness.settings import DatasetPaths, dataset_paths, dataset_splits

    paths = dataset_paths(settings, name)
    try:
        dataset_splits(settings, name)
    except UserError:
        if name != "coco2017" or paths != DatasetPaths(root=paths.root):
            raise
        fetch_coco(paths.root, progress=share_on_terminal)
    return paths.root


def _fetch_published(experiment: Path) -> None:
    from harness.cli.progress import download_bar
    from harness.launching.published import fetch_checkpoint
    from harness.settings import load_settings

    settings = load_settings()

    def fetch_one(cell: str, settings: "Settings") -> Path:
        with download_bar(cell) as progress:
            return fetch_checkpoint(cell, settings.cache_root, progress=progress)

    _fetch_each([(fetch_one, planned.cell.name) for planned in load(experiment, published=True).cells], settings)


def sync(
    experiment: ExperimentFile,
    published_checkpoints: PublishedCheckpoints = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until every run has ended.")] = False,
) -> None:
    """Ship what MLflow does not have yet of an experiment's runs."""
    from harness.run_paths import experiment_runs
    from harness.run_state import unreadable
    from harness.settings import load_settings
    from harness.tracking.shipment import ship
    from harness.tracking.shipper import follow_all

    settings, name = load_settings(), experiment_name(experiment, published=published_checkpoints)

    def runs() -> "list[RunPaths]":
        return [paths for paths in experiment_runs(settings.run_root, name) if not unreadable(paths)]

    if not any(experiment_runs(settings.run_root, name)):
        raise UserError(f"no runs of {name} in {settings.run_root}; now run: harness submit {experiment}")
    if follow and not follow_all(runs, settings.tracking_uri):
        raise typer.Exit(1)
    for paths in runs():
        shipped = ship(paths, settings.tracking_uri)
        news = "nothing new"
        if shipped:
            news = f"{count(shipped.points, 'point')}, {count(shipped.artifacts, 'artifact')}"
        print(f"{paths.folder.name}: {news}")
    if broken := list(filter(None, map(unreadable, experiment_runs(settings.run_root, name)))):
        raise UserError("\n".join(broken))  # the others are shipped


def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 5000, or the next free one.")] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Be the MLflow server of runs elsewhere; asks for the credentials that MLFLOW_TRACKING_USERNAME and "
            "_PASSWORD, or MLFLOW_TRACKING_TOKEN, hold.",
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need credentials.")
    ] = "127.0.0.1",
) -> None:
    """Open MLflow's pages on the tracking store, or serve it to others."""
    from harness.settings import load_settings
    from harness.tracking.ui import open_ui

    raise typer.Exit(open_ui(load_settings().tracking_uri, port, serve=serve, host=host))
