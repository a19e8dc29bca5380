"""The committed reports are what their committed records give."""

from pathlib import Path

import pytest
from conftest import ROOT

from harness.matrix import load_experiment
from harness.reporting.check import check_report

REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/records.json"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_a_committed_page_is_rebuilt_from_its_records(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_report(load_experiment(ROOT / "experiments" / f"{report.name}.yaml"), report) == []
