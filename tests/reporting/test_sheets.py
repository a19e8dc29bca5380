"""The tables as CSV say what the page says."""

import csv
import io
from pathlib import Path

from harness.matrix import load_experiment
from harness.reporting.as_published import published_tables
from harness.reporting.measures import ASSUMED
from harness.reporting.rows import match
from harness.reporting.sheets import sheets
from harness.reporting.tables import result_tables
from reporting.conftest import Load, finished, unfinished

ZOO = Path(__file__).parents[2] / "experiments" / "zoo.yaml"


def test_the_published_tables_as_csv_are_the_reference(shared: Path) -> None:
    with (shared / "reference" / "published.csv").open(encoding="utf-8", newline="") as file:
        reference = list(csv.DictReader(file))
    written = sheets(published_tables(load_experiment(ZOO)))
    assert list(written) == ["tables/1-results-and-models.csv", "tables/2-pre-trained-models.csv"]
    rows = [row for text in written.values() for row in csv.DictReader(io.StringIO(text))]
    columns = {"Style": "style", "Lr schd": "schedule", "Mem (GB)": "mem_gb", "Inf time (fps)": "fps"}
    columns |= {"box AP": "box_ap", "mask AP": "mask_ap", "name": "name"}
    columns |= {"config": "config_url", "model": "model_url", "log": "log_url"}
    assert [{theirs: row[ours] for ours, theirs in columns.items()} for row in rows] == [
        {theirs: row[theirs] or "-" for theirs in columns.values()} for row in reference
    ]


def test_ap_over_seeds_stands_in_columns_of_numbers(load: Load) -> None:
    """38.0, 38.4, 38.5 as tests/test_intervals.py has them; nothing of a cell without a finished seed."""
    experiment = load("seeds: [0, 1, 2]\ninclude: [{backbone: [R-50, R-101]}]\n")
    records = [finished(experiment.cells[0], seed, box=box) for seed, box in enumerate((0.380, 0.384, 0.385))]
    rows = match(experiment, records)[0]
    (text,) = sheets(result_tables(experiment, rows, None), rows).values()
    first, second = csv.DictReader(io.StringIO(text))
    names = [f"box AP {what}" for what in ("n", "seeds", "mean", "deviation", "low", "high")]
    assert [first[name] for name in names] == ["3", "3", "38.3000", "0.2646", "37.6428", "38.9572"]
    assert [second[name] for name in names] == ["0", "3", "-", "-", "-", "-"]


def test_marks_stand_on_one_line_and_missing_links_are_dashes(load: Load) -> None:
    experiment = load("seeds: [0, 1]\ninclude: [{backbone: R-50}]\n")
    cell = experiment.cells[0]
    records = [finished(cell, files={}), unfinished(cell, "FAILED", 1, reason="one\ntwo; three")]
    (text,) = sheets(result_tables(experiment, match(experiment, records)[0], None)).values()
    (row,) = csv.DictReader(io.StringIO(text))
    assert text.count("\n") == 2
    assert row["box AP"] == "38.0 [37.4, 38.6] (n=1 of 2)"
    assert row["marks"] == f"seed 1: failed: one two; three; {ASSUMED}"
    assert (row["config"], row["model"], row["log"]) == ("-", "-", "-")
