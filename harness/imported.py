"""Imported logs of others' trainings as curves: what a run is held against, epoch by epoch."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from harness.cell import parse_name
from harness.run_log import merged_rows
from harness.run_paths import RunPaths, experiment_runs
from harness.run_spec import RunSpec, read_spec

EXPERIMENT = "imported"
"""The experiment of all imported runs."""
METRICS = ("bbox_mAP", "segm_mAP")


def published_curve(run_root: Path, cell: str) -> dict[int, dict[str, float]]:
    """Epoch -> AP (0..1) of the imported log of a cell: of several the published one, else the newest. Empty without.

    Epochs are the runner's, so those of a data set that is repeated n times are n passes long.
    """
    named = (paths for paths in experiment_runs(run_root, EXPERIMENT) if paths.folder.name.startswith(f"{cell}-seed"))
    runs = [(read_spec(paths), paths) for paths in named]
    ranked = sorted(
        (bool(spec.source and spec.source.url), paths.folder.stat().st_mtime, paths.folder)
        for spec, paths in runs
        if spec.cell == cell
    )
    if not ranked:
        return {}
    return _curve(ranked[-1][-1])


@cache
def _curve(folder: Path) -> dict[int, dict[str, float]]:
    """That of an imported run, which nothing changes any more."""
    return {
        int(row["epoch"]): {name: row[name] for name in METRICS if isinstance(row.get(name), int | float)}
        for row in merged_rows(RunPaths(folder))
        if row["mode"] == "val"
    }


def minus_published(run_root: Path, spec: RunSpec, epoch: int, numbers: Mapping[str, float | None]) -> dict[str, float]:
    """bbox_mAP_minus_published and segm_mAP_minus_published: AP (0..1) after `epoch` minus the imported curve's there.

    Empty where no log of the cell was imported, or the run may not stand for the cell on the cell's own data set.
    """
    if not spec.full or not (curve := published_curve(run_root, spec.cell)):
        return {}
    own, theirs = spec.recipe, parse_name(spec.cell).recipe()
    if (own.dataset, own.epochs, own.repeats) != (theirs.dataset, theirs.epochs, theirs.repeats):
        return {}
    published = curve.get(epoch, {})
    values = {name: numbers.get(name) for name in METRICS}
    return {
        f"{name}_minus_published": value - published[name]
        for name, value in values.items()
        if value is not None and value >= 0 and name in published
    }
