"""AP against what it costs: the points of the rows on each kind of hardware, and the front that nothing beats."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.intervals import over_seeds
from harness.published import PublishedRow, published_rows
from harness.reporting.marks import marks
from harness.reporting.measures import PUBLISHED_DEVICE, percentages
from harness.reporting.measures import device as short_name
from harness.reporting.published_records import ORIGIN
from harness.reporting.records import Hardware, Record
from harness.reporting.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What is weighed against AP: its axis, its value of a run and of a published row, and which way is better."""

    title: str
    label: str
    measured: Callable[[Record], float | None]
    published: Callable[[PublishedRow], float | None]
    more_is_better: bool


def _gpu_memory(run: Record) -> float | None:
    """None where it is not of the kind that belongs to the run's hardware."""
    kind = "cuda" if run.hardware and run.hardware.kind == "cuda" else "rss"
    return run.memory_gb if run.memory_kind == kind else None


SPEED = Cost(
    title="Box AP against speed",
    label="inference, images a second (batch 1)",
    measured=lambda run: run.fps,
    published=lambda row: row.fps,
    more_is_better=True,
)
MEMORY = Cost(
    title="Box AP against training memory",
    label="peak memory in training, GB",
    measured=_gpu_memory,
    published=lambda row: row.mem_gb,
    more_is_better=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row, as measured here or as published: its cost and its box AP in percent."""

    cost: float
    precision: float
    label: str
    published: bool = False
    marked: bool = False  # no full result
    bounds: tuple[float, float] | None = None  # of several seeds, the interval of their box AP


class Marked(Protocol):
    """What may be no full result."""

    @property
    def marked(self) -> bool: ...


Shown = TypeVar("Shown", bound=Marked)


def comparable(found: Sequence[Shown]) -> list[Shown]:
    """The full results alone, so that no other is taken for one; where there are none, all."""
    return [one for one in found if not one.marked] or list(found)


def short(name: str) -> str:
    """A cell's name without what all names share, such as r50_caffe_fpn_1x+demo."""
    return name.removeprefix("mask_rcnn_").replace("_coco", "", 1)


def label(row: Row) -> str:
    """The short name, and a star where the row has marks."""
    return short(row.planned.name) + (" *" if marks(row) else "")


def points(rows: Iterable[Row], cost: Cost) -> dict[str, list[Point]]:
    """By hardware, each by itself, the finished rows in their order; beside a full result, what was published of it."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        precision = percentages(row, "bbox_mAP")
        places = sorted({_place(run.hardware) for run in row.finished if run.hardware})
        for place in places if precision else ():
            costs = [cost.measured(run) for run in row.finished if run.hardware and _place(run.hardware) == place]
            known = [value for value in costs if value is not None]
            if known:
                point = Point(
                    cost=statistics.fmean(known),
                    precision=statistics.fmean(precision),
                    label=label(row),
                    published=all(run.origin == ORIGIN for run in row.finished),
                    marked=bool(marks(row)),
                    bounds=over_seeds(precision).bounds if len(row.runs) > 1 else None,
                )
                found.setdefault(place, []).append(point)
        theirs = _published(row, cost)
        if theirs:
            found.setdefault(PUBLISHED_DEVICE, []).append(theirs)
    return dict(sorted(found.items()))


def _place(hardware: Hardware) -> str:
    """One device, as tables call it; of processors the whole name, for they differ more than their tables say."""
    return short_name(hardware) if hardware.kind == "cuda" else hardware.device


def _published(row: Row, cost: Cost) -> Point | None:
    theirs = published_rows().get(row.planned.name) if row.planned.full else None
    value = cost.published(theirs) if theirs else None
    if theirs is None or value is None or all(run.origin == ORIGIN for run in row.finished):
        return None
    name = label(row).removesuffix(" *")
    return Point(cost=value, precision=theirs.box_ap, label=f"{name}, published", published=True)


def front(found: Sequence[Point], cost: Cost) -> list[Point]:
    """The points that no other beats in cost and in AP at once, the cheapest first; only full results, if any."""
    sign = -1 if cost.more_is_better else 1
    best: list[Point] = []
    for point in sorted(comparable(found), key=lambda point: (sign * point.cost, -point.precision, point.label)):
        if not best or point.precision > best[-1].precision:
            best.append(point)
    return best
