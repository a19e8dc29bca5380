"""The tables of an experiment: axis columns, what was measured, links. Plain data; markdown.py writes them."""

import math
import posixpath
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness import axes
from harness.cell import Cell
from harness.errors import UserError
from harness.matrix import Experiment, PlannedCell, Table
from harness.reporting.marks import marks
from harness.reporting.rows import Row

ABSENT = "-"
"""What stands for a number that was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link in a table, such as (config, path)."""

    text: str
    target: str


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


def axis_columns(cells: Sequence[PlannedCell]) -> list[tuple[str, list[str]]]:
    """The axis columns of a table's cells: (column, its text for each cell).

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
    columns += [(name, [text(row) for row in rows]) for name, text in _measures(rows)]
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
        rows=tuple(TableRow(name=row.planned.name, cells=c, marks=(*marks(row), *device)) for row, c, device in shown),
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


Measure = tuple[str, Callable[[Row], str]]


def _measures(rows: list[Row]) -> list[Measure]:
    """Column and text of everything measured; memory and speed of other hardware in columns of their own."""
    kinds = sorted({run.hardware.kind for row in rows for run in row.finished if run.hardware} - {"cuda"})
    others: list[Measure] = [
        measure
        for kind in kinds
        for measure in (
            (f"Mem (GB) on {kind.upper()}", lambda row, kind=kind: _mean(_memory(row, kind))),
            (f"Inf time (fps) on {kind.upper()}", lambda row, kind=kind: _mean(_fps(row, kind))),
        )
    ]
    return [
        ("Mem (GB)", lambda row: _mean(_memory(row, "cuda"))),
        ("Inf time (fps)", lambda row: _mean(_fps(row, "cuda"))),
        *((name, text) for name, text in others if any(text(row) != ABSENT for row in rows)),
        ("box AP", lambda row: average_precision(row, "bbox_mAP")),
        ("mask AP", lambda row: average_precision(row, "segm_mAP")),
    ]


def _memory(row: Row, kind: str) -> list[float]:
    runs = [run for run in row.finished if run.hardware and run.hardware.kind == kind]
    return [
        run.memory_gb for run in runs if run.memory_gb is not None and (run.memory_kind == "cuda") == (kind == "cuda")
    ]


def _fps(row: Row, kind: str) -> list[float]:
    return [run.fps for run in row.finished if run.fps is not None and run.hardware and run.hardware.kind == kind]


def speed(row: Row) -> str:
    """Frames a second on the kind of hardware that the row's runs have."""
    return _mean([run.fps for run in row.finished if run.fps is not None])


def _mean(values: list[float]) -> str:
    """One decimal as published; below 1, two digits."""
    mean = statistics.fmean(values) if values else None
    if mean is None:
        return ABSENT
    return f"{mean:.1f}" if mean >= 1 else f"{mean:.2g}"


def average_precision(row: Row, metric: str) -> str:
    """A metric in percent; of several seeds the mean, the sample standard deviation and how many they are."""
    values = percentages(row, metric)
    if not values:
        return ABSENT
    if len(row.runs) == 1:
        return f"{values[0]:.1f}"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread} (n={len(values)})"


def percentages(row: Row, metric: str) -> list[float]:
    """The finished runs' values in percent; COCO's -1 (nothing of the kind in the data) is not a value."""
    values = (record.metrics.get(metric, math.nan) for record in row.finished)
    return [100 * value for value in values if value >= 0]


def _links(row: Row, run_root: str | None, roles: dict[str, str]) -> TableCell:
    """Links to files of the row's first finished run."""
    files = row.finished[0].files if row.finished else {}
    links = tuple(
        Link(text=text, target=posixpath.normpath(posixpath.join(run_root or "", files[role].path)))
        for text, role in roles.items()
        if role in files
    )
    return links or ABSENT


def _device_marks(rows: list[Row]) -> list[list[str]]:
    """Where a table's runs come from several kinds of GPU, each row says which."""
    devices = [{r.hardware.device for r in row.finished if r.hardware and r.hardware.kind == "cuda"} for row in rows]
    if len(set().union(*devices)) < 2:
        return [[] for _ in rows]
    return [[f"on {device}" for device in sorted(found)] for found in devices]
