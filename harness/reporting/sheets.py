"""Tables as CSV, a file each: the cells as the page shows them, links as their targets, AP over seeds as numbers."""

import csv
import io
import re
from collections.abc import Mapping, Sequence

from harness.intervals import over_seeds
from harness.reporting.axis_effects import METRICS
from harness.reporting.measures import ABSENT, percentages
from harness.reporting.rows import Row
from harness.reporting.tables import ResultTable, TableRow

SHEETS = "tables"
"""The folder of the files."""
LINKED = ("Config", "Download")
"""The columns that hold links, to LINKS."""
LINKS = ("config", "model", "log")


OVER_SEEDS = ("n", "seeds", "mean", "deviation", "low", "high")
"""Of an AP over several seeds: finished, wanted, and what the page shows beside them, as numbers in percent."""


def sheets(tables: Sequence[ResultTable], rows: Sequence[Row] = ()) -> dict[str, str]:
    """tables/NUMBER-TITLE.csv -> its text. rows: those that the tables show, where they may be of several seeds."""
    numbers = _over_seeds(rows) if any(len(row.runs) > 1 for row in rows) else {}
    return {
        f"{SHEETS}/{number}-{re.sub(r'[^a-z0-9]+', '-', shown.title.lower()).strip('-')}.csv": sheet(shown, numbers)
        for number, shown in enumerate(tables, start=1)
    }


def _over_seeds(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """By the name of a row, its AP over seeds by column."""
    return {
        row.planned.name: {column: text for metric, name in METRICS for column, text in _numbers(row, metric, name)}
        for row in rows
    }


def _numbers(row: Row, metric: str, name: str) -> list[tuple[str, str]]:
    values = percentages(row, metric)
    found = over_seeds(values) if values else None
    known = (found.mean, found.deviation, *(found.bounds or (None, None))) if found else (None,) * 4
    texts = [str(len(values)), str(len(row.runs)), *(ABSENT if value is None else f"{value:.4f}" for value in known)]
    return [(f"{name} {what}", text) for what, text in zip(OVER_SEEDS, texts, strict=True)]


def sheet(shown: ResultTable, numbers: Mapping[str, Mapping[str, str]]) -> str:
    """A table as CSV: the rows' names, the columns of the page, the links' targets, the marks ("; " between them).

    numbers: by the name of a row, further columns.
    """
    more = list(dict.fromkeys(column for found in numbers.values() for column in found))
    columns = [column for column in shown.columns if column not in LINKED]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["name", *columns, *more, *LINKS, "marks"], restval=ABSENT, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**_plain(shown.columns, row), **numbers.get(row.name, {})} for row in shown.rows)
    return out.getvalue()


def _plain(columns: Sequence[str], row: TableRow) -> dict[str, str]:
    cells = {"name": row.name, "marks": "; ".join(" ".join(mark.split()) for mark in row.marks)}
    for column, cell in zip(columns, row.cells, strict=True):
        if column in LINKED:
            cells |= {} if isinstance(cell, str) else {link.text: link.target for link in cell}
        else:
            cells[column] = cell if isinstance(cell, str) else " ".join(link.text for link in cell)
    return cells
