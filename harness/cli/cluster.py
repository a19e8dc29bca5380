"""cluster new: a first file for a cluster."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def new(name: Annotated[str, typer.Argument(help="The cluster's name here.")]) -> None:
    """Write slurm/clusters/NAME.yaml from what SLURM says of partitions, nodes, accounts and limits."""
    from harness.launching.cluster_new import write_draft

    print(f"wrote {write_draft(name)}: look at every line")
    print(f"\nnow run: harness doctor --cluster {name}")
