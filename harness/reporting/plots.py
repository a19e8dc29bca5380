"""The plots of a report as SVG: AP against its costs, learning curves, what each axis buys."""

from collections.abc import Mapping, Sequence

from harness.intervals import LEVEL, PRIOR
from harness.reporting import svg
from harness.reporting.axis_effects import METRICS, Effect
from harness.reporting.learning import Curve
from harness.reporting.pareto import Cost, Point, front, short
from harness.wording import count

WIDTH = 860.0
NUMBERED = 24
"""Points of a panel that all have a number; of more, those on the front alone."""
STARRED = "* has a mark in the table: no full result"


def tradeoff(points: Mapping[str, Sequence[Point]], cost: Cost) -> str:
    """Box AP against a cost with the Pareto front: a panel for each kind of hardware, as pareto.points gives them."""
    parts: list[str] = []
    top = 40.0
    for place, found in points.items():
        entries, best = _tradeoff_legend(found, cost), front(found, cost)
        height = max(240.0, svg.LINE * len(entries) - 20)
        heights = [height for point in found for height in (point.precision, *(point.bounds or ()))]
        x, y = svg.span([point.cost for point in found]), svg.span(heights)
        panel = svg.Panel(
            left=60, top=top, width=450, height=height, x=(max(0.0, x[0]), x[1]), y=(max(0.0, y[0]), y[1])
        )
        parts += svg.frame(panel, title=f"{cost.title}, on {place}", x_label=cost.label, y_label="box AP (%)")
        parts.append(svg.polyline([panel.at(point.cost, point.precision) for point in best], "line quiet"))
        parts += _points(panel, found, best)
        parts += svg.legend(540, top + 16, entries)
        top += height + 80
    return svg.chart(WIDTH, top - 30, cost.title, parts)


def _numbered(found: Sequence[Point], best: Sequence[Point]) -> dict[Point, int]:
    """Number -> the points that have one."""
    shown = found if len(found) <= NUMBERED else best
    return {point: number for number, point in enumerate(shown, start=1)}


def _tradeoff_legend(found: Sequence[Point], cost: Cost) -> list[tuple[str, str]]:
    best = front(found, cost)
    entries = [
        (_symbol(point, 0, 0, on_front=point in best), f"{number}  {point.label}")
        for point, number in _numbered(found, best).items()
    ]
    entries.append((svg.rule(-8, 0, 8, 0, "line quiet"), "Pareto front"))
    if any(point.published for point in found):
        entries.append((svg.marker("circle", 0, 0, "hollow quiet"), "hollow: as published, not measured here"))
    if any(point.bounds for point in found):
        entries.append((svg.rule(0, -7, 0, 7, "line quiet"), f"{LEVEL:.0%} interval over seeds"))
    if any(point.marked for point in found):
        entries.append((svg.marker("diamond", 0, 0, "full quiet", size=4), STARRED))
    return entries


def _symbol(point: Point, x: float, y: float, *, on_front: bool) -> str:
    kind = f"{'hollow' if point.published else 'full'} {'s0' if on_front else 'quiet'}"
    return svg.marker("diamond" if point.marked else "circle", x, y, kind, tip=_tip(point))


def _tip(point: Point) -> str:
    return f"{point.label}: box AP {point.precision:.1f} at {point.cost:.3g}"


def _points(panel: svg.Panel, found: Sequence[Point], best: Sequence[Point]) -> list[str]:
    """The markers, and numbers beside them where they cover nothing else."""
    places = {point: panel.at(point.cost, point.precision) for point in found}
    parts = [
        svg.rule(*panel.at(point.cost, point.bounds[0]), *panel.at(point.cost, point.bounds[1]), "line quiet")
        for point in found
        if point.bounds
    ]
    parts += [_symbol(point, *places[point], on_front=point in best) for point in found]
    taken = list(places.values())
    for point, number in _numbered(found, best).items():
        x, y = places[point]
        around = [(x + dx, y + dy) for dx, dy in ((11, -8), (-11, -8), (11, 9), (-11, 9), (0, -13), (0, 14), (17, 0))]
        spot = next((spot for spot in around if all(_apart(spot, other) for other in taken)), around[0])
        taken.append(spot)
        parts.append(svg.text(spot[0], spot[1] + 4, str(number), kind="note middle"))
    return parts


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) > 9 or abs(one[1] - other[1]) > 9


def learning_curves(curves: Sequence[Curve], note: str = "") -> str:
    """Box and mask AP by epoch: a colour for each row, a kind of line for each seed; hollow, what was published.

    note: a line under the legend.
    """
    parts: list[str] = []
    last = max(point[0] for curve in curves for values in curve.values.values() for point in values)
    for index, (metric, name) in enumerate(METRICS):
        heights = [value for curve in curves for _, value in curve.values[metric]]
        panel = svg.Panel(
            left=60 + 420 * index, top=40, width=360, height=240,
            x=(0, max(last, 1) * 1.03), y=(0, max(*heights, 1.0) * 1.08) if heights else (0, 1),
        )  # fmt: skip
        parts += svg.frame(panel, title=f"{name} (%)", x_label=EPOCHS, y_label="AP (%)", whole=True)
        parts += [_curve(panel, curve, curve.values[metric]) for curve in curves if curve.values[metric]]
    entries = _curve_legend(curves)
    half = (len(entries) + 1) // 2
    for column, members in enumerate((entries[:half], entries[half:])):
        parts += svg.legend(60 + 420 * column, 346, members)
    notes = [STARRED] if any(curve.label.endswith("*") for curve in curves) else []
    bottom = 346 + svg.LINE * half
    parts += [
        svg.text(60, bottom + 15 * row, line, kind="note") for row, line in enumerate([*notes, *filter(None, [note])])
    ]
    return svg.chart(WIDTH, bottom + 15 * (len(notes) + bool(note)), "Validation AP by epoch", parts)


def _curve_legend(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """A line for each row, and, where there are several, for each seed."""
    named = {curve.label: curve for curve in reversed(curves)}
    rows = [(_sample(named[label]), label) for label in dict.fromkeys(curve.label for curve in curves)]
    seeds = sorted({(curve.line, curve.seed) for curve in curves if curve.seed is not None})
    lines = [(svg.rule(-10, 0, 10, 0, f"{_line(line)} quiet"), f"seed {seed}") for line, seed in seeds]
    return [*rows, *(lines if len(lines) > 1 else [])]


EPOCHS = "epochs x repeats of the data"


LINES = ("line", "line dotted", "line dotdash", "line long")
"""Of the seeds of a row, in their order."""


def _line(number: int) -> str:
    return LINES[number % len(LINES)]


def _look(curve: Curve) -> tuple[str, str, str]:
    """Its shape, and the classes of its markers and of its line."""
    colour = f"s{curve.series % svg.SERIES}"
    shape = svg.SHAPES[curve.series % len(svg.SHAPES)]
    kinds = ("hollow", "line dashed") if curve.published else ("full", _line(curve.line))
    return shape, f"{kinds[0]} {colour}", f"{kinds[1]} {colour}"


def _sample(curve: Curve) -> str:
    shape, point, line = _look(curve)
    single = all(len(values) < 2 for values in curve.values.values())
    return ("" if single else svg.rule(-10, 0, 10, 0, line)) + svg.marker(shape, 0, 0, point, size=3.2)


def _curve(panel: svg.Panel, curve: Curve, values: Sequence[tuple[float, float]]) -> str:
    shape, point, line = _look(curve)
    places = [panel.at(*value) for value in values]
    every = len(places) // 9 + 1 if curve.line == 0 else len(places)
    marked = places[::-every]  # the last, and of a row's first seed not so many others that they hide the line
    parts = [svg.polyline(places, line)] if len(places) > 1 else []
    seed = "" if curve.seed is None else f", seed {curve.seed}"
    return svg.group([*parts, svg.markers(shape, marked, point, size=3.2)], tip=f"{curve.label}{seed}")


def axis_effects(effects: Sequence[Effect]) -> str:
    """Differences of AP between cells that differ in one axis: a dot a pair, their mean with its interval, how many."""
    top, row = 40.0, 26.0
    height = row * len(effects)
    parts: list[str] = []
    for index, (metric, name) in enumerate(METRICS):
        panel = svg.Panel(
            left=345 + 265 * index, top=top, width=175, height=height, x=_reach(effects, metric), y=(len(effects), 0)
        )
        parts += svg.frame(panel, title=f"{name}, difference", x_label="points of AP (%)")
        zero, _ = panel.at(0, 0)
        parts.append(svg.rule(zero, top, zero, top + height, "axis"))
        for place, effect in enumerate(effects):
            parts += _effect(panel, effect, metric, place + 0.5)
    for place, effect in enumerate(effects):
        parts.append(svg.text(20, top + row * (place + 0.5) + 4, f"{effect.name} ({_count(effect)})"))
    notes = _effect_notes(effects)
    bottom = top + height + 60
    parts += [svg.text(20, bottom + 15 * line, note, kind="note") for line, note in enumerate(notes)]
    return svg.chart(WIDTH, bottom + 15 * len(notes), "What each axis buys", parts)


def _count(effect: Effect) -> str:
    return f"{count(len(effect.pairs), 'pair')}{' *' if effect.pairs[0].marked else ''}"


def _effect_notes(effects: Sequence[Effect]) -> list[str]:
    notes = [
        "A circle: two cells that differ in this alone, later minus earlier. A diamond: the mean of these pairs, with "
        f"the {LEVEL:.0%} interval",
        "of what training them again may change: that of their seeds; with fewer than three, "
        f"a standard deviation of {PRIOR} AP is assumed.",
    ]
    return [*notes, STARRED] if any(effect.pairs[0].marked for effect in effects) else notes


def _reach(effects: Sequence[Effect], metric: str) -> tuple[float, float]:
    ends = [bound for effect in effects for bound in (effect.intervals[metric].low, effect.intervals[metric].high)]
    return svg.span([0.0, *ends, *(pair.difference(metric) for effect in effects for pair in effect.pairs)])


def _effect(panel: svg.Panel, effect: Effect, metric: str, y: float) -> list[str]:
    parts = []
    for pair in effect.pairs:
        tip = f"{short(pair.two)}: {pair.difference(metric):+.1f}"
        place = panel.at(pair.difference(metric), y - 0.22)
        parts.append(svg.marker("circle", *place, "hollow quiet", size=2.8, tip=tip))
    interval = effect.intervals[metric]
    (low, height), (high, _) = panel.at(interval.low, y + 0.12), panel.at(interval.high, y + 0.12)
    parts += [svg.rule(low, height, high, height, "line s0")]
    parts += [svg.rule(end, height - 4, end, height + 4, "line s0") for end in (low, high)]
    parts.append(svg.marker("diamond", *panel.at(interval.difference, y + 0.12), "full s0", size=4))
    return [*parts, svg.text(panel.left + panel.width + 10, height + 4, f"{round(interval.difference, 1) + 0.0:+.1f}")]
