"""The built wheel, installed apart from the checkout, does everything a new user does."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT


def test_the_wheel_has_every_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "harness").rglob("__init__.py")}
    assert set(declared) == present | {"harness.experiments"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (folder / "dist").glob("*.whl")
    target = folder / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return target


@pytest.mark.slow
def test_from_an_empty_folder_to_a_report(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HARNESS_", "MLFLOW_"))}
    environment |= {
        "PYTHONPATH": str(installed),
        "HOME": str(tmp_path / "home"),
        "HARNESS_CACHE_ROOT": str(tmp_path / "cache"),
    }

    def harness(*words: str) -> str:
        command = [str(installed / "bin" / "harness"), *words]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    work = tmp_path / "work"
    work.mkdir()
    where = subprocess.run(
        [sys.executable, "-c", "import harness, harness.published as p; p.published_rows(); print(harness.__file__)"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed)

    harness("init")
    assert json.loads(harness("plan", "zoo", "--json"))["runs"] == 21
    harness("data", "shapes", "data/shapes", "--train", "8", "--val", "8")
    harness("data", "check", "shapes")
    matrix = work / "experiments" / "first.yaml"
    short = "shorten: {epochs: 1, iterations_per_epoch: 1, image_scale: 0.06, eval_images: 7}"
    matrix.write_text(re.sub(r"(?m)^shorten: .*", short, matrix.read_text()))
    harness("submit", "experiments/first.yaml", "--wait")
    runs = json.loads(harness("status", "experiments/first.yaml", "--json"))
    assert [run["state"] for run in runs] == ["FINISHED", "FINISHED"]
    harness("report", "experiments/first.yaml")
    assert (work / "reports/first/README.md").exists()
    harness("report", "experiments/first.yaml", "--check")
    folder = Path(runs[0]["folder"])
    assert "equal to what the run recorded" in harness("evaluate", str(folder / "detections.json.gz"))
    (checkpoint,) = (folder / "checkpoints").glob("*.pth")
    assert "equal to what the run recorded" in harness("evaluate", str(checkpoint))
    (photo, *_) = sorted((work / "data/shapes/val").iterdir())
    harness("predict", str(checkpoint), str(photo))
    assert (work / "predictions" / f"{photo.stem}.png").exists()


@pytest.mark.slow
def test_the_numbers_of_doctor_numerics_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom harness.numerics.table import check_rows\n"
        "(row,) = check_rows(['mask_rcnn_r50_fpn_1x_coco'], Path('cache'))\n"
        "print(row.__class__.__module__, row.differences)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "TORCH_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout == "harness.numerics.table []\n", done.stderr
