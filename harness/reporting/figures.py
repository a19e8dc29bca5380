"""Which plots a report has: their file names, titles and charts."""

from collections.abc import Mapping, Sequence

from harness.reporting import plots, svg
from harness.reporting.axis_effects import effects
from harness.reporting.learning import Published, choose, curves
from harness.reporting.pareto import MEMORY, SPEED, points
from harness.reporting.rows import Row
from harness.reporting.tables import ResultTable

PLOTS = "plots"
"""The folder of a report's plots."""
Figures = Mapping[str, tuple[str, str]]
"""plots/NAME.svg -> (title, chart)."""


def figures(
    rows: Sequence[Row], tables: Sequence[ResultTable], *, published: Published, chosen: Sequence[str] = ()
) -> Figures:
    """AP against speed and memory, what each axis buys, and the learning curves of each table; what there is data for.

    published: imported curves by cell. chosen: names or patterns of the cells whose curves are drawn; else the best.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, cost in (("speed", SPEED), ("memory", MEMORY)):
        if places := points(rows, cost):
            found[f"{PLOTS}/{name}.svg"] = (cost.title, plots.tradeoff(places, cost))
    if bought := effects(rows):
        found[f"{PLOTS}/axes.svg"] = ("What each axis buys", plots.axis_effects(bought))
    by_name = {row.planned.name: row for row in rows}
    for number, shown in enumerate(tables, start=1):
        members = [by_name[row.name] for row in shown.rows]
        drawn = choose(members, chosen)
        if drawn:
            note = _note(len(drawn), sum(any(run and run.history for _, run in row.runs) for row in members), chosen)
            chart = plots.learning_curves(curves(drawn, published), note)
            found[f"{PLOTS}/curves-{number}.svg"] = (f"Validation AP by epoch: {shown.title}", chart)
    return found


def _note(drawn: int, there: int, chosen: Sequence[str]) -> str:
    if drawn == there:
        return ""
    which = f"the {drawn} chosen" if chosen else f"the {drawn} with the best box AP"
    return f"{which} of {there} cells; index.html has the curves of every cell"


def files(found: Figures) -> dict[str, str]:
    """plots/NAME.svg -> its text."""
    return {name: svg.standalone(chart) for name, (_, chart) in found.items()}
