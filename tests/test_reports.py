"""The committed reports are what their committed records give."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from harness.comparing.gate import Number, rates
from harness.matrix import load_experiment
from harness.published import published_rows
from harness.reporting.as_published import write_published_tables
from harness.reporting.check import check_report

PUBLISHED = ROOT / "reports" / "published"
REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/records.json") if path.parent != PUBLISHED)


def test_the_committed_published_tables_are_what_the_published_rows_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    matrix = shutil.copy(ROOT / "experiments/zoo.yaml", Path("experiments/zoo.yaml"))
    written_to = Path("reports/published")
    write_published_tables(load_experiment(matrix), written_to)
    written, committed = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (written_to, PUBLISHED)
    )
    assert written == committed


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_a_committed_page_is_rebuilt_from_its_records(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_report(load_experiment(ROOT / "experiments" / f"{report.name}.yaml"), report) == []


@pytest.mark.slow
def test_the_stated_rates_of_the_gate_are_those_that_it_simulates() -> None:
    tables = {"Results and Models": "results", "Pre-trained Models": "pretrained"}
    rows = published_rows().values()
    lines = [line for line in (ROOT / "reports" / "README.md").read_text().splitlines() if line[2:20] in tables]
    assert len(lines) == 4
    for title, count, seeds, *stated in ([part.strip() for part in line.strip("|").split("|")] for line in lines):
        names = [row.name for row in rows if row.table == tables[title]]
        zeros = (0.0,) * int(seeds)
        found = rates(
            [
                Number(table=title, row=name, metric=metric, now=zeros, before=(0.0,))
                for name in names
                for metric in ("box AP", "mask AP")
            ]
        )
        assert int(count) == len(names)
        assert stated == [f"{100 * found.false_alarm:.1f} %", *(f"{100 * missed:.0f} %" for missed in found.missed)]
