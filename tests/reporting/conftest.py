"""An experiment from a few lines of YAML, and records as its runs would leave them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.identity import NUMERICS
from harness.matrix import Experiment, PlannedCell, load_experiment
from harness.recipe import to_dict
from harness.reporting.records import EpochAP, FileRecord, Hardware, Record

H100 = Hardware(kind="cuda", device="NVIDIA H100", count=8)
V100 = Hardware(kind="cuda", device="Tesla V100-SXM2-32GB", count=8)
EPYC = Hardware(kind="cpu", device="AMD EPYC", count=1)

Load = Callable[[str], Experiment]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a matrix file with this text; the working folder is the project that it belongs to."""
    project = tmp_path / "project"
    (project / "experiments").mkdir(parents=True)
    monkeypatch.chdir(project)

    def write(text: str) -> Experiment:
        path = project / "experiments" / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return load_experiment(path)

    return write


def finished(planned: PlannedCell, seed: int = 0, box: float = 0.38, mask: float = 0.34, **changes: Any) -> Record:
    """The record of a finished run of a cell on 8 GPUs, with AP rising to `box` and `mask` over its epochs."""
    recipe = planned.executed
    files = {
        role: FileRecord(path=f"{Path.cwd()}/runs/small/{planned.name}-seed{seed}/{name}", size=10, sha256="ab" * 32)
        for role, name in (
            ("checkpoint", "checkpoints/epoch_12.pth"),
            ("config", "config.json"),
            ("detections", "detections.json.gz"),
            ("log", "log.json"),
        )
    }
    record = Record(
        cell=planned.cell.name,
        name=planned.name,
        axes=dict(planned.cell.values),
        seed=seed,
        key="0123456789",
        identity="fedcba9876543210",
        numerics=NUMERICS,
        run_id=f"run-of-{planned.name}-{seed}",
        started=1_700_000_000_000,
        state="FINISHED",
        full=planned.full,
        shortening=planned.shortening.describe(),
        precision=recipe.precision,
        recipe_precision=recipe.precision,
        recipe=to_dict(recipe),
        epoch=recipe.epochs,
        epochs=recipe.epochs,
        metrics={"bbox_mAP": box, "segm_mAP": mask},
        history=tuple(
            EpochAP(epoch=n, bbox_mAP=box * n / recipe.epochs, segm_mAP=mask * n / recipe.epochs)
            for n in range(1, recipe.epochs + 1)
        ),
        memory_gb=4.41,
        memory_kind="cuda",
        fps=16.06,
        fps_images=2000,
        hardware=H100,
        versions={"torch": "2.6.0", "python": "3.11.9"},
        commit="1234567890abcdef",
        evaluation_library="pycocotools 2.0.11",
        annotations={"train": "a" * 64, "val": "b" * 64},
        files=files,
    )
    return replace(record, **changes)


def unfinished(planned: PlannedCell, state: str, seed: int = 0, **changes: Any) -> Record:
    """The record of a run that has not finished."""
    nothing: dict[str, Any] = {
        "metrics": {}, "history": (), "memory_gb": None, "memory_kind": None, "fps": None, "fps_images": None,
        "hardware": None, "files": {}, "evaluation_library": "", "epoch": 0,
    }  # fmt: skip
    return replace(finished(planned, seed), state=state, **{**nothing, **changes})


def on_cpu(record: Record) -> Record:
    """The record as a CPU would have left it."""
    return replace(record, hardware=EPYC, memory_kind="rss", memory_gb=7.31, fps=0.52)
