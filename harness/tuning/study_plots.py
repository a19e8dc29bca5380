"""The plots of a study's report as SVG: what the trials reached, by their number and by each searched field; curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.reporting import svg
from harness.reporting.plots import WIDTH
from harness.tuning.best import finished, front
from harness.tuning.objective import Objective
from harness.tuning.space import Choice, Dimension, contains, param_of
from harness.tuning.study_file import Study
from harness.tuning.trials import Trial, TrialState

COLUMNS = 3
"""Panels beside each other."""
POINTS = 60
"""Of a curve that are drawn, at most."""
BEST, OTHER, SOFAR = "full s1", "full quiet", "line s0"
"""Classes of what is drawn."""
BEST_ENTRY = (svg.marker("diamond", 0, 0, BEST, size=4.5), "the best")


def written(value: Any) -> str:
    """A value of a field in a few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def history(study: Study, found: Sequence[Trial], index: int) -> str:
    """An objective of the finished trials by their number, and the best so far."""
    objective = study.objectives[index]
    points = [(float(trial.number), objective.scale * values[index], trial) for trial, values in finished(found)]
    last = max(trial.number for trial in found)
    heights = _reach([y for _, y, _ in points])
    panel = svg.Panel(left=60, top=40, width=560, height=240, x=(-0.5, last + 0.5), y=heights)
    title = f"{objective.metric} by trial"
    parts = svg.frame(panel, title=title, x_label="trial", y_label=_label(objective), whole=True)
    steps = _best_so_far(objective, [(x, y) for x, y, _ in points], last)
    parts.append(svg.polyline([panel.at(*step) for step in steps], SOFAR))
    parts += _dots(panel, points, front(study, found))
    entries = [(svg.rule(-8, 0, 8, 0, SOFAR), "the best so far"), BEST_ENTRY]
    return svg.chart(WIDTH, 330, title, [*parts, *svg.legend(650, 56, entries)])


def by_field(study: Study, found: Sequence[Trial], index: int) -> str:
    """An objective of the finished trials against each searched field."""
    objective = study.objectives[index]
    scored = [(trial, objective.scale * values[index]) for trial, values in finished(found)]
    heights = _reach([value for _, value in scored])
    parts: list[str] = []
    for number, dimension in enumerate(study.space):
        row, column = divmod(number, COLUMNS)
        left, top = 60 + 285.0 * column, 40 + 280.0 * row
        panel = svg.Panel(left=left, top=top, width=205, height=200, x=_width(dimension), y=heights)
        title, places = dimension.field, _places(dimension)
        parts += svg.frame(panel, title=title, x_label=_scale(dimension), y_label=_label(objective), places=places)
        base = getattr(study.base.recipe, dimension.field)
        if contains(dimension, base):
            x, _ = panel.at(_across(dimension, base), heights[0])
            parts.append(svg.rule(x, top, x, top + 200, "line dashed quiet"))
        points = [(_across(dimension, trial.params[dimension.field]), value, trial) for trial, value in scored]
        parts += _dots(panel, points, front(study, found))
    bottom = 40 + 280.0 * math.ceil(len(study.space) / COLUMNS)
    entries = [BEST_ENTRY, (svg.rule(0, -7, 0, 7, "line dashed quiet"), "the base")]
    title = f"{objective.metric} by field"
    return svg.chart(WIDTH, bottom + 2 * svg.LINE, title, [*parts, *svg.legend(60, bottom, entries)])


def tradeoff(study: Study, found: Sequence[Trial], index: int) -> str:
    """The first objective of the finished trials against another one."""
    first, other = study.objectives[0], study.objectives[index]
    points = [(other.scale * values[index], first.scale * values[0], trial) for trial, values in finished(found)]
    x, y = _reach([x for x, _, _ in points]), _reach([y for _, y, _ in points])
    panel = svg.Panel(left=60, top=40, width=560, height=240, x=x, y=y)
    title = f"{first.metric} against {other.metric}"
    parts = svg.frame(panel, title=title, x_label=_label(other), y_label=_label(first))
    entries = [(BEST_ENTRY[0], "beaten by none in all objectives")]
    return svg.chart(
        WIDTH, 330, title, [*parts, *_dots(panel, points, front(study, found)), *svg.legend(640, 56, entries)]
    )


def curves(study: Study, ways: Sequence[tuple[Trial, Mapping[int, float]]], best: Sequence[Trial]) -> str:
    """The first objective on the way of every trial that has such values: by epoch or by iteration."""
    objective = study.objectives[0]
    step = "epoch" if objective.mode == "val" else "iteration"
    lines = [(trial, [(x, objective.scale * way[x]) for x in _thinned(sorted(way))]) for trial, way in ways]
    widest = max(x for _, line in lines for x, _ in line)
    heights = _reach([y for _, line in lines for _, y in line])
    panel = svg.Panel(left=60, top=40, width=560, height=240, x=(0, 1.03 * widest), y=heights)
    title = f"{objective.metric} by {step}"
    parts = svg.frame(panel, title=title, x_label=step, y_label=_label(objective), whole=True)
    for trial, line in sorted(lines, key=lambda entry: entry[0] in best):  # the best above the others
        kind, places = _kind(trial, best), [panel.at(*point) for point in line]
        marks = [svg.markers("circle", places, f"full {kind.split()[-1]}", size=2)] if len(line) <= 12 else []
        parts.append(svg.group([svg.polyline(places, kind), *marks], tip=_tip(trial)))
    kinds = {_kind(trial, best): _named(trial, best) for trial, _ in lines}
    entries = [(svg.rule(-8, 0, 8, 0, kind), name) for kind, name in sorted(kinds.items())]
    return svg.chart(WIDTH, 330, title, [*parts, *svg.legend(640, 56, entries)])


def _kind(trial: Trial, best: Sequence[Trial]) -> str:
    if trial in best:
        return "line s1"
    return {TrialState.COMPLETE: "line s0", TrialState.PRUNED: "line dashed quiet"}.get(
        trial.state, "line dotted quiet"
    )


def _named(trial: Trial, best: Sequence[Trial]) -> str:
    if trial in best:
        return "the best"
    return {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}.get(trial.state, "running or failed")


def _thinned(steps: Sequence[int]) -> list[int]:
    """Not more than POINTS of them, the last among them."""
    return list(reversed(steps[:: -math.ceil(len(steps) / POINTS)]))


def _label(objective: Objective) -> str:
    return f"{objective.metric} (%)" if objective.mode == "val" else objective.metric


def _reach(values: Sequence[float]) -> tuple[float, float]:
    return svg.span(values, least=0.02 * max(map(abs, values)) or 1.0)


def _best_so_far(objective: Objective, points: Sequence[tuple[float, float]], last: int) -> list[tuple[float, float]]:
    """The corners of the steps."""
    corners = [points[0]]
    for x, y in points[1:]:
        if objective.better(y, corners[-1][1]):
            corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (last, corners[-1][1])]


def _dots(panel: svg.Panel, points: Iterable[tuple[float, float, Trial]], best: Sequence[Trial]) -> list[str]:
    """A marker each, the best above the others."""
    parts = []
    for x, y, trial in sorted(points, key=lambda point: point[2] in best):
        shape, kind, size = ("diamond", BEST, 4.5) if trial in best else ("circle", OTHER, 3.5)
        parts.append(svg.marker(shape, *panel.at(x, y), kind, size=size, tip=_tip(trial)))
    return parts


def _tip(trial: Trial) -> str:
    return f"trial {trial.number}: " + ", ".join(f"{name} {written(value)}" for name, value in trial.params.items())


def _across(dimension: Dimension, value: Any) -> float:
    """Where a value of a field lies on its axis."""
    if isinstance(dimension, Choice):
        return float(dimension.params.index(param_of(value)))
    return math.log10(value) if dimension.log else float(value)


def _width(dimension: Dimension) -> tuple[float, float]:
    """The span of its axis."""
    if isinstance(dimension, Choice):
        return -0.5, len(dimension.values) - 0.5
    low, high = _across(dimension, dimension.low), _across(dimension, dimension.high)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _places(dimension: Dimension) -> list[tuple[float, str]] | None:
    """What is written where along its axis; None: round numbers."""
    if isinstance(dimension, Choice):
        return [(float(place), str(param)[:12]) for place, param in enumerate(dimension.params)]
    if not dimension.log:
        return None
    powers = range(math.floor(math.log10(dimension.low)), math.ceil(math.log10(dimension.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        numbers = [float(f"{factor}e{power}") for power in powers for factor in factors]
        inside = [value for value in numbers if dimension.low <= value <= dimension.high]
        if len(inside) <= 4:
            break
    return [
        (math.log10(value), f"{value:g}") for value in (inside if len(inside) > 1 else (dimension.low, dimension.high))
    ]


def _scale(dimension: Dimension) -> str:
    return "log scale" if not isinstance(dimension, Choice) and dimension.log else ""
