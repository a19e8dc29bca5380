"""What a page shows of each cell: its runs, curves and picture, its recipe, and in what it differs from a neighbour."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.intervals import training_interval
from harness.recipe import Recipe, diff, field_names, to_dict
from harness.reporting import plots
from harness.reporting.axis_effects import METRICS, word
from harness.reporting.learning import curves
from harness.reporting.marks import marks
from harness.reporting.measures import ABSENT, average_precision, percentages
from harness.reporting.records import Record
from harness.reporting.rows import Row
from harness.reporting.site import Site
from harness.reporting.tables import Link, TableCell, target
from harness.wording import percent

ROLES = {"config": "config", "checkpoint": "model", "log": "log", "detections": "detections"}
"""The files of a run, and what a page calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run of a cell; address: of its page in MLflow."""

    seed: str
    state: str
    box: str
    mask: str
    run_id: str
    address: str
    files: TableCell


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A cell that differs in one axis: the axis with its value there, AP there minus here, and the differing fields."""

    name: str
    anchor: str
    axis: str
    numbers: str
    fields: Sequence[tuple[str, str, str]]  # field, here, there


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """A cell of the page."""

    row: Row
    name: str
    numbers: str
    marks: Sequence[str]
    runs: Sequence[RunView]
    curves: str  # a chart, or nothing
    picture: bytes  # JPEG, or nothing
    neighbours: Sequence[Neighbour]
    recipe: Sequence[tuple[str, str]]


def cell_views(site: Site) -> list[CellView]:
    """One for each row, in their order."""
    return [_view(row, site) for row in site.rows]


def _view(row: Row, site: Site) -> CellView:
    key = row.finished[0].key if row.finished else ""
    drawn = curves([row], site.published)
    return CellView(
        row=row,
        name=row.planned.name,
        numbers=", ".join(f"{name} {average_precision(row, metric)}" for metric, name in METRICS),
        marks=marks(row),
        runs=[_run(seed, run, site) for seed, run in row.runs],
        curves=plots.learning_curves(drawn) if drawn else "",
        picture=site.pictures.get(key, b""),
        neighbours=_neighbours(row, site.rows),
        recipe=[(name, plain(value)) for name, value in to_dict(row.planned.executed).items()],
    )


def anchor(name: str) -> str:
    """The cell's place in the page."""
    return "cell-" + "_".join(name.split())


def _run(seed: int, run: Record | None, site: Site) -> RunView:
    if run is None:
        return RunView(
            seed=str(seed), state="not started", box=ABSENT, mask=ABSENT, run_id=ABSENT, address="", files=ABSENT
        )
    box, mask = (percent(run.metrics.get(metric) if run.finished else None) for metric, _ in METRICS)
    found = tuple(
        Link(text=text, target=target(run.files[role].path, site.run_root))
        for role, text in ROLES.items()
        if role in run.files
    )
    return RunView(
        seed=str(seed),
        state=run.state.lower() + (f": {run.reason}" if run.reason else ""),
        box=box,
        mask=mask,
        run_id=run.run_id or ABSENT,
        address=f"{site.server}/#/runs/{run.run_id}" if site.server and run.run_id else "",
        files=found or ABSENT,
    )


def _axis_between(one: Row, other: Row) -> str | None:
    """The only axis in which two rows' cells differ, or None."""
    both = zip(one.planned.cell.values, other.planned.cell.values, strict=True)
    found = [name for (name, here), (_, there) in both if here != there]
    return found[0] if len(found) == 1 else None


def _neighbours(row: Row, rows: Sequence[Row]) -> list[Neighbour]:
    found = ((other, _axis_between(row, other)) for other in rows)
    return [_neighbour(row, other, axis) for other, axis in found if axis]


def _neighbour(row: Row, other: Row, axis: str) -> Neighbour:
    changed = diff(row.planned.executed, other.planned.executed)
    return Neighbour(
        name=other.planned.name,
        anchor=anchor(other.planned.name),
        axis=f"{axis}: {word(other.planned.cell[axis])}",
        numbers=", ".join(_differences(row, other)),
        fields=[(name, plain(here), plain(there)) for name, (here, there) in changed.items()],
    )


def _differences(row: Row, other: Row) -> list[str]:
    """Such as "box AP +1.0", of several seeds "box AP +1.0 [+0.2, +1.8]"; nothing of what is not known of both."""
    found = []
    for metric, name in METRICS:
        here, there = percentages(row, metric), percentages(other, metric)
        if here and there:
            interval = training_interval(here, there)
            bounds = f" [{interval.low:+.1f}, {interval.high:+.1f}]" if len(row.runs) > 1 else ""
            found.append(f"{name} {round(interval.difference, 1) + 0.0:+.1f}{bounds}")
    return found


def plain(value: Any) -> str:
    """A recipe value as JSON writes it, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def glossary() -> list[tuple[str, str, str]]:
    """Of every recipe field its section and meaning."""
    known = {entry.name: entry.metadata for entry in fields(Recipe)}
    return [(name, known[name]["section"], known[name]["text"]) for name in field_names()]
