"""What `harness benchmark` measures: a run, a checkpoint, or a cell; and where the result is kept."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_json
from harness.launching.foreground import single_run
from harness.runs import RunPaths, RunSpec, read_spec
from harness.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something to measure."""

    spec: RunSpec
    checkpoint: Path | None  # None: the weights that the cell starts from
    paths: RunPaths | None  # None: no run, so that the result is only shown


def find_target(target: str, settings: Settings) -> Target:
    """The run of a folder, a checkpoint (.pth) in a run's folder or with its cell in it, or a cell by its name.

    Raises UserError where it is none of these, the run has no checkpoint, or the data of the cell are missing.
    """
    path = Path(target)
    if RunPaths(path).spec.exists():
        paths = RunPaths(path)
        return Target(spec=read_spec(paths), checkpoint=_newest(paths), paths=paths)
    if path.suffix != ".pth":
        return Target(spec=_cell(target, settings), checkpoint=None, paths=None)
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a run's folder, a checkpoint (.pth) or a cell")
    paths = RunPaths(path.resolve().parent.parent)
    if paths.spec.exists():
        return Target(spec=read_spec(paths), checkpoint=path, paths=paths)
    from harness.training.restore import restore

    return Target(spec=_cell(restore(path).cell, settings), checkpoint=path, paths=None)


def measure_target(target: Target) -> dict[str, Any]:
    """Measure it on this machine, and keep the result in the run's folder, if it is of a run.

    Raises UserError as training/benchmark.py does.
    """
    import torch

    from harness.training.benchmark import benchmark
    from harness.training.precision import executed_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = replace(target.spec, precision=executed_precision(target.spec.recipe.precision, device.type))
    found = benchmark(spec, target.checkpoint, device)
    if target.paths is not None:
        write_json(target.paths.benchmark, found)
    return found


def _cell(name: str, settings: Settings) -> RunSpec:
    cell, *changes = name.split("+")
    overrides = [change for change in changes if "=" in change]
    return single_run(cell, settings, experiment=None, seed=None, batch=None, overrides=overrides).spec


def _newest(paths: RunPaths) -> Path:
    from harness.training.checkpoint import newest

    source = read_spec(paths).source
    found = Path(source.path) if source else None
    if source is None and (saved := newest(paths.checkpoints)) is not None:
        found = saved.path
    if found is None or not found.is_file():
        raise UserError(f"{paths.folder}: has no checkpoint to measure; train it first")
    return found
