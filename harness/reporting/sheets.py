"""Tables as CSV, a file each: the cells as the page shows them, links as their targets."""

import csv
import io
import re
from collections.abc import Sequence

from harness.reporting.measures import ABSENT
from harness.reporting.tables import ResultTable, TableRow

SHEETS = "tables"
"""The folder of the files."""
LINKED = ("Config", "Download")
"""The columns that hold links, to LINKS."""
LINKS = ("config", "model", "log")


def sheets(tables: Sequence[ResultTable]) -> dict[str, str]:
    """tables/NUMBER-TITLE.csv -> its text."""
    return {
        f"{SHEETS}/{number}-{re.sub(r'[^a-z0-9]+', '-', shown.title.lower()).strip('-')}.csv": sheet(shown)
        for number, shown in enumerate(tables, start=1)
    }


def sheet(shown: ResultTable) -> str:
    """A table as CSV: the rows' names, the columns of the page, the links' targets, the marks ("; " between them)."""
    columns = [column for column in shown.columns if column not in LINKED]
    out = io.StringIO()
    writer = csv.DictWriter(out, ["name", *columns, *LINKS, "marks"], restval=ABSENT, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(shown.columns, row) for row in shown.rows)
    return out.getvalue()


def _plain(columns: Sequence[str], row: TableRow) -> dict[str, str]:
    cells = {"name": row.name, "marks": "; ".join(" ".join(mark.split()) for mark in row.marks)}
    for column, cell in zip(columns, row.cells, strict=True):
        if column in LINKED:
            cells |= {} if isinstance(cell, str) else {link.text: link.target for link in cell}
        else:
            cells[column] = cell if isinstance(cell, str) else " ".join(link.text for link in cell)
    return cells
