"""The copy of the code: whole, by content, and what Python then runs."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.launching import frozen_code
from harness.launching.frozen_code import code_folder, freeze


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package beside experiments."""
    folder = tmp_path / "checkout" / "harness"
    for name in ("__init__.py", "training/loss.py", "__pycache__/loss.pyc", "../experiments/zoo.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("WEIGHT = 1\n")
    monkeypatch.setattr(frozen_code, "PACKAGE", folder)
    return folder


def test_an_edit_makes_another_copy_and_leaves_the_first(package: Path, tmp_path: Path) -> None:
    first = freeze(tmp_path / "runs")
    names = sorted(str(file.relative_to(first)) for file in first.rglob("*") if file.is_file())
    assert names == ["experiments/zoo.yaml", "harness/__init__.py", "harness/training/loss.py"]
    assert freeze(tmp_path / "runs") == first
    (package / "training" / "loss.py").write_text("WEIGHT = 2\n")
    second = freeze(tmp_path / "runs")
    assert first != second
    assert [(copy / "harness/training/loss.py").read_text() for copy in (first, second)] == [
        "WEIGHT = 1\n",
        "WEIGHT = 2\n",
    ]
    assert sorted(first.parent.iterdir()) == sorted([first, second])


def test_it_is_the_same_wherever_the_package_lies(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = code_folder(tmp_path)
    monkeypatch.setattr(frozen_code, "PACKAGE", Path(shutil.copytree(package.parent, tmp_path / "other")) / "harness")
    assert code_folder(tmp_path) == first


def test_submits_at_the_same_moment_make_one_copy(package: Path, tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(freeze(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert list((tmp_path / ".code").iterdir()) == [made[0]]


def test_python_runs_the_copy(tmp_path: Path) -> None:
    """Also where the package is installed, and from within a checkout."""
    folder = freeze(tmp_path)
    code = "import harness.published; print(harness.__file__, len(harness.published.published_rows()))"
    command = [sys.executable, "-P", "-c", code]
    said = subprocess.run(
        command, env={"PYTHONPATH": str(folder)}, cwd=frozen_code.PACKAGE.parent, capture_output=True, text=True
    )
    assert said.stdout.split() == [str(folder / "harness" / "__init__.py"), "21"]
