"""manifest verify: the files of a report."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.experiment import load
from harness.cli.output import Json, print_json
from harness.cli.results import Source

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def manifest() -> None:
    """Which files belong to the rows of a report."""


@app.command()
def verify(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPERIMENT|FILE", help="A matrix file, whose report is in reports/, or a manifest.json."
        ),
    ] = None,
    source: Annotated[
        Source, typer.Option(help="mlflow: of our runs; published: of the published rows, as they link their files.")
    ] = Source.MLFLOW,
    json: Json = False,
) -> None:
    """Say which files of a manifest are missing or changed, which links are wrong, and what it does not know.

    Unknown are finished runs, files beside the report, and folders in published/. Then exit code 1. What no server
    answers for is "not checked", and no fault; published checkpoints that were fetched are checked by their sha256.
    """
    from dataclasses import asdict

    from harness.published import published_rows
    from harness.reporting.as_published import rows_of
    from harness.reporting.manifest import MANIFEST, published_manifest, read_manifest
    from harness.reporting.verify import summary
    from harness.reporting.verify import verify as check
    from harness.settings import load_settings

    experiment = None if target is None or target.suffix == ".json" else load(target)
    if source == Source.PUBLISHED:
        found, folder = published_manifest(rows_of(experiment) if experiment else published_rows().values()), Path()
    elif target is None:
        raise typer.BadParameter("name a matrix file or a manifest.json, or ask for --source published")
    else:
        file = Path("reports") / experiment.name / MANIFEST if experiment else target
        found, folder = read_manifest(file), file.parent
    cells = {planned.name for planned in experiment.cells} if experiment else None
    findings = []
    ours = Path("published") if source == Source.MLFLOW else None
    copies = load_settings().cache_root / "published"
    for finding in check(found, folder, cells=cells, copies=copies, published=ours):
        findings.append(finding)
        if not json:
            print(f"{finding.kind}: {finding.text}")
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        print(summary(found, findings))
    if any(finding.is_fault for finding in findings):
        raise typer.Exit(1)
