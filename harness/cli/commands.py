"""All commands: parse, call one function, print. Heavy imports happen inside the commands that need them."""

import typer

from harness.cli import (
    benchmark,
    cluster,
    compare,
    data,
    experiment,
    manifest,
    plan,
    results,
    setup,
    training,
    tune,
    watch,
)

app = typer.Typer(
    name="harness",
    help="Declare a matrix of Mask R-CNN trainings in one file; launch, track and report them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for part in (setup, plan, experiment, watch, tune, training, benchmark, results, compare):
    part.register(app)
app.add_typer(data.app, name="data", help="Check, generate or fetch data sets.")
app.add_typer(manifest.app, name="manifest", help="Check the files of a report.")
app.add_typer(cluster.app, name="cluster", help="Draft the file of a SLURM cluster.")
