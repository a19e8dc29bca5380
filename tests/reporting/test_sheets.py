"""The tables as CSV say what the page says."""

import csv
import io
from pathlib import Path

from harness.matrix import load_experiment
from harness.reporting.as_published import published_tables
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


def test_marks_stand_on_one_line_and_missing_links_are_dashes(load: Load) -> None:
    experiment = load("seeds: [0, 1]\ninclude: [{backbone: R-50}]\n")
    cell = experiment.cells[0]
    records = [finished(cell, files={}), unfinished(cell, "FAILED", 1, reason="one\ntwo; three")]
    (text,) = sheets(result_tables(experiment, match(experiment, records)[0], None)).values()
    (row,) = csv.DictReader(io.StringIO(text))
    assert text.count("\n") == 2
    assert (row["box AP"], row["marks"]) == ("38.0 (n=1 of 2)", "seed 1: failed: one two; three")
    assert (row["config"], row["model"], row["log"]) == ("-", "-", "-")
