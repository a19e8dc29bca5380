"""What a report's HTML page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reporting.learning import Published
from harness.reporting.rows import Row
from harness.reporting.tables import ResultTable

SITE = "index.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the page shows."""

    title: str
    paragraphs: Sequence[str]
    tables: Sequence[ResultTable]
    rows: Sequence[Row]
    plots: Sequence[tuple[str, str]]  # title, chart (svg.py)
    notes: Sequence[tuple[str, Sequence[str]]]  # heading, items
    pictures: Mapping[str, bytes]  # of a run's key, JPEG
    published: Published  # curves beside which the cells' are shown
    run_root: str | None  # where paths of files start, relative to the page
    server: str | None  # the address of MLflow's pages
    command: str  # what follows `harness report`
