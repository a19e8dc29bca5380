"""What `harness benchmark` measures: the cells of an experiment, a run, a checkpoint, a cell; and where it keeps it.

A run is measured into its own folder. Anything else becomes a run of its own, of origin "benchmark", in the experiment
NAME-benchmark-DEVICE: so each device has an experiment in MLflow, and what was measured is not measured again.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cell import parse_name
from harness.errors import UserError
from harness.files import find_json, remembered_sha256, write_json
from harness.launching.foreground import single_run
from harness.launching.prepare import prepare
from harness.launching.published import checkpoint_path, find_checkpoint
from harness.matrix import Experiment, PlannedCell
from harness.matrix_file import Resources
from harness.own_process import in_own_process
from harness.provenance import running_code
from harness.published import published_rows
from harness.run_paths import RunPaths, experiment_folder
from harness.run_spec import Origin, RunSpec, SourceSpec, read_spec, write_spec
from harness.run_state import State, last_word, write_state
from harness.settings import Settings
from harness.tracking.shipment import ship

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something to measure."""

    spec: RunSpec
    checkpoint: SourceSpec | None  # None: the weights that the cell starts from
    paths: RunPaths | None  # of the run that it is; None: none yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of a target."""

    spec: RunSpec
    found: dict[str, Any] | None  # the content of benchmark.json
    fault: str = ""  # why there is none


def find_target(target: str, settings: Settings) -> Target:
    """The run of a folder, a checkpoint (.pth) in a run's folder or with its cell in it, or a cell by its name.

    Raises UserError where it is none of these, the run has no checkpoint, or the data of the cell are missing.
    """
    path = Path(target)
    if RunPaths(path).spec.exists():
        paths = RunPaths(path)
        if (checkpoint := _newest(paths)) is None:
            raise UserError(f"{paths.folder}: has no checkpoint to measure; train it first")
        return _of_run(paths, checkpoint, settings)
    if path.suffix != ".pth" and (len(path.parts) > 1 or path.exists()):
        what = "is no run's folder" if path.exists() else "no such run's folder"
        raise UserError(f"{target}: {what}; name a matrix file, a run's folder, a checkpoint (.pth) or a cell")
    if path.suffix != ".pth":
        return Target(spec=_cell(target, settings), checkpoint=None, paths=None)
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a matrix file, a run's folder, a checkpoint (.pth) or a cell")
    paths = RunPaths(path.resolve().parent.parent)
    if paths.spec.exists():
        return _of_run(paths, path, settings)
    from harness.training.restore import restore

    spec = _cell(restore(path).cell, settings)
    return Target(spec=spec, checkpoint=_source(path, settings), paths=None)


def find_cells(experiment: Experiment, settings: Settings) -> list[Target]:
    """Every cell of an experiment, with its first seed. Measured are the weights of its finished run, else those that

    are published, where they lie in the cache, else those that the cell starts from.
    Raises UserError listing all data and weights that are missing.
    """
    runs = prepare(replace(experiment, seeds=experiment.seeds[:1]), settings)
    found = []
    for run in runs:
        checkpoint = _trained(run.paths, settings) or _published(run.spec, settings)
        found.append(Target(spec=run.spec, checkpoint=checkpoint, paths=None))
    return found


def measure(target: Target, settings: Settings, *, again: bool, note: Callable[[str], None]) -> Measured:
    """Measure a target on this machine, in a process of its own, keep the result in its run, and ship that to MLflow.

    again: measure also what was measured already with this code on this device; else note is told that it was. note is
    told, too, where the store is away.
    """
    device = this_device()
    spec, paths = _own_run(target, device, settings)
    found = find_json(paths.benchmark)
    if again or found is None or not _holds(found, device):
        try:
            found = in_own_process(measure_here, spec, Path(target.checkpoint.path) if target.checkpoint else None)
        except UserError as error:
            return Measured(spec=spec, found=None, fault=str(error))
        if not paths.spec.exists():
            write_spec(paths, spec)
        write_json(paths.benchmark, found)
    else:
        note(f"{spec.name}: measured already by this code on this device; --again measures anew")
    if spec.origin == Origin.BENCHMARK and last_word(paths).state != State.FINISHED:
        write_state(paths, State.FINISHED, attempt=1)
    try:
        ship(paths, settings.tracking_uri)
    except UserError as error:
        later = "the same command ships it" if spec.origin == Origin.BENCHMARK else "harness sync EXPERIMENT"
        note(f"{error}; benchmark.json is in {paths.folder}; later: {later}")
    return Measured(spec=spec, found=found)


def measure_here(spec: RunSpec, checkpoint: Path | None) -> dict[str, Any]:
    """The content of benchmark.json, measured in this process.

    Raises UserError as training/benchmark.py does, and where the device has too little memory.
    """
    import torch

    from harness.training.benchmark import benchmark
    from harness.training.precision import executed_precision

    device = _device()
    spec = replace(spec, precision=executed_precision(spec.recipe.precision, device.type))
    try:
        return benchmark(spec, checkpoint, device)
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of memory: {str(error).splitlines()[0]}") from None


@cache
def this_device() -> dict[str, Any]:
    """Hardware, versions and code with which this machine measures; CUDA is not touched by this process."""
    return in_own_process(describe_here) | {"code": asdict(running_code())}


def describe_here() -> dict[str, Any]:
    """Hardware and versions, as this process finds them."""
    from harness.training.environment import environment

    return environment(_device(), 1)


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _own_run(target: Target, device: dict[str, Any], settings: Settings) -> tuple[RunSpec, RunPaths]:
    """The run that the target is, or the one that it is to become on this device."""
    from harness.training.precision import executed_precision

    if target.paths is not None:
        return target.spec, target.paths
    of, name = target.spec.experiment, device["hardware"]["device"]
    spec = replace(
        target.spec,
        experiment=f"{of}-benchmark-{slug(name)}",
        description=f"Training memory and speed of the cells of {of}, by themselves, on {name}",
        precision=executed_precision(target.spec.recipe.precision, device["hardware"]["kind"]),
        origin=Origin.BENCHMARK,
        source=target.checkpoint,
    )
    return spec, RunPaths(experiment_folder(settings.run_root, spec.experiment) / spec.folder_name)


def slug(device: str) -> str:
    """A device's name as a part of other names: nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def _holds(found: dict[str, Any], device: dict[str, Any]) -> bool:
    """Whether what was measured once was measured with this code on such a device. An older file does not tell."""
    hardware = [{name: value for name, value in one["hardware"].items() if name != "host"} for one in (found, device)]
    same_code = found.get("code", {}).get("digest") == device["code"]["digest"]
    return same_code and hardware[0] == hardware[1] and found["versions"] == device["versions"]


def _of_run(paths: RunPaths, checkpoint: Path, settings: Settings) -> Target:
    """A run; one that was not trained here gets what its cell is trained on, for the memory of a training."""
    spec = read_spec(paths)
    if spec.train is None:
        own = prepare(_as_training(spec), settings)[0].spec
        spec = replace(spec, train=own.train, weights=own.weights)
    return Target(spec=spec, checkpoint=_source(checkpoint, settings), paths=paths)


def _as_training(spec: RunSpec) -> Experiment:
    """The experiment that trains the cell of a run."""
    planned = PlannedCell(
        cell=parse_name(spec.cell),
        recipe=spec.recipe,
        suffix=spec.suffix,
        shortening=spec.shortening,
        resources=Resources(**spec.resources),
    )
    return Experiment(
        name=spec.experiment, description="", path=Path(), seeds=(spec.seed,), cells=(planned,), tables=()
    )


def _cell(name: str, settings: Settings) -> RunSpec:
    cell, *changes = name.split("+")
    overrides = [change for change in changes if "=" in change]
    return single_run(cell, settings, experiment=None, seed=None, batch=None, overrides=overrides).spec


def _source(path: Path, settings: Settings) -> SourceSpec:
    return SourceSpec(path=str(path.resolve()), sha256=remembered_sha256(path, settings.cache_root / "digests"))


def _trained(paths: RunPaths, settings: Settings) -> SourceSpec | None:
    """The weights of a finished run, if there is one that has kept them."""
    if not paths.spec.exists() or last_word(paths).state != State.FINISHED:
        return None
    checkpoint = _newest(paths)
    return None if checkpoint is None else _source(checkpoint, settings)


def _published(spec: RunSpec, settings: Settings) -> SourceSpec | None:
    """The published weights of a cell, if it is one as published and they have been fetched."""
    if (
        not spec.published
        or spec.suffix
        or not checkpoint_path(published_rows()[spec.cell], settings.cache_root).exists()
    ):
        return None
    return find_checkpoint(spec.cell, settings.cache_root, spec.experiment)


def _newest(paths: RunPaths) -> Path | None:
    from harness.training.checkpoint import newest

    source = read_spec(paths).source
    found = Path(source.path) if source else None
    if source is None and (saved := newest(paths.checkpoints)) is not None:
        found = saved.path
    return found if found is not None and found.is_file() else None
