"""A comparison as a markdown page with pictures, and as lines for a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.comparing.compare import RESAMPLES, Pair
from harness.comparing.sides import Side
from harness.data.image_files import has_file
from harness.evaluation.draw import contact_sheet, write_image
from harness.files import write_text
from harness.intervals import MEASURED, PRIOR, Interval
from harness.reporting.markdown import escape, table
from harness.reporting.measures import over_runs
from harness.training.pictures import draw_image

MOVERS = 10
"""Categories that are shown."""
PICTURES = 6
"""Images that are drawn."""


def table_of(pair: Pair) -> list[tuple[str, ...]]:
    """Metric, both AP, the difference, its interval over images and over training."""
    return [
        (
            entry.metric,
            *(mean_text(values, missing) for values, missing in zip(entry.seeds, pair.missing, strict=True)),
            f"{entry.images.difference:+.2f}",
            shown(entry.images),
            shown(entry.training) + ("*" if entry.training.assumed else ""),
        )
        for entry in pair.differences
    ]


def mean_text(values: Sequence[float], missing: int) -> str:
    """AP over the seeds that have finished, of which there are `missing` more: "38.3 ± 0.3 [37.6, 38.9] (n=2 of 3)"."""
    return over_runs(values, len(values) + missing, decimals=1, prior=True)


HEADER = ("metric", "first", "other", "difference", "95 % over images", "95 % over training")


def movers_of(pair: Pair) -> list[tuple[str, ...]]:
    """The categories that moved most."""
    return [
        (
            m.category,
            m.metric,
            f"{m.first:.1f}",
            f"{m.other:.1f}",
            f"{m.other - m.first:+.1f}",
            str(m.seen),
            shown(m.images) if m.images else "-",
        )
        for m in pair.movers[:MOVERS]
    ]


MOVERS_HEADER = ("category", "metric", "first", "other", "difference", "in images", "95 % over images")


def shown(interval: Interval) -> str:
    """The bounds, with their signs."""
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def notes(pair: Pair) -> Iterator[str]:
    """What the intervals mean, and what they say of this pair."""
    yield (
        f"over images: do these checkpoints differ, whichever images they are tested on (paired bootstrap, {RESAMPLES} "
        f"resamples); over training: do these recipes differ, whichever seed they are trained with "
        f"({' and '.join(map(_seeds, pair.seeds, pair.missing))} seeds)"
    )
    if max(pair.seeds) > 1 or any(pair.missing):
        yield "of several seeds: mean ± sample standard deviation [95 % interval of the mean over all seeds]"
    if min(pair.seeds) < MEASURED:
        yield (
            f"*: fewer than {MEASURED} seeds: AP over seeds is assumed to scatter with a standard deviation of {PRIOR}"
        )
    for entry in pair.differences:
        checkpoints = "differ" if entry.images.excludes_zero else "are not told apart"
        recipes = "the recipes differ" if entry.training.excludes_zero else "the recipes are not told apart"
        said = "the recipe is the same, so over training it is chance" if pair.alike else recipes
        yield f"{entry.metric}: the checkpoints {checkpoints}, {said}"


def _seeds(finished: int, missing: int) -> str:
    return f"{finished} of {finished + missing}" if missing else str(finished)


def write_page(folder: Path, pairs: Sequence[Pair], sides: Sequence[Side]) -> Path:
    """Write README.md and the pictures of the images that changed most; the path of the page."""
    lines: list[str] = []
    for number, (pair, other) in enumerate(zip(pairs, sides[1:], strict=True), 1):
        lines += [f"# {escape(pair.other)} against {escape(pair.first)}", ""]
        lines += [*_table(HEADER, table_of(pair)), ""]
        lines += [f"- {escape(text)}" for text in notes(pair)] + [""]
        lines += ["## Recipe", "", *_table(("field", "first", "other"), _recipe(pair)), ""] if pair.recipe else []
        lines += ["## Categories that moved most", "", *_table(MOVERS_HEADER, movers_of(pair)), ""]
        lines += ["## Images that changed most", "", *_pictures(folder, number, pair, sides[0], other)]
    write_text(folder / "README.md", "\n".join(lines).rstrip() + "\n")
    return folder / "README.md"


def _recipe(pair: Pair) -> list[tuple[str, ...]]:
    return [(name, str(one), str(two)) for name, (one, two) in pair.recipe.items()]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return table([escape(name) for name in header], [[escape(text) for text in row] for row in rows])


def _pictures(folder: Path, number: int, pair: Pair, first: Side, other: Side) -> list[str]:
    one, two = first.members[0], other.members[0]
    position = {int(image): place for place, image in enumerate(one.split.index.image_ids)}
    lines = []
    for image in pair.images[:PICTURES]:
        title = f"{escape(image.file_name)}: {image.first:.2f} to {image.other:.2f}"
        if not has_file(one.split.images, image.file_name):
            lines += [f"{title} (the image is not in {escape(str(one.split.images))})", ""]
            continue
        drawn = draw_image(one.split, position[image.image_id], [one.results, two.results])
        name = f"pictures/{number}-{image.image_id}.jpg"
        write_image(folder / name, contact_sheet(drawn, columns=3, titles=("truth", "first", "other")))
        lines += [title, "", f"![Ground truth, first, other]({name})", ""]
    return lines or ["none: by the detections that score 0.5 or more every image is done alike."]
