"""The command line: parse, call one function, print. Heavy imports happen inside the commands that need them."""

import sys

import typer

from harness.cli import benchmark, cluster, compare, data, experiment, manifest, plan, results, setup, training, watch
from harness.errors import UserError

app = typer.Typer(
    name="harness",
    help="Declare a matrix of Mask R-CNN trainings in one file; launch, track and report them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for part in (setup, plan, experiment, watch, training, benchmark, results, compare):
    part.register(app)
app.add_typer(data.app, name="data", help="Check, generate or fetch data sets.")
app.add_typer(manifest.app, name="manifest", help="Check the files of a report.")
app.add_typer(cluster.app, name="cluster", help="Draft the file of a SLURM cluster.")


def main() -> None:
    """Run a command. A user's mistake, or a file that cannot be read or written, is a line on stderr and exit code 2;

    Ctrl-C is 130.
    """
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print(f"error: {error.filename or 'the system says'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
