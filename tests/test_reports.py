"""The committed reports are what their committed records give."""

from pathlib import Path

import pytest
from conftest import ROOT

from harness.matrix import load_experiment
from harness.reporting.as_published import write_published_tables
from harness.reporting.check import check_report

REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/records.json"))


def test_the_committed_published_tables_are_what_the_published_rows_give(tmp_path: Path) -> None:
    page = write_published_tables(load_experiment(ROOT / "experiments" / "zoo.yaml"), tmp_path)
    assert page.read_bytes() == (ROOT / "reports" / "published" / "README.md").read_bytes()


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_a_committed_page_is_rebuilt_from_its_records(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_report(load_experiment(ROOT / "experiments" / f"{report.name}.yaml"), report) == []
