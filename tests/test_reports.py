"""The committed reports are what their committed records give."""

from pathlib import Path

import pytest
from conftest import ROOT

from harness.matrix import load_experiment
from harness.reporting.as_published import write_published_tables
from harness.reporting.check import check_report

PUBLISHED = ROOT / "reports" / "published"
REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/records.json") if path.parent != PUBLISHED)


def test_the_committed_published_tables_are_what_the_published_rows_give(tmp_path: Path) -> None:
    write_published_tables(load_experiment(ROOT / "experiments" / "zoo.yaml"), tmp_path)
    written, committed = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path, PUBLISHED)
    )
    assert written == committed


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_a_committed_page_is_rebuilt_from_its_records(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_report(load_experiment(ROOT / "experiments" / f"{report.name}.yaml"), report) == []
