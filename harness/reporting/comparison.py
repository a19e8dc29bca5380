"""The tables of tested published checkpoints: the published number, the file tested here, the difference."""

from collections.abc import Sequence

from harness.matrix import Experiment
from harness.published import Comparison, PublishedRow, compare, published_rows
from harness.reporting.marks import marks
from harness.reporting.rows import Row
from harness.reporting.tables import ABSENT, Link, ResultTable, TableCell, TableRow, axis_columns, grouped, speed

MEASURES = (("bbox_mAP", "box AP"), ("segm_mAP", "mask AP"))


def comparison_tables(experiment: Experiment, rows: Sequence[Row]) -> list[ResultTable]:
    """The experiment's tables, a row for each published checkpoint; what is known of its number stands under them."""
    return [_table(title, members) for title, members in grouped(experiment, rows)]


def _table(title: str, rows: Sequence[Row]) -> ResultTable:
    axis = axis_columns([row.planned for row in rows])
    columns = [name for name, _ in axis]
    columns += [f"{name} {what}" for _, name in MEASURES for what in ("published", "tested", "difference")]
    return ResultTable(
        title=title,
        columns=(*columns, "Inf time (fps)", "Download"),
        rows=tuple(_row(row, [texts[index] for _, texts in axis]) for index, row in enumerate(rows)),
    )


def _row(row: Row, axis_cells: list[str]) -> TableRow:
    published = published_rows()[row.planned.cell.name]
    numbers = row.finished[0].metrics if row.finished else {}
    measured = [text for comparison in compare(published, numbers) for text in _texts(comparison)]
    return TableRow(
        name=row.planned.name,
        cells=(*axis_cells, *measured, speed(row), _links(published)),
        marks=(*published.explanations(), *marks(row)),
    )


def _texts(comparison: Comparison) -> tuple[str, str, str]:
    now = ABSENT if comparison.now is None else f"{comparison.now:.1f}"
    difference = ABSENT if comparison.difference is None else f"{comparison.difference:+.1f}"
    return f"{comparison.published:.1f}", now, difference


def _links(published: PublishedRow) -> TableCell:
    targets = {"config": published.config_url, "model": published.model_url, "log": published.log_url}
    return tuple(Link(text=text, target=target) for text, target in targets.items())
