"""The plots of a report as SVG: accuracy against speed, and learning curves. The same records give the same bytes."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.reporting.marks import marks
from harness.reporting.records import HISTORY, Record
from harness.reporting.rows import Row
from harness.reporting.tables import percentages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "svg.hashsalt": "harness",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.formatter.use_locale": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
}
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#1b1b1b")
"""Paul Tol's "bright", kind to colour blindness."""
DASHES = ("-", "--", ":", "-.")

Point = tuple[float, float, str]
"""Frames a second, box AP in percent, label."""


def version() -> str:
    """Of the library that draws: other versions may draw the same plot with other bytes."""
    import matplotlib

    return str(matplotlib.__version__)


def label(row: Row) -> str:
    """The name without what all names share, such as r50_caffe_fpn_1x+demo, and a star where the row has marks."""
    name = row.planned.cell.name.removeprefix("mask_rcnn_").removesuffix("_coco")
    return name + row.planned.suffix + (" *" if marks(row) else "")


def tradeoff(rows: Iterable[Row]) -> str | None:
    """Box AP against frames a second with the Pareto front, a panel for each device; None where nothing was timed."""
    by_device = _points(rows)
    if not by_device:
        return None
    heights = [_height(len(points)) for _, points in sorted(by_device.items())]
    with _drawing(7.5, sum(heights)) as figure:
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, device in zip(panels, sorted(by_device), strict=True):
            _draw_tradeoff(panel, device, by_device[device])
        return _svg(figure)


def _points(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """The timed rows of each device; a row whose seeds ran on several devices is in none."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        precision, speeds = percentages(row, "bbox_mAP"), [run.fps for run in row.finished if run.fps is not None]
        devices = {run.hardware.device for run in row.finished if run.hardware}
        if precision and speeds and len(devices) == 1:
            point = (sum(speeds) / len(speeds), sum(precision) / len(precision), label(row))
            found.setdefault(devices.pop(), []).append(point)
    return found


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in speed and in AP at once, fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (-point[0], -point[1], point[2])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _draw_tradeoff(panel: "Axes", device: str, points: list[Point]) -> None:
    front = pareto(points)
    panel.plot([p[0] for p in front], [p[1] for p in front], "-", color="#bbbbbb", zorder=1, label="Pareto front")
    for number, (fps, precision, name) in enumerate(points, start=1):
        colour = COLOURS[0] if (fps, precision, name) in front else "#999999"
        panel.plot([fps], [precision], "o", color=colour, markersize=6, label=f"{number}  {name}")
        panel.annotate(str(number), (fps, precision), xytext=(5, 4), textcoords="offset points")
    panel.set_title(f"on {device}", loc="left", fontsize=10)
    panel.set_xlabel("inference, images a second (batch 1)")
    panel.set_ylabel("box AP (%)")
    panel.margins(0.12)
    _legend(panel)


def learning_curves(rows: Sequence[Row]) -> str | None:
    """Validation AP by epoch, a line for each run (the seeds of a row share a colour); None where there is no epoch."""
    drawn = [(row, run) for row in rows for _, run in row.runs if run and run.history]
    if not drawn:
        return None
    first = {row.planned.name: run for row, run in reversed(drawn)}  # of a row, the run that the legend shows
    names = list(dict.fromkeys(row.planned.name for row, _ in drawn))
    with _drawing(10.5, _height(len(names))) as figure:
        panels = figure.subplots(1, 2, sharex=True)
        for panel, title, field in zip(panels, ("box AP (%)", "mask AP (%)"), HISTORY, strict=True):
            for row, run in drawn:
                name = row.planned.name
                _draw_curve(panel, run, field, names.index(name), label(row) if run is first[name] else "")
            panel.set_title(title, loc="left", fontsize=10)
            panel.set_xlabel("epoch")
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.set_ylim(bottom=0)
        _legend(panels[1])
        return _svg(figure)


def _draw_curve(panel: "Axes", run: Record, field: str, index: int, name: str) -> None:
    values = ((point.epoch, getattr(point, field)) for point in run.history)
    points = [(epoch, 100 * value) for epoch, value in values if value is not None and value >= 0]
    panel.plot(
        [epoch for epoch, _ in points],
        [value for _, value in points],
        marker="o",
        markersize=3,
        linewidth=1.4,
        color=COLOURS[index % len(COLOURS)],
        linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
        label=name or "_",  # matplotlib keeps a leading underscore out of the legend
    )


def _height(entries: int) -> float:
    """Inches that a panel and the legend beside it need."""
    return max(3.8, 0.2 * entries + 1.0)


def _legend(panel: "Axes") -> None:
    labels = panel.get_legend_handles_labels()[1]
    title = "* has a mark in the table" if any(text.endswith("*") for text in labels) else None
    style: dict[str, Any] = {"fontsize": 8, "title_fontsize": 8, "alignment": "left", "frameon": False}
    panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title=title, **style)


@contextmanager
def _drawing(width: float, height: float) -> "Iterator[Figure]":
    """An empty figure (inches) in a style that is free of the user's own settings."""
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
