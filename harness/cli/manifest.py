"""manifest verify: the files of a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.experiment import load
from harness.cli.output import Json, print_json
from harness.cli.results import Source

if TYPE_CHECKING:
    from harness.matrix import Experiment

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

    from harness.errors import UserError
    from harness.published import published_rows
    from harness.reporting.as_published import rows_of
    from harness.reporting.manifest import published_manifest, read_manifest
    from harness.reporting.page import RECORDS
    from harness.reporting.verify import summary
    from harness.reporting.verify import verify as check
    from harness.settings import load_settings

    experiment = None if target is None or target.suffix == ".json" else _experiment(target)
    if source == Source.PUBLISHED:
        if target and not experiment:
            raise typer.BadParameter("--source published goes with a matrix file, or with none for all rows")
        found, folder = published_manifest(rows_of(experiment) if experiment else published_rows().values()), Path()
    elif target is None:
        raise typer.BadParameter("name a matrix file or a manifest.json, or ask for --source published")
    else:
        file = _reported(target, experiment.name) if experiment else target
        if file.name == RECORDS:
            raise UserError(f"{file}: is not the manifest of a report, which is beside it")
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


def _experiment(target: Path) -> "Experiment":
    """The experiment of a matrix file. Raises UserError for what is no file of that kind."""
    from harness.errors import UserError
    from harness.reporting.manifest import MANIFEST

    if target.is_dir():
        raise UserError(f"{target}: is a folder; name its {MANIFEST}, or a matrix file")
    if target.suffix not in ("", ".yaml", ".yml"):
        raise UserError(f"{target}: expected a matrix file (.yaml) or a {MANIFEST}")
    return load(target)


def _reported(matrix: Path, name: str) -> Path:
    """The manifest of an experiment's report. Raises UserError where it has none."""
    from harness.errors import UserError
    from harness.reporting.manifest import MANIFEST

    file = Path("reports") / name / MANIFEST
    if not file.exists():
        raise UserError(f"{file}: no such file; harness report {matrix} makes it, or name another report's {MANIFEST}")
    return file
