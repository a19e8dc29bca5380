"""The published checkpoints of an experiment's cells: an experiment that tests them, where they lie, fetching them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import remembered_sha256
from harness.matrix import Experiment, Table
from harness.published import PublishedRow, published_rows
from harness.run_spec import Origin, SourceSpec

if TYPE_CHECKING:
    from harness.downloads import Progress


def published_experiment(experiment: Experiment) -> Experiment:
    """The experiment NAME-published: the published cells of `experiment` as they are published, whose runs test the

    published checkpoints instead of training.
    Raises UserError where it has no such cell.
    """
    cells = tuple(planned for planned in experiment.cells if planned.cell.published and not planned.suffix)
    if not cells:
        raise UserError(f"{experiment.path}: none of its cells is published with its own recipe: nothing to test")
    names = {planned.name for planned in cells}
    tables = (Table(title=t.title, rows=tuple(name for name in t.rows if name in names)) for t in experiment.tables)
    return replace(
        experiment,
        name=f"{experiment.name}-published",
        description=f"The published checkpoints of the cells of {experiment.name}, tested here",
        seeds=(0,),
        cells=cells,
        tables=tuple(table for table in tables if table.rows),
        origin=Origin.PUBLISHED,
    )


def checkpoint_path(row: PublishedRow, cache_root: Path) -> Path:
    """Where the published checkpoint of a row lies, or is to lie."""
    return cache_root / "published" / row.model_file


def find_checkpoint(cell: str, cache_root: Path, experiment: str) -> SourceSpec:
    """The published checkpoint of a cell, verified.

    experiment: the matrix file, as commands name it.
    Raises UserError, saying where to put it, where it is not there, and where its sha256 is not that of its name.
    """
    row = published_rows()[cell]
    path = checkpoint_path(row, cache_root)
    if not path.is_file():
        raise UserError(
            f"published checkpoint of {cell} is missing: no {path}; run `harness fetch {experiment} "
            f"--published-checkpoints` where there is a network, or place {row.model_url} there"
        )
    digest = remembered_sha256(path, cache_root / "digests")
    if not digest.startswith(row.sha256_prefix):
        raise UserError(f"{path}: sha256 {digest}, expected {row.sha256_prefix}...; delete it and fetch it again")
    return SourceSpec(path=str(path.resolve()), sha256=digest, url=row.model_url)


def fetch_checkpoint(cell: str, cache_root: Path, *, progress: "Progress | None" = None) -> Path:
    """The verified published checkpoint of a cell, downloaded if it is not there.

    Raises UserError as harness.downloads does.
    """
    from harness.downloads import download

    row = published_rows()[cell]
    path = checkpoint_path(row, cache_root)
    download(row.model_url, path, sha256_prefix=row.sha256_prefix, progress=progress)
    return path
