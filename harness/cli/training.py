"""train: one cell in the foreground."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    cell: Annotated[str, typer.Argument(help="A cell's name.")],
    experiment: Annotated[Path | None, typer.Option(help="Take the cell as this matrix file has it.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the experiment's first seed, or 0.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Total batch; the learning rate is scaled with it, a recipe change.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a recipe field; repeatable.")
    ] = None,
) -> None:
    """Train one cell in the foreground: alone, or as one process of torchrun or srun. Resumes where it stopped."""
    from harness.launching.ends import STOPPED
    from harness.launching.foreground import single_run
    from harness.launching.job import INTERRUPTED, run_attempt
    from harness.launching.prepare import write
    from harness.settings import load_settings
    from harness.training.distributed import find_ranks

    settings = load_settings()
    run = single_run(cell, settings, experiment=_load(experiment), seed=seed, batch=batch, overrides=set_ or [])
    main = find_ranks()[0] == 0
    write(run)
    if main:
        print(f"{run.spec.name} seed {run.spec.seed}: {run.paths.folder}", flush=True)
    if run.paths.result.exists():
        if main:
            print("already finished: nothing to do")
        return
    if main:
        run.paths.cancelled.unlink(missing_ok=True)
    code = run_attempt(run.paths.folder, settings.tracking_uri)
    if code:
        if main and code in (STOPPED, INTERRUPTED):
            print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(code)
    if main:
        _conclude(run)


def _load(path: Path | None) -> Any:
    if path is None:
        return None
    from harness.cli.experiment import load

    return load(path)


def _conclude(run: Any) -> None:
    from harness.files import read_json

    metrics = read_json(run.paths.result)["metrics"]
    bbox, segm = (
        f"{100 * metrics[f'{kind}_mAP']:.1f}" if metrics[f"{kind}_mAP"] is not None else "-"
        for kind in ("bbox", "segm")
    )
    print(f"box AP {bbox}, mask AP {segm}; predictions: {run.paths.predictions}")
    print("now run: harness ui, to see it in MLflow")
