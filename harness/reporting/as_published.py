"""The published tables, cell for cell, from the published rows; what is known of the rows stands under them."""

import re
from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError
from harness.files import write_text
from harness.matrix import Experiment
from harness.published import PublishedRow, published_rows
from harness.reporting.markdown import escape, result_table
from harness.reporting.page import PAGE, read_page, splice
from harness.reporting.tables import ABSENT, Link, ResultTable, TableCell, TableRow

TITLES = {"results": "Results and Models", "pretrained": "Pre-trained Models"}
"""Of the two published tables."""
COLUMNS = (
    "Backbone", "Style", "Lr schd", "Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download"
)  # fmt: skip
LINK = re.compile(r"\[(.+)\]\((.+)\)")


def published_tables(experiment: Experiment) -> list[ResultTable]:
    """The published tables in their published order, with the rows of the experiment's cells.

    Raises UserError where none of them is published with its own recipe.
    """
    names = {planned.name for planned in experiment.cells}
    rows = [row for row in published_rows().values() if row.name in names]
    if not rows:
        raise UserError(f"{experiment.path}: none of its cells is published with its own recipe")
    tables = {key: [row for row in rows if row.table == key] for key in TITLES}
    return [
        ResultTable(title=TITLES[key], columns=COLUMNS, rows=tuple(map(_row, members)))
        for key, members in tables.items()
        if members
    ]


def write_published_tables(experiment: Experiment, output: Path) -> Path:
    """Write README.md with these tables into the folder `output`; text outside the generated markers is kept.

    Raises UserError where the markers are broken, and as published_tables.
    """
    tables = published_tables(experiment)
    page = output / PAGE
    write_text(page, splice(read_page(output), "\n".join(_page(tables)) + "\n"))
    return page


def _page(tables: Iterable[ResultTable]) -> list[str]:
    about = "What others measured and published (mmdetection 2.x, V100 GPUs, COCO 2017 val); nothing was run here."
    lines = ["# Mask R-CNN, as published", "", about, ""]
    known: list[str] = []
    for shown in tables:
        lines += [f"## {escape(shown.title)}", "", *result_table(shown), ""]
        rows = (published_rows()[row.name] for row in shown.rows)
        known += [f"- {row.name}: {escape(text)}" for row in rows for text in _known(row)]
    if known:
        lines += ["## Known of these rows", "", *known]
    return lines


def _known(row: PublishedRow) -> list[str]:
    return list(dict.fromkeys(fault.text for fault in row.faults))


def _row(row: PublishedRow) -> TableRow:
    links = {"model": row.model_url, "log": row.log_url}
    return TableRow(
        name=row.name,
        cells=(
            _backbone(row.backbone),
            row.style,
            row.schedule,
            _number(row.mem_gb),
            _number(row.fps),
            _number(row.box_ap),
            _number(row.mask_ap),
            (Link(text="config", target=row.config_url),),
            tuple(Link(text=text, target=target) for text, target in links.items()),
        ),
        marks=(),
    )


def _backbone(text: str) -> TableCell:
    linked = LINK.fullmatch(text)
    return (Link(text=linked[1], target=linked[2]),) if linked else text


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
