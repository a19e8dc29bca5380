"""The tables of an experiment: axis columns, what was measured, links. Plain data; markdown.py writes them."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness import axes
from harness.cell import Cell
from harness.errors import UserError
from harness.matrix import Experiment, PlannedCell, Table
from harness.reporting.marks import marks
from harness.reporting.measures import ABSENT, Column, devices, interval_notes, measured_columns
from harness.reporting.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link in a table, such as (config, path)."""

    text: str
    target: str


def target(path: str, run_root: str | None) -> str:
    """The path of a run's file as the report links it; run_root: where paths start. A URL stays as it is."""
    return path if "://" in path else posixpath.normpath(posixpath.join(run_root or "", path))


TableCell = str | tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row as shown: a cell a column, and the marks that stand beside its first cell."""

    name: str
    cells: tuple[TableCell, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """A table as shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def result_tables(experiment: Experiment, rows: Sequence[Row], run_root: str | None) -> list[ResultTable]:
    """The tables of the matrix file or, where it names none, one for each value of the axes that split tables.

    run_root: the folder that the records' paths start from, as a link from the page. Raises UserError where two rows of
    a table would show the same axis cells.
    """
    return [_table(title, members, run_root) for title, members in grouped(experiment, rows)]


def grouped(experiment: Experiment, rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Title and rows of each table."""
    by_name = {row.planned.name: row for row in rows}
    tables = experiment.tables or _split(experiment)
    return [(table.title, [by_name[name] for name in table.rows]) for table in tables]


def _split(experiment: Experiment) -> list[Table]:
    """One table for each combination of values of the splitting axes, titled by those that vary."""
    splitting = [axis for axis in axes.AXES if axis.splits_tables and _varies(axis, experiment.cells)]
    groups: dict[str, list[str]] = {}
    for planned in sorted(experiment.cells, key=lambda planned: _position(splitting, planned.cell)):
        title = ", ".join(f"{axis.column}: {_label(axis, planned.cell) or ABSENT}" for axis in splitting)
        groups.setdefault(title or "Results", []).append(planned.name)
    return [Table(title=title, rows=tuple(names)) for title, names in groups.items()]


def _position(splitting: list[axes.Axis], cell: Cell) -> list[int]:
    return [axis.values.index(axis.value(cell[axis.name])) for axis in splitting]


def _varies(axis: axes.Axis, cells: Iterable[PlannedCell]) -> bool:
    return len({planned.cell[axis.name] for planned in cells}) > 1


def _label(axis: axes.Axis, cell: Cell) -> str:
    return axis.value(cell[axis.name]).label


def axis_columns(cells: Sequence[PlannedCell]) -> list[Column]:
    """The axis columns of a table's cells.

    Axes of one column write into it one after the other. A splitting axis has a column only where it varies, and a
    column without any text is left out. The overrides' suffix stands in the first column.
    """
    texts: dict[str, list[str]] = {}
    for axis in axes.AXES:
        if axis.splits_tables and not _varies(axis, cells):
            continue
        column = texts.setdefault(axis.column, [""] * len(cells))
        texts[axis.column] = [text + _label(axis, planned.cell) for text, planned in zip(column, cells, strict=True)]
    columns = [(name, [text or ABSENT for text in column]) for name, column in texts.items() if any(column)]
    first, column = columns[0]
    suffixed = [f"{text} {planned.suffix}".strip() for text, planned in zip(column, cells, strict=True)]
    return [(first, suffixed), *columns[1:]]


def _table(title: str, rows: list[Row], run_root: str | None) -> ResultTable:
    columns = axis_columns([row.planned for row in rows])
    _refuse_twins(title, rows, [tuple(column[index] for _, column in columns) for index in range(len(rows))])
    columns += measured_columns(rows)
    linked: list[tuple[str, list[TableCell]]] = [
        ("Config", [_links(row, run_root, {"config": "config"}) for row in rows]),
        ("Download", [_links(row, run_root, {"model": "checkpoint", "log": "log"}) for row in rows]),
    ]
    names = (*(name for name, _ in columns), *(name for name, _ in linked))
    cells: list[tuple[TableCell, ...]] = list(
        zip(*(column for _, column in columns), *(column for _, column in linked), strict=True)
    )
    shown = zip(rows, cells, _device_marks(rows), strict=True)
    return ResultTable(
        title=title,
        columns=names,
        rows=tuple(
            TableRow(name=row.planned.name, cells=c, marks=(*marks(row), *interval_notes(row), *device))
            for row, c, device in shown
        ),
    )


def _refuse_twins(title: str, rows: list[Row], shown: list[tuple[str, ...]]) -> None:
    first: dict[tuple[str, ...], str] = {}
    for row, texts in zip(rows, shown, strict=True):
        if texts in first:
            raise UserError(
                f"table {title!r}: {first[texts]} and {row.planned.name} would both show {' | '.join(texts)!r}; "
                "label the axis in which they differ in harness/axes.py, or put them into different tables"
            )
        first[texts] = row.planned.name


def _links(row: Row, run_root: str | None, roles: dict[str, str]) -> TableCell:
    """Links to files of the row's first finished run."""
    files = row.finished[0].files if row.finished else {}
    links = tuple(
        Link(text=text, target=target(files[role].path, run_root)) for text, role in roles.items() if role in files
    )
    return links or ABSENT


def _device_marks(rows: list[Row]) -> list[list[str]]:
    """Where devices of one short name are of several kinds, each row says which."""
    found = [{r.hardware.device for r in row.finished if r.hardware and r.hardware.kind == "cuda"} for row in rows]
    gpus = [name for name in devices(rows) if name != "CPU"]
    if len(set().union(*found)) <= len(gpus):
        return [[] for _ in rows]
    return [[f"on {name}" for name in sorted(names)] for names in found]
