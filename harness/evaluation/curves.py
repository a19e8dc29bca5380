"""Training curves from the rows of log.json: losses, average precision, learning rate."""

import math
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import replacing

LOSSES = ("loss", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask")
APS = ("bbox_mAP", "segm_mAP")
COLOURS = (
    "#1b1b1b",
    "#4477aa",
    "#66ccee",
    "#228833",
    "#ccbb44",
    "#ee6677",
)  # Paul Tol's "bright", kind to colour blindness
AP_COLOURS = ("#4477aa", "#ee6677")


def plot_curves(path: Path, log_rows: list[dict[str, Any]], title: str) -> None:
    """Write losses, AP and learning rate over the optimiser step, as .svg or .png by the suffix, atomically.

    log_rows: train and val rows with "mode" and "step"; of rows that a resumed run repeats the last counts. The same
    rows give the same bytes of SVG. Raises UserError on another suffix.
    """
    if path.suffix not in (".svg", ".png"):
        raise UserError(f"{path}: curves are written as .svg or .png, not {path.suffix or 'without a suffix'!r}")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "curves",
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.formatter.use_locale": False,
    }
    with rc_context(style):
        figure = Figure(figsize=(12, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        losses, precision, rate = figure.subplots(1, 3, width_ratios=(5, 5, 3))
        train, val = _rows(log_rows, "train"), _rows(log_rows, "val")
        _plot_losses(losses, train)
        _plot_precision(precision, val)
        _plot_rate(rate, train)
        last = max((row["step"] for row in train + val), default=1)
        for axes in (losses, precision, rate):
            _dress(axes, last)
        figure.suptitle(title, fontweight="bold")
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)


def _rows(log_rows: list[dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    by_step = {row["step"]: row for row in log_rows if row.get("mode") == mode}
    return [by_step[step] for step in sorted(by_step)]


def _series(rows: list[dict[str, Any]], field: str) -> tuple[list[int], list[float]]:
    """Steps and values of a field, NaN (a gap in the line) where it is null."""
    present = [row for row in rows if field in row]
    return [row["step"] for row in present], [math.nan if row[field] is None else row[field] for row in present]


def _plot_losses(axes: Any, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for field, colour in zip(LOSSES, COLOURS, strict=True):
        steps, values = _series(rows, field)
        if not steps:
            continue
        width = max(1, len(values) // 40)  # a quiet line over the noisy one
        if width > 1:
            axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.8)
        name = "total" if field == "loss" else field.removeprefix("loss_").replace("_", " ")
        thickness = 2.0 if field == "loss" else 1.4
        axes.plot(steps, _smooth(values, width), _dots(steps), color=colour, linewidth=thickness, label=name)
    axes.set_title("Training loss")
    if any(value > 0 for line in axes.lines for value in line.get_ydata()):
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)


def _plot_precision(axes: Any, rows: list[dict[str, Any]]) -> None:
    for field, colour in zip(APS, AP_COLOURS, strict=True):
        kind = "box" if field.startswith("bbox") else "mask"
        steps, values = _series(rows, field)
        if steps:
            axes.plot(steps, [value * 100 for value in values], "o-", color=colour, markersize=4, label=f"{kind} AP")
        steps, values = _series(rows, f"{field}_50")
        if steps:
            percent = [value * 100 for value in values]
            axes.plot(steps, percent, "o--", color=colour, markersize=2.5, linewidth=1, alpha=0.7, label=f"{kind} AP50")
    axes.set_title("Validation AP (%)")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _plot_rate(axes: Any, rows: list[dict[str, Any]]) -> None:
    steps, values = _series(rows, "lr")
    axes.plot(steps, values, _dots(steps), color="#aa3377", linewidth=1.6)
    axes.set_title("Learning rate")
    axes.set_ylim(bottom=0)


def _dots(steps: list[int]) -> str:
    """The line style: points are marked while they are few enough to be seen one by one."""
    return ".-" if len(steps) < 20 else "-"


def _smooth(values: list[float], width: int) -> list[float]:
    """The mean of the last `width` finite values at each place."""
    smooth = []
    for end in range(1, len(values) + 1):
        window = [value for value in values[max(0, end - width) : end] if math.isfinite(value)]
        smooth.append(math.fsum(window) / len(window) if window else math.nan)
    return smooth


def _dress(axes: Any, last: int) -> None:
    axes.set_xlim(0, last * 1.02)
    axes.set_xlabel("iteration")
    axes.locator_params(axis="x", nbins=6)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not axes.lines:
        axes.text(0.5, 0.5, "nothing logged yet", transform=axes.transAxes, ha="center", va="center", color="#888888")


def _legend(axes: Any) -> None:
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, ncols=2)
