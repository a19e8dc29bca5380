"""The commands that a report shows are the ones that work."""

from pathlib import Path

import pytest

from harness.reporting.command import report_command, typed_path, verify_command
from harness.reporting.page import write_report
from harness.shipped import shipped_file
from reporting.conftest import Load, finished, load

__all__ = ["load"]


@pytest.mark.parametrize("output", ["reports/small", "other place/small"])
def test_a_page_names_its_folder(load: Load, output: str) -> None:
    experiment = load("include: [{backbone: R-50, schedule: [1x, 2x]}]\n")
    page = write_report(experiment, list(map(finished, experiment.cells)), Path(output), curves=["*_2x_*"]).page
    shown = [part for part in page.read_text(encoding="utf-8").split("`") if part.startswith("harness ")]
    place = "" if output == "reports/small" else " --output 'other place/small'"
    report = f"harness report experiments/small.yaml{place}"
    assert shown[1:] == [f"{report} --curves '*_2x_*'", f"{report} --check"]
    verify = "experiments/small.yaml" if not place else "'other place/small/manifest.json'"
    assert shown[0] == f"harness manifest verify {verify}"


def test_what_has_options_is_verified_by_its_manifest() -> None:
    matrix = shipped_file(Path("zoo.yaml"))
    command = report_command(matrix, "zoo-published", Path("reports/zoo-published"), "--published-checkpoints")
    assert command == f"{typed_path(matrix)} --published-checkpoints"
    assert verify_command(command, "zoo-published") == "reports/zoo-published/manifest.json"


def test_what_comes_with_the_package_has_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed_path(shipped_file(Path("zoo.yaml"))) == "zoo"
    assert typed_path(tmp_path / "a b.yaml") == "a b.yaml"
