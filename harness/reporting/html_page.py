"""The report as one HTML page, index.html: the tables, the plots, and every cell beside its neighbours.

Nothing outside the file is loaded. It reads without scripts; with them it sorts and filters. All text is escaped.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness import axes
from harness.reporting import svg
from harness.reporting.axis_effects import word
from harness.reporting.cell_view import CellView, RunView, anchor, cell_views, glossary
from harness.reporting.markdown import letters, noted
from harness.reporting.rows import Row
from harness.reporting.site import Site
from harness.reporting.tables import ResultTable, TableCell, TableRow

if TYPE_CHECKING:
    from markupsafe import Markup


LIMIT = 2_000_000
"""Bytes of a page. Pictures for which there is no room in it are left out, those of the last cells first."""


def index_html(site: Site) -> str:
    """The text of index.html; the same site gives the same bytes."""
    bare = _rendered(replace(site, pictures={}))
    room = LIMIT - len(bare.encode())
    fitting: dict[str, bytes] = {}
    for key, picture in site.pictures.items():
        room -= len(picture) * 4 // 3 + 500  # in base64, with the element around it
        if room < 0:
            break
        fitting[key] = picture
    return _rendered(replace(site, pictures=fitting)) if fitting else bare


def _rendered(site: Site) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("harness.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["digest"] = _digest
    return environment.get_template("index.html").render(
        site=site,
        plots=[(title, Markup(chart)) for title, chart in site.plots],
        axes=_axes(site.rows),
        tables=[_table(table, site.rows) for table in site.tables],
        cells=[_cell(view) for view in cell_views(site)],
        glossary=glossary(),
        style=Markup(_style()),
        theme=Markup(_template("theme.js")),
        script=Markup(_template("script.js")),
    )


def _digest(script: str) -> str:
    """By which the page's policy knows a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _template(name: str) -> str:
    return (files("harness.reporting") / "templates" / name).read_text(encoding="utf-8")


def _style() -> str:
    """The page's own, the charts', and the colours of both, of which the browser takes the light or the dark one."""
    colours = ";".join(f"--{name}:light-dark({light},{dark})" for name, (light, dark) in svg.PALETTE.items())
    return f":root{{{colours}}}\n{_template('style.css')}{svg.page_rules()}"


def _axes(rows: Iterable[Row]) -> list[tuple[str, list[str]]]:
    """The axes that vary, each with its values in their order."""
    cells = [row.planned.cell for row in rows]
    found = [
        (axis.name, [word(value.key) for value in axis.values if any(cell[axis.name] == value.key for cell in cells)])
        for axis in axes.AXES
    ]
    return [(name, words) for name, words in found if len(words) > 1]


def _attributes(row: Row) -> "Markup":
    """What the filter reads: data-cell="name", and of each axis data-axis-NAME="value"."""
    from markupsafe import Markup

    name = Markup(' data-cell="{}"').format(row.planned.name)
    pairs = [Markup(' data-axis-{}="{}"').format(axis, word(value)) for axis, value in row.planned.cell.values]
    return Markup("").join([name, *pairs])


def _table(shown: ResultTable, rows: Sequence[Row]) -> dict[str, Any]:
    by_name, footnotes = {row.planned.name: row for row in rows}, letters(shown)
    return {
        "title": shown.title,
        "columns": shown.columns,
        "rows": [_row(row, by_name[row.name], footnotes) for row in shown.rows],
        "notes": [(letter, mark) for mark, letter in footnotes.items()],
    }


def _row(row: TableRow, of: Row, footnotes: dict[str, str]) -> dict[str, Any]:
    first, *rest = row.cells
    return {
        "attributes": _attributes(of),
        "anchor": anchor(row.name),
        "first": first if isinstance(first, str) else " ".join(link.text for link in first),
        "letters": noted(row, footnotes),
        "cells": [links(cell) for cell in rest],
    }


def links(cell: TableCell) -> "Markup":
    """A table's cell: its text, or its links."""
    from markupsafe import Markup, escape

    if isinstance(cell, str):
        return escape(cell)
    shown = [Markup('<a href="{}">{}</a>').format(href(link.target), link.text) for link in cell]
    return Markup(" ").join(shown)


def href(target: str) -> str:
    """An address on the web, or a path beside the page; nothing else, whatever a path looks like."""
    web = target.startswith(("http://", "https://"))
    return quote(target, safe="/:+,=@~?&#%;" if web else "/+,=@~")


def _cell(view: CellView) -> dict[str, Any]:
    """The view with its HTML parts made."""
    from markupsafe import Markup

    picture = f"data:image/jpeg;base64,{base64.b64encode(view.picture).decode()}" if view.picture else ""
    return {
        "name": view.name,
        "anchor": anchor(view.name),
        "attributes": _attributes(view.row),
        "numbers": view.numbers,
        "marks": view.marks,
        "runs": [_run(run) for run in view.runs],
        "curves": Markup(view.curves),
        "picture": picture,
        "recipe": view.recipe,
        "neighbours": view.neighbours,
    }


def _run(run: RunView) -> dict[str, Any]:
    from markupsafe import Markup

    tracked = Markup('<a href="{}">{}</a>').format(href(run.address), run.run_id) if run.address else run.run_id
    shown = {"seed": run.seed, "state": run.state, "box": run.box, "mask": run.mask}
    return shown | {"tracked": tracked, "files": links(run.files)}
