"""The published tables, cell for cell, from the published rows; what is known of the rows stands under them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.matrix import Experiment
from harness.published import PublishedRow, published_rows
from harness.reporting.command import report_command
from harness.reporting.figures import Figures, figures
from harness.reporting.figures import files as figure_files
from harness.reporting.html_page import index_html
from harness.reporting.manifest import MANIFEST, published_manifest
from harness.reporting.manifest import to_json as manifest_json
from harness.reporting.markdown import escape, result_table
from harness.reporting.measures import ABSENT
from harness.reporting.model_index import INDEX, model_index
from harness.reporting.page import PAGE, RECORDS, read_page, shown_figures, splice, write_files
from harness.reporting.published_records import published_records
from harness.reporting.records import Record, Snapshot, to_json
from harness.reporting.rows import Row
from harness.reporting.sheets import sheets
from harness.reporting.site import SITE, Site
from harness.reporting.tables import Link, ResultTable, TableCell, TableRow
from harness.shortening import Shortening

TITLES = {"results": "Results and Models", "pretrained": "Pre-trained Models"}
"""Of the two published tables."""
COLUMNS = (
    "Backbone", "Style", "Lr schd", "Mem (GB)", "Inf time (fps)", "box AP", "mask AP", "Config", "Download"
)  # fmt: skip


def published_tables(experiment: Experiment) -> list[ResultTable]:
    """The published tables in their published order, with the rows of the experiment's cells.

    Raises UserError as rows_of.
    """
    rows = rows_of(experiment)
    tables = {key: [row for row in rows if row.table == key] for key in TITLES}
    return [
        ResultTable(title=TITLES[key], columns=COLUMNS, rows=tuple(map(_row, members)))
        for key, members in tables.items()
        if members
    ]


def rows_of(experiment: Experiment) -> list[PublishedRow]:
    """The published rows of the experiment's cells, in their published order.

    Raises UserError where none of them is published with its own recipe.
    """
    names = {planned.name for planned in experiment.cells}
    rows = [row for row in published_rows().values() if row.name in names]
    if not rows:
        raise UserError(f"{experiment.path}: none of its cells is published with its own recipe")
    return rows


def write_published_tables(experiment: Experiment, output: Path) -> Path:
    """Write the report of these rows into the folder `output`: README.md, whose text outside the generated markers is

    kept, index.html, the tables as CSV, plots, records.json, manifest.json and model-index.yml.
    Raises UserError where the markers are broken, and as published_tables.
    """
    tables = published_tables(experiment)
    rows = [published_rows()[row.name] for table in tables for row in table.rows]
    records = published_records(rows)
    snapshot = Snapshot(
        experiment="published",
        matrix=report_command(experiment.path, "published", output, "--source published"),
        run_root=None,
        picture=None,
        records=tuple(records),
    )
    filled = [_filled(experiment, record) for record in records]
    drawn = figures(filled, [], published={})
    site = _site(tables, filled, drawn, snapshot.matrix)
    files = {
        PAGE: splice(read_page(output), "\n".join(_page(site, drawn)) + "\n"),
        RECORDS: to_json(snapshot),
        MANIFEST: manifest_json(published_manifest(rows)),
        INDEX: model_index([(record.name, record) for record in records], [], None),
        **sheets(tables),
        **figure_files(drawn),
        SITE: index_html(site),
    }
    write_files(files, output)
    return output / PAGE


def _filled(experiment: Experiment, record: Record) -> Row:
    """The row of a published cell, with its own recipe whatever the experiment makes of it."""
    planned = experiment.find(record.name)
    own = replace(planned, recipe=planned.cell.recipe(), shortening=Shortening())
    return Row(planned=own, runs=((record.seed, record),))


def _site(tables: Sequence[ResultTable], rows: Sequence[Row], drawn: Figures, command: str) -> Site:
    known = [
        f"{row.name}: {text}" for shown in tables for row in shown.rows for text in _known(published_rows()[row.name])
    ]
    return Site(
        title="Mask R-CNN, as published",
        paragraphs=[
            "What others measured and published (mmdetection 2.x, V100 GPUs, COCO 2017 val); nothing was run here."
        ],
        tables=tables,
        rows=rows,
        plots=list(drawn.values()),
        notes=[(KNOWN, known)] if known else [],
        pictures={},
        published={},
        run_root=None,
        server=None,
        command=command,
    )


KNOWN = "Known of these rows"


def _page(site: Site, drawn: Figures) -> list[str]:
    lines = [f"# {escape(site.title)}", "", *map(escape, site.paragraphs), ""]
    for shown in site.tables:
        lines += [f"## {escape(shown.title)}", "", *result_table(shown), ""]
    lines += shown_figures(drawn)
    for heading, items in site.notes:
        lines += [f"## {heading}", "", *(f"- {escape(item)}" for item in items), ""]
    return [*lines, f"[{SITE}]({SITE}) is this page to sort and filter, with the recipe of every cell."]


def _known(row: PublishedRow) -> list[str]:
    return list(dict.fromkeys(fault.text for fault in row.faults))


def _row(row: PublishedRow) -> TableRow:
    links = {"model": row.model_url, "log": row.log_url}
    return TableRow(
        name=row.name,
        cells=(
            _backbone(row),
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


def _backbone(row: PublishedRow) -> TableCell:
    linked = row.linked_backbone
    return (Link(text=linked[0], target=linked[1]),) if linked else row.backbone


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
