"""What others published beside what was found here, with the difference: tested checkpoints, and trained cells."""

import statistics
from collections.abc import Callable, Sequence

from harness.intervals import training_interval
from harness.matrix import Experiment
from harness.published import Comparison, PublishedRow, compare, published_rows
from harness.reporting.marks import marks
from harness.reporting.measures import (
    ABSENT,
    MEMORY,
    SPEED,
    Column,
    average_precision,
    devices,
    interval_notes,
    memory,
    on_device,
    over_runs,
    percentages,
    speed,
)
from harness.reporting.rows import Row
from harness.reporting.tables import Link, ResultTable, TableCell, TableRow, axis_columns, grouped

MEASURES = (("bbox_mAP", "box AP"), ("segm_mAP", "mask AP"))
MEASURED = "Measured and published"
"""Title of the table of trained cells."""


def checkpoint_tables(experiment: Experiment, rows: Sequence[Row]) -> list[ResultTable]:
    """The experiment's tables, a row for each published checkpoint; what is known of its number stands under them."""
    return [_table(title, members, "tested") for title, members in grouped(experiment, rows)]


def measured_table(rows: Sequence[Row]) -> ResultTable | None:
    """The finished rows that others published, trained here with nothing overridden or shortened; None without any."""
    members = [row for row in rows if row.planned.cell.published and row.planned.full and row.finished]
    return _table(MEASURED, members, "measured") if members else None


def _table(title: str, rows: Sequence[Row], found: str) -> ResultTable:
    """found: what the numbers found here are called."""
    published = [published_rows()[row.planned.cell.name] for row in rows]
    columns = axis_columns([row.planned for row in rows]) + _precisions(rows, published, found)
    columns += _quantity(MEMORY, memory, rows, [row.mem_gb for row in published], found)
    columns += _quantity(SPEED, speed, rows, [row.fps for row in published], found)
    return ResultTable(
        title=title,
        columns=(*(name for name, _ in columns), "Download"),
        rows=tuple(
            TableRow(
                name=row.planned.name,
                cells=(*(texts[index] for _, texts in columns), _links(theirs)),
                marks=(*theirs.explanations(), *marks(row), *interval_notes(row)),
            )
            for index, (row, theirs) in enumerate(zip(rows, published, strict=True))
        ),
    )


def _precisions(rows: Sequence[Row], published: Sequence[PublishedRow], found: str) -> list[Column]:
    columns: list[Column] = []
    compared = [compare(theirs, _means(row)) for row, theirs in zip(rows, published, strict=True)]
    for index, (metric, name) in enumerate(MEASURES):
        both: list[Comparison] = [comparison[index] for comparison in compared]
        columns += [
            (f"{name} published", [f"{one.published:.1f}" for one in both]),
            (f"{name} {found}", [average_precision(row, metric) for row in rows]),
            (f"{name} difference", [_apart(row, metric, one) for row, one in zip(rows, both, strict=True)]),
        ]
    return columns


def _apart(row: Row, metric: str, found: Comparison) -> str:
    """The difference; of several seeds with the interval of training the recipe again, there and here."""
    values = percentages(row, metric)
    if len(row.runs) == 1 or not values:
        return _signed(found.difference)
    interval = training_interval([found.published], values)
    return f"{_signed(found.difference)} [{_signed(interval.low)}, {_signed(interval.high)}]"


def _means(row: Row) -> dict[str, float | None]:
    """Of each AP (0..1) the mean over the seeds."""
    values = {metric: percentages(row, metric) for metric, _ in MEASURES}
    return {metric: statistics.fmean(found) / 100 if found else None for metric, found in values.items()}


def _quantity(
    name: str,
    values: Callable[[Row, str], list[float]],
    rows: Sequence[Row],
    published: Sequence[float | None],
    found: str,
) -> list[Column]:
    """Published and found memory or speed, nothing where none was measured. A CPU's is not held against a GPU's."""
    columns: list[Column] = []
    for device in devices(rows):
        measured = [values(row, device) for row in rows]
        if any(measured):
            shown = [over_runs(one, len(row.runs)) for row, one in zip(rows, measured, strict=True)]
            columns.append((on_device(f"{name} {found}", device), shown))
            if device != "CPU":
                texts = [_difference(one, theirs) for one, theirs in zip(measured, published, strict=True)]
                columns.append((on_device(f"{name} difference", device), texts))
    theirs = [ABSENT if value is None else f"{value:.1f}" for value in published]
    return [(f"{name} published", theirs), *columns] if columns else []


def _difference(measured: Sequence[float], published: float | None) -> str:
    return _signed(round(statistics.fmean(measured), 1) - published if measured and published is not None else None)


def _signed(value: float | None) -> str:
    return ABSENT if value is None else f"{round(value, 1) + 0.0:+.1f}"  # -0.0 + 0.0 is 0.0


def _links(published: PublishedRow) -> TableCell:
    targets = {"config": published.config_url, "model": published.model_url, "log": published.log_url}
    return tuple(Link(text=text, target=target) for text, target in targets.items())
