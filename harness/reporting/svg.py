"""A small vocabulary for charts in SVG: panels with axes, markers, lines, a legend.

The same calls give the same bytes, whatever is installed. A chart is legible on light and on dark paper: alone, by the
reader's preference; in an HTML page, by the page's colours, whose names are those of PALETTE. Lengths are pixels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

PALETTE = {
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9198a1"),
    "faint": ("#d8dee4", "#30363d"),
    "series-0": ("#0072b2", "#56b4e9"),
    "series-1": ("#c7410d", "#ff8c5a"),
    "series-2": ("#00795a", "#35c79b"),
    "series-3": ("#a0407f", "#e59ac9"),
    "series-4": ("#8a6d00", "#e8c93c"),
    "series-5": ("#3b3391", "#a9a4ff"),
    "series-6": ("#00798c", "#5fd4e6"),
    "series-7": ("#5b5b5b", "#bdbdbd"),
}
"""Name -> colour on light and on dark paper. The series are Okabe and Ito's hues, kind to colour blindness, darkened

and lightened to a contrast of 4 or more with the paper; each has a marker of its own besides.
"""
SERIES = 8
SHAPES = ("circle", "square", "triangle", "diamond")

RULES = (
    ".chart text{fill:$ink;font:12px 'DejaVu Sans',Verdana,Helvetica,Arial,sans-serif}"
    ".chart .note{fill:$muted;font-size:11px}.chart .title{font-size:13px;font-weight:bold}"
    ".chart .middle{text-anchor:middle}.chart .end{text-anchor:end}"
    ".chart .grid{stroke:$faint;stroke-width:1}.chart .axis{stroke:$muted;stroke-width:1}"
    ".chart .line{fill:none;stroke:currentColor;stroke-width:1.8;stroke-linejoin:round}"
    ".chart .dashed{stroke-dasharray:6 3}.chart .dotted{stroke-dasharray:2 2.5}.chart .long{stroke-dasharray:14 5}"
    ".chart .dotdash{stroke-dasharray:9 3 2 3}.chart .full{fill:currentColor;stroke:$paper;stroke-width:.8}"
    ".chart .hollow{fill:$paper;stroke:currentColor;stroke-width:1.8}.chart .quiet{color:$muted}"
)


def _rules(colours: dict[str, str]) -> str:
    series = "".join(f".chart .s{number}{{color:{colours[f'series-{number}']}}}" for number in range(SERIES))
    return Template(RULES).substitute(colours) + series


def page_rules() -> str:
    """The style of charts in a page that defines the PALETTE as custom properties."""
    return _rules({name: f"var(--{name})" for name in PALETTE})


def standalone(chart: str) -> str:
    """A chart as a file of its own, with its style and its paper."""
    light, dark = ({name: pair[index] for name, pair in PALETTE.items()} for index in (0, 1))
    style = (
        f"<style>{_rules(light)}.paper{{fill:{light['paper']}}}"
        f"@media (prefers-color-scheme:dark){{{_rules(dark)}.paper{{fill:{dark['paper']}}}}}</style>"
    )
    head, _, body = chart.partition(">\n")
    paper = f'{style}\n<rect class="paper" width="100%" height="100%"/>\n'
    return f'{head} xmlns="http://www.w3.org/2000/svg">\n{paper}{body}'


def chart(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """The <svg> element. title: what a reader hears who does not see it."""
    size = f'width="{number(width)}" height="{number(height)}" viewBox="0 0 {number(width)} {number(height)}"'
    lines = [f'<svg class="chart" role="img" {size} aria-label="{escape(title)}">', *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """With one decimal at most."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def text(x: float, y: float, content: str, *, kind: str = "", turned: bool = False) -> str:
    """kind: classes, such as title or note, and middle or end for where x lies; y is the base line; turned: upwards."""
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' transform="rotate(-90 {number(x)} {number(y)})"' if turned else ""
    return f'<text x="{number(x)}" y="{number(y)}"{attributes}>{escape(content)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through the points."""
    return f'<polyline class="{kind}" points="{" ".join(f"{number(x)},{number(y)}" for x, y in points)}"/>'


def marker(shape: str, x: float, y: float, kind: str, *, size: float = 4.5, tip: str = "") -> str:
    """A circle, square, triangle or diamond around (x, y). tip: shown under the mouse."""
    inside = f"><title>{escape(tip)}</title></path>" if tip else "/>"
    return f'<path class="{kind}" d="{_outline(shape, x, y, size)}"{inside}'


def markers(shape: str, places: Iterable[tuple[float, float]], kind: str, *, size: float) -> str:
    """The same marker at each place."""
    return f'<path class="{kind}" d="{"".join(_outline(shape, x, y, size) for x, y in places)}"/>'


def group(parts: Iterable[str], *, tip: str) -> str:
    """What belongs together. tip: shown under the mouse."""
    return f"<g><title>{escape(tip)}</title>{''.join(parts)}</g>"


def _outline(shape: str, x: float, y: float, size: float) -> str:
    if shape == "circle":
        half = f"a{number(size)},{number(size)} 0 1 0 "
        return f"M{number(x - size)},{number(y)}{half}{number(2 * size)},0{half}{number(-2 * size)},0"
    corners = {
        "square": ((-0.9, -0.9), (1.8, 0.0), (0.0, 1.8), (-1.8, 0.0)),
        "triangle": ((0.0, -1.2), (1.1, 2.0), (-2.2, 0.0)),
        "diamond": ((0.0, -1.3), (1.3, 1.3), (-1.3, 1.3), (-1.3, -1.3)),
    }[shape]
    first, *steps = [(size * dx, size * dy) for dx, dy in corners]
    lines = " ".join(f"{number(dx)},{number(dy)}" for dx, dy in steps)
    return f"M{number(x + first[0])},{number(y + first[1])}l{lines}z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A rectangle of the chart and the values that its sides stand for; y grows upwards."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies, in pixels of the chart."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * self.width, self.top + (1 - up) * self.height


def span(values: Sequence[float], *, margin: float = 0.08, least: float = 1.0) -> tuple[float, float]:
    """From the lowest to the highest value and a margin on both sides, but no shorter than `least`."""
    low, high = min(values), max(values)
    more = max(margin * (high - low), (least - (high - low)) / 2)
    return low - more, high + more


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from low to high: multiples of 1, 2 or 5 times a power of ten, at most `about` + 1 of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 10) for count in range(first, last + 1)]


def frame(
    panel: Panel,
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    whole: bool = False,
    places: Sequence[tuple[float, str]] | None = None,
) -> list[str]:
    """Grid, tick labels and titles of a panel. y_label: none where the rows of the panel are no numbers.

    whole: the values along x are whole numbers. places: what to write where along x, instead of round numbers.
    """
    if places is None:
        places = [(value, f"{value:g}") for value in ticks(*panel.x) if not whole or value == round(value)]
    bottom, right = panel.top + panel.height, panel.left + panel.width
    parts = [text(panel.left, panel.top - 10, title, kind="title")]
    grid = ""
    for value, written in places:
        x, _ = panel.at(value, panel.y[0])
        grid += f"M{number(x)},{number(panel.top)}V{number(bottom)}"
        parts.append(text(x, bottom + 16, written, kind="middle"))
    for value in ticks(*panel.y) if y_label else ():
        _, y = panel.at(panel.x[0], value)
        grid += f"M{number(panel.left)},{number(y)}H{number(right)}"
        parts.append(text(panel.left - 6, y + 4, f"{value:g}", kind="end"))
    parts += [f'<path class="grid" d="{grid}"/>', rule(panel.left, bottom, right, bottom, "axis")]
    parts.append(text((panel.left + right) / 2, bottom + 34, x_label, kind="note middle"))
    if y_label:
        parts.append(text(panel.left - 40, (panel.top + bottom) / 2, y_label, kind="note middle", turned=True))
    return parts


def legend(left: float, top: float, entries: Iterable[tuple[str, str]]) -> list[str]:
    """A line each, LINE apart: (what is drawn at (0, 0), its name)."""
    parts = []
    for row, (drawn, name) in enumerate(entries):
        y = top + LINE * row
        parts.append(f'<g transform="translate({number(left + 10)} {number(y - 4)})">{drawn}</g>')
        parts.append(text(left + 26, y, name))
    return parts


LINE = 17.0
"""Between two lines of a legend."""
